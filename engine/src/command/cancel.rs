//! Cancel: undo what was done, latest first, and end. It lifts a hold.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.compensating || standing.cancelled {
        Answer::AlreadyCancelling
    } else if standing.past_pivot {
        Answer::PastPivot
    } else {
        Answer::Accepted
    }
}
