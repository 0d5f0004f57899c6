//! Terminate: end at once, by force. Nothing is undone, and the money need not add up.

use super::{Answer, Standing};

pub(super) fn judge(_: Standing) -> Answer {
    Answer::Accepted
}
