//! The payloads of records, as far as a timeline needs them. Members that it does not need may
//! come and go.

use amends::{Movement, Status};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::view::Failure;

#[derive(Debug, Deserialize)]
pub(super) struct Started {
    #[serde(default)]
    pub(super) business_key: String,
    #[serde(default)]
    pub(super) input: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct StepDone {
    #[serde(default)]
    pub(super) output: Value,
    #[serde(default)]
    pub(super) money: Vec<Movement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AttemptOutcome {
    Retry,
    Fail,
    Refused,
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(super) struct AttemptFailed {
    pub(super) outcome: AttemptOutcome,
    #[serde(flatten)]
    pub(super) failure: Failure,
    pub(super) retry_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub(super) money: Vec<Movement>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Late {
    #[serde(flatten)]
    pub(super) failure: Failure,
    #[serde(default)]
    pub(super) money: Vec<Movement>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Interrupted {
    pub(super) retry_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NotFound {
    pub(super) retry_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CompensationPlanned {
    pub(super) reason: Reason,
    pub(super) plan: Vec<PlannedStep>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reason {
    pub(super) kind: String,
    #[serde(flatten)]
    pub(super) failure: Failure,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlannedStep {
    pub(super) step: String,
    pub(super) known: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct StepCompensated {
    pub(super) applied: bool,
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) money: Vec<Movement>,
    pub(super) recheck_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Command {
    pub(super) command: String,
    #[serde(default)]
    pub(super) reason: String,
    pub(super) resolution: Option<Resolution>,
    #[serde(default)]
    pub(super) money: Vec<Movement>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Resolution {
    pub(super) step: Option<String>,
    pub(super) finding: Option<Finding>,
    #[serde(default)]
    pub(super) evidence: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finding {
    Applied(Value),
    NotApplied,
    Undone(Option<String>),
    Dropped,
    Again,
}

#[derive(Debug, Deserialize)]
pub(super) struct MailRefused {
    pub(super) mail_seq: i32,
    pub(super) why: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Signal {
    pub(super) signal: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct TimerStarted {
    pub(super) until: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WaitStarted {
    pub(super) until: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WaitEnded {
    /// The record of the signal.
    pub(super) signal: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Noted {
    #[serde(default)]
    pub(super) value: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChildStarted {
    #[serde(default)]
    pub(super) detached: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) failure: Option<Failure>,
    /// The records of signals that nobody waited for.
    #[serde(default)]
    pub(super) unread: Vec<u32>,
}
