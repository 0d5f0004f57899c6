//! What can go wrong in the engine itself, for whoever calls it.

use std::io::ErrorKind;

use crate::step::StepError;

/// What a caller of the engine has to deal with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration could not be applied.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// More is waiting to be written than this process may hold; try again later.
    #[error("overloaded: the write queue is full")]
    Overloaded,
    /// This process has lost its lease or is shutting down; another one will answer.
    #[error("this worker is not writing: it is shutting down or has lost its lease")]
    Unavailable,
    /// This process cannot do its work, for this reason, although the database answers it.
    #[error("not ready: {0}")]
    Stalled(String),
    /// The database has lost commits that it had acknowledged. Nothing is taken in until a person
    /// has said that this is known (`amends acknowledge-loss`).
    #[error(
        "the database has lost commits that it had acknowledged, and nobody has said yet that this is known"
    )]
    CommitsLost,
    /// Commits are not on as many machines as was asked for, and why.
    #[error("not replicated: {0}")]
    NotReplicated(String),
    /// The workflow is not registered here.
    #[error("no workflow {0} is registered")]
    UnknownWorkflow(String),
    /// This version of the workflow is not registered here; another process may have it.
    #[error("version {version} of workflow {workflow} is not registered here")]
    UnknownVersion {
        /// The workflow.
        workflow: String,
        /// Its version.
        version: u32,
    },
    /// The input does not fit the workflow, or cannot be stored.
    #[error("input: {0}")]
    InvalidInput(String),
    /// The id of a request belongs to another one, which asked for something else.
    #[error("this request id came before, with something else")]
    RequestIdReused,
    /// The id of a signal belongs to another one of this name and sender, which said something else.
    #[error("this signal id came before, with something else")]
    SignalIdReused,
    /// Workflows are declared in a way that cannot work.
    #[error("registration: {0}")]
    Registration(String),
    /// The database, or what leads to it, cannot be relied on, and why.
    #[error("the database {0}")]
    UnsafeDatabase(String),
    /// A stored value does not fit this build.
    #[error("stored data: {0}")]
    Stored(String),
}

impl Error {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => is_transient(error),
            Self::Overloaded
            | Self::Unavailable
            | Self::Stalled(_)
            | Self::CommitsLost
            | Self::NotReplicated(_)
            | Self::UnknownVersion { .. } => true,
            Self::Migration(_)
            | Self::UnknownWorkflow(_)
            | Self::InvalidInput(_)
            | Self::RequestIdReused
            | Self::SignalIdReused
            | Self::Registration(_)
            | Self::UnsafeDatabase(_)
            | Self::Stored(_) => false,
        }
    }
}

/// Whether a statement may succeed if it is sent again: lost connections, servers that start or
/// stop, deadlocks, time-outs.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

fn is_transient_code(code: &str) -> bool {
    // 08 connection, 40 rollback, 53 resources, 55 lock not available, 57 shutdown. Of the others,
    // two say that a transaction was ended because this process was too slow, and one that the server
    // has become a standby: the primary is somewhere else.
    let classes = ["08", "40", "53", "55", "57", "25P03", "25P04", "25006"];
    classes.iter().any(|class| code.starts_with(class))
}

/// Whether a statement was undone because of what others did at the same time.
pub(crate) fn is_rollback(error: &sqlx::Error) -> bool {
    let undone = |code: &str| code.starts_with("40");
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref().is_some_and(undone))
}

/// Whether a statement has waited for a lock for longer than its session does.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    has_code(error, "55P03")
}

/// Whether a statement has taken longer than it may.
pub(crate) fn is_time_out(error: &sqlx::Error) -> bool {
    is_silence(error) || has_code(error, "57014")
}

/// Whether nobody has said what became of a statement in the time that it had.
pub(crate) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(io) if io.kind() == ErrorKind::TimedOut)
}

/// Whether the database has answered with this code.
pub(crate) fn has_code(error: &sqlx::Error, code: &str) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some(code))
}

/// Whether a statement has met another one that took the number of a record at the same moment. It
/// sees that when it is sent again.
pub(crate) fn is_race(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.constraint() == Some("record_pkey"))
}

/// Whether a statement failed because of a value in it. A number that was taken at the same moment is
/// no such value.
pub(crate) fn is_data_error(error: &sqlx::Error) -> bool {
    match error {
        error if is_race(error) => false,
        sqlx::Error::Database(error) => error
            .code()
            // 22 data, 23 constraints, 54 limits such as the depth of JSON.
            .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class))),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

impl From<crate::status::UnknownStatus> for Error {
    fn from(error: crate::status::UnknownStatus) -> Self {
        Self::Stored(error.to_string())
    }
}

/// What a failed statement means for a step.
///
/// A constraint or a value that the database refuses fails for good, as `SQL_REFUSED`. A deadlock,
/// a time-out, or a lack of resources is attempted again, as `SQL_INTERRUPTED`; so is everything
/// else that the database answers, as `SQL_FAILED`: a table that is missing may be there after the
/// next deployment. Without an answer the outcome is unknown, also as `SQL_INTERRUPTED`, save in a
/// [`crate::TransactionStep`], which has not happened then.
impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        let message = error.to_string();
        match &error {
            error if is_data_error(error) => StepError::fail("SQL_REFUSED", message),
            // 08: the connection broke; 57P: the server stops.
            sqlx::Error::Database(refusal) if is_transient(&error) => {
                let code = refusal.code().unwrap_or_default();
                if code.starts_with("08") || code.starts_with("57P") {
                    StepError::unknown("SQL_INTERRUPTED", message)
                } else {
                    StepError::retry("SQL_INTERRUPTED", message)
                }
            }
            error if is_transient(error) => StepError::unknown("SQL_INTERRUPTED", message),
            _ => StepError::retry("SQL_FAILED", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_interrupted_may_succeed_when_it_is_sent_again() {
        for code in ["08006", "40001", "40P01", "53300", "55P03", "57P01", "25P03", "25006"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["22P02", "23505", "25P02", "42P01", "54000"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
