//! Crashes at probe points: stop the world there, lose the engine, start another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use amends::probe::Probes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A crash that is waiting for its moment.
#[derive(Clone, Default)]
pub struct Crash {
    nth: Option<usize>,
    reached: Arc<Mutex<Vec<&'static str>>>,
    count: Arc<AtomicUsize>,
    happened: Arc<Notify>,
    released: CancellationToken,
}

impl Crash {
    /// Stops the engine, unless it is released, at the `nth` probe point it reaches (from 0); `None` only counts.
    #[must_use]
    pub fn at(nth: Option<usize>) -> (Self, Probes) {
        let crash = Self { nth, ..Self::default() };
        let hook = crash.clone();
        let probes = Probes::new(move |point| {
            let hook = hook.clone();
            Box::pin(async move {
                let count = hook.count.fetch_add(1, Ordering::SeqCst);
                hook.reached.lock().expect("no hook panics").push(point);
                if nth == Some(count) {
                    hook.happened.notify_one();
                }
                if nth.is_some_and(|nth| count >= nth) {
                    hook.released.cancelled().await;
                }
            })
        });
        (crash, probes)
    }

    /// Lets what was stopped go on, as a process does that was only asleep; if it has been given
    /// up meanwhile, it ends, and gives its connections back.
    pub fn release(&self) {
        self.released.cancel();
    }

    /// Waits until the moment has come.
    pub async fn happened(&self) {
        self.happened.notified().await;
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        self.nth.is_some_and(|nth| self.reached().len() > nth)
    }

    /// Waits until a point of this name has been reached.
    pub async fn reaches(&self, point: &str) {
        while !self.reached().contains(&point) {
            tokio::task::yield_now().await;
        }
    }

    /// The points that were reached, in order.
    #[must_use]
    pub fn reached(&self) -> Vec<&'static str> {
        self.reached.lock().expect("no hook panics").clone()
    }
}
