//! Retry now: make the attempt that waits for its time. Time-outs and sleeps go on, and so do quiet
//! periods: a provider that is asked too early does not know what it has applied.

use super::{Answer, Standing};
use crate::status::Status;

pub(super) fn judge(standing: Standing) -> Answer {
    match standing.status {
        _ if standing.held => Answer::Held,
        Status::Waiting | Status::Compensating => Answer::Accepted,
        Status::Stuck => Answer::Stuck,
        _ => Answer::AlreadyRunning,
    }
}
