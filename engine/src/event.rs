//! What an instance publishes, through the outbox, in the commit that makes it true.

use serde::Serialize;
use serde_json::value::RawValue;

/// Something that happened, for the outside world to know.
#[derive(Debug)]
pub struct Event {
    /// Upper case with underscores, such as `PAYMENT_CONFIRMED`.
    pub kind: &'static str,
    /// The bytes that subscribers get as the event's data.
    pub data: Box<RawValue>,
}

impl Event {
    /// An event of this `kind`; `data` is serialised at once.
    ///
    /// Data that cannot be serialised (a map with keys that are not strings) becomes `null`.
    pub fn new(kind: &'static str, data: &impl Serialize) -> Self {
        let data =
            serde_json::value::to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { kind, data }
    }
}
