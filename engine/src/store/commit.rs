//! The one statement that makes a batch of writes durable.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{Execute, PgConnection};
use uuid::Uuid;

use super::parts::Parts;
use super::unfenced;
use super::write::{Change, NewDelivery, NewInstance, Write};
use crate::limits;
use crate::sabotage::Bug;

/// What the database answered to a batch.
pub(crate) struct Committed {
    /// Whether the worker's row was there; if not, nothing was written.
    pub(crate) fenced_in: bool,
    /// The deliveries and new instances that went in.
    pub(crate) taken_in: HashSet<Uuid>,
    /// The instances of which a write went in.
    pub(crate) written: HashSet<Uuid>,
}

impl Committed {
    /// Reads what the statement returns.
    pub(super) fn of((fenced_in, taken_in, written): (bool, Vec<Uuid>, Vec<Uuid>)) -> Self {
        let (taken_in, written) = (taken_in.into_iter().collect(), written.into_iter().collect());
        Self { fenced_in, taken_in, written }
    }

    /// Whether this write of the batch went in.
    pub(crate) fn includes(&self, write: &Write) -> bool {
        let ids = if write.is_intake() { &self.taken_in } else { &self.written };
        ids.contains(&write.instance_id)
    }
}

/// What a record follows within its write.
const GATE_HELD: i16 = 0;
const GATE_START: i16 = 1;
const GATE_CHANGE: i16 = 2;

/// The batch, column by column.
#[derive(Default)]
struct Columns<'a> {
    deliveries: Deliveries<'a>,
    starts: Starts<'a>,
    attributes: Attributes<'a>,
    held: Held,
    changes: Changes<'a>,
    records: Records<'a>,
    events: Events<'a>,
    movements: Movements<'a>,
}

#[derive(Default)]
struct Deliveries<'a> {
    id: Vec<Uuid>,
    source: Vec<&'a str>,
    external_id: Vec<&'a str>,
    digest: Vec<&'a [u8]>,
    body: Vec<&'a [u8]>,
    workflow: Vec<Option<&'a str>>,
    business_key: Vec<Option<&'a str>>,
    outcome: Vec<Option<&'static str>>,
    reason: Vec<Option<&'a str>>,
    received_at: Vec<DateTime<Utc>>,
}

#[derive(Default)]
struct Starts<'a> {
    id: Vec<Uuid>,
    workflow: Vec<&'a str>,
    version: Vec<i32>,
    business_key: Vec<&'a str>,
    claim_id: Vec<Option<Uuid>>,
    head_hash: Vec<&'a [u8]>,
    created_at: Vec<DateTime<Utc>>,
    delivered: Vec<bool>,
    attributes: Vec<&'a str>,
    priority: Vec<i16>,
    parent_id: Vec<Option<Uuid>>,
    parent_claim_id: Vec<Option<Uuid>>,
    parent_mail_read: Vec<Option<i32>>,
}

#[derive(Default)]
struct Attributes<'a> {
    id: Vec<Uuid>,
    name: Vec<&'a str>,
    value: Vec<&'a str>,
}

/// The records of who holds an instance and does not change its row.
#[derive(Default)]
struct Held {
    id: Vec<Uuid>,
    claim_id: Vec<Option<Uuid>>,
    first_seq: Vec<Option<i32>>,
}

#[derive(Default)]
struct Changes<'a> {
    id: Vec<Uuid>,
    claim_id: Vec<Option<Uuid>>,
    first_seq: Vec<Option<i32>>,
    revision: Vec<i32>,
    status: Vec<&'static str>,
    released: Vec<bool>,
    run_at: Vec<Option<DateTime<Utc>>>,
    parked_on: Vec<Option<&'static str>>,
    failure_code: Vec<Option<&'a str>>,
    failure_message: Vec<Option<&'a str>>,
    past_pivot: Vec<bool>,
    mail_read: Vec<i32>,
    leaves_mail: Vec<bool>,
    head_seq: Vec<i32>,
    head_hash: Vec<&'a [u8]>,
    at: Vec<DateTime<Utc>>,
    ended_at: Vec<Option<DateTime<Utc>>>,
}

#[derive(Default)]
struct Records<'a> {
    id: Vec<Uuid>,
    seq: Vec<i32>,
    kind: Vec<&'a str>,
    step: Vec<Option<&'a str>>,
    attempt: Vec<Option<i32>>,
    payload: Vec<&'a str>,
    events: Vec<Option<&'a str>>,
    actor: Vec<Option<&'a str>>,
    at: Vec<DateTime<Utc>>,
    hash: Vec<&'a [u8]>,
    gate: Vec<i16>,
}

