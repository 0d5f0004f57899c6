//! One entry of a history, and what it says.
//!
//! The kind, step and attempt are columns; everything else an entry says is its payload, JSON that
//! is written once and never re-serialised.

mod parked;

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::command::{Command, Resolution};
use crate::compensation::Plan;
use crate::money::Movement;
use crate::sabotage::Bug;
use crate::status::Status;
use crate::step::{Compensation, Failure, Undone};

/// An entry of a history as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) seq: u32,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) step: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) payload: String,
    pub(crate) events: Option<String>,
    pub(crate) actor: Option<String>,
    /// To the microsecond, which is what the database keeps.
    pub(crate) at: DateTime<Utc>,
    pub(crate) hash: [u8; 32],
}

/// What an entry says.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Started(Started),
    /// The worker was lost that held the instance, perhaps in the middle of an attempt.
    WorkerLost,
    /// The intent of an at-most-once step, durable before its call.
    StepStarted(StepStarted),
    StepDone(StepDone),
    StepAttemptFailed(StepAttemptFailed),
    /// The step's deadline has passed before the next attempt could begin.
    StepLate(StepLate),
    /// An attempt may have been under way when the worker was lost. It does not count as one.
    StepInterrupted(StepInterrupted),
    /// The provider was asked about an unknown outcome, and did not know the call.
    StepNotFound(StepNotFound),
    CompensationPlanned(CompensationPlanned),
    StepCompensated(StepCompensated),
    CompensationAttemptFailed(CompensationAttemptFailed),
    Command(CommandRead),
    /// A signal has been read from the mail.
    Signal(SignalRead),
    /// A message was in the mail that cannot become a record of its own.
    MailRefused(MailRefused),
    /// The run sleeps until a time.
    TimerStarted(TimerStarted),
    TimerFired,
    /// The run waits for a signal.
    WaitStarted(WaitStarted),
    WaitEnded(WaitEnded),
    /// A value that every replay must see again.
    Noted(Noted),
    /// Another instance is started on behalf of this one.
    ChildStarted(ChildStarted),
    ChildEnded(ChildEnded),
    Stuck(Stuck),
    Ended(Ended),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) business_key: String,
    /// On whose behalf, if on that of an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
    /// How many instances it is below that has been let go of, and so has no parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) depth: Option<u32>,
    pub(crate) input: Box<RawValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) instance_id: Uuid,
    /// What the child is called in the parent's history.
    pub(crate) key: String,
    /// How many instances the child is below. Builds that did not say so may have left 0.
    #[serde(default)]
    pub(crate) depth: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChildStarted {
    pub(crate) instance_id: Uuid,
    pub(crate) workflow: String,
    pub(crate) business_key: String,
    pub(crate) input: Box<RawValue>,
    /// It is let go of: neither awaited nor undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) detached: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChildEnded {
    pub(crate) instance_id: Uuid,
    pub(crate) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// A dependency kept the instance waiting until it read this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepStarted {
    pub(crate) input: Box<RawValue>,
    /// A dependency kept the instance waiting until this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepDone {
    pub(crate) input: Box<RawValue>,
    pub(crate) output: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) money: Vec<Movement>,
    /// What it takes to undo it, as it was declared then. None where that is nothing, or where an
    /// earlier release has not said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compensation: Option<Compensation>,
    /// Until when its dependency kept the instance from this attempt, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parked_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepInterrupted {
    pub(crate) input: Box<RawValue>,
    /// When the step goes on; none if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepNotFound {
    /// When the provider is asked again, or the step is attempted again.
    pub(crate) retry_at: DateTime<Utc>,
    /// A dependency kept the instance waiting until this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

/// How an attempt ended that brought no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptOutcome {
    /// This attempt was certainly not applied; worth another one.
    Retry,
    /// This attempt was certainly not applied, and no other one will be.
    Fail,
    /// The provider has refused the key for good.
    Refused,
    /// Perhaps applied.
    Unknown,
}

impl AttemptOutcome {
    /// Whether it answers for every earlier attempt under the same key, and not for its own alone.
    pub(crate) fn settles(self) -> bool {
        self == Self::Refused || (self == Self::Fail && Bug::FailSettlesDoubt.is_on())
    }

