//! What has happened to an instance, and what that means for what it does next.
//!
//! Pure: a history is folded from its records, one by one, whether they are loaded or just made.

mod exchange;
mod fold;
mod note;
mod opaque;
mod replay;
mod standstill;
mod step;
mod step_clock;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::chain;
use crate::compensation::{Plan, PlannedStep};
use crate::event::Event;
use crate::money::Ledger;
use crate::published::publish;
use crate::record::{Entry, Parent, Reason, ReasonKind, Record};
use crate::sabotage::Bug;
use crate::step::Failure;
use standstill::Standstill;
use step_clock::StepClock;

pub(crate) use note::{MARKER, Note, Received, Said, heard, marker};
pub(crate) use replay::BRANCH_DROPPED;
pub(crate) use step::{Attempts, CHILD_UNHEARD, Progress, RecordedStep, step_name};

/// The folded records of one instance.
#[derive(Debug)]
pub(crate) struct History {
    instance_id: Uuid,
    /// The next record's number; also how many there are.
    length: u32,
    head: [u8; 32],
    events: u32,
    parent: Option<Parent>,
    /// How many instances it is below.
    depth: u32,
    started_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    input: Option<Box<RawValue>>,
    steps: Vec<RecordedStep>,
    /// The steps that this replay has not asked for.
    unasked: BTreeSet<usize>,
    notes: Vec<Note>,
    /// The same, of the notes; markers may be left out of the code again.
    unasked_notes: BTreeSet<usize>,
    /// Where the run was last stopped for dropping a call.
    dropped_before: u32,
    signals: Vec<Received>,
    undoing: Option<Undoing>,
    /// Why somebody has asked for everything to be undone, and was promised it.
    cancelled: Option<String>,
    /// The last worker was lost, and no attempt has ended since.
    interrupted: bool,
    standstill: Standstill,
    /// Why somebody has asked for the end, by force.
    terminated: Option<String>,
    /// How many messages have been read.
    mail_read: i32,
    /// How many of them could not be recorded.
    mail_refused: u32,
    /// Why one could not, if nobody has said yet to go on without it.
    refusal: Option<String>,
    /// It is put to a person.
    refusal_told: bool,
    /// What was put to a person last is that children have failed unheard.
    unheard_told: bool,
    ledger: Ledger,
}

/// A place in a history.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    length: u32,
    head: [u8; 32],
    events: u32,
    dropped_before: u32,
    refusal_told: bool,
    unheard_told: bool,
    standstill: Standstill,
}

impl Mark {
    /// How many records there were.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }
}

/// A compensation under way.
#[derive(Debug, Clone)]
pub(crate) struct Undoing {
    pub(crate) reason: Reason,
    pub(crate) plan: Plan,
}

impl History {
    /// A history without records.
    pub(crate) fn new(instance_id: Uuid) -> Self {
        Self {
            instance_id,
            length: 0,
            head: chain::GENESIS,
            events: 0,
            parent: None,
            depth: 0,
            started_at: DateTime::UNIX_EPOCH,
            last_at: DateTime::UNIX_EPOCH,
            input: None,
            steps: Vec::new(),
            unasked: BTreeSet::new(),
            notes: Vec::new(),
            unasked_notes: BTreeSet::new(),
            dropped_before: 0,
            signals: Vec::new(),
            undoing: None,
            cancelled: None,
            interrupted: false,
            standstill: Standstill::new(),
            terminated: None,
            mail_read: 0,
            mail_refused: 0,
            refusal: None,
            refusal_told: false,
            unheard_told: false,
            ledger: Ledger::default(),
        }
    }

    /// Folds stored records.
    pub(crate) fn load(instance_id: Uuid, records: &[Record]) -> Result<Self, String> {
        let mut history = Self::new(instance_id);
        for record in records {
            if record.seq != history.length {
                return Err(format!("record {} is missing", history.length));
            }
            let entry = Entry::parse(&record.kind, &record.payload)
                .map_err(|error| format!("record {}: {error}", record.seq))?;
            let events = record
                .events
                .as_deref()
                .map_or(Ok(0), count)
                .map_err(|error| format!("events of record {}: {error}", record.seq))?;
            history.fold(record.step.as_deref(), entry, record.at, record.hash, events);
        }
        Ok(history)
    }

