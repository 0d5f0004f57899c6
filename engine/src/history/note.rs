//! What is recorded of calls of the run that are no steps, and of the signals it was sent.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A recorded call that is no step: a sleep, a wait, a value, a marker.
#[derive(Debug)]
pub(crate) struct Note {
    /// Its sort, its name and which time it is, such as `wait:parcel_packed#2`.
    pub(crate) key: String,
    pub(crate) said: Said,
    pub(crate) first_seq: u32,
    /// Its last record, which has its answer if there is one.
    pub(crate) last_seq: u32,
}

/// The sort of a marker: it may be left out of the code again.
pub(crate) const MARKER: &str = "patched:";

/// The key of a marker with this answer. Builds that record no `false` take whatever has the key of
/// `true` for it.
pub(crate) fn marker(name: &str, answer: bool) -> String {
    format!("{MARKER}{name}{}", if answer { "" } else { "=false" })
}

/// The key of what says that the run has heard that a child has not completed.
pub(crate) fn heard(child: &str) -> String {
    format!("heard:{child}")
}

/// What is recorded of such a call.
#[derive(Debug)]
pub(crate) enum Said {
    Timer {
        until: DateTime<Utc>,
        fired: bool,
    },
    Wait {
        until: Option<DateTime<Utc>>,
        /// How it ended: with the signal of this record, or without one.
        ended: Option<Option<u32>>,
    },
    Value(Box<RawValue>),
    /// An instance that was started and let go of.
    Detached {
        instance_id: Uuid,
        input: Box<RawValue>,
    },
}

/// A signal that has been read from the mail.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its record.
    pub(crate) seq: u32,
    pub(crate) name: String,
    pub(crate) body: Box<RawValue>,
    /// A wait has ended with it.
    pub(crate) taken: bool,
}
