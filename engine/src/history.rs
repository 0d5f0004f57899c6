//! What has happened to an instance, and what that means for what it does next.
//!
//! Pure: a history is folded from its records, one by one, whether they are loaded or just made.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::chain;
use crate::command::Command;
use crate::compensation::{Plan, PlannedStep};
use crate::event::Event;
use crate::money::Ledger;
use crate::record::{AttemptOutcome, CommandRead, Entry, Reason, ReasonKind, Record, publish};
use crate::step::Failure;

/// The folded records of one instance.
#[derive(Debug)]
pub(crate) struct History {
    instance_id: Uuid,
    /// The next record's number; also how many there are.
    length: u32,
    head: [u8; 32],
    events: u32,
    last_at: DateTime<Utc>,
    input: Option<Box<RawValue>>,
    steps: Vec<RecordedStep>,
    /// Keys that this replay has asked for.
    asked: BTreeSet<usize>,
    undoing: Option<Undoing>,
    /// Why somebody has asked for everything to be undone, and was promised it.
    cancelled: Option<String>,
    /// The last worker was lost, and no attempt has ended since.
    interrupted: bool,
    /// How many commands have been read.
    commands: i32,
    ledger: Ledger,
}

/// A place in a history.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    length: u32,
    head: [u8; 32],
    events: u32,
}

impl Mark {
    /// How many records there were.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }
}

/// What is recorded of one step.
#[derive(Debug)]
pub(crate) struct RecordedStep {
    /// Name and occurrence, such as `charge` or `charge#2`.
    pub(crate) key: String,
    pub(crate) input: Box<RawValue>,
    pub(crate) progress: Progress,
    /// An attempt's outcome is unknown, and no later answer has settled it.
    pub(crate) unknown: bool,
    /// How often the provider has said that it does not know the call, since it became unknown.
    pub(crate) not_found: u32,
    /// An at-most-once attempt was begun and has no recorded outcome.
    pub(crate) begun: bool,
    /// Failed attempts since the start, or since a person resumed.
    pub(crate) attempts: Attempts,
    /// No attempt began before: the time of the record before the step's first one. Provider key
    /// windows count from here.
    pub(crate) first_at: DateTime<Utc>,
    pub(crate) undo: Attempts,
    pub(crate) compensated: bool,
}

impl RecordedStep {
    /// The name without the occurrence.
    pub(crate) fn name(&self) -> &str {
        step_name(&self.key)
    }
}

/// The name in a step's key, without the occurrence.
pub(crate) fn step_name(key: &str) -> &str {
    key.split_once('#').map_or(key, |(name, _)| name)
}

/// How far a step has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Attempted, and to be attempted again.
    Open,
    Done {
        output: Box<RawValue>,
    },
    Failed {
        failure: Failure,
    },
}

/// Attempts that brought nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attempts {
    /// All of them, for numbering.
    pub(crate) total: u32,
    /// Those that count against the retry policy.
    pub(crate) counted: u32,
    /// When the next one is due.
    pub(crate) retry_at: Option<DateTime<Utc>>,
    pub(crate) last: Option<Failure>,
    /// The last answer was a refusal for good.
    refused: bool,
    /// How often a person has resumed after a refusal for good. Providers remember a refusal under
    /// its key; what a person sends again after mending its cause needs another one.
    pub(crate) round: u32,
}

impl Attempts {
    fn failed(
        &mut self,
        outcome: AttemptOutcome,
        failure: Failure,
        retry_at: Option<DateTime<Utc>>,
    ) {
        self.total += 1;
        self.counted += 1;
        self.retry_at = retry_at;
        self.last = Some(failure);
        self.refused = outcome == AttemptOutcome::Fail;
    }

