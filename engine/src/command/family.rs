//! What a cancel does to an instance that the cancelled one has started. Pure.

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Answer, Command, Standing, answer};

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
                    child_past_pivot: false,
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
