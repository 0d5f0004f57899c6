//! Release: go on after a hold.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.held { Answer::Accepted } else { Answer::NotHeld }
}