    /// Starts over. Says whether that takes another key.
    fn resumed(&mut self) -> bool {
        self.counted = 0;
        self.retry_at = None;
        let refused = std::mem::take(&mut self.refused);
        self.round += u32::from(refused);
        refused
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
            last_at: DateTime::UNIX_EPOCH,
            input: None,
            steps: Vec::new(),
            asked: BTreeSet::new(),
            undoing: None,
            cancelled: None,
            interrupted: false,
            commands: 0,
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

    /// A history whose records this build cannot read: all that can be done is to add to it.
    pub(crate) fn opaque(instance_id: Uuid, records: &[Record]) -> Self {
        let mut history = Self::new(instance_id);
        if let Some(last) = records.last() {
            history.length = last.seq + 1;
            history.head = last.hash;
        }
        history
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
        record.hash = chain::hash(self.instance_id, &record, &self.head);
        self.fold(step, entry, record.at, record.hash, events.len() as u32);
        Ok(record)
    }

    fn fold(
        &mut self,
        step: Option<&str>,
        entry: Entry,
        at: DateTime<Utc>,
        hash: [u8; 32],
        events: u32,
    ) {
        self.length += 1;
        self.head = hash;
        self.events += events;
        self.ledger.movements.extend_from_slice(entry.money());
        match entry {
            Entry::Started(started) => self.input = Some(started.input),
            Entry::WorkerLost => self.interrupted = true,
            Entry::StepStarted(started) => self.step_mut(step, started.input).begun = true,
            Entry::StepDone(done) => {
                // Whatever the lost worker left open has been taken up.
                self.interrupted = false;
                let step = self.step_mut(step, done.input);
                step.progress = Progress::Done { output: done.output };
                step.unknown = false;
                step.begun = false;
            }
            Entry::StepAttemptFailed(failed) => {
                self.interrupted = false;
                let step = self.step_mut(step, failed.input);
                step.begun = false;
                match failed.outcome {
                    // A refusal answers the key, and so every earlier attempt with that key.
                    AttemptOutcome::Fail => step.unknown = false,
                    AttemptOutcome::Unknown => {
                        step.unknown = true;
                        step.not_found = 0;
                    }
                    AttemptOutcome::Retry => {}
                }
                if failed.retry_at.is_none() {
                    step.progress = Progress::Failed { failure: failed.failure.clone() };
                }
                step.attempts.failed(failed.outcome, failed.failure, failed.retry_at);
            }
            Entry::StepInterrupted(interrupted) => {
                let step = self.step_mut(step, interrupted.input);
                step.unknown = true;
                step.not_found = 0;
                step.attempts.total += 1;
                step.attempts.retry_at = interrupted.retry_at;
            }
            Entry::StepNotFound(probed) => {
                if let Some(step) = self.find_mut(step) {
                    step.not_found += 1;
                    // A provider may be slow to show what it applied; it is asked twice.
                    step.unknown = step.not_found < 2;
                    step.attempts.retry_at = Some(probed.retry_at);
                    self.interrupted &= step.unknown;
                }
            }
            Entry::CompensationPlanned(planned) => {
                self.undoing = Some(Undoing { reason: planned.reason, plan: planned.plan });
            }
            Entry::StepCompensated(_) => {
                if let Some(step) = self.find_mut(step) {
                    step.compensated = true;
                }
            }
            Entry::CompensationAttemptFailed(failed) => {
                if let Some(step) = self.find_mut(step) {
                    step.undo.failed(failed.outcome, failed.failure, failed.retry_at);
                }
            }
            Entry::Command(CommandRead { command, reason }) => {
                self.commands += 1;
                match command {
                    Command::Resume => self.resumed(at),
                    Command::Cancel => self.cancelled = Some(reason),
                }
            }
            Entry::Stuck(_) | Entry::Ended(_) => {}
        }
        self.last_at = at;
    }

    /// A person has said to go on: what had failed for good gets a new set of attempts.
    fn resumed(&mut self, at: DateTime<Utc>) {
        for step in &mut self.steps {
            if step.attempts.resumed() {
                step.first_at = at;
            }
            step.undo.resumed();
            if matches!(step.progress, Progress::Failed { .. }) {
                step.progress = Progress::Open;
            }
        }
    }

    fn find_mut(&mut self, key: Option<&str>) -> Option<&mut RecordedStep> {
        self.steps.iter_mut().find(|step| Some(step.key.as_str()) == key)
    }

    fn step_mut(&mut self, key: Option<&str>, input: Box<RawValue>) -> &mut RecordedStep {
        let key = key.unwrap_or_default();
        let first_at = self.last_at;
        let index = self.steps.iter().position(|step| step.key == key).unwrap_or_else(|| {
            // A step that is being recorded has been asked for.
            self.asked.insert(self.steps.len());
            self.steps.push(RecordedStep {
                key: key.to_owned(),
                input,
                progress: Progress::Open,
                unknown: false,
                not_found: 0,
                begun: false,
                attempts: Attempts::default(),
                first_at,
                undo: Attempts::default(),
                compensated: false,
            });
            self.steps.len() - 1
        });
        &mut self.steps[index]
    }

    /// Begins a replay: nothing has been asked for yet.
    pub(crate) fn rewind(&mut self) {
        self.asked.clear();
    }

    /// Looks a step up for a replay.
    pub(crate) fn ask(&mut self, key: &str) -> Option<&RecordedStep> {
        let index = self.steps.iter().position(|step| step.key == key)?;
        self.asked.insert(index);
        self.steps.get(index)
    }

    /// The first recorded step that this replay has not asked for.
    pub(crate) fn unasked(&self) -> Option<&RecordedStep> {
        (0..self.steps.len())
            .find(|index| !self.asked.contains(index))
            .and_then(|index| self.steps.get(index))
    }

    /// The recorded steps, in the order of their first record.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &RecordedStep> {
        self.steps.iter()
    }

    pub(crate) fn step(&self, key: &str) -> Option<&RecordedStep> {
        self.steps.iter().find(|step| step.key == key)
    }

    /// The compensation under way.
    pub(crate) fn undoing(&self) -> Option<&Undoing> {
        self.undoing.as_ref()
    }

    /// The next step of the plan that is not undone yet.
    pub(crate) fn next_to_undo(&self) -> Option<&PlannedStep> {
        self.undoing
            .as_ref()?
            .plan
            .steps
            .iter()
            .find(|planned| self.step(&planned.step).is_none_or(|step| !step.compensated))
    }

    /// Where the history stands, so that a closing record that was not written can be taken off.
    pub(crate) fn mark(&self) -> Mark {
        Mark { length: self.length, head: self.head, events: self.events }
    }

    /// Takes closing records off again. They fold into nothing but the counters.
    pub(crate) fn revert(&mut self, mark: &Mark) {
        self.length = mark.length;
        self.head = mark.head;
        self.events = mark.events;
    }

    /// The number and hash of the last record.
    pub(crate) fn head(&self) -> (u32, [u8; 32]) {
        (self.length.saturating_sub(1), self.head)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether the last worker was lost and may have left an attempt without a record.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// How many messages have been read: each becomes one record.
    pub(crate) fn mail_read(&self) -> i32 {
        self.commands
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