#[derive(Default)]
struct Events<'a> {
    subscription: Vec<&'a str>,
    shard: Vec<i16>,
    workflow: Vec<&'a str>,
    key: Vec<&'a str>,
    id: Vec<Uuid>,
    seq: Vec<i32>,
    ordinal: Vec<i16>,
}

#[derive(Default)]
struct Movements<'a> {
    id: Vec<Uuid>,
    seq: Vec<i32>,
    ordinal: Vec<i16>,
    kind: Vec<&'static str>,
    amount_minor: Vec<i64>,
    currency: Vec<&'a str>,
    reference: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of<'w: 'a>(writes: impl Iterator<Item = &'w Write>, subscriptions: &'a [String]) -> Self {
        let mut columns = Self::default();
        // Rows are locked in the order of their ids, by everybody.
        let mut writes: Vec<_> = writes.collect();
        writes.sort_by_key(|write| write.instance_id);
        for write in writes {
            if let Some(delivery) = &write.delivery {
                columns.delivery(write, delivery);
            }
            if let Some(start) = &write.start {
                columns.start(write, start);
            }
            match &write.change {
                Some(change) => columns.change(write, change),
                None if write.is_intake() => {}
                None => columns.held(write),
            }
            columns.records(write, subscriptions);
        }
        columns
    }

    /// What there is something for.
    fn parts(&self) -> Parts {
        Parts {
            start: !(self.deliveries.id.is_empty() && self.starts.id.is_empty()),
            child: self.starts.parent_id.iter().any(Option::is_some),
            held: !self.held.id.is_empty(),
            change: !self.changes.id.is_empty(),
        }
    }

    fn delivery(&mut self, write: &'a Write, delivery: &'a NewDelivery) {
        let to = &mut self.deliveries;
        let about = write.start.is_some().then_some(&write.about);
        to.id.push(write.instance_id);
        to.source.push(&delivery.source);
        to.external_id.push(&delivery.external_id);
        to.digest.push(&delivery.digest);
        to.body.push(&delivery.body);
        to.workflow.push(about.map(|about| about.workflow.as_str()));
        let verdict = delivery.verdict.as_ref();
        let key = about.map(|about| about.business_key.as_str());
        to.business_key.push(key.or_else(|| verdict?.business_key.as_deref()));
        to.outcome.push(verdict.map(|verdict| verdict.outcome.as_str()));
        to.reason.push(verdict.map(|verdict| verdict.reason.as_str()));
        to.received_at.push(delivery.received_at);
    }

    fn start(&mut self, write: &'a Write, start: &'a NewInstance) {
        let to = &mut self.starts;
        to.id.push(write.instance_id);
        to.workflow.push(&write.about.workflow);
        to.version.push(start.version.cast_signed());
        to.business_key.push(&write.about.business_key);
        to.claim_id.push(start.claim_id);
        to.head_hash.push(write.records.last().map_or(&[], |new| &new.record.hash[..]));
        to.created_at.push(start.created_at);
        to.delivered.push(write.delivery.is_some());
        to.attributes.push(&start.attributes_json);
        to.priority.push(start.priority.number());
        let bearer = start.bearer.as_ref();
        to.parent_id.push(bearer.map(|bearer| bearer.parent_id));
        to.parent_claim_id.push(bearer.and_then(|bearer| bearer.claim_id));
        to.parent_mail_read.push(bearer.map(|bearer| bearer.mail_read));
        for (name, value) in &start.attributes {
            self.attributes.id.push(write.instance_id);
            self.attributes.name.push(name);
            self.attributes.value.push(value);
        }
    }

    fn held(&mut self, write: &Write) {
        let to = &mut self.held;
        to.id.push(write.instance_id);
        to.claim_id.push(write.claim_id);
        to.first_seq.push(write.first_seq());
    }

    fn change(&mut self, write: &'a Write, change: &'a Change) {
        let to = &mut self.changes;
        to.id.push(write.instance_id);
        to.claim_id.push(write.claim_id);
        to.first_seq.push(write.first_seq());
        to.revision.push(change.revision);
        to.status.push(change.status.as_str());
        to.released.push(change.released);
        to.run_at.push(change.run_at);
        to.parked_on.push(change.parked_on);
        to.failure_code.push(change.failure.as_ref().map(|failure| &*failure.code));
        to.failure_message.push(change.failure.as_ref().map(|failure| failure.message.as_str()));
        to.past_pivot.push(change.past_pivot);
        to.mail_read.push(change.mail_read);
        to.leaves_mail.push(change.leaves_mail);
        to.head_seq.push(change.head.0.cast_signed());
        to.head_hash.push(&change.head.1);
        to.at.push(change.at);
        to.ended_at.push(change.status.is_terminal().then_some(change.at));
    }

    fn records(&mut self, write: &'a Write, subscriptions: &'a [String]) {
        let gate = match (&write.start, &write.change) {
            (Some(_), _) => GATE_START,
            (None, Some(_)) => GATE_CHANGE,
            (None, None) => GATE_HELD,
        };
        for new in &write.records {
            let (record, to) = (&new.record, &mut self.records);
            let seq = record.seq.cast_signed();
            to.id.push(write.instance_id);
            to.seq.push(seq);
            to.kind.push(&record.kind);
            to.step.push(record.step.as_deref());
            to.attempt.push(record.attempt.map(u32::cast_signed));
            to.payload.push(&record.payload);
            to.events.push(record.events.as_deref());
            to.actor.push(record.actor.as_deref());
            to.at.push(record.at);
            to.hash.push(&record.hash);
            to.gate.push(gate);
            for ordinal in 0..new.events as i16 {
                for subscription in subscriptions {
                    let to = &mut self.events;
                    to.subscription.push(subscription);
                    to.shard.push(shard(&write.about.business_key));
                    to.workflow.push(&write.about.workflow);
                    to.key.push(&write.about.business_key);
                    to.id.push(write.instance_id);
                    to.seq.push(seq);
                    to.ordinal.push(ordinal);
                }
            }
            for (movement, ordinal) in new.money.iter().zip(0..) {
                let to = &mut self.movements;
                to.id.push(write.instance_id);
                to.seq.push(seq);
                to.ordinal.push(ordinal);
                to.kind.push(movement.kind.as_str());
                to.amount_minor.push(movement.money.amount_minor);
                to.currency.push(movement.money.currency.as_str());
                to.reference.push(&movement.reference);
            }
        }
    }
}

