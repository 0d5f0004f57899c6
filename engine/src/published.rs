//! Events as they stand in the `events` of a record.
//!
//! Pure. Their numbers go on without gaps over the records of an instance.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::Event;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Published<'a> {
    /// 1, 2, 3 .. without gaps per instance.
    pub(crate) number: u32,
    #[serde(rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
}

/// The `events` of a record; the first one gets number `next`.
pub(crate) fn publish(events: &[Event], next: u32) -> Result<Option<String>, serde_json::Error> {
    if events.is_empty() {
        return Ok(None);
    }
    let published: Vec<_> = events
        .iter()
        .zip(next..)
        .map(|(event, number)| Published { number, kind: event.kind.into(), data: &event.data })
        .collect();
    serde_json::to_string(&published).map(Some)
}

/// The same events; the first one gets number `next`.
pub(crate) fn renumber(events: &str, next: u32) -> Result<String, serde_json::Error> {
    let mut published: Vec<Published<'_>> = serde_json::from_str(events)?;
    for (event, number) in published.iter_mut().zip(next..) {
        event.number = number;
    }
    serde_json::to_string(&published)
}
