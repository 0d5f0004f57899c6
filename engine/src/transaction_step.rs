//! What an author writes for a step whose effect is SQL on the engine's own database.
//!
//! The SQL and the record of the step are one commit, so the step is applied exactly once, whatever
//! is lost in between. So is its undo.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::declaration::Declaration;
use crate::event::Event;
use crate::money::Movement;
use crate::step::{Call, Moment, StepError, Undone, Work};

pub use sqlx::PgConnection;

/// The way of a [`TransactionStep`]: an attempt is a transaction, together with its record.
#[derive(Debug)]
pub enum InTransaction {}

/// A step whose own SQL commits in the same transaction as its record: exactly once, for stock,
/// numbers of invoices and the like.
///
/// `run` gets a connection on which a transaction has begun. What it does there is committed
/// together with the step's record, or not at all: if it fails, panics, takes longer than the
/// step's time-out, or the process dies, nothing has happened, and it is attempted again. So its
/// outcome is never unknown: a [`StepError::Unknown`] counts as [`StepError::Retry`]. Errors of
/// sqlx become a [`StepError`] by `?`.
///
/// - Everything but this connection is outside of the transaction, and what is done there may be
///   done more than once. Nothing slow belongs into `run`: locks are held meanwhile, and after
///   5 s without a statement the database ends the transaction.
/// - Tables are named with their schema: the engine's own comes first in the search path. The
///   engine's database role needs the rights.
/// - The isolation level is read committed: a condition is checked in the `update` that depends on
///   it, or under a lock. Deadlocks are attempted again.
/// - A transaction that sqlx begins on the connection is a savepoint. A `commit` or `rollback` by
///   hand is a bug, and puts the instance to a person.
/// - What a step leaves in its session (settings, temporary tables, locks, listeners) is cleared away
///   before another step gets it.
///
/// ```
/// use amends::{
///     Call, Declaration, InTransaction, PgConnection, StepError, TransactionStep,
///     TransactionUndo, Undone,
/// };
///
/// #[derive(Clone)]
/// struct TakeStock;
///
/// impl TransactionStep for TakeStock {
///     const NAME: &'static str = "take_stock";
///     type Input = String;
///     type Output = ();
///
///     fn declare(&self) -> Declaration<Self, InTransaction> {
///         Declaration::transaction().undo()
///     }
///
///     async fn run(
///         &self,
///         connection: &mut PgConnection,
///         _: &Call,
///         article: &String,
///     ) -> Result<(), StepError> {
///         let taken = sqlx::query(
///             "update shop.stock set pieces = pieces - 1 where article = $1 and pieces >= 1",
///         );
///         let taken = taken.bind(article).execute(connection).await?;
///         if taken.rows_affected() == 0 {
///             return Err(StepError::fail("OUT_OF_STOCK", format!("{article} is sold out")));
///         }
///         Ok(())
///     }
/// }
///
/// impl TransactionUndo for TakeStock {
///     async fn undo(
///         &self,
///         connection: &mut PgConnection,
///         _: &Call,
///         article: &String,
///         _: &(),
///     ) -> Result<Undone, StepError> {
///         let given_back =
///             sqlx::query("update shop.stock set pieces = pieces + 1 where article = $1");
///         given_back.bind(article).execute(connection).await?;
///         Ok(Undone::by("stock"))
///     }
/// }
/// ```
///
/// It is registered with [`crate::Steps::transaction`] and run with [`crate::Saga::transaction`].
pub trait TransactionStep: Clone + Send + Sync + 'static {
    /// The name under which the step stands in every history. Renaming it strands live instances.
    const NAME: &'static str;
    /// What the step needs. It is recorded, and compensation gets it back.
    type Input: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// What the step found or made. It is recorded, and replay answers with it.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// States the compensation and the limits of the step: [`Declaration::transaction`].
    fn declare(&self) -> Declaration<Self, InTransaction>;

    /// Applies the effect, through `connection`.
    fn run(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Events published with the record of `moment`.
    fn events(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Event> {
        let _ = moment;
        Vec::new()
    }

    /// Money that moved at `moment`, recorded in the ledger with the same commit.
    fn money(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Movement> {
        let _ = moment;
        Vec::new()
    }
}

/// A [`TransactionStep`] whose effect can be taken back.
pub trait TransactionUndo: TransactionStep {
    /// Takes the effect back, through `connection`: committed together with its record, or not at
    /// all. It is done once, and only what `run` has done.
    fn undo(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        input: &Self::Input,
        output: &Self::Output,
    ) -> impl Future<Output = Result<Undone, StepError>> + Send;
}

impl<S: TransactionStep> Work<InTransaction> for S {
    const NAME: &'static str = S::NAME;
    type Input = S::Input;
    type Output = S::Output;

    fn declare(&self) -> Declaration<Self, InTransaction> {
        TransactionStep::declare(self)
    }

    fn events(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Event> {
        TransactionStep::events(self, moment)
    }

    fn money(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Movement> {
        TransactionStep::money(self, moment)
    }
}
