//! Sessions that are lent for a statement or two.
//!
//! Nobody waits for an answer that does not come: a session that is silent for too long is closed,
//! and with it those that nobody uses, since what has swallowed one has as a rule swallowed all. A
//! session that is left half-way, or on which anything has failed, is not lent again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::locator::{Locator, Session};
use super::session::Purpose;
use super::transaction;
use crate::clock::Clock;
use crate::error::is_transient;

/// How long one waits for a session that is not in use, or for a new one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session serves. What a pooler, a proxy or a name server says anew is heard by then.
const LIFETIME: Duration = Duration::from_secs(300);
/// After so long a session is asked whether it still answers before it is lent.
const RESTED: Duration = Duration::from_secs(1);
/// How long one rests before one looks for the database once more.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Sessions for one purpose. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    locator: Locator,
    purpose: Purpose,
    /// How many may be lent.
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Pooled>>>,
}

/// A session that belongs to a pool.
#[derive(Debug)]
struct Pooled {
    session: Session,
    opened: Instant,
    /// Since when nobody uses it.
    rests: Instant,
}

/// A session that is lent.
pub(crate) struct Lent {
    /// Until it is given back.
    session: Option<Pooled>,
    pool: Pool,
    state: State,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pooled {
    fn new(session: Session) -> Self {
        let now = Instant::now();
        Self { session, opened: now, rests: now }
    }
}

/// What is known of a session that is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has been left half-way on it, and nothing has failed.
    Sound,
    /// Something has failed on it.
    Failed,
    /// It has been left half-way: its server may still be at it.
    InDoubt,
}

/// Watches over what is done with a session.
pub(crate) struct Watch<'a> {
    pool: &'a Pool,
    state: &'a mut State,
}

impl Pool {
    /// Opens none yet.
    pub(super) fn new(locator: &Locator, purpose: Purpose, sessions_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(sessions_max));
        Self { locator: locator.clone(), purpose, permits, idle: Arc::default() }
    }

    /// A session, for statements that belong together. Nothing has been sent if this fails.
    pub(crate) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let mut why = sqlx::Error::PoolTimedOut;
        let lent = timeout(ACQUIRE_TIMEOUT, self.lend(&mut why)).await;
        lent.unwrap_or_else(|_| {
            self.close_idle();
            Err(why)
        })
    }

    /// Lends a session once there is one. `why` says meanwhile why there is none.
    async fn lend(&self, why: &mut sqlx::Error) -> Result<Lent, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = Some(permit.map_err(|_| sqlx::Error::PoolClosed)?);
        let lent = |pooled| {
            let (session, pool) = (Some(pooled), self.clone());
            Ok(Lent { session, pool, state: State::Sound, permit })
        };
        while let Some(mut pooled) = self.take_idle() {
            if pooled.rests.elapsed() < RESTED || pooled.session.ping().await.is_ok() {
                return lent(pooled);
            }
        }
        let mut pause = PAUSE_MIN;
        loop {
            match self.locator.open(self.purpose).await {
                Ok(session) => return lent(Pooled::new(session)),
                Err(error) if is_transient(&error) => *why = error,
                Err(error) => return Err(error),
            }
            Clock::system().sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The session that was used last, if it may still be used.
    fn take_idle(&self) -> Option<Pooled> {
        let mut idle = self.idle();
        idle.retain(|it| self.is_usable(it));
        idle.pop()
    }

    fn is_usable(&self, pooled: &Pooled) -> bool {
        pooled.opened.elapsed() < LIFETIME && self.locator.is_current(&pooled.session)
    }

    /// Takes a session back.
    fn rest(&self, mut pooled: Pooled) {
        pooled.rests = Instant::now();
        if self.is_usable(&pooled) && !self.permits.is_closed() {
            self.idle().push(pooled);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Duration {
        self.purpose.deadline()
    }

    /// Closes the sessions that nobody uses.
    fn close_idle(&self) {
        self.idle().clear();
    }

    /// Lends no session any more, and closes all that nobody uses.
    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for Pooled { session, .. } in idle {
            // It ends all the same.
            let _ = session.close().await;
        }
    }
}

impl Lent {
    /// The session, and what watches over what is done with it.
    pub(crate) fn lend(&mut self) -> Result<(&mut PgConnection, Watch<'_>), sqlx::Error> {
        let pooled = self.session.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        Ok((&mut pooled.session, Watch { pool: &self.pool, state: &mut self.state }))
    }

    /// The session itself, without a limit of time. It is not lent again unless it is
    /// [given back](Self::give_back).
    pub(crate) fn session(&mut self) -> Option<&mut PgConnection> {
        self.state = State::InDoubt;
        self.session.as_mut().map(|pooled| &mut *pooled.session)
    }

    /// Nothing is open on it, and nothing has failed.
    pub(crate) fn give_back(mut self) {
        self.state = State::Sound;
    }
}

impl Watch<'_> {
    /// Gives what is done with the session the time that its purpose allows. If it fails, or is
    /// dropped half-way, the session is not lent again.
    pub(crate) async fn over<T, E: From<sqlx::Error>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        *self.state = State::InDoubt;
        let Ok(done) = timeout(self.pool.deadline(), work).await else {
            self.pool.close_idle();
            return Err(silent(self.pool.deadline()).into());
        };
        *self.state = if done.is_ok() { State::Sound } else { State::Failed };
        done
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pooled) = self.session.take() else { return };
        let (pool, permit) = (self.pool.clone(), self.permit.take());
        match self.state {
            State::Sound if pool.purpose == Purpose::Steps => {
                let Ok(runtime) = Handle::try_current() else { return };
                runtime.spawn(async move {
                    let mut pooled = pooled;
                    let cleaned = transaction::clean(&mut pooled.session);
                    if matches!(timeout(pool.deadline(), cleaned).await, Ok(Ok(()))) {
                        pool.rest(pooled);
                    }
                    drop(permit);
                });
            }
            State::Sound => pool.rest(pooled),
            State::Failed => drop(pooled),
            State::InDoubt => pool.locator.give_up(pooled.session),
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
