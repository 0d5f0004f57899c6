//! How many calls of a run are under way, and how many of them only wait.
//!
//! A run whose every call waits has nothing to do before the earliest of their times: its worker
//! lets go of it then. As long as one branch is at work, the others wait in memory.

use std::sync::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// The calls of one instance's run.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    counts: Mutex<Counts>,
    /// Rung when there may be no call that does not wait.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    waits: Vec<Wait>,
}

/// What a call waits for, beside mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wait {
    /// A time.
    pub(crate) until: Option<DateTime<Utc>>,
    /// A dependency that takes no call now.
    pub(crate) parked_on: Option<&'static str>,
}

impl Wait {
    /// Waits for a time; without one, for mail alone.
    pub(crate) fn until(until: Option<DateTime<Utc>>) -> Self {
        Self { until, parked_on: None }
    }

    /// Waits for a dependency.
    pub(crate) fn parked_on(dependency: &'static str) -> Self {
        Self { until: None, parked_on: Some(dependency) }
    }
}

impl Branches {
    /// Counts a call for as long as the guard lives.
    pub(crate) fn call(&self) -> Guard<'_> {
        self.counts().calls += 1;
        Guard { branches: self, wait: None }
    }

    /// Counts a wait of a call for as long as the guard lives.
    pub(crate) fn wait(&self, wait: Wait) -> Guard<'_> {
        self.counts().waits.push(wait);
        self.idle.notify_one();
        Guard { branches: self, wait: Some(wait) }
    }

    /// How many calls are under way.
    pub(crate) fn calls(&self) -> usize {
        self.counts().calls
    }

    /// Comes back when every call waits, with what ends the first of the waits.
    pub(crate) async fn all_wait(&self) -> Wait {
        loop {
            self.idle.notified().await;
            let counts = self.counts();
            if counts.calls > 0 && counts.waits.len() == counts.calls {
                let until = counts.waits.iter().filter_map(|wait| wait.until).min();
                let parked_on = counts.waits.iter().find_map(|wait| wait.parked_on);
                return Wait { until, parked_on };
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A call, or a wait of one, that is being counted.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    branches: &'a Branches,
    /// What it waits for, if it is a wait.
    wait: Option<Wait>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut counts = self.branches.counts();
        match self.wait {
            None => {
                counts.calls -= 1;
                self.branches.idle.notify_one();
            }
            Some(wait) => {
                if let Some(index) = counts.waits.iter().position(|other| *other == wait) {
                    counts.waits.swap_remove(index);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn at(seconds: i64) -> Wait {
        Wait::until(DateTime::from_timestamp(seconds, 0))
    }

    #[test]
    fn a_run_is_idle_when_its_last_busy_call_waits_or_ends() {
        let branches = Branches::default();
        let (_one, two, _three) = (branches.call(), branches.call(), branches.call());
        let _late = branches.wait(at(20));
        let _soon = branches.wait(at(10));
        assert_eq!(branches.all_wait().now_or_never(), None);
        drop(two);
        assert_eq!(branches.all_wait().now_or_never(), Some(at(10)));
    }

    #[test]
    fn a_wait_that_is_over_does_not_count() {
        let branches = Branches::default();
        let _call = branches.call();
        drop(branches.wait(Wait::default()));
        assert_eq!(branches.all_wait().now_or_never(), None);
        let _again = branches.wait(Wait::parked_on("carrier"));
        assert_eq!(branches.all_wait().now_or_never(), Some(Wait::parked_on("carrier")));
    }
}
