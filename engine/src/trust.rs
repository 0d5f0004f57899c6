//! Whether the database is to be trusted with more: nothing is missing that it had acknowledged, and
//! commits are on as many machines as was asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::loss::OnLostCommits;
use crate::store::{loss, replication};
use crate::worker::Parts;

/// How often the database is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// On how many machines a commit has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the server's own disk.
    Local,
    /// On another machine too: a commit waits for a standby.
    Replicated,
}

/// What is known of the database. It outlives the workers of a process.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Whether a loss waits for a person to acknowledge it.
    has_lost: AtomicBool,
    unreplicated: Mutex<Option<Unreplicated>>,
}

/// Commits are on one machine alone, or are not acknowledged.
#[derive(Debug, Clone)]
struct Unreplicated {
    since: DateTime<Utc>,
    why: String,
}

impl Trust {
    /// Refuses what comes in from outside while lost commits are to be looked at by a person.
    pub(crate) fn permit_intake(&self, parts: &Parts) -> Result<(), Error> {
        let has_lost = self.has_lost.load(Ordering::Acquire)
            || !parts.store.acknowledged().missing().is_empty();
        match parts.settings.on_lost_commits {
            OnLostCommits::Stop if has_lost => Err(Error::CommitsLost),
            OnLostCommits::Stop | OnLostCommits::GoOn => Ok(()),
        }
    }

    /// Refuses to be ready while commits have been on one machine alone for too long.
    pub(crate) fn permit_ready(&self, parts: &Parts) -> Result<(), Error> {
        let grace = TimeDelta::from_std(parts.settings.not_replicated_grace);
        let grace = grace.unwrap_or(TimeDelta::MAX);
        match &*self.unreplicated() {
            Some(it) if parts.clock.now() - it.since > grace => {
                Err(Error::NotReplicated(it.why.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Looks at everything, and tells other servers what is missing.
    pub(crate) async fn look(&self, parts: &Parts) -> Result<(), Error> {
        self.look_for_losses(parts).await?;
        let unreplicated = unreplicated(parts).await?;
        let mut known = self.unreplicated();
        *known = unreplicated.map(|why| {
            let since = known.as_ref().map_or_else(|| parts.clock.now(), |known| known.since);
            Unreplicated { since, why }
        });
        Ok(())
    }

    async fn look_for_losses(&self, parts: &Parts) -> Result<(), Error> {
        let (acknowledged, pool) = (parts.store.acknowledged(), parts.store.pool());
        for missing in acknowledged.missing() {
            loss::note(pool, &missing, &parts.settings.name).await?;
            // It stops the intake by itself from here on.
            self.has_lost.store(true, Ordering::Release);
            acknowledged.written_down(missing.loss_id);
        }
        self.has_lost.store(loss::any_unacknowledged(pool).await?, Ordering::Release);
        Ok(())
    }

    fn unreplicated(&self) -> MutexGuard<'_, Option<Unreplicated>> {
        self.unreplicated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why commits are not on as many machines as was asked for, if so.
async fn unreplicated(parts: &Parts) -> Result<Option<String>, Error> {
    let mut lent = parts.store.pool().acquire().await?;
    let (session, watch) = lent.lend()?;
    let found = watch.over(replication::replication(session)).await?;
    parts.metrics.durability_copies.set(found.copies());
    match parts.settings.durability {
        Durability::Local => Ok(None),
        Durability::Replicated => Ok(found.missing()),
    }
}

/// Refuses a database whose commits are not on as many machines as was asked for.
pub(crate) async fn refuse_unreplicated(parts: &Parts) -> Result<(), Error> {
    let refusal = unreplicated(parts).await?;
    let refuse = |why| Error::UnsafeDatabase(format!("is to be replicated, and is not: {why}"));
    refusal.map_or(Ok(()), |why| Err(refuse(why)))
}

/// Looks at the database until the engine is closed.
pub(crate) async fn watch(parts: Parts, closed: CancellationToken) {
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = parts.store.acknowledged().noticed.notified() => {}
            () = parts.clock.sleep(PAUSE) => {}
        }
        if let Err(error) = parts.trust.look(&parts).await {
            tracing::debug!(%error, "the database could not be looked at; it will be");
        }
    }
}
