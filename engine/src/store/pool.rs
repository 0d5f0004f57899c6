//! Sessions that are lent for a statement or two.
//!
//! Nobody waits for an answer that does not come: a session that is silent for too long is closed,
//! and with it those that nobody uses, since what has swallowed one has as a rule swallowed all. A
//! session that is left half-way, or on which anything has failed, is not lent again.

use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo,
};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::session::{self, Access, Purpose};
use super::transaction;

/// How long one waits for a session that is not in use, or for a new one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session serves. What a pooler, a proxy or a name server says anew is heard by then.
const LIFETIME: Duration = Duration::from_secs(300);

/// Sessions for one purpose. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    sessions: PgPool,
    deadline: Duration,
}

/// A session that is lent.
pub(crate) struct Lent {
    /// Until it is given back.
    session: Option<PoolConnection<Postgres>>,
    pool: Pool,
    /// Whether nothing has been left half-way on it, and nothing has failed.
    is_sound: bool,
}

/// Watches over what is done with a session.
pub(crate) struct Watch<'a> {
    pool: &'a Pool,
    is_sound: &'a mut bool,
}

impl Pool {
    /// Opens none yet.
    pub(super) fn new(
        options: PgConnectOptions,
        (purpose, access): (Purpose, Access),
        sessions_max: u32,
    ) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(sessions_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(LIFETIME)
            .after_connect(move |connection, _| {
                Box::pin(session::prepare(connection, purpose, access))
            });
        let pool = if purpose == Purpose::Steps {
            pool.after_release(|connection, _| Box::pin(transaction::clean(connection)))
        } else {
            pool
        };
        Self { sessions: pool.connect_lazy_with(options), deadline: purpose.deadline() }
    }

    /// A session, for statements that belong together. Nothing has been sent if this fails.
    pub(crate) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        match self.sessions.acquire().await {
            Ok(session) => Ok(Lent { session: Some(session), pool: self.clone(), is_sound: true }),
            Err(error) => {
                if matches!(error, sqlx::Error::PoolTimedOut) {
                    self.close_idle();
                }
                Err(error)
            }
        }
    }

    /// Closes the sessions that nobody uses.
    fn close_idle(&self) {
        while let Some(session) = self.sessions.try_acquire() {
            drop(session.detach());
        }
    }

    /// Closes all sessions, and lends none any more.
    pub(crate) async fn close(&self) {
        self.sessions.close().await;
    }
}

impl Lent {
    /// The session, and what watches over what is done with it.
    pub(crate) fn lend(&mut self) -> Result<(&mut PgConnection, Watch<'_>), sqlx::Error> {
        let session = self.session.as_deref_mut().ok_or(sqlx::Error::PoolClosed)?;
        Ok((session, Watch { pool: &self.pool, is_sound: &mut self.is_sound }))
    }

    /// The session itself, without a limit of time. It is not lent again unless somebody says that
    /// it is [sound](Self::is_sound).
    pub(crate) fn session(&mut self) -> Option<&mut PgConnection> {
        self.is_sound = false;
        self.session.as_deref_mut()
    }

    /// Nothing is open on it, and nothing has failed.
    pub(crate) fn give_back(mut self) {
        self.is_sound = true;
    }
}

impl Watch<'_> {
    /// Gives what is done with the session the time that its purpose allows. If it fails, or is
    /// dropped half-way, the session is not lent again.
    pub(crate) async fn over<T, E: From<sqlx::Error>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        *self.is_sound = false;
        let Ok(done) = timeout(self.pool.deadline, work).await else {
            self.pool.close_idle();
            return Err(silent(self.pool.deadline).into());
        };
        *self.is_sound = done.is_ok();
        done
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if self.is_sound => {
                // It is asked whether it still answers, and may have ceased to at this moment.
                let giving_back = timeout(self.pool.deadline, session.return_to_pool());
                runtime.spawn(giving_back);
            }
            _ => drop(session.detach()),
        }
    }
}

/// A session that has not answered in time.
pub(super) fn silent(deadline: Duration) -> sqlx::Error {
    let message = format!("the database has not answered within {deadline:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
}

/// Statements by themselves, each on whichever session is free.
impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = async move {
            let mut lent = self.acquire().await?;
            let (session, watch) = lent.lend()?;
            watch.over(session.fetch_many(query).try_collect::<Vec<_>>()).await
        };
        stream::once(all).map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let one = async move {
            let mut lent = self.acquire().await?;
            let (session, watch) = lent.lend()?;
            watch.over(session.fetch_optional(query)).await
        };
        one.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let prepared = async move {
            let mut lent = self.acquire().await?;
            let (session, watch) = lent.lend()?;
            watch.over(session.prepare_with(sql, parameters)).await
        };
        prepared.boxed()
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let described = async move {
            let mut lent = self.acquire().await?;
            let (session, watch) = lent.lend()?;
            watch.over(session.describe(sql)).await
        };
        described.boxed()
    }
}
