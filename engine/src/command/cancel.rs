//! Cancel: undo what was done, latest first, and end. It lifts a hold. What the instance has started
//! is cancelled with it, or it is refused.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.compensating || standing.cancelled {
        Answer::AlreadyCancelling
    } else if standing.past_pivot {
        Answer::PastPivot
    } else if standing.child_past_pivot {
        Answer::ChildPastPivot
    } else {
        Answer::Accepted
    }
}
