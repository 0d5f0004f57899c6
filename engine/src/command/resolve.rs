//! Resolve: take a person's finding as the outcome of a step or of its compensation, and go on.

use super::{Answer, Standing};
use crate::sabotage::Bug;
use crate::status::Status;

pub(super) fn judge(standing: Standing) -> Answer {
    match standing.status {
        Status::Stuck if standing.resumed && !Bug::ResolvedTwice.is_on() => Answer::AlreadyResumed,
        Status::Stuck => Answer::Accepted,
        _ => Answer::NotStuck,
    }
}
