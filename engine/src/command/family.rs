//! What a command to an instance does to what that has started. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::sabotage::Bug;
use crate::status::Status;

/// Where a child stands, or a child's child, when everything above it is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildStanding {
    /// It has not ended: it is cancelled together with its parent.
    Live,
    /// It has completed: its parent takes it back when its turn comes.
    Completed,
    /// It cannot be undone any more, and so nothing above it can.
    PastPivot,
    /// It is being undone already, or will be in a moment.
    BeingUndone,
    /// Nothing is left of it.
    Undone,
    /// It was stopped by force: a person has to find out what is left of it.
    Terminated,
}

impl ChildStanding {
    /// Judges a child by its row, and by whether it has been cancelled or has a plan.
    pub(crate) fn judge(status: Status, past_pivot: bool, is_undoing: bool) -> Self {
        match status {
            Status::Compensated | Status::Cancelled => Self::Undone,
            Status::Terminated => Self::Terminated,
            _ if is_undoing => Self::BeingUndone,
            _ if past_pivot => Self::PastPivot,
            Status::Completed => Self::Completed,
            Status::Pending
            | Status::Running
            | Status::Waiting
            | Status::Compensating
            | Status::Stuck => Self::Live,
        }
    }
}

/// What becomes of the live children of an instance that is terminated, and of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildPolicy {
    /// They are terminated with it; nothing is undone.
    Terminate,
    /// They are cancelled: each undoes what it has done.
    Cancel,
    /// They go on, and answer to nobody.
    Leave,
}

impl ChildPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Terminate, Self::Cancel, Self::Leave];

    /// As written in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Cancel => "cancel",
            Self::Leave => "leave",
        }
    }
}

impl fmt::Display for ChildPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// There is no such policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("children are left to one of terminate, cancel and leave")]
pub struct UnknownChildPolicy;

impl FromStr for ChildPolicy {
    type Err = UnknownChildPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or(UnknownChildPolicy)
    }
}

/// What a command to an instance means for one that it has started, or for a child of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildFate {
    /// It is cancelled at once.
    Cancel,
    /// It has completed, and is taken back when its turn comes.
    TakeBack,
    /// It is past its pivot: the command is refused because of it.
    Refuse,
    /// It was stopped by force: a person has to find out what is left of it.
    AskPerson,
    /// It is held.
    Hold,
    /// It is released.
    Release,
    /// It is terminated.
    Terminate,
    /// It is live, and the command does not say what becomes of it.
    Undecided,
    /// Nothing changes for it.
    Unchanged,
}

impl ChildFate {
    /// The command that a child is given with the command to its parent.
    pub(crate) fn command(self) -> Option<Command> {
        match self {
            Self::Cancel => Some(Command::Cancel),
            Self::Hold => Some(Command::Hold),
            Self::Release => Some(Command::Release),
            Self::Terminate => Some(Command::Terminate),
            Self::TakeBack | Self::Refuse | Self::AskPerson | Self::Undecided | Self::Unchanged => {
                None
            }
        }
    }
}

/// A child as a command to its parent finds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relative {
    pub(crate) status: Status,
    pub(crate) standing: ChildStanding,
    pub(crate) is_held: bool,
    /// Whether its own parent undoes it, now or in a moment.
    pub(crate) is_undone_by_parent: bool,
}

/// What a command means for a child. A terminate has a policy, or leaves what is live undecided.
pub(crate) fn fate(command: Command, policy: Option<ChildPolicy>, relative: Relative) -> ChildFate {
    let Relative { status, is_held, is_undone_by_parent, .. } = relative;
    let is_live = !status.is_terminal();
    match (command, policy) {
        (Command::Cancel, _) => undo(relative),
        (Command::Terminate, Some(ChildPolicy::Cancel)) if is_live || is_undone_by_parent => {
            undo(relative)
        }
        (Command::Hold, _) if Bug::HoldStaysAbove.is_on() => ChildFate::Unchanged,
        (Command::Terminate, None) if Bug::StopUndecided.is_on() => ChildFate::Unchanged,
        (Command::Hold, _) if is_live && !is_held => ChildFate::Hold,
        (Command::Release, _) if is_live && is_held => ChildFate::Release,
        (Command::Terminate, None) if is_live => ChildFate::Undecided,
        (Command::Terminate, Some(ChildPolicy::Terminate)) if is_live => ChildFate::Terminate,
        _ => ChildFate::Unchanged,
    }
}

