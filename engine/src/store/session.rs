//! What every session with the database is like. Nothing is inherited from the server, the
//! database or the role: what the engine relies on is set, and read back.
//!
//! The settings are made by statements, since a pooler refuses them at the start of a connection.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use uuid::Uuid;

use super::acknowledged::Trace;
use crate::error::has_code;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The short statements of the loops.
    Loops,
    /// The outbox.
    Relay,
    /// What people and programs ask to see.
    Reading,
    /// Commands and signals.
    Transactions,
    /// Transaction steps, with statements of their authors.
    Steps,
    /// The write path. Its statement is large, and always of the same shape: it is planned once,
    /// perhaps while the tables are small, and must not scan them when they have grown.
    Writing,
    /// The same, for writes that are set aside.
    SetAside,
    /// What has to be done whatever others do: a lease, the way out.
    Alone,
    /// Migrations. None waits for a lock for long: every statement that comes after it would wait
    /// behind it.
    Migrating,
}

/// What a session is for, as the database has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It writes: a standby will not do.
    ReadWrite,
    /// It only reads.
    ReadOnly,
}

/// The process of the server that serves a session: nobody else is ever known by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(super) pid: i32,
    /// Not told to a session that is another role than it was begun as.
    pub(super) began: Option<String>,
}

/// What a session has to find.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) access: Access,
    /// Whether a standby will do for what only reads.
    pub(super) standby_will_do: bool,
    /// The database, once it is known.
    pub(super) database_id: Option<Uuid>,
    /// What the database has acknowledged.
    pub(super) traces: Vec<Trace>,
}

impl Expected {
    /// Nothing but that it can be written to.
    pub(super) fn to_write() -> Self {
        let traces = Vec::new();
        Self { access: Access::ReadWrite, standby_will_do: false, database_id: None, traces }
    }
}

/// What a session has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) backend: Backend,
    /// What the database has acknowledged and does not have.
    pub(super) missing: Vec<Trace>,
}

/// Why a database or what leads to it cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unfit {
    #[error("is not there to be written to: it is a standby, or has been made one")]
    Standby,
    #[error("has {name} = {found} although {wanted} was asked for")]
    Setting { name: String, wanted: String, found: String },
    #[error(
        "has the encoding {0}, which cannot hold every name: \
         make one with `create database .. encoding 'UTF8' template template0`"
    )]
    Encoding(String),
    #[error(
        "is behind a pooler that gives each transaction another session (PgBouncer: pool_mode = \
         transaction or statement): use pool_mode = session, or an address without the pooler"
    )]
    Pooled,
    #[error("runs with {0} = off; it would forget what it has acknowledged")]
    Forgetful(String),
    #[error(
        "is another one than this process began with ({found} in place of {wanted}): somebody has \
         put another database behind the same address. Nothing is read from it or written to it. \
         Lead the address back; or, if it is the right one, start this process anew"
    )]
    Another { found: String, wanted: Uuid },
    #[error("has lost commits that it had acknowledged")]
    LostCommits,
}

