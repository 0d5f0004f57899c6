//! Where events go.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use uuid::Uuid;

/// The kind of an event that stands in the place of one that a person has skipped: it has the same
/// id and number, and its data name the kind that is left out, as `{"skipped": "SHIPPED"}`.
pub const SKIPPED: &str = "SKIPPED";

/// One event on its way to a subscription.
#[derive(Debug, Clone)]
pub struct Delivered<'a> {
    /// Stable: the same for every delivery of this event. Unique per source.
    pub id: &'a str,
    /// Such as `SHIPPED`.
    pub kind: &'a str,
    /// The workflow that published it.
    pub workflow: &'a str,
    /// Events of one key arrive in order.
    pub key: &'a str,
    /// The instance that published it.
    pub instance_id: Uuid,
    /// 1, 2, 3 .. without gaps per instance.
    pub number: u32,
    /// When it became true.
    pub at: DateTime<Utc>,
    /// The data, as recorded, to the byte.
    pub data: &'a str,
}

/// Why a delivery did not succeed. It is tried again; later events of the same key wait.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Undelivered {
    /// What went wrong, for a person.
    pub message: String,
    /// The receiver's own wish for when to try again.
    pub after: Option<Duration>,
}

/// Receives events, each at least once and in order per key.
pub trait Sink: Send + Sync + 'static {
    /// Delivers one event. An `Ok` is final: the event is not delivered again.
    fn deliver<'a>(&'a self, event: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>>;
}
