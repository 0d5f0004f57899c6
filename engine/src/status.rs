//! Where an instance stands, and how it may go from there to elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sabotage::Bug;

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; nobody runs it yet.
    Pending,
    /// A worker runs it.
    Running,
    /// It waits for time, a retry or a signal.
    Waiting,
    /// What was done is being undone.
    Compensating,
    /// It needs a person; only a command leaves it.
    Stuck,
    /// Every step is done.
    Completed,
    /// A step failed for good, and all that had been done is undone.
    Compensated,
    /// Somebody asked, and all that had been done is undone.
    Cancelled,
    /// Stopped by force; nothing was undone.
    Terminated,
}

/// What moves an instance from one status to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A worker takes it up.
    Claim,
    /// It has to wait longer than a worker cares to keep it.
    Wait,
    /// The last step is done.
    Complete,
    /// A compensation plan is recorded.
    Compensate,
    /// It needs a person.
    Stick,
    /// A person has answered, and going forward goes on.
    Resume,
    /// All is undone after a failure.
    FinishCompensated,
    /// All is undone on request.
    FinishCancelled,
    /// A person stops it by force.
    Terminate,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Running,
        Self::Waiting,
        Self::Compensating,
        Self::Stuck,
        Self::Completed,
        Self::Compensated,
        Self::Cancelled,
        Self::Terminated,
    ];

    /// Whether an instance that is taken up in this status has lost its worker. `was_freed`: nobody
    /// has let go of it. What is being undone has the same status with and without a worker.
    pub(crate) fn has_lost_its_worker(self, was_freed: bool) -> bool {
        match self {
            Self::Running => true,
            Self::Compensating => was_freed && !Bug::LossWhileUndoing.is_on(),
            _ => false,
        }
    }

    /// Where `transition` leads, or `None` if it is not possible from here.
    ///
    /// This is the only table of transitions; docs/STATES.md draws it, and a test compares.
    #[must_use]
    pub fn after(self, transition: Transition) -> Option<Self> {
        use Status::{
            Cancelled, Compensated, Compensating, Completed, Pending, Running, Stuck, Terminated,
            Waiting,
        };
        match (self, transition) {
            (Pending | Waiting | Running, Transition::Claim) => Some(Running),
            // What is being undone, or waits for a person, stays so while a worker holds it.
            (Compensating, Transition::Claim) => Some(Compensating),
            (Stuck, Transition::Claim) => Some(Stuck),
            // A completed child whose parent takes it back.
            (Completed, Transition::Claim) => Some(Completed),
            (Completed, Transition::Compensate) => Some(Compensating),
            (Running, Transition::Wait) => Some(Waiting),
            (Compensating, Transition::Wait) => Some(Compensating),
            (Running, Transition::Complete) => Some(Completed),
            (Running | Stuck, Transition::Compensate) => Some(Compensating),
            // A child that was to be taken back, and cannot be as it stands, is put to a person.
            (Running | Compensating | Completed, Transition::Stick) => Some(Stuck),
            (Stuck, Transition::Resume) => Some(Running),
            (Compensating, Transition::FinishCompensated) => Some(Compensated),
            (Compensating, Transition::FinishCancelled) => Some(Cancelled),
            // What nobody runs is taken up first, to read that it is to end.
            (Running | Compensating | Stuck, Transition::Terminate) => Some(Terminated),
            _ => None,
        }
    }

    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Compensated | Self::Cancelled | Self::Terminated => true,
            Self::Pending | Self::Running | Self::Waiting | Self::Compensating | Self::Stuck => {
                false
            }
        }
    }

    /// As stored, and as written in requests and responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// There is no such status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "unknown status; there are pending, running, waiting, compensating, stuck, completed, \
     compensated, cancelled and terminated"
)]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSITIONS: [Transition; 9] = [
        Transition::Claim,
        Transition::Wait,
        Transition::Complete,
        Transition::Compensate,
        Transition::Stick,
        Transition::Resume,
        Transition::FinishCompensated,
        Transition::FinishCancelled,
        Transition::Terminate,
    ];

    #[test]
    fn nothing_leaves_a_terminal_status_but_a_completed_child_that_is_taken_back() {
        for status in Status::ALL.into_iter().filter(|status| status.is_terminal()) {
            for transition in TRANSITIONS {
                let taken_back = match (status, transition) {
                    (Status::Completed, Transition::Claim) => Some(Status::Completed),
                    (Status::Completed, Transition::Compensate) => Some(Status::Compensating),
                    (Status::Completed, Transition::Stick) => Some(Status::Stuck),
                    _ => None,
                };
                assert_eq!(status.after(transition), taken_back, "{status} {transition:?}");
            }
        }
    }

    #[test]
    fn every_status_that_is_not_terminal_can_end() {
        for start in Status::ALL.into_iter().filter(|status| !status.is_terminal()) {
            let mut reached = vec![start];
            let mut next = 0;
            while next < reached.len() {
                for transition in TRANSITIONS {
                    if transition == Transition::Terminate {
                        continue;
                    }
                    if let Some(to) = reached[next].after(transition)
                        && !reached.contains(&to)
                    {
                        reached.push(to);
                    }
                }
                next += 1;
            }
            assert!(reached.iter().any(|status| status.is_terminal()), "{start} never ends");
        }
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("failed".parse::<Status>(), Err(UnknownStatus));
    }
}