impl Purpose {
    /// How long the server lets a statement take.
    fn statement_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::Relay => 8,
            Self::Loops => 15,
            Self::Reading
            | Self::Transactions
            | Self::Steps
            | Self::Writing
            | Self::SetAside
            | Self::Alone => 30,
            Self::Migrating => 0,
        })
    }

    /// How long the client waits for what the server should have ended by itself.
    pub(super) fn deadline(self) -> Duration {
        self.statement_timeout() + Duration::from_secs(2)
    }

    /// How long a statement waits for a lock; 0: as long as it may take.
    fn lock_timeout(self) -> &'static str {
        match self {
            Self::SetAside => "100ms",
            Self::Writing | Self::Relay => "1s",
            Self::Migrating => "2s",
            _ => "0",
        }
    }

    /// What is asked for, as the server says it.
    fn settings(self, access: Access) -> Vec<(&'static str, String)> {
        let flag = |is_on: bool| if is_on { "on" } else { "off" };
        // Its tables grow from nothing to a great many rows while nobody knows of it.
        let goes_by_indexes = self == Self::Relay;
        let is_planned_once = matches!(self, Self::Writing | Self::SetAside | Self::Alone);
        let fixed = [
            ("client_encoding", "UTF8"),
            ("TimeZone", "UTC"),
            ("DateStyle", "ISO, MDY"),
            ("search_path", "amends"),
            // A 2xx means durable, whatever the server's default is.
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_deferrable", "off"),
            ("default_transaction_read_only", flag(access == Access::ReadOnly)),
            // Rows that a policy hides are an error, not missing.
            ("row_security", "off"),
            ("idle_in_transaction_session_timeout", "5s"),
            ("jit", "off"),
            ("plan_cache_mode", if is_planned_once { "force_generic_plan" } else { "auto" }),
            ("enable_seqscan", flag(!is_planned_once && !goes_by_indexes)),
            ("enable_indexscan", "on"),
            ("enable_nestloop", "on"),
        ];
        let mut settings: Vec<_> =
            fixed.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let statement_timeout = match self.statement_timeout().as_secs() {
            0 => "0".to_owned(),
            seconds => format!("{seconds}s"),
        };
        settings.push(("statement_timeout", statement_timeout));
        settings.push(("lock_timeout", self.lock_timeout().to_owned()));
        settings
    }
}

/// What only a superuser may set, and has to be as it is by itself: else no trigger keeps what is
/// append-only from being changed.
const EXPECTED: [(&str, &str); 1] = [("session_replication_role", "origin")];

/// The code of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// Another server may be the primary, or have the right database, by the next time; all else needs a
/// person.
impl From<Unfit> for sqlx::Error {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Standby | Unfit::Another { .. } | Unfit::LostCommits => {
                Self::Io(std::io::Error::other(unfit))
            }
            unfit => Self::Configuration(Box::new(unfit)),
        }
    }
}

/// The options of every connection: nothing that a pooler refuses.
pub(super) fn options(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("amends").extra_float_digits(None)
}

/// Makes a session what it has to be, or says why it cannot be.
///
/// Both statements are sent as text, once per session: nothing is planned, and nothing prepared.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    purpose: Purpose,
    expected: &Expected,
) -> Result<Found, sqlx::Error> {
    let wanted = purpose.settings(expected.access);
    let set: String =
        wanted.iter().map(|(name, value)| format!("set {name} = '{value}';")).collect();
    connection.execute(AssertSqlSafe(set)).await?;
    end_with_its_client(connection).await?;
    // In a statement of its own: a pooler may have lost what was set.
    let settings: Vec<_> =
        wanted.iter().map(|(name, value)| (*name, value.as_str())).chain(EXPECTED).collect();
    let session = look(connection, &settings, expected).await?;
    if session.try_get::<String, _>("recovers")? == "true" && !expected.standby_will_do {
        return Err(Unfit::Standby.into());
    }
    let encoding: String = session.try_get("encoding")?;
    if encoding != "UTF8" {
        return Err(Unfit::Encoding(encoding).into());
    }
    for (name, wanted) in settings {
        let found: String = session.try_get(name)?;
        if found != wanted {
            let (name, wanted) = (name.to_owned(), wanted.to_owned());
            return Err(Unfit::Setting { name, wanted, found }.into());
        }
    }
    if let Some(wanted) = expected.database_id {
        let found: Option<String> = session.try_get("database_id")?;
        let found = found.unwrap_or_else(|| "one without an id".to_owned());
        if found != wanted.to_string() {
            return Err(Unfit::Another { found, wanted }.into());
        }
    }
    let mut missing = Vec::new();
    for (index, trace) in expected.traces.iter().enumerate() {
        if !session.try_get::<bool, _>(&*format!("trace_{index}"))? {
            missing.push(trace.clone());
        }
    }
    let backend = Backend { pid: session.try_get("pid")?, began: session.try_get("began")? };
    Ok(Found { backend, missing })
}

