//! What one instance wants to be durable in one commit, and what became of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::acknowledged::Trace;
use crate::delivery::Verdict;
use crate::money::Movement;
use crate::priority::Priority;
use crate::record::Record;
use crate::status::Status;
use crate::step::Failure;

/// One instance's part of a batch. It goes in whole or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// The instance; for a delivery that starts nothing, the delivery's own id.
    pub(crate) instance_id: Uuid,
    /// The claim under which the instance is held by who writes. None: it comes in from outside.
    pub(crate) claim_id: Option<Uuid>,
    pub(crate) about: Arc<About>,
    pub(crate) delivery: Option<NewDelivery>,
    pub(crate) start: Option<NewInstance>,
    pub(crate) change: Option<Change>,
    pub(crate) records: Vec<Arc<NewRecord>>,
}

impl Write {
    /// Whether it comes in from outside, or from a parent, and not from who holds the instance.
    pub(crate) fn is_intake(&self) -> bool {
        self.delivery.is_some() || self.start.is_some()
    }

    /// Whether events come with it.
    pub(crate) fn publishes(&self) -> bool {
        self.records.iter().any(|new| new.events > 0)
    }

    /// How large it is, near enough.
    pub(crate) fn bytes(&self) -> usize {
        let records = self.records.iter().map(|new| new.record.payload.len());
        let body = self.delivery.as_ref().map_or(0, |delivery| delivery.body.len());
        records.sum::<usize>() + body
    }

    /// What it leaves behind for ever.
    pub(crate) fn trace(&self) -> Option<Trace> {
        match (self.records.last(), &self.delivery) {
            (Some(new), _) => Some(Trace::Record {
                instance_id: self.instance_id,
                seq: new.record.seq,
                hash: new.record.hash,
            }),
            (None, Some(_)) => Some(Trace::Delivery(self.instance_id)),
            (None, None) => None,
        }
    }

    /// The number of the first of its records.
    pub(crate) fn first_seq(&self) -> Option<i32> {
        self.first_record().map(|record| record.seq.cast_signed())
    }

    /// The first of its records.
    pub(crate) fn first_record(&self) -> Option<&Record> {
        self.records.first().map(|new| &new.record)
    }
}

/// What an instance's events are addressed with.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) workflow: String,
    pub(crate) business_key: String,
}

/// A record with what follows from it in other tables.
#[derive(Debug)]
pub(crate) struct NewRecord {
    pub(crate) record: Record,
    pub(crate) events: u32,
    pub(crate) money: Vec<Movement>,
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct NewDelivery {
    pub(crate) source: String,
    pub(crate) external_id: String,
    pub(crate) digest: [u8; 32],
    pub(crate) body: Vec<u8>,
    /// What it comes to, if it starts nothing.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) received_at: DateTime<Utc>,
}

/// An instance that is not there yet.
#[derive(Debug, Clone)]
pub(crate) struct NewInstance {
    pub(crate) version: u32,
    /// Born claimed, by this name, by the worker that writes it.
    pub(crate) claim_id: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) bearer: Option<Bearer>,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// The same, as an object.
    pub(crate) attributes_json: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// Who starts a child: the holder of its parent, as long as he has read all mail of that.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) parent_id: Uuid,
    /// The claim under which the parent is held.
    pub(crate) claim_id: Option<Uuid>,
    /// How much of its mail has been read.
    pub(crate) mail_read: i32,
}

/// A change of the instance's row. It takes place only if all mail has been read, or where some is
/// left on purpose.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// How often the row has been changed, this change included.
    pub(crate) revision: i32,
    pub(crate) status: Status,
    /// The worker lets go of the instance.
    pub(crate) released: bool,
    pub(crate) run_at: Option<DateTime<Utc>>,
    /// The dependency that is waited for.
    pub(crate) parked_on: Option<&'static str>,
    pub(crate) failure: Option<Failure>,
    pub(crate) past_pivot: bool,
    pub(crate) mail_read: i32,
    /// There may be mail that has not been read.
    pub(crate) leaves_mail: bool,
    pub(crate) head: (u32, [u8; 32]),
    pub(crate) at: DateTime<Utc>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable.
    Yes,
    /// The same delivery came before, with the same body; this is its instance.
    Replayed(Uuid),
    /// Another delivery has started this instance for the same business key.
    Duplicate(Uuid),
    /// The delivery's id was used before with another body.
    Conflict,
    /// Mail has come in that must be read first.
    UnreadMail,
    /// The worker no longer holds the instance, or is no worker any more.
    Fenced,
    /// The database refused a value.
    Refused(String),
}
