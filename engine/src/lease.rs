//! The lease of a worker: a heartbeat that no busy runtime can delay, and what hangs on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::clock_offset::ClockOffset;
use crate::error::is_silence;
use crate::limits::RENEWALS_PER_LEASE;
use crate::loops::apart;
use crate::metrics::Metrics;
use crate::store::{Purpose, Session, Store, within, worker};

/// The right of this process to write, as far as this process can know.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    began: Instant,
    /// When the last successful renewal left, in milliseconds since `began`.
    renewed: AtomicU64,
    /// The clock of a test does not run by itself, and neither do its leases.
    frozen: bool,
}

impl Lease {
    pub(crate) fn new(length: Duration, clock: &Clock) -> Self {
        Self { length, began: now(), renewed: AtomicU64::new(0), frozen: clock.is_manual() }
    }

    /// Whether an effect may still be started: not after two thirds of the lease without renewal,
    /// so that what takes less than the last third ends before somebody else may start it too.
    pub(crate) fn permits_effects(&self) -> bool {
        let renewed = Duration::from_millis(self.renewed.load(Ordering::Acquire));
        self.frozen || self.began.elapsed().saturating_sub(renewed) < self.length * 2 / 3
    }

    fn record_renewal(&self, left: Instant) {
        let since = left.saturating_duration_since(self.began).as_millis();
        self.renewed.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// What the heartbeat needs of its worker.
pub(crate) struct Heartbeat {
    pub(crate) store: Store,
    pub(crate) worker_id: Uuid,
    pub(crate) lease: std::sync::Arc<Lease>,
    pub(crate) clock: Clock,
    pub(crate) metrics: std::sync::Arc<Metrics>,
    /// Cancelled by the heartbeat when the worker's row is gone.
    pub(crate) lost: CancellationToken,
    /// Ends the heartbeat.
    pub(crate) stop: CancellationToken,
}

impl Heartbeat {
    /// Renews the lease from a thread and a connection of its own, until the worker is lost or
    /// stopped.
    pub(crate) fn start(self) -> std::io::Result<()> {
        apart("amends-heartbeat", self.beat())
    }

    async fn beat(self) {
        let interval = self.lease.length / RENEWALS_PER_LEASE;
        let mut connection = None;
        loop {
            let left = now();
            let renewal = self.renew(&mut connection);
            let renewed = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.lost.cancelled() => return,
                renewed = renewal => renewed,
            };
            let pause = match renewed {
                Ok(true) => {
                    self.lease.record_renewal(left);
                    interval.saturating_sub(left.elapsed())
                }
                Ok(false) => {
                    tracing::warn!(worker.id = %self.worker_id, "this worker has been taken over");
                    self.lost.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, worker.id = %self.worker_id, "the lease could not be renewed");
                    connection = None;
                    interval / 5
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.lost.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    async fn renew(&self, connection: &mut Option<Session>) -> Result<bool, sqlx::Error> {
        let live = match connection.take() {
            Some(live) => live,
            None => self.store.connect(Purpose::Alone).await?,
        };
        let live = connection.insert(live);
        let asked = self.clock.now();
        let renewal = worker::renew(live, self.worker_id, self.lease.length, None);
        // A connection that does not answer in time is given up while there is lease left.
        let renewed = within(self.lease.length / RENEWALS_PER_LEASE, renewal).await;
        if let Ok(Some(present)) = renewed {
            let offset = ClockOffset::measured(asked, self.clock.now(), present);
            self.metrics.clock_offset.note(offset);
        }
        if renewed.as_ref().is_err_and(is_silence)
            && let Some(silent) = connection.take()
        {
            self.store.give_up(silent);
        }
        renewed.map(|present| present.is_some())
    }
}

#[expect(clippy::disallowed_methods, reason = "leases are judged by the monotonic clock")]
fn now() -> Instant {
    Instant::now()
}
