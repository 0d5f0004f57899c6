//! Opens every session of this process, wherever the database is at that time.
//!
//! Of several servers the one that was good the last time is asked first, and each has a time of its
//! own. A server that cannot be written to is left at once. When another server is found, or the
//! database is not what it was, sessions that were opened before are not lent any more.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::acknowledged::Acknowledged;
use super::address::{Address, place};
use super::session::{self, Access, Backend, Expected, Found, Purpose, Unfit};
use super::within;

/// How many processes of the server are remembered that were given up.
const IN_DOUBT_MAX: usize = 64;

/// Finds the database. Clones are one and the same.
#[derive(Debug, Clone)]
pub(crate) struct Locator(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: Address,
    access: Access,
    /// The server that is asked first.
    next: AtomicUsize,
    /// The server that was good the last time.
    good: AtomicUsize,
    /// Sessions of another era are not used again.
    era: AtomicU64,
    /// Which database it is, once that is known.
    database_id: OnceLock<Uuid>,
    /// Whether another database was found the last time.
    is_another: AtomicBool,
    acknowledged: Acknowledged,
    /// Who may still be at what somebody does not wait for any more.
    in_doubt: Mutex<Vec<Backend>>,
}

/// A session, and who serves it.
#[derive(Debug)]
pub(crate) struct Session {
    connection: PgConnection,
    backend: Backend,
    era: u64,
}

/// A server that is being asked. Unless it is found to be good, the next one is asked first from
/// then on, also if nobody waits any more.
struct Asking<'a> {
    shared: &'a Shared,
    index: usize,
    is_good: bool,
}

impl Locator {
    pub(super) fn new(address: Address, access: Access) -> Self {
        Self(Arc::new(Shared {
            address: address.map(session::options),
            access,
            next: AtomicUsize::new(0),
            good: AtomicUsize::new(0),
            era: AtomicU64::new(0),
            database_id: OnceLock::new(),
            is_another: AtomicBool::new(false),
            acknowledged: Acknowledged::default(),
            in_doubt: Mutex::default(),
        }))
    }

    /// From now on every session has to be one with this database.
    pub(super) fn keep_to(&self, database_id: Uuid) {
        // A process keeps to the first one.
        let _ = self.0.database_id.set(database_id);
    }

    pub(super) fn acknowledged(&self) -> &Acknowledged {
        &self.0.acknowledged
    }

    /// Gives up a session whose server may still be at what it was asked: it may wait for a standby,
    /// and does not see that nobody waits for it.
    pub(super) fn give_up(&self, session: Session) {
        let mut in_doubt = self.0.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        in_doubt.push(session.backend);
        let too_many = in_doubt.len().saturating_sub(IN_DOUBT_MAX);
        in_doubt.drain(..too_many);
    }

    /// Whether another database was found behind the address the last time.
    pub(crate) fn is_another(&self) -> bool {
        self.0.is_another.load(Ordering::Acquire)
    }

    /// Opens a session with the server that will do.
    pub(super) async fn open(&self, purpose: Purpose) -> Result<Session, sqlx::Error> {
        let shared = &*self.0;
        let servers = shared.address.servers();
        let first = shared.next.load(Ordering::Acquire);
        let mut why = None;
        for turn in 0..servers.len() {
            let index = (first + turn) % servers.len();
            let mut asking = Asking { shared, index, is_good: false };
            match within(shared.address.connect_timeout(), self.ask(&servers[index], purpose)).await
            {
                Ok((connection, backend)) => {
                    asking.is_good = true;
                    let era = shared.found(index);
                    return Ok(Session { connection, backend, era });
                }
                Err(error) => {
                    if servers.len() > 1 {
                        tracing::debug!(%error, server = place(&servers[index]), "not this server");
                    }
                    why = Some(more_telling(why, error));
                }
            }
        }
        Err(why.unwrap_or(sqlx::Error::PoolClosed))
    }

    async fn ask(
        &self,
        server: &PgConnectOptions,
        purpose: Purpose,
    ) -> Result<(PgConnection, Backend), sqlx::Error> {
        let mut connection = PgConnection::connect_with(server).await?;
        let shared = &*self.0;
        let expected = Expected {
            access: shared.access,
            standby_will_do: shared.access == Access::ReadOnly && !shared.address.wants_primary(),
            database_id: shared.database_id.get().copied(),
            traces: shared.acknowledged.traces(),
        };
        match session::prepare(&mut connection, purpose, &expected).await {
            Ok(Found { backend, missing }) if missing.is_empty() => {
                shared.end_those_in_doubt(&mut connection).await?;
                Ok((connection, backend))
            }
            Ok(Found { missing, .. }) => {
                // What is open leads to what there was before, or has been found out as this is.
                shared.era.fetch_add(1, Ordering::AcqRel);
                shared.acknowledged.lost(missing);
                Err(Unfit::LostCommits.into())
            }
            Err(error) => {
                if let Some(another) = another(&error) {
                    shared.tell_another(another, server);
                }
                Err(error)
            }
        }
    }

    /// A connection that hears hints, to where the database is.
    pub(super) async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        self.open(Purpose::Alone).await?.close().await?;
        let server = &self.0.address.servers()[self.0.good.load(Ordering::Acquire)];
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(server.clone());
        PgListener::connect_with(&pool).await
    }

    /// Whether a session may be used again.
    pub(super) fn is_current(&self, session: &Session) -> bool {
        session.era == self.0.era.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Notes where the database is. Returns the era of what is opened there.
    fn found(&self, index: usize) -> u64 {
        self.is_another.store(false, Ordering::Release);
        self.next.store(index, Ordering::Release);
        if self.good.swap(index, Ordering::AcqRel) == index {
            return self.era.load(Ordering::Acquire);
        }
        let server = place(&self.address.servers()[index]);
        tracing::warn!(server, "the database is on {server} from now on");
        self.era.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Ends the processes of the server that somebody has given up.
    async fn end_those_in_doubt(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let in_doubt = || self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        let those = std::mem::take(&mut *in_doubt());
        if those.is_empty() {
            return Ok(());
        }
        let ended = session::end(connection, &those).await;
        if ended.is_err() {
            in_doubt().extend(those);
        }
        ended
    }

    fn tell_another(&self, another: &Unfit, server: &PgConnectOptions) {
        if !self.is_another.swap(true, Ordering::AcqRel) {
            let server = place(server);
            tracing::error!(server, "the database on {server} {another}");
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_good {
            let next = (self.index + 1) % self.shared.address.servers().len();
            // Unless somebody else knows better.
            let _ = self.shared.next.compare_exchange(
                self.index,
                next,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }
}

impl Session {
    /// Whether one process of the server serves both.
    pub(super) fn is_served_with(&self, other: &Self) -> bool {
        self.backend == other.backend
    }

    /// Ends it in order.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        within(Duration::from_secs(1), self.connection.close()).await
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Of what servers have said, what a person has to hear: who is away says less than who refuses.
fn more_telling(former: Option<sqlx::Error>, error: sqlx::Error) -> sqlx::Error {
    match former {
        Some(former) if !crate::error::is_transient(&former) => former,
        Some(former) if another(&former).is_some() => former,
        _ => error,
    }
}

/// That another database was found, if it is that.
fn another(error: &sqlx::Error) -> Option<&Unfit> {
    let sqlx::Error::Io(error) = error else { return None };
    let unfit = error.get_ref()?.downcast_ref::<Unfit>()?;
    matches!(unfit, Unfit::Another { .. }).then_some(unfit)
}
