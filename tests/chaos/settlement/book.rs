//! Books a settlement in a table of its own, in the commit of the step's record.

use amends::{
    Call, Declaration, InTransaction, PgConnection, StepError, TransactionStep, TransactionUndo,
    Undone,
};

use crate::provider::impatience;

/// Where it is booked: a row per booking, and one per taking it back.
pub(crate) const TABLE: &str = "
    create schema chaos;
    create table chaos.booking (order_id text not null, pieces int not null);";

#[derive(Clone)]
pub(super) struct Book;

impl TransactionStep for Book {
    const NAME: &'static str = "book";
    type Input = String;
    type Output = ();

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().undo().retry(impatience()).undo_retry(impatience())
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        order_id: &String,
    ) -> Result<(), StepError> {
        insert(connection, order_id, 1).await
    }
}

impl TransactionUndo for Book {
    async fn undo(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        order_id: &String,
        (): &(),
    ) -> Result<Undone, StepError> {
        insert(connection, order_id, -1).await.map(|()| Undone::by("booking"))
    }
}

async fn insert(
    connection: &mut PgConnection,
    order_id: &str,
    pieces: i32,
) -> Result<(), StepError> {
    let row = "insert into chaos.booking (order_id, pieces) values ($1, $2)";
    sqlx::query(row).bind(order_id).bind(pieces).execute(connection).await?;
    Ok(())
}
