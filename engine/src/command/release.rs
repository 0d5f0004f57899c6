//! Release: go on after a hold. All that the instance has started and that is held is released with
//! it.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.held { Answer::Accepted } else { Answer::NotHeld }
}
