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
pub(crate) mod family;
pub(crate) mod former_key;
pub(crate) mod intake_case;
pub(crate) mod leftover;
pub(crate) mod live;
pub(crate) mod mail;
pub(crate) mod missed;
pub(crate) mod outbox;
pub(crate) mod read;
pub(crate) mod schedule;
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
use sqlx::{Connection, PgConnection, PgPool};

use crate::error::Error;
use crate::limits;

/// The database, as this process reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    options: PgConnectOptions,
    /// Autocommit statements only.
    pool: PgPool,
    /// Connections that see `begin`.
    transactions: PgPool,
    /// Those of transaction steps, which may wait for each other's locks and keep nobody else.
    steps: PgPool,
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
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        let options = options.application_name("amends").options([
            ("search_path", "amends"),
            ("jit", "off"),
            // A 2xx means durable, whatever the server's default is.
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", "5000"),
        ]);
        let with_timeout = options.clone().options([("statement_timeout", "30000")]);
        let pool = |connections_max| {
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(Duration::from_secs(5))
                .after_connect(|connection, _| Box::pin(end_with_its_client(connection)))
        };
        let steps = pool(limits::TRANSACTION_STEPS_MAX)
            .after_release(|connection, _| Box::pin(transaction::clean(connection)));
        Self {
            pool: pool(8).connect_lazy_with(with_timeout.clone()),
            transactions: pool(limits::TRANSACTIONS_MAX).connect_lazy_with(with_timeout.clone()),
            steps: steps.connect_lazy_with(with_timeout),
            options,
        }
    }

    /// A store whose sessions the database keeps from writing.
    pub(crate) fn read_only(options: PgConnectOptions) -> Self {
        Self::new(options.options([("default_transaction_read_only", "on")]))
    }

    /// The pool for single statements.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection of one's own, given up after five seconds without an answer.
    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        // The write path's statement is large, and always of the same shape: it is planned once,
        // perhaps while the tables are small, and must not scan them when they have grown.
        let options = self
            .options
            .clone()
            .options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            end_with_its_client(&mut connection).await?;
            Ok(connection)
        };
        tokio::time::timeout(Duration::from_secs(5), connecting)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// A connection that hears hints.
    pub(crate) async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        PgListener::connect_with(&pool).await
    }

    /// Tells other processes what may be new. A hint: nobody relies on it.
    pub(crate) async fn hint(&self, what: Hint) {
        let hinted = sqlx::query!("select pg_notify($1, $2)", crate::loops::CHANNEL, what.as_str())
            .execute(&self.pool)
            .await;
        if let Err(error) = hinted {
            tracing::debug!(%error, "a hint could not be sent; polling goes on");
        }
    }

    /// Refuses a server that may forget what it has acknowledged.
    pub(crate) async fn refuse_unsafe_settings(&self) -> Result<(), Error> {
        let unsafe_setting = sqlx::query_scalar!(
            r#"select name || ' = off' as "setting!" from pg_catalog.pg_settings
               where name in ('fsync', 'full_page_writes') and setting = 'off' limit 1"#
        )
        .fetch_optional(&self.pool)
        .await?;
        unsafe_setting.map_or(Ok(()), |setting| Err(Error::UnsafeDatabase(setting)))
    }

    /// Applies the migrations that are missing.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        sqlx::query!("create schema if not exists amends").execute(&mut connection).await?;
        sqlx::migrate!("../migrations").run(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// Has the database notice within half a second that a client is gone whose statement runs or waits for a
/// lock: what it holds would keep its worker from being taken over. Not every system can do that.
async fn end_with_its_client(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let noticing = sqlx::query!("set client_connection_check_interval = 500");
    match noticing.execute(connection).await {
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "the database does not notice by itself that a client is gone");
            Ok(())
        }
        noticing => noticing.map(drop),
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
    tokio::time::timeout(limits::STATEMENT_TIMEOUT, statement)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
