//! Instances, for the people who look after them.

pub mod command;
pub(crate) mod cursor;
pub(crate) mod list;
pub mod preview;
pub mod resolution;
pub(crate) mod show;

use crate::problem::{Code, Problem};

/// What is told where the history of an instance has to be read, and this build cannot.
fn unreadable(error: amends::Error) -> Problem {
    match error {
        amends::Error::UnknownWorkflow(_) | amends::Error::Stored(_) => {
            tracing::warn!(%error, "refused to look at an instance: {error}");
            let detail = "this server's build does not have the instance's workflow, or cannot \
                          read its history; ask a server of the build that has run it";
            Problem::new(Code::UnreadableHere, detail)
        }
        error => error.into(),
    }
}
