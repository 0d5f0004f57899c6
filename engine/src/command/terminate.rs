//! Terminate: end at once, by force. Nothing is undone, and the money need not add up. What the
//! instance has started is terminated, cancelled or left alone, as the person says.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.children_undecided {
        Answer::ChildrenUndecided
    } else if standing.child_past_pivot {
        Answer::ChildPastPivot
    } else {
        Answer::Accepted
    }
}
