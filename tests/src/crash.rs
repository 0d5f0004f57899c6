//! Crashes at probe points: stop the world there, lose the engine, start another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use amends::probe::Probes;
use tokio::sync::Notify;

/// A crash that is waiting for its moment.
#[derive(Clone, Default)]
pub struct Crash {
    reached: Arc<Mutex<Vec<&'static str>>>,
    count: Arc<AtomicUsize>,
    happened: Arc<Notify>,
}

impl Crash {
    /// Stops the engine for ever at the `nth` probe point it reaches (from 0); `None` only counts.
    #[must_use]
    pub fn at(nth: Option<usize>) -> (Self, Probes) {
        let crash = Self::default();
        let hook = crash.clone();
        let probes = Probes::new(move |point| {
            let hook = hook.clone();
            Box::pin(async move {
                let count = hook.count.fetch_add(1, Ordering::SeqCst);
                hook.reached.lock().expect("no hook panics").push(point);
                if nth.is_some_and(|nth| count >= nth) {
                    hook.happened.notify_one();
                    std::future::pending::<()>().await;
                }
            })
        });
        (crash, probes)
    }

    /// Waits until the moment has come.
    pub async fn happened(&self) {
        self.happened.notified().await;
    }

    /// The points that were reached, in order.
    #[must_use]
    pub fn reached(&self) -> Vec<&'static str> {
        self.reached.lock().expect("no hook panics").clone()
    }
}
