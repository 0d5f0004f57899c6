//! Resume: go on, after whatever was in the way has been mended.

use super::{Answer, Standing};
use crate::status::Status;

pub(super) fn judge(standing: Standing) -> Answer {
    match standing.status {
        _ if standing.held => Answer::Held,
        Status::Stuck if standing.resumed => Answer::AlreadyResumed,
        // A compensation waiting for its next attempt may be told not to wait.
        Status::Stuck | Status::Waiting | Status::Compensating => Answer::Accepted,
        _ => Answer::AlreadyRunning,
    }
}
