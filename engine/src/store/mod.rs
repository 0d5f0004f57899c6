//! All SQL of the engine.
//!
//! Order of locks, everywhere: worker, then instances, then everything else. Instances are locked
//! in the order of their ids, also by a batch of the write path; a child's id comes after its
//! parent's, so that parents are locked before their children. What locks instances as it finds
//! them passes over those that are locked, and waits for no other instance afterwards: a claim, a
//! release, the birth of a child. The write path, claims and reads are single autocommit statements
//! on connections that never see `begin`: a future dropped inside `begin` would leave its session
//! in a transaction for the next borrower. What needs a transaction has a pool of its own, see
//! [`transaction`].

pub(crate) mod acknowledged;
mod address;
pub(crate) mod child;
pub(crate) mod claim;
pub(crate) mod command;
pub(crate) mod commit;
pub(crate) mod delivery;
pub(crate) mod dependency;
pub(crate) mod examine;
pub(crate) mod family;
pub(crate) mod former_key;
pub(crate) mod identity;
pub(crate) mod intake_case;
pub(crate) mod key_block;
pub(crate) mod leftover;
pub(crate) mod live;
mod locator;
pub(crate) mod locked;
pub(crate) mod loss;
pub(crate) mod mail;
pub(crate) mod migrations;
pub(crate) mod missed;
pub(crate) mod outbox;
pub(crate) mod parts;
mod pool;
pub(crate) mod read;
pub(crate) mod replication;
pub(crate) mod schedule;
mod session;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod suspect;
pub(crate) mod transaction;
mod unfenced;
pub(crate) mod worker;
pub(crate) mod write;

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::postgres::types::PgInterval;

use crate::error::Error;
use crate::limits;
use acknowledged::Acknowledged;
pub use address::{Address, BadAddress};
use locator::Locator;
pub(crate) use locator::Session;
pub(crate) use pool::{Lent, Pool};
pub use session::Access;
pub(crate) use session::Purpose;
use session::Unfit;
pub(crate) use session::version;

/// The database, as this process reaches it. Those who would keep each other waiting have sessions of
/// their own.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    locator: Locator,
    /// For the loops. Autocommit statements only, as in the next two.
    loops: Pool,
    relay: Pool,
    reading: Pool,
    /// Sessions that see `begin`.
    transactions: Pool,
    /// Those of transaction steps, which may wait for each other's locks and keep nobody else.
    steps: Pool,
}

/// What processes tell each other, on the channel of hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Something may be due, or there may be mail.
    Due,
    /// Somebody wants slots of a dependency, or has given some back.
    Slots,
}

impl Hint {
    /// As it is sent.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Due => "",
            Self::Slots => "slots",
        }
    }
}

impl Store {
    /// Prepares to connect; the first statement does.
    pub(crate) fn new(address: impl Into<Address>) -> Self {
        Self::with(address.into(), Access::ReadWrite)
    }

    /// A store whose sessions the database keeps from writing.
    pub(crate) fn read_only(address: impl Into<Address>) -> Self {
        Self::with(address.into(), Access::ReadOnly)
    }

    /// The same, with a session for the feed of each subscription, and one for what they share.
    pub(crate) fn feeding(mut self, subscriptions: usize) -> Self {
        let sessions_max = subscriptions.saturating_add(1).max(limits::RELAY_SESSIONS_MIN);
        self.relay = Pool::new(&self.locator, Purpose::Relay, sessions_max);
        self
    }

    fn with(address: Address, access: Access) -> Self {
        let locator = Locator::new(address, access);
        let pool = |purpose, sessions_max| Pool::new(&locator, purpose, sessions_max);
        Self {
            loops: pool(Purpose::Loops, limits::LOOP_SESSIONS_MAX),
            relay: pool(Purpose::Relay, limits::RELAY_SESSIONS_MIN),
            reading: pool(Purpose::Reading, limits::READING_SESSIONS_MAX),
            transactions: pool(Purpose::Transactions, limits::TRANSACTIONS_MAX),
            steps: pool(Purpose::Steps, limits::TRANSACTION_STEPS_MAX),
            locator,
        }
    }

    /// For the short statements of the loops.
    pub(crate) fn pool(&self) -> &Pool {
        &self.loops
    }

    /// For the outbox: how long a delivery takes is up to others.
    pub(crate) fn relay(&self) -> &Pool {
        &self.relay
    }

    /// For what people and programs ask to see, which may take long.
    pub(crate) fn reading(&self) -> &Pool {
        &self.reading
    }

    /// A session of one's own. Each server is given up after a few seconds without an answer.
    pub(crate) async fn connect(&self, purpose: Purpose) -> Result<Session, sqlx::Error> {
        self.locator.open(purpose).await
    }

    /// Gives up a session whose server may still be at what it was asked. The next session that is
    /// opened ends that.
    pub(crate) fn give_up(&self, session: Session) {
        self.locator.give_up(session);
    }

    /// What the database has acknowledged to this process.
    pub(crate) fn acknowledged(&self) -> &Acknowledged {
        self.locator.acknowledged()
    }

    /// From now on every session has to be one with the database that this is.
    pub(crate) async fn keep_to_this_database(&self) -> Result<(), Error> {
        self.locator.keep_to(identity::database_id(&self.loops).await?);
        Ok(())
    }

    /// Whether another database was found behind the address the last time.
    pub(crate) fn is_another(&self) -> bool {
        self.locator.is_another()
    }

    /// A connection that hears hints.
    pub(crate) async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        self.locator.listener().await
    }

    /// Tells other processes what may be new. A hint: nobody relies on it.
    pub(crate) async fn hint(&self, what: Hint) {
        let hinted = sqlx::query!("select pg_notify($1, $2)", crate::loops::CHANNEL, what.as_str())
            .execute(&self.loops)
            .await;
        if let Err(error) = hinted {
            tracing::debug!(%error, "a hint could not be sent; polling goes on");
        }
    }

    /// Refuses a database, or what leads to it, that cannot be relied on.
    pub(crate) async fn refuse_unfit(&self) -> Result<(), Error> {
        self.judge_database().await.map_err(refusal)
    }

    async fn judge_database(&self) -> Result<(), sqlx::Error> {
        let mut one = self.connect(Purpose::Alone).await?;
        let other = self.connect(Purpose::Alone).await?;
        // Both are open, so each has a session of its own unless somebody shares one out.
        if one.is_served_with(&other) {
            return Err(Unfit::Pooled.into());
        }
        let forgetful = session::forgetful(&mut one).await?;
        one.close().await?;
        other.close().await?;
        forgetful.map_or(Ok(()), |name| Err(Unfit::Forgetful(name).into()))
    }
}

/// Why a database will not do, or does not answer.
pub(crate) fn refusal(error: sqlx::Error) -> Error {
    match session::unfit(error) {
        Ok(unfit) => Error::UnsafeDatabase(unfit.to_string()),
        Err(error) => error.into(),
    }
}

/// A length of time as the database has it.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Runs a statement of the write path; one that takes too long has lost its connection.
pub(crate) async fn within_timeout<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    within(limits::STATEMENT_TIMEOUT, statement).await
}

/// Runs a statement that has lost its connection if it takes longer than this.
pub(crate) async fn within<T>(
    deadline: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(deadline, statement).await.unwrap_or_else(|_| Err(pool::silent(deadline)))
}
