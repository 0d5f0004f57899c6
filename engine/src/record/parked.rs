//! What a record says of a dependency that kept its instance waiting.

use chrono::{DateTime, Utc};

use super::Entry;

impl Entry {
    /// Says that a dependency kept the instance waiting until now. Attempts say it of themselves.
    pub(crate) fn mark_parked(&mut self) {
        match self {
            Self::StepStarted(entry) => entry.parked = true,
            Self::StepNotFound(entry) => entry.parked = true,
            Self::Command(entry) => entry.parked = true,
            Self::Signal(entry) => entry.parked = true,
            Self::ChildEnded(entry) => entry.parked = true,
            Self::MailRefused(entry) => entry.parked = true,
            _ => {}
        }
    }

    /// Until when it says that a dependency kept the instance waiting, being recorded `at`.
    pub(crate) fn parked_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_parked = match self {
            Self::StepDone(entry) => return entry.parked_until,
            Self::StepAttemptFailed(entry) => return entry.parked_until,
            Self::StepStarted(entry) => entry.parked,
            Self::StepNotFound(entry) => entry.parked,
            Self::Command(entry) => entry.parked,
            Self::Signal(entry) => entry.parked,
            Self::ChildEnded(entry) => entry.parked,
            Self::MailRefused(entry) => entry.parked,
            _ => false,
        };
        is_parked.then_some(at)
    }

    /// Whether it tells of an attempt at its step. A message may name a step, and comes of none.
    pub(crate) fn is_of_attempt(&self) -> bool {
        matches!(
            self,
            Self::StepDone(_)
                | Self::StepAttemptFailed(_)
                | Self::StepStarted(_)
                | Self::StepNotFound(_)
        )
    }
}
