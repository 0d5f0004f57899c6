//! Time as a parameter: the machine's clock, or one that a test moves.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// Where the engine reads time.
///
/// Leases and due times are judged by the database's own clock, so that workers need not agree;
/// only a clock moved by hand is passed to the database instead.
#[derive(Debug, Clone)]
pub struct Clock(Option<Arc<watch::Sender<DateTime<Utc>>>>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start` until it is moved.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Some(Arc::new(watch::channel(start).0)))
    }

    /// Moves a manual clock on; the machine's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let (Some(time), Ok(by)) = (&self.0, chrono::TimeDelta::from_std(by)) {
            time.send_modify(|now| *now += by);
        }
    }

    /// Sets a manual clock, also back; the machine's clock is left alone.
    pub fn set(&self, now: DateTime<Utc>) {
        if let Some(time) = &self.0 {
            time.send_replace(now);
        }
    }

    /// The present.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn now(&self) -> DateTime<Utc> {
        self.0.as_ref().map_or_else(Utc::now, |time| *time.borrow())
    }

    /// What statements get as their present: nothing, unless the clock is moved by hand.
    pub(crate) fn pinned(&self) -> Option<DateTime<Utc>> {
        self.0.as_ref().map(|time| *time.borrow())
    }

    /// Whether tests move this clock.
    pub(crate) fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until `until`.
    pub(crate) async fn sleep_until(&self, until: DateTime<Utc>) {
        match &self.0 {
            None => self.sleep((until - self.now()).to_std().unwrap_or_default()).await,
            Some(time) => {
                // The sender lives in `self`, so waiting cannot fail.
                let _ = time.subscribe().wait_for(|now| *now >= until).await;
            }
        }
    }

    /// Waits for `future`, but only so long, in real time. With no time at all it has to be ready.
    pub(crate) async fn within<F: Future>(&self, most: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(most, future).await.ok()
    }

    /// Waits for real time to pass, whatever the clock: pauses between polls and retries.
    #[expect(clippy::disallowed_methods, reason = "this is where the engine sleeps")]
    pub(crate) async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
