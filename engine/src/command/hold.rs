//! Hold: begin no further effect, forward or backward. An attempt under way comes to its end.

use super::{Answer, Standing};

pub(super) fn judge(standing: Standing) -> Answer {
    if standing.held { Answer::Held } else { Answer::Accepted }
}
