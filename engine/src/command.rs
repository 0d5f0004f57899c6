//! What a person may ask of an instance, and what he is told.
//!
//! Pure. A command is judged under the lock of the instance's row, so the answer is true when it
//! is given and stays true: what was accepted happens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Go on: a stuck instance tries again, a waiting one does not wait any longer.
    Resume,
    /// Undo what was done, and end.
    Cancel,
}

impl Command {
    /// As stored, and as written in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// There is no such command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown command; there are resume and cancel")]
pub struct UnknownCommand;

impl FromStr for Command {
    type Err = UnknownCommand;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "resume" => Ok(Self::Resume),
            "cancel" => Ok(Self::Cancel),
            _ => Err(UnknownCommand),
        }
    }
}

/// What the person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It will happen.
    Accepted,
    /// The instance has ended.
    AlreadyEnded,
    /// What was done is being undone already, or a cancel waits to be read.
    AlreadyCancelling,
    /// The point of no return is reached, or is being tried at this moment.
    PastPivot,
    /// The instance is being run; there is nothing to resume.
    AlreadyRunning,
}

impl Answer {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadyEnded => "already_ended",
            Self::AlreadyCancelling => "already_cancelling",
            Self::PastPivot => "past_pivot",
            Self::AlreadyRunning => "already_running",
        }
    }
}

/// What is known of an instance when a command arrives.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Its status.
    pub status: Status,
    /// Whether a pivot is done, or may be at this moment.
    pub past_pivot: bool,
    /// Whether a cancel has been accepted before.
    pub cancelled: bool,
    /// Whether compensation has begun, also where the status is stuck.
    pub compensating: bool,
}

/// Judges a command.
#[must_use]
pub fn answer(command: Command, standing: Standing) -> Answer {
    if standing.status.is_terminal() {
        return Answer::AlreadyEnded;
    }
    match command {
        Command::Cancel if standing.compensating || standing.cancelled => Answer::AlreadyCancelling,
        Command::Cancel if standing.past_pivot => Answer::PastPivot,
        Command::Cancel => Answer::Accepted,
        Command::Resume => match standing.status {
            Status::Stuck | Status::Waiting => Answer::Accepted,
            // A compensation waiting for its next attempt may be told not to wait.
            Status::Compensating => Answer::Accepted,
            _ => Answer::AlreadyRunning,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_has_an_answer_and_no_cancel_is_accepted_that_cannot_happen() {
        for status in Status::ALL {
            for bits in 0..8 {
                let standing = Standing {
                    status,
                    past_pivot: bits & 1 != 0,
                    cancelled: bits & 2 != 0,
                    compensating: bits & 4 != 0,
                };
                let accepted = answer(Command::Cancel, standing) == Answer::Accepted;
                assert_eq!(accepted, !status.is_terminal() && bits == 0, "cancel of {standing:?}");
                if status.is_terminal() {
                    assert_eq!(answer(Command::Resume, standing), Answer::AlreadyEnded);
                }
            }
        }
    }
}
