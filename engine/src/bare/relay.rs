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
use crate::store::Store;
use crate::store::outbox::{self, Page, Span};

/// How often to look without having been told of anything.
const POLL: Duration = Duration::from_millis(500);

/// Takes rows out of the outbox, reading what they point at.
pub(super) struct Relay {
    store: Store,
    worker_id: Uuid,
    subscription: &'static str,
    published: Notify,
    is_finished: AtomicBool,
}

impl Relay {
    pub(super) fn new(store: Store, worker_id: Uuid, subscription: &'static str) -> Self {
        let (published, is_finished) = (Notify::new(), AtomicBool::new(false));
        Self { store, worker_id, subscription, published, is_finished }
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
        let clock = Clock::system();
        let mut position = Position::default();
        loop {
            // Read before the scan: what is written before the last look is seen by it.
            let is_last_look = self.is_finished.load(Ordering::Acquire);
            let now = clock.now();
            let rows_max = limits::SCAN_MAX;
            let page = self.take(Span { from: position.from(), until: None, rows_max }).await?;
            position.looked(&page, now);
            let mut is_empty = page.rows.is_empty();
            let mut is_full = page.is_full;
            if position.is_sweeping(now, true) || is_last_look {
                let sweep = position.sweep().unwrap_or_else(|| position.begin_sweep(now, now));
                let page = self.take(Span { from: sweep.from, until: None, rows_max }).await?;
                position.swept(&page, now);
                position.unblocked();
                is_empty &= page.rows.is_empty() && !page.is_full;
                is_full |= page.is_full;
            }
            if is_empty && is_last_look {
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

    /// Takes a page out of the outbox.
    async fn take(&self, span: Span) -> Result<Page, Error> {
        let shards: Vec<i16> = (0..limits::SHARDS as i16).collect();
        let pool = self.store.relay();
        let page = outbox::scan(pool, &shards, self.subscription, span).await?;
        let ids: Vec<i64> = page.rows.iter().map(|row| row.outbox_id).collect();
        if !ids.is_empty() {
            outbox::delete(pool, self.worker_id, &ids).await?;
        }
        Ok(page)
    }
}
