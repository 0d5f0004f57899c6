//! Taking the place of a history whose last records have not become durable after all.
//!
//! A record's number never changes, since others name it; its hash and the numbers of its events
//! follow from what comes before it.

use super::{History, count};
use crate::chain;
use crate::published::renumber;
use crate::record::{Entry, Record};

impl History {
    /// Takes over what the replay under way has asked `other` for. The calls in both have the same
    /// order.
    pub(crate) fn go_on_for(&mut self, other: Self) {
        self.unasked = other.unasked;
        self.unasked_notes = other.unasked_notes;
    }

    /// Takes in a record that was made for this place in another history, and chains it anew.
    pub(crate) fn adopt(&mut self, record: &Record) -> Result<Record, String> {
        let entry = Entry::parse(&record.kind, &record.payload)?;
        let error = |error: serde_json::Error| error.to_string();
        let events = record.events.as_deref();
        let number = events.map_or(Ok(0), count).map_err(error)?;
        let events =
            events.map(|events| renumber(events, self.events + 1)).transpose().map_err(error)?;
        let mut adopted = Record { seq: self.length, events, ..record.clone() };
        adopted.hash = chain::hash(self.instance_id, &adopted, &self.head);
        self.fold(adopted.step.as_deref(), entry, adopted.at, adopted.hash, number);
        Ok(adopted)
    }
}
