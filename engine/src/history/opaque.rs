//! A history whose records this build cannot read, as far as it can be told without folding them.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{History, count};
use crate::record::{Parent, Record};

impl History {
    /// A history whose records this build cannot read: all that can be done is to add to it. It
    /// knows how many events there were, what the instance was started with, and on whose behalf.
    pub(crate) fn opaque(instance_id: Uuid, records: &[Record]) -> Self {
        let mut history = Self::new(instance_id);
        if let Some(last) = records.last() {
            history.length = last.seq + 1;
            history.head = last.hash;
        }
        let events = records.iter().filter_map(|record| record.events.as_deref());
        history.events = events.fold(0, last_number);
        if let Some(first) = records.first().filter(|first| first.seq == 0) {
            history.input = member(&first.payload).map(|Input { input }| input);
            history.parent = member(&first.payload).map(|OnBehalf { parent }| parent);
        }
        history
    }
}

#[derive(Deserialize)]
struct Input {
    input: Box<RawValue>,
}

#[derive(Deserialize)]
struct OnBehalf {
    parent: Parent,
}

/// One member of a payload, whatever else there is in it.
fn member<'a, T: Deserialize<'a>>(payload: &'a str) -> Option<T> {
    serde_json::from_str(payload).ok()
}

/// The number of the last event up to this record. Where the events do not say theirs, they are
/// counted.
fn last_number(before: u32, events: &str) -> u32 {
    #[derive(Deserialize)]
    struct Numbered {
        number: u32,
    }
    let numbered = serde_json::from_str::<Vec<Numbered>>(events).ok();
    let last = numbered.and_then(|events| events.iter().map(|event| event.number).max());
    last.unwrap_or_else(|| before + count(events).unwrap_or(1)).max(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::record::{Entry, Started};
    use chrono::DateTime;

    #[test]
    fn what_cannot_be_read_goes_on_with_the_numbers_and_the_input_that_it_had() {
        let input = RawValue::from_string(r#"{"order":1}"#.to_owned()).unwrap();
        let parent = Parent { instance_id: Uuid::max(), key: "child:pack".to_owned(), depth: 1 };
        let started = Entry::Started(Started {
            workflow: "packing".to_owned(),
            version: 1,
            business_key: "it".to_owned(),
            parent: Some(parent.clone()),
            depth: None,
            input: input.clone(),
        });
        let (at, events) = (DateTime::UNIX_EPOCH, [Event::new("A", &1), Event::new("B", &2)]);
        let mut made = History::new(Uuid::nil());
        let first = made.append(None, None, started, &events, None, at).unwrap();
        let second = made.append(None, None, Entry::TimerFired, &events[..1], None, at).unwrap();
        let unknown = Record { kind: "of_a_newer_build".into(), ..second };
        assert!(History::load(Uuid::nil(), &[first.clone(), unknown.clone()]).is_err());

        let opaque = History::opaque(Uuid::nil(), &[first, unknown]);
        assert_eq!((opaque.length, opaque.head, opaque.events), (made.length, made.head, 3));
        assert_eq!(opaque.input().get(), input.get());
        assert_eq!(opaque.parent(), Some(&parent));
    }

    #[test]
    fn events_without_numbers_are_counted() {
        let events = [r#"[{"number":4}]"#, r#"[{"name":1},{"name":2}]"#, r#"{"a":1}"#, "[]"];
        assert_eq!(events.into_iter().fold(0, last_number), 7);
    }
}
