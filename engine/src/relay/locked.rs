//! Rows that a feed would write and somebody else has locked. A statement waits for such a row once;
//! after that it goes without it, until the row is free.

use std::collections::HashSet;

use crate::error::{Error, is_lock_timeout};
use crate::store::locked::{locked_blocks, locked_events};
use crate::worker::Worker;

/// What was locked when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Locked {
    events: HashSet<i64>,
    /// Keys whose blocks are locked.
    keys: HashSet<String>,
}

impl Locked {
    pub(super) fn has_event(&self, outbox_id: i64) -> bool {
        self.events.contains(&outbox_id)
    }

    pub(super) fn any_key(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Forgets what is free by now.
    pub(super) async fn look_again(
        &mut self,
        worker: &Worker,
        subscription: &str,
    ) -> Result<(), Error> {
        let pool = worker.store.relay();
        if !self.events.is_empty() {
            let events: Vec<_> = self.events.iter().copied().collect();
            self.events = locked_events(pool, &events).await?.into_iter().collect();
        }
        if !self.keys.is_empty() {
            let keys: Vec<_> = self.keys.iter().cloned().collect();
            self.keys = locked_blocks(pool, subscription, &keys).await?.into_iter().collect();
        }
        Ok(())
    }

    /// Whether a statement about these events has failed since some of them are locked; which ones is
    /// known then.
    pub(super) async fn explains_events(
        &mut self,
        worker: &Worker,
        error: &Error,
        events: &[i64],
    ) -> Result<bool, Error> {
        if !is_lock(error) {
            return Ok(false);
        }
        let locked = locked_events(worker.store.relay(), events).await?;
        warn("outbox", locked.len());
        Ok(extend(&mut self.events, locked))
    }

    /// The same for the blocks of keys.
    pub(super) async fn explains_keys(
        &mut self,
        worker: &Worker,
        error: &Error,
        subscription: &str,
        keys: &[String],
    ) -> Result<bool, Error> {
        if !is_lock(error) {
            return Ok(false);
        }
        let locked = locked_blocks(worker.store.relay(), subscription, keys).await?;
        warn("key_block", locked.len());
        Ok(extend(&mut self.keys, locked))
    }
}

fn is_lock(error: &Error) -> bool {
    matches!(error, Error::Database(error) if is_lock_timeout(error))
}

/// Whether anything has come in.
fn extend<T: Eq + std::hash::Hash>(known: &mut HashSet<T>, locked: Vec<T>) -> bool {
    let before = known.len();
    known.extend(locked);
    known.len() > before
}

fn warn(table: &str, count: usize) {
    if count > 0 {
        tracing::warn!(
            "another session has locked {count} rows of amends.{table}; the rest goes on"
        );
    }
}
