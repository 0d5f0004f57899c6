//! The hash chain of a history: what makes a change behind our back visible.
//!
//! Each record's hash is SHA-256 over a length-prefixed encoding of its fields and of the hash
//! before it, so two different records never hash the same bytes. The format is fixed by
//! [`FORMAT`] and described in docs/CHAIN.md, so that anybody can write a verifier.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::record::Record;

/// The first byte of every hashed encoding.
const FORMAT: u8 = 1;

/// The hash before the first record.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// The hash of a record; its own `hash` field is not part of it.
pub(crate) fn hash(instance_id: Uuid, record: &Record, previous: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([FORMAT]);
    hasher.update(previous);
    hasher.update(instance_id.as_bytes());
    hasher.update(record.seq.to_be_bytes());
    hasher.update(record.at.timestamp_micros().to_be_bytes());
    hasher.update(record.attempt.unwrap_or(0).to_be_bytes());
    field(&mut hasher, Some(&record.kind));
    field(&mut hasher, record.step.as_deref());
    field(&mut hasher, Some(&record.payload));
    field(&mut hasher, record.events.as_deref());
    field(&mut hasher, record.actor.as_deref());
    hasher.finalize().into()
}

/// One marker byte, the length in 8 bytes, the bytes; an absent field is the marker 0 alone.
fn field(hasher: &mut Sha256, text: Option<&str>) {
    match text {
        None => hasher.update([0]),
        Some(text) => {
            hasher.update([1]);
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The first record that is not as it was written; one past the last if the end is missing.
    pub seq: u32,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Checks a whole history, and that it reaches the head known to the instance's row.
///
/// The row is written when the status changes, so the history may be longer than the head.
pub(crate) fn verify(
    instance_id: Uuid,
    records: &[Record],
    head: (u32, &[u8]),
) -> Result<(), Break> {
    let mut previous = GENESIS;
    for (expected, record) in (0_u32..).zip(records) {
        if record.seq != expected {
            return Err(Break { seq: expected, what: "the record is missing" });
        }
        if hash(instance_id, record, &previous) != record.hash {
            return Err(Break { seq: record.seq, what: "the record does not match its hash" });
        }
        if record.seq == head.0 && record.hash != head.1 {
            return Err(Break {
                seq: record.seq,
                what: "the record is not the one that the instance's row knows",
            });
        }
        previous = record.hash;
    }
    let length = records.len() as u32;
    if length <= head.0 {
        return Err(Break { seq: length, what: "the record is missing" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn chain(instance_id: Uuid, payloads: &[String]) -> Vec<Record> {
        let mut previous = GENESIS;
        payloads
            .iter()
            .zip(0..)
            .map(|(payload, seq)| {
                let mut record = Record {
                    seq,
                    kind: "step_done".into(),
                    step: Some("charge".to_owned()),
                    attempt: Some(1),
                    payload: payload.clone(),
                    events: None,
                    actor: None,
                    at: DateTime::from_timestamp_micros(1_795_000_000_000_000).unwrap(),
                    hash: GENESIS,
                };
                record.hash = hash(instance_id, &record, &previous);
                previous = record.hash;
                record
            })
            .collect()
    }

    /// The bytes of docs/CHAIN.md; a change of format must be a new [`FORMAT`].
    #[test]
    fn the_format_is_what_it_has_always_been() {
        let records = chain(Uuid::from_u128(7), &["{}".to_owned()]);
        let hex: String = records[0].hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "8baffaf4c1b7d75eb4719376a3bac1ed952ede70ab6fb6ae14fe9f109dba3ae5");
    }

    proptest! {
        #[test]
        fn any_single_edit_is_found(
            payloads in prop::collection::vec("[a-z]{0,8}", 1..6),
            at in any::<prop::sample::Index>(),
            edit in 0..8_u8,
        ) {
            let id = Uuid::from_u128(1);
            let mut records = chain(id, &payloads);
            let last = records.last().unwrap();
            let (seq, hash) = (last.seq, last.hash);
            prop_assert_eq!(verify(id, &records, (seq, &hash)), Ok(()));
            let index = at.index(records.len());
            let record = &mut records[index];
            match edit {
                0 => record.payload.push(' '),
                1 => record.step = None,
                2 => record.attempt = Some(2),
                3 => record.actor = Some(String::new()),
                4 => record.events = Some(String::new()),
                5 => record.at += chrono::TimeDelta::microseconds(1),
                6 => record.hash[31] ^= 1,
                _ => { records.remove(index); }
            }
            let found = verify(id, &records, (seq, &hash)).unwrap_err();
            prop_assert!(found.seq <= index as u32 + 1);
        }
    }
}
