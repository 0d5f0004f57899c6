//! What a person may ask of an instance, and what he is told.
//!
//! Pure; a file per command. A command is judged under the lock of the instance's row, so the
//! answer is true when it is given and stays true: what was accepted happens.

mod cancel;
mod family;
mod hold;
mod release;
mod resolution;
mod resolve;
mod resume;
mod retry;
mod terminate;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::status::Status;

pub use family::{ChildFate, ChildPolicy, ChildStanding, UnknownChildPolicy};
pub(crate) use family::{Relative, fate};
pub use resolution::{Finding, Resolution};

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Go on: a stuck instance tries again, a waiting one does not wait any longer.
    Resume,
    /// Make the next attempt now, instead of when it is due.
    Retry,
    /// Undo what was done, and end.
    Cancel,
    /// Take this as the outcome of a step or of its compensation, and go on.
    Resolve,
    /// Count money that has moved outside, and go on as before.
    Book,
    /// Begin no further effect until released.
    Hold,
    /// Go on after a hold.
    Release,
    /// End at once. Nothing is undone, and nothing is checked.
    Terminate,
}

impl Command {
    /// Every command.
    pub const ALL: [Self; 8] = [
        Self::Resume,
        Self::Retry,
        Self::Cancel,
        Self::Resolve,
        Self::Book,
        Self::Hold,
        Self::Release,
        Self::Terminate,
    ];

    /// As stored, and as written in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Resolve => "resolve",
            Self::Book => "book",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Terminate => "terminate",
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
#[error(
    "unknown command; there are resume, retry, cancel, resolve, book, hold, release and terminate"
)]
pub struct UnknownCommand;

impl FromStr for Command {
    type Err = UnknownCommand;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|command| command.as_str() == text).ok_or(UnknownCommand)
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
    /// Something that the instance has started is past its point of no return, so that not
    /// everything can be undone.
    ChildPastPivot,
    /// Something that the instance has started is live, and the command does not say what becomes
    /// of it.
    ChildrenUndecided,
    /// The instance is being run; there is nothing to resume, and nothing to wait for.
    AlreadyRunning,
    /// A hold is in force; release the instance first.
    Held,
    /// No hold is in force.
    NotHeld,
    /// The instance needs a person; resume it, or resolve what it is stuck on.
    Stuck,
    /// The instance does not need a person; there is nothing to resolve.
    NotStuck,
    /// Somebody has just said how it goes on, by a resume or a resolve that waits to be read.
    AlreadyResumed,
    /// What a cancel would undo is not what the person was shown.
    PlanChanged,
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
            Self::ChildPastPivot => "child_past_pivot",
            Self::ChildrenUndecided => "children_undecided",
            Self::AlreadyRunning => "already_running",
            Self::Held => "held",
            Self::NotHeld => "not_held",
            Self::Stuck => "stuck",
            Self::NotStuck => "not_stuck",
            Self::AlreadyResumed => "already_resumed",
            Self::PlanChanged => "plan_changed",
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
    /// Whether a resume or a resolve has been accepted that nobody has read yet.
    pub resumed: bool,
    /// Whether a hold is in force.
    pub held: bool,
    /// Whether it is the instance's parent who asks: it may take back a completed child.
    pub by_parent: bool,
    /// Whether everything above it has ended, if there is something: nobody else can take it back
    /// then.
    pub ancestors_ended: bool,
    /// Whether something that it has started, or that such a one has, is past its pivot and would
    /// have to be undone with it.
    pub child_past_pivot: bool,
    /// Whether something that it has started, or that such a one has, is live, and the command does
    /// not say what becomes of it.
    pub children_undecided: bool,
}

/// Judges a command.
#[must_use]
pub fn answer(command: Command, standing: Standing) -> Answer {
    let taken_back = (standing.by_parent || standing.ancestors_ended)
        && standing.status == Status::Completed
        && command == Command::Cancel;
    if standing.status.is_terminal() && !taken_back {
        return Answer::AlreadyEnded;
    }
    match command {
        Command::Resume => resume::judge(standing),
        Command::Retry => retry::judge(standing),
        Command::Cancel => cancel::judge(standing),
        Command::Resolve => resolve::judge(standing),
        // Money has moved, whatever the instance is about.
        Command::Book => Answer::Accepted,
        Command::Hold => hold::judge(standing),
        Command::Release => release::judge(standing),
        Command::Terminate => terminate::judge(standing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings() -> impl Iterator<Item = Standing> {
        Status::ALL.into_iter().flat_map(|status| {
            (0..256).map(move |bits| Standing {
                status,
                past_pivot: bits & 1 != 0,
                cancelled: bits & 2 != 0,
                compensating: bits & 4 != 0,
                held: bits & 8 != 0,
                by_parent: false,
                child_past_pivot: bits & 16 != 0,
                resumed: bits & 32 != 0,
                ancestors_ended: bits & 64 != 0,
                children_undecided: bits & 128 != 0,
            })
        })
    }

    #[test]
    fn no_cancel_is_accepted_that_cannot_happen() {
        for standing in standings() {
            let accepted = answer(Command::Cancel, standing) == Answer::Accepted;
            let taken_back = standing.ancestors_ended && standing.status == Status::Completed;
            let possible = (!standing.status.is_terminal() || taken_back)
                && !standing.past_pivot
                && !standing.child_past_pivot
                && !standing.cancelled
                && !standing.compensating;
            assert_eq!(accepted, possible, "cancel of {standing:?}");
        }
    }

    #[test]
    fn nothing_but_taking_back_is_accepted_after_the_end_and_all_else_can_be_terminated() {
        for standing in standings() {
            let ended = standing.status.is_terminal();
            for command in Command::ALL {
                let told_so = answer(command, standing) == Answer::AlreadyEnded;
                let taken_back = command == Command::Cancel
                    && standing.status == Status::Completed
                    && standing.ancestors_ended;
                assert_eq!(told_so, ended && !taken_back, "{command} of {standing:?}");
            }
            let terminates = answer(Command::Terminate, standing) == Answer::Accepted;
            let decided = !standing.children_undecided && !standing.child_past_pivot;
            assert_eq!(terminates, !ended && decided, "{standing:?}");
        }
    }

    #[test]
    fn what_is_held_goes_on_only_when_it_is_released_or_undone_or_terminated() {
        for standing in standings().filter(|it| it.held && !it.status.is_terminal()) {
            for command in [Command::Resume, Command::Retry, Command::Hold] {
                assert_eq!(answer(command, standing), Answer::Held, "{command} of {standing:?}");
            }
            assert_eq!(answer(Command::Release, standing), Answer::Accepted);
        }
    }

    #[test]
    fn of_those_who_say_how_a_stuck_instance_goes_on_the_second_is_told_of_the_first() {
        for standing in standings().filter(|it| it.status == Status::Stuck && !it.held) {
            let expected = if standing.resumed { Answer::AlreadyResumed } else { Answer::Accepted };
            for command in [Command::Resume, Command::Resolve] {
                assert_eq!(answer(command, standing), expected, "{command} of {standing:?}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for command in Command::ALL {
            assert_eq!(command.as_str().parse(), Ok(command));
        }
        assert_eq!("kill".parse::<Command>(), Err(UnknownCommand));
    }
}
