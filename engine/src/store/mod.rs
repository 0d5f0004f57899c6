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

pub(crate) mod child;
pub(crate) mod claim;
pub(crate) mod command;
pub(crate) mod commit;
pub(crate) mod dependency;
pub(crate) mod examine;
pub(crate) mod family;
pub(crate) mod former_key;
pub(crate) mod intake_case;
pub(crate) mod key_block;
pub(crate) mod leftover;
pub(crate) mod live;
pub(crate) mod locked;
pub(crate) mod mail;
pub(crate) mod migrations;
pub(crate) mod missed;
pub(crate) mod outbox;
pub(crate) mod parts;
mod pool;
pub(crate) mod read;
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

use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection};

use crate::error::Error;
use crate::limits;
pub(crate) use pool::{Lent, Pool};
pub(crate) use session::Purpose;
use session::{Access, Unfit};

/// The database, as this process reaches it. Those who would keep each other waiting have sessions of
/// their own.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    options: PgConnectOptions,
    access: Access,
    /// For the loops. Autocommit statements only, as in the next two.
    loops: Pool,
    relay: Pool,
    reading: Pool,
    /// Sessions that see `begin`.
    transactions: Pool,
    /// Those of transaction steps, which may wait for each other's locks and keep nobody else.
    steps: Pool,
}

/// How long a session may take to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self::with(options, Access::ReadWrite)
    }

    /// A store whose sessions the database keeps from writing.
    pub(crate) fn read_only(options: PgConnectOptions) -> Self {
        Self::with(options, Access::ReadOnly)
    }

    /// The same, with a session for the feed of each subscription, and one for what they share.
    pub(crate) fn feeding(mut self, subscriptions: usize) -> Self {
        let sessions_max = u32::try_from(subscriptions).unwrap_or(u32::MAX).saturating_add(1);
        if sessions_max > limits::RELAY_SESSIONS_MIN {
            let whose = (Purpose::Relay, self.access);
            self.relay = Pool::new(self.options.clone(), whose, sessions_max);
        }
        self
    }

    fn with(options: PgConnectOptions, access: Access) -> Self {
        let options = session::options(options);
        let pool =
            |purpose, sessions_max| Pool::new(options.clone(), (purpose, access), sessions_max);
        Self {
            loops: pool(Purpose::Loops, limits::LOOP_SESSIONS_MAX),
            relay: pool(Purpose::Relay, limits::RELAY_SESSIONS_MIN),
            reading: pool(Purpose::Reading, limits::READING_SESSIONS_MAX),
            transactions: pool(Purpose::Transactions, limits::TRANSACTIONS_MAX),
            steps: pool(Purpose::Steps, limits::TRANSACTION_STEPS_MAX),
            options,
            access,
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

    /// A session of one's own, given up after five seconds without an answer.
    pub(crate) async fn connect(&self, purpose: Purpose) -> Result<PgConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            session::prepare(&mut connection, purpose, self.access).await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(pool::silent(CONNECT_TIMEOUT)))
    }

    /// A connection that hears hints.
    pub(crate) async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        PgListener::connect_with(&pool).await
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
        self.judge_database().await.map_err(|error| match session::unfit(error) {
            Ok(unfit) => Error::UnsafeDatabase(unfit.to_string()),
            Err(error) => error.into(),
        })
    }

    async fn judge_database(&self) -> Result<(), sqlx::Error> {
        let mut one = self.connect(Purpose::Alone).await?;
        let mut other = self.connect(Purpose::Alone).await?;
        // Both are open, so each has a session of its own unless somebody shares one out.
        if session::backend(&mut one).await? == session::backend(&mut other).await? {
            return Err(Unfit::Pooled.into());
        }
        let forgetful = session::forgetful(&mut one).await?;
        one.close().await?;
        other.close().await?;
        forgetful.map_or(Ok(()), |name| Err(Unfit::Forgetful(name).into()))
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