/// Asks all of a session that has to be known of it, at once.
async fn look(
    connection: &mut PgConnection,
    settings: &[(&str, &str)],
    expected: &Expected,
) -> Result<PgRow, sqlx::Error> {
    let mut asked = vec![
        "pg_catalog.pg_is_in_recovery()::text as recovers".to_owned(),
        "current_setting('server_encoding') as encoding".to_owned(),
        "pg_backend_pid() as pid".to_owned(),
        "(select backend_start::text from pg_catalog.pg_stat_get_activity(pg_backend_pid())) \
         as began"
            .to_owned(),
    ];
    let setting = |(name, _): &(&str, &str)| format!("current_setting('{name}') as \"{name}\"");
    asked.extend(settings.iter().map(setting));
    if expected.database_id.is_some() {
        let database_id = "(select database_id::text from amends.identity) as database_id";
        asked.push(database_id.to_owned());
    }
    let trace = |(index, trace): (usize, &Trace)| format!("{} as trace_{index}", trace.condition());
    asked.extend(expected.traces.iter().enumerate().map(trace));
    let read = format!("select {}", asked.join(", "));
    match (connection.fetch_one(AssertSqlSafe(read)).await, expected.database_id) {
        (Err(error), Some(wanted)) if has_code(&error, UNDEFINED_TABLE) => {
            let found = "one that Amends has never used".to_owned();
            Err(Unfit::Another { found, wanted }.into())
        }
        (answered, _) => answered,
    }
}

/// Ends these processes of the server, and nobody else.
pub(super) async fn end(
    connection: &mut PgConnection,
    backends: &[Backend],
) -> Result<(), sqlx::Error> {
    let known = backends.iter().filter_map(|it| Some((it.pid, it.began.as_ref()?)));
    let those: Vec<_> =
        known.map(|(pid, began)| format!("({pid}, '{began}'::timestamptz)")).collect();
    if those.is_empty() {
        return Ok(());
    }
    let end = format!(
        "select pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
         where (pid, backend_start) in (values {})",
        those.join(", ")
    );
    match connection.execute(AssertSqlSafe(end)).await {
        // They may belong to somebody else by now.
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "sessions that were given up cannot be ended");
            Ok(())
        }
        ended => ended.map(drop),
    }
}

/// Which Postgres it is: its version in words, and the number before the point.
pub(crate) async fn version(connection: &mut PgConnection) -> Result<(String, i32), sqlx::Error> {
    let version = connection
        .fetch_one(
            "select current_setting('server_version'),
                    current_setting('server_version_num')::int / 10000",
        )
        .await?;
    Ok((version.try_get(0)?, version.try_get(1)?))
}

/// A setting that lets the server forget what it has acknowledged.
pub(super) async fn forgetful(
    connection: &mut PgConnection,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select name as "name!" from pg_catalog.pg_settings
           where name in ('fsync', 'full_page_writes') and setting = 'off' limit 1"#
    )
    .fetch_optional(connection)
    .await
}

/// What an error says of the database, if it says that it will not do.
pub(super) fn unfit(error: sqlx::Error) -> Result<Unfit, sqlx::Error> {
    match error {
        sqlx::Error::Configuration(reason) => match reason.downcast::<Unfit>() {
            Ok(unfit) => Ok(*unfit),
            Err(reason) => Err(sqlx::Error::Configuration(reason)),
        },
        // A statement is there that another client has prepared, or is not there any more.
        sqlx::Error::Database(error)
            if matches!(error.code().as_deref(), Some("42P05" | "26000")) =>
        {
            Ok(Unfit::Pooled)
        }
        error => Err(error),
    }
}

/// Has the database notice within half a second that a client is gone whose statement runs or waits
/// for a lock: what it holds would keep its worker from being taken over. Not every system can do
/// that.
async fn end_with_its_client(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match connection.execute("set client_connection_check_interval = 500").await {
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "the database does not notice by itself that a client is gone");
            Ok(())
        }
        noticing => noticing.map(drop),
    }
}