    /// Makes the next record, and folds it.
    pub(crate) fn append(
        &mut self,
        step: Option<&str>,
        attempt: Option<u32>,
        entry: Entry,
        events: &[Event],
        actor: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<Record, serde_json::Error> {
        let record = self.draft(step, attempt, &entry, events, actor, at)?;
        self.take_in(&record, entry, events.len() as u32);
        Ok(record)
    }

    /// The next record, which nothing follows from yet.
    pub(crate) fn draft(
        &self,
        step: Option<&str>,
        attempt: Option<u32>,
        entry: &Entry,
        events: &[Event],
        actor: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<Record, serde_json::Error> {
        let mut record = Record {
            seq: self.length,
            kind: entry.kind().into(),
            step: step.map(str::to_owned),
            attempt,
            payload: entry.payload()?,
            events: publish(events, self.events + 1)?,
            actor,
            at: micros(at),
            hash: chain::GENESIS,
        };
        let previous = if Bug::ChainUnlinked.is_on() { chain::GENESIS } else { self.head };
        record.hash = chain::hash(self.instance_id, &record, &previous);
        Ok(record)
    }

    /// Folds the record that was drafted last, with so many events.
    pub(crate) fn take_in(&mut self, record: &Record, entry: Entry, events: u32) {
        self.fold(record.step.as_deref(), entry, record.at, record.hash, events);
    }

    /// The oldest signal of this name that no wait has ended with.
    pub(crate) fn next_signal(&self, name: &str) -> Option<&Received> {
        self.signals.iter().find(|received| received.name == name && !received.taken)
    }

    /// The signal of a record.
    pub(crate) fn signal(&self, seq: u32) -> Option<&Received> {
        self.signals.iter().find(|received| received.seq == seq)
    }

    /// When the wait of this key has ended with a signal, and with which.
    pub(crate) fn taken_signal(&self, key: &str) -> Option<(u32, &Received)> {
        let note = self.notes.iter().find(|note| note.key == key)?;
        let Said::Wait { ended: Some(Some(signal)), .. } = note.said else {
            return None;
        };
        Some((note.last_seq, self.signal(signal)?))
    }

    /// What the run has begun after a record, if anything.
    pub(crate) fn begun_after(&self, seq: u32) -> Option<&str> {
        let step = self.steps.iter().find(|step| step.first_seq > seq).map(|step| &step.key);
        let note = || self.notes.iter().find(|note| note.first_seq > seq).map(|note| &note.key);
        step.or_else(note).map(String::as_str)
    }

    /// The records of signals that no wait has ended with.
    pub(crate) fn unread_signals(&self) -> Vec<u32> {
        self.signals.iter().filter(|received| !received.taken).map(|it| it.seq).collect()
    }

    /// The recorded steps, in the order of their first record.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &RecordedStep> {
        self.steps.iter()
    }

    pub(crate) fn step(&self, key: &str) -> Option<&RecordedStep> {
        self.steps.iter().find(|step| step.key == key)
    }

    /// Whether it has started instances.
    pub(crate) fn has_children(&self) -> bool {
        self.steps.iter().any(|step| step.child.is_some())
    }

    /// How many instances it has started, those that it let go of included.
    pub(crate) fn children(&self) -> usize {
        let children: u32 = self.steps.iter().map(|step| step.children).sum();
        let detached = |note: &&Note| matches!(note.said, Said::Detached { .. });
        children as usize + self.notes.iter().filter(detached).count()
    }

    /// How many instances it is below, those included that have let it go.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether the run has gone on although this child has not completed.
    pub(crate) fn has_heard(&self, child: &str) -> bool {
        let key = heard(child);
        self.notes.iter().any(|note| note.key == key)
    }

    /// Children that have not said how they have ended.
    pub(crate) fn open_children(&self) -> impl Iterator<Item = &RecordedStep> {
        self.steps.iter().filter(|step| step.is_open_child())
    }

    /// Children that have failed, of which neither the run has heard, nor a person who has said to go
    /// on without them.
    pub(crate) fn unheard_children(&self) -> impl Iterator<Item = (&RecordedStep, &Failure)> {
        self.steps.iter().filter_map(|step| {
            let failure = step.child_failure()?;
            let is_heard = step.is_done_without || self.has_heard(&step.key);
            (!is_heard).then_some((step, failure))
        })
    }

    /// The compensation under way.
    pub(crate) fn undoing(&self) -> Option<&Undoing> {
        self.undoing.as_ref()
    }

    /// The next step of the plan that is not undone yet; what only has to be looked at again
    /// comes last.
    pub(crate) fn next_to_undo(&self) -> Option<&PlannedStep> {
        let open = || {
            let plan = self.undoing.iter().flat_map(|undoing| &undoing.plan.steps);
            plan.filter(|planned| self.step(&planned.step).is_none_or(|step| !step.compensated))
        };
        let is_recheck = |planned: &&PlannedStep| {
            self.step(&planned.step).is_some_and(|step| step.undo.is_recheck)
        };
        open().find(|planned| !is_recheck(planned)).or_else(|| open().next())
    }

    /// Where the history stands, so that a closing record that was not written can be taken off.
    pub(crate) fn mark(&self) -> Mark {
        let Self { length, head, events, dropped_before, .. } = *self;
        let Self { refusal_told, unheard_told, standstill, .. } = *self;
        Mark { length, head, events, dropped_before, refusal_told, unheard_told, standstill }
    }

    /// Takes closing records off again. They fold into nothing but what a mark holds.
    pub(crate) fn revert(&mut self, mark: &Mark) {
        self.length = mark.length;
        self.head = mark.head;
        self.events = mark.events;
        self.dropped_before = mark.dropped_before;
        self.refusal_told = mark.refusal_told;
        self.unheard_told = mark.unheard_told;
        self.standstill = mark.standstill;
    }

    /// When the last record was made.
    pub(crate) fn last_at(&self) -> DateTime<Utc> {
        self.last_at
    }

    /// How many records there are.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// The number and hash of the last record.
    pub(crate) fn head(&self) -> (u32, [u8; 32]) {
        (self.length.saturating_sub(1), self.head)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What an undo may see of the ledger.
    pub(crate) fn ledger_for_undo(&self, key: &str) -> Ledger {
        let mut ledger = self.ledger.clone();
        if let Some(first) = self.step(key).and_then(|step| step.undo.first_asked) {
            ledger.movements.truncate(first.movements);
        }
        ledger
    }

    /// Whether the last worker was lost and may have left an attempt without a record.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// How many messages have been read: each becomes one record.
    pub(crate) fn mail_read(&self) -> i32 {
        self.mail_read
    }

    /// How many messages could not be recorded.
    pub(crate) fn mail_refused(&self) -> u32 {
        self.mail_refused
    }

    /// Why a message could not be recorded, if nobody has said yet to go on without it.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether that is put to a person.
    pub(crate) fn is_refusal_told(&self) -> bool {
        self.refusal_told
    }

    /// Whether no further effect may begin.
    pub(crate) fn is_held(&self) -> bool {
        self.standstill.is_held()
    }

    /// Why somebody has asked for the end, by force.
    pub(crate) fn terminated(&self) -> Option<&str> {
        self.terminated.as_deref()
    }

    /// On whose behalf it was started, if on that of an instance.
    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// From when on its deadline runs: since it was accepted, less the time for which it has stood
    /// still.
    pub(crate) fn deadline_from(&self) -> DateTime<Utc> {
        self.started_at + self.standstill.total()
    }

    /// For how long it has stood still, until it went on last.
    pub(crate) fn stood_still(&self) -> TimeDelta {
        self.standstill.total()
    }

    /// After this no further attempt at a step begins, as one sees it that began then;
    /// `was_parked`: since it was due.
    pub(crate) fn latest_attempt(
        &self,
        key: &str,
        began_at: DateTime<Utc>,
        was_parked: bool,
        deadline: Option<Duration>,
    ) -> Option<DateTime<Utc>> {
        let stood_still = if was_parked {
            self.standstill.total_with(self.due(Some(key)), began_at)
        } else {
            self.standstill.total()
        };
        let clock = self.step(key).and_then(|step| step.clock);
        let clock = clock.unwrap_or(StepClock::start(began_at, stood_still));
        clock.latest(deadline, stood_still)
    }

    /// Since when there has been something to do, after the last record: at a step, or at any.
    fn due(&self, key: Option<&str>) -> DateTime<Utc> {
        let of_interest = |step: &&RecordedStep| key.is_none_or(|key| step.key == key);
        let due = self.steps.iter().filter(of_interest).filter_map(RecordedStep::due).min();
        due.map_or(self.last_at, |due| due.max(self.last_at))
    }

    /// Why everything is to be undone, if somebody has asked for that and was promised it.
    pub(crate) fn cancelled(&self) -> Option<Reason> {
        let reason = self.cancelled.as_deref()?;
        let failure = Failure::new("CANCELLED", reason);
        Some(Reason { kind: ReasonKind::Cancel, failure })
    }

    /// What the instance was started with.
    pub(crate) fn input(&self) -> &RawValue {
        self.input.as_deref().unwrap_or(RawValue::NULL)
    }
}

/// How many events a record publishes.
pub(crate) fn count(events: &str) -> Result<u32, serde_json::Error> {
    let events: Vec<serde::de::IgnoredAny> = serde_json::from_str(events)?;
    Ok(events.len() as u32)
}

/// Cuts a time to what the database keeps, so that a hash made before storing holds after loading.
pub(crate) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}
