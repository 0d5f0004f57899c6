//! Hold: begin no further effect, forward or backward. An attempt under way comes to its end. All
//! that the instance has started and that is live is held with it.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.held { Answer::Held } else { Answer::Accepted }
}