    /// Whether the effect may be applied after it, given that it may have been before.
    pub(crate) fn leaves_doubt(self, before: bool) -> bool {
        self == Self::Unknown || (before && !self.settles())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepAttemptFailed {
    pub(crate) input: Box<RawValue>,
    pub(crate) outcome: AttemptOutcome,
    #[serde(flatten)]
    pub(crate) failure: Failure,
    /// When the attempt began, if it is the first record of its step. Where an earlier release has
    /// not said so, it is taken to have begun with the record before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) began_at: Option<DateTime<Utc>>,
    /// Until when its dependency kept the instance from this attempt, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parked_until: Option<DateTime<Utc>>,
    /// When the next attempt is due; none if this was the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) money: Vec<Movement>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepLate {
    pub(crate) input: Box<RawValue>,
    #[serde(flatten)]
    pub(crate) failure: Failure,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) money: Vec<Movement>,
}

/// Why everything is being undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason {
    pub(crate) kind: ReasonKind,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReasonKind {
    /// A step failed for good.
    Failure,
    /// Somebody asked.
    Cancel,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CompensationPlanned {
    pub(crate) reason: Reason,
    pub(crate) plan: Plan,
    /// SHA-256 of the plan, in hex: what a preview showed can be compared with what was done.
    pub(crate) plan_hash: String,
}

impl CompensationPlanned {
    /// What such a record is called.
    pub(crate) const KIND: &'static str = "compensation_planned";
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepCompensated {
    #[serde(flatten)]
    pub(crate) undone: Undone,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) money: Vec<Movement>,
    /// When it is undone once more: what was unknown may yet turn up at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recheck_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CompensationAttemptFailed {
    pub(crate) outcome: AttemptOutcome,
    #[serde(flatten)]
    pub(crate) failure: Failure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommandRead {
    pub(crate) command: Command,
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolution: Option<Resolution>,
    /// What is asked for under another key from here on: keys of steps, with `/undo` for their
    /// undo. None: written by a build that did not say so, see [`crate::history`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) new_keys: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) money: Vec<Movement>,
    /// A dependency kept the instance waiting until it read this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SignalRead {
    pub(crate) signal: String,
    /// The sender's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) body: Box<RawValue>,
    /// A dependency kept the instance waiting until it read this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

/// What is stuck because a message could not be recorded.
pub(crate) const MAIL_REFUSED: &str = "MAIL_REFUSED";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MailRefused {
    /// The number of the message: what it says stays in the mail.
    pub(crate) mail_seq: i32,
    pub(crate) why: String,
    /// A dependency kept the instance waiting until it read this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TimerStarted {
    pub(crate) until: DateTime<Utc>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WaitStarted {
    /// None: for as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WaitEnded {
    /// The record of the signal; none if time ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) value: Box<RawValue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stuck {
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    /// The records of signals that nobody waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unread: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
}

impl Entry {
    /// The kind under which it is stored.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::WorkerLost => "worker_lost",
            Self::StepStarted(_) => "step_started",
            Self::StepDone(_) => "step_done",
            Self::StepAttemptFailed(_) => "step_attempt_failed",
            Self::StepLate(_) => "step_late",
            Self::StepInterrupted(_) => "step_interrupted",
            Self::StepNotFound(_) => "step_not_found",
            Self::CompensationPlanned(_) => CompensationPlanned::KIND,
            Self::StepCompensated(_) => "step_compensated",
            Self::CompensationAttemptFailed(_) => "compensation_attempt_failed",
            Self::Command(_) => "command",
            Self::Signal(_) => "signal",
            Self::MailRefused(_) => "mail_refused",
            Self::TimerStarted(_) => "timer_started",
            Self::TimerFired => "timer_fired",
            Self::WaitStarted(_) => "wait_started",
            Self::WaitEnded(_) => "wait_ended",
            Self::Noted(_) => "noted",
            Self::ChildStarted(_) => "child_started",
            Self::ChildEnded(_) => "child_ended",
            Self::Stuck(_) => "stuck",
            Self::Ended(_) => "ended",
        }
    }

    /// The payload to be stored.
    pub(crate) fn payload(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Started(entry) => serde_json::to_string(entry),
            Self::WorkerLost | Self::TimerFired => Ok("{}".to_owned()),
            Self::StepStarted(entry) => serde_json::to_string(entry),
            Self::StepDone(entry) => serde_json::to_string(entry),
            Self::StepAttemptFailed(entry) => serde_json::to_string(entry),
            Self::StepLate(entry) => serde_json::to_string(entry),
            Self::StepInterrupted(entry) => serde_json::to_string(entry),
            Self::StepNotFound(entry) => serde_json::to_string(entry),
            Self::CompensationPlanned(entry) => serde_json::to_string(entry),
            Self::StepCompensated(entry) => serde_json::to_string(entry),
            Self::CompensationAttemptFailed(entry) => serde_json::to_string(entry),
            Self::Command(entry) => serde_json::to_string(entry),
            Self::Signal(entry) => serde_json::to_string(entry),
            Self::MailRefused(entry) => serde_json::to_string(entry),
            Self::TimerStarted(entry) => serde_json::to_string(entry),
            Self::WaitStarted(entry) => serde_json::to_string(entry),
            Self::WaitEnded(entry) => serde_json::to_string(entry),
            Self::Noted(entry) => serde_json::to_string(entry),
            Self::ChildStarted(entry) => serde_json::to_string(entry),
            Self::ChildEnded(entry) => serde_json::to_string(entry),
            Self::Stuck(entry) => serde_json::to_string(entry),
            Self::Ended(entry) => serde_json::to_string(entry),
        }
    }

    /// Reads a stored payload back.
    pub(crate) fn parse(kind: &str, payload: &str) -> Result<Self, String> {
        fn read<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, String> {
            serde_json::from_str(payload).map_err(|error| error.to_string())
        }
        match kind {
            "started" => read(payload).map(Self::Started),
            "worker_lost" => Ok(Self::WorkerLost),
            "step_started" => read(payload).map(Self::StepStarted),
            "step_done" => read(payload).map(Self::StepDone),
            "step_attempt_failed" => read(payload).map(Self::StepAttemptFailed),
            "step_late" => read(payload).map(Self::StepLate),
            "step_interrupted" => read(payload).map(Self::StepInterrupted),
            "step_not_found" => read(payload).map(Self::StepNotFound),
            CompensationPlanned::KIND => read(payload).map(Self::CompensationPlanned),
            "step_compensated" => read(payload).map(Self::StepCompensated),
            "compensation_attempt_failed" => read(payload).map(Self::CompensationAttemptFailed),
            "command" => read(payload).map(Self::Command),
            "signal" => read(payload).map(Self::Signal),
            "mail_refused" => read(payload).map(Self::MailRefused),
            "timer_started" => read(payload).map(Self::TimerStarted),
            "timer_fired" => Ok(Self::TimerFired),
            "wait_started" => read(payload).map(Self::WaitStarted),
            "wait_ended" => read(payload).map(Self::WaitEnded),
            "noted" => read(payload).map(Self::Noted),
            "child_started" => read(payload).map(Self::ChildStarted),
            "child_ended" => read(payload).map(Self::ChildEnded),
            "stuck" => read(payload).map(Self::Stuck),
            "ended" => read(payload).map(Self::Ended),
            _ => Err(format!("a record of kind {kind:?} is unknown to this build")),
        }
    }

    /// Whether it says that an attempt, forward or backward, has come to its end.
    pub(crate) fn is_progress(&self) -> bool {
        matches!(
            self,
            Self::StepDone(_)
                | Self::StepAttemptFailed(_)
                | Self::StepLate(_)
                | Self::StepCompensated(_)
                | Self::CompensationAttemptFailed(_)
        )
    }

    /// The money it says has moved.
    pub(crate) fn money(&self) -> &[Movement] {
        match self {
            Self::StepDone(entry) => &entry.money,
            Self::StepAttemptFailed(entry) => &entry.money,
            Self::StepLate(entry) => &entry.money,
            Self::StepCompensated(entry) => &entry.money,
            Self::Command(entry) => &entry.money,
            Self::Started(_)
            | Self::WorkerLost
            | Self::StepStarted(_)
            | Self::StepInterrupted(_)
            | Self::StepNotFound(_)
            | Self::CompensationPlanned(_)
            | Self::CompensationAttemptFailed(_)
            | Self::Signal(_)
            | Self::MailRefused(_)
            | Self::TimerStarted(_)
            | Self::TimerFired
            | Self::WaitStarted(_)
            | Self::WaitEnded(_)
            | Self::Noted(_)
            | Self::ChildStarted(_)
            | Self::ChildEnded(_)
            | Self::Stuck(_)
            | Self::Ended(_) => &[],
        }
    }
}
