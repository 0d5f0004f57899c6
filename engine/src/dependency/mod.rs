//! What steps call, and its limits: how many calls at a time, how many in a while, and what to do
//! when it is down.
//!
//! The limits hold across all workers. Instances that may not call now wait in the database, where
//! they cost no memory and spend no attempt, and are let through as the dependency can take them.

mod gate;
pub(crate) mod health;
pub(crate) mod slots;
mod tend;

use std::time::Duration;

pub(crate) use gate::{Dependencies, Pass};
pub(crate) use tend::tend;

/// Something that steps call, such as a payment provider; steps name it with
/// [`crate::Declaration::through`].
#[derive(Debug, Clone)]
pub struct Dependency {
    pub(crate) name: &'static str,
    pub(crate) calls_max: Option<u32>,
    pub(crate) rate: Option<Rate>,
    pub(crate) failures_max: u32,
}

/// How many calls in how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) calls: u32,
    pub(crate) per: Duration,
}

impl Rate {
    /// The time from one call to the next.
    pub(crate) fn interval(self) -> Duration {
        self.per / self.calls.max(1)
    }
}

impl Dependency {
    /// A dependency without limits, which is taken to be down after 5 calls in a row that brought
    /// no answer.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, calls_max: None, rate: None, failures_max: 5 }
    }

    /// At most so many calls under way at a time, over all workers.
    #[must_use]
    pub fn concurrency(mut self, calls_max: u32) -> Self {
        self.calls_max = Some(calls_max);
        self
    }

    /// At most so many calls per `per`, over all workers, evenly spread.
    #[must_use]
    pub fn rate(mut self, calls: u32, per: Duration) -> Self {
        self.rate = Some(Rate { calls, per });
        self
    }

    /// Takes it to be down after so many calls in a row that brought no answer (a failure to be
    /// retried, or an unknown outcome; a refusal is an answer).
    #[must_use]
    pub fn down_after(mut self, failures: u32) -> Self {
        self.failures_max = failures;
        self
    }

    /// What is wrong with the declaration.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let name = self.name;
        let mut mistakes = Vec::new();
        if name.is_empty() || name.contains('\0') {
            mistakes.push(format!("{name:?} is no name for a dependency"));
        }
        if self.calls_max == Some(0) {
            mistakes.push(format!("dependency {name} allows no call at a time"));
        }
        if self.rate.is_some_and(|rate| rate.calls == 0 || rate.per.is_zero()) {
            mistakes.push(format!("dependency {name} has a rate of zero"));
        }
        if self.failures_max == 0 {
            mistakes.push(format!("dependency {name} is down after no failure"));
        }
        mistakes
    }
}
