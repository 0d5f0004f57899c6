//! The relay of the bare write path: it scans and deletes when and as the engine's does, and delivers
//! to nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Error;
use crate::limits;
use crate::relay::{GATHER, Position};
use crate::store::{Store, outbox};

/// How often to look without having been told of anything.
const POLL: Duration = Duration::from_millis(500);

/// Takes rows out of the outbox, reading what they point at.
pub(super) struct Relay {
    store: Store,
    worker_id: Uuid,
    subscriptions: Vec<String>,
    published: Notify,
    is_finished: AtomicBool,
}

impl Relay {
    pub(super) fn new(store: Store, worker_id: Uuid, subscriptions: Vec<String>) -> Self {
        let (published, is_finished) = (Notify::new(), AtomicBool::new(false));
        Self { store, worker_id, subscriptions, published, is_finished }
    }

    /// A batch with events has been committed.
    pub(super) fn published(&self) {
        self.published.notify_one();
    }

    /// Nothing more will be committed.
    pub(super) fn finish(&self) {
        self.is_finished.store(true, Ordering::Release);
        self.published.notify_one();
    }

    /// Works until nothing more will be committed and the outbox is empty.
    pub(super) async fn run(&self) -> Result<(), Error> {
        let shards: Vec<i16> = (0..limits::SHARDS as i16).collect();
        let clock = Clock::system();
        let pool = self.store.relay();
        let mut position = Position::default();
        loop {
            // Read before the scan: what is written before the last look is seen by it.
            let is_last_look = self.is_finished.load(Ordering::Acquire);
            let now = clock.now();
            if position.sweep_is_due(now, false) {
                position.sweep(now);
            }
            let from = position.from;
            let rows =
                outbox::scan(pool, &shards, &self.subscriptions, from, limits::SCAN_MAX).await?;
            let is_full = rows.len() == limits::SCAN_MAX;
            position.scanned(rows.last().map(|row| row.outbox_id), is_full, now);
            let ids: Vec<i64> = rows.iter().map(|row| row.outbox_id).collect();
            if !ids.is_empty() {
                outbox::delete(pool, self.worker_id, &ids).await?;
            } else if is_last_look {
                return Ok(());
            }
            if !is_full && !is_last_look {
                tokio::select! {
                    () = self.published.notified() => clock.sleep(GATHER).await,
                    () = clock.sleep(POLL) => {}
                }
            }
        }
    }
}