/// The shard of an outbox key: FNV-1a, which must stay the same for ever.
pub(crate) fn shard(key: &str) -> i16 {
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash % limits::SHARDS) as i16
}

/// Writes a batch, with everything that follows from it, in one statement.
///
/// `connection` must never have seen `begin`. Sending the same batch twice is harmless. `now` only
/// if the clock is moved by hand.
#[expect(clippy::too_many_lines, reason = "one line per column of one statement")]
pub(crate) async fn commit(
    connection: &mut PgConnection,
    worker_id: Uuid,
    writes: impl Iterator<Item = &Write>,
    subscriptions: &[String],
    now: Option<DateTime<Utc>>,
) -> Result<Committed, sqlx::Error> {
    let columns = Columns::of(writes, subscriptions);
    let parts = columns.parts();
    let Columns {
        deliveries: d,
        starts: s,
        attributes: a,
        held: h,
        changes: c,
        records: r,
        events: e,
        movements: m,
    } = columns;
    let mut commit = sqlx::query_file!(
        "src/store/sql/commit.sql",
        worker_id,
        &d.id,
        &d.source as _,
        &d.external_id as _,
        &d.digest as _,
        &d.body as _,
        &d.workflow as _,
        &d.business_key as _,
        &d.received_at,
        &s.id,
        &s.workflow as _,
        &s.version,
        &s.business_key as _,
        &s.claim_id as _,
        &s.head_hash as _,
        &s.created_at,
        &s.delivered,
        &s.attributes as _,
        &s.priority,
        &s.parent_id as _,
        &a.id,
        &a.name as _,
        &a.value as _,
        &h.id,
        &h.claim_id as _,
        &h.first_seq as _,
        &c.id,
        &c.revision,
        &c.status as _,
        &c.released,
        &c.run_at as _,
        &c.parked_on as _,
        &c.failure_code as _,
        &c.failure_message as _,
        &c.past_pivot,
        &c.mail_read,
        &c.head_seq,
        &c.head_hash as _,
        &c.at,
        &c.ended_at as _,
        now as _,
        &r.id,
        &r.seq,
        &r.kind as _,
        &r.step as _,
        &r.attempt as _,
        &r.payload as _,
        &r.events as _,
        &r.actor as _,
        &r.at,
        &r.hash as _,
        &r.gate,
        &e.subscription as _,
        &e.shard,
        &e.workflow as _,
        &e.key as _,
        &e.id,
        &e.seq,
        &e.ordinal,
        &m.id,
        &m.seq,
        &m.ordinal,
        &m.kind as _,
        &m.amount_minor,
        &m.currency as _,
        &m.reference as _,
        &s.parent_claim_id as _,
        &s.parent_mail_read as _,
        &c.claim_id as _,
        &c.first_seq as _,
        &c.leaves_mail,
        &d.outcome as _,
        &d.reason as _,
    );
    if Bug::ClaimUnfenced.is_on() {
        return unfenced::commit(connection, commit).await;
    }
    let arguments = commit.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let row: (bool, Vec<Uuid>, Vec<Uuid>) =
        sqlx::query_as_with(parts.sql(), arguments).fetch_one(connection).await?;
    Ok(Committed::of(row))
}