/// What it means for a child that it is to be undone. A hold on what is being undone already would
/// keep everything above it from its end.
fn undo(relative: Relative) -> ChildFate {
    match relative.standing {
        ChildStanding::Live => ChildFate::Cancel,
        ChildStanding::Completed => ChildFate::TakeBack,
        ChildStanding::PastPivot => ChildFate::Refuse,
        ChildStanding::BeingUndone if relative.is_held => ChildFate::Release,
        ChildStanding::BeingUndone | ChildStanding::Undone => ChildFate::Unchanged,
        ChildStanding::Terminated => ChildFate::AskPerson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Answer, Standing, answer};

    fn relatives() -> impl Iterator<Item = Relative> {
        Status::ALL.into_iter().flat_map(|status| {
            (0..16).map(move |bits| Relative {
                status,
                standing: ChildStanding::judge(status, bits & 1 != 0, bits & 2 != 0),
                is_held: bits & 4 != 0 && !status.is_terminal(),
                is_undone_by_parent: bits & 8 != 0,
            })
        })
    }

    #[test]
    fn a_command_that_goes_down_leaves_nothing_live_as_it_was() {
        for relative in relatives() {
            let is_live = !relative.status.is_terminal();
            let of = |command, policy| fate(command, policy, relative);
            let held = relative.is_held || of(Command::Hold, None) == ChildFate::Hold;
            assert_eq!(held, is_live, "{relative:?}");
            let released = of(Command::Release, None) == ChildFate::Release;
            assert_eq!(released, relative.is_held, "{relative:?}");
            let stopped = of(Command::Terminate, Some(ChildPolicy::Terminate));
            assert_eq!(stopped == ChildFate::Terminate, is_live, "{relative:?}");
            assert_eq!(of(Command::Terminate, None) == ChildFate::Undecided, is_live);
            assert_eq!(of(Command::Terminate, Some(ChildPolicy::Leave)), ChildFate::Unchanged);
            let cancelled = of(Command::Terminate, Some(ChildPolicy::Cancel));
            if is_live || relative.is_undone_by_parent {
                assert_eq!(cancelled, of(Command::Cancel, None), "{relative:?}");
            } else {
                assert_eq!(cancelled, ChildFate::Unchanged, "{relative:?}");
            }
        }
    }

    #[test]
    fn policies_are_read_back() {
        for policy in ChildPolicy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        assert_eq!("kill".parse::<ChildPolicy>(), Err(UnknownChildPolicy));
    }

    /// A child stands as its own answer to a cancel by its parent says.
    #[test]
    fn a_child_is_told_or_stands_in_the_way_as_it_would_answer_itself() {
        for status in Status::ALL {
            for (past_pivot, compensating) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let standing = Standing {
                    status,
                    past_pivot,
                    cancelled: false,
                    compensating,
                    resumed: false,
                    held: false,
                    by_parent: true,
                    ancestors_ended: false,
                    child_past_pivot: false,
                    children_undecided: false,
                };
                let expected = match ChildStanding::judge(status, past_pivot, compensating) {
                    ChildStanding::Live | ChildStanding::Completed => Answer::Accepted,
                    ChildStanding::PastPivot => Answer::PastPivot,
                    ChildStanding::BeingUndone => Answer::AlreadyCancelling,
                    ChildStanding::Undone | ChildStanding::Terminated => Answer::AlreadyEnded,
                };
                assert_eq!(answer(Command::Cancel, standing), expected, "{standing:?}");
            }
        }
    }
}
