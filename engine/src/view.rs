//! What people and programs outside may read of instances.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::priority::Priority;
use crate::status::Status;
use crate::step::Failure;

/// An instance as it stands.
#[derive(Debug, Clone)]
pub struct InstanceView {
    /// Its id; ids grow with the time of acceptance.
    pub instance_id: Uuid,
    /// The workflow's name.
    pub workflow: String,
    /// The version it was started with, and stays on.
    pub version: u32,
    /// What it is about, such as `shop/order`; unique within the workflow.
    pub business_key: String,
    /// Where it stands.
    pub status: Status,
    /// The last step that has been recorded, if any.
    pub step: Option<String>,
    /// Why it is waiting, stuck, compensating or undone.
    pub failure: Option<Failure>,
    /// When it is due next, if it waits.
    pub run_at: Option<DateTime<Utc>>,
    /// Whether the point of no return has been reached.
    pub past_pivot: bool,
    /// Whether somebody has asked for no further effect to begin.
    pub held: bool,
    /// The dependency that it waits for: one that is down, or that takes no more calls now.
    pub parked_on: Option<String>,
    /// Who comes first.
    pub priority: Priority,
    /// The instance that started it, if one did.
    pub parent_id: Option<Uuid>,
    /// What it can be found by.
    pub attributes: BTreeMap<String, String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its row was last written by its worker.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Something that steps call, and how it does.
#[derive(Debug, Clone)]
pub struct DependencyView {
    /// Its name.
    pub name: String,
    /// `up`, `down`, or `recovering`.
    pub state: String,
    /// When it went down, or came up again.
    pub since: DateTime<Utc>,
    /// Why it is taken to be down.
    pub failure_code: Option<String>,
    /// The same, in words.
    pub failure_message: Option<String>,
    /// When it is tried again, or more instances are let through, if it is not up.
    pub next_try_at: DateTime<Utc>,
    /// How many instances wait for it.
    pub waiting: i64,
}

/// One entry of a history.
#[derive(Debug, Clone)]
pub struct RecordView {
    /// 0 for the start; without gaps.
    pub seq: u32,
    /// What happened.
    pub kind: String,
    /// The step it happened to.
    pub step: Option<String>,
    /// Which attempt, from 1.
    pub attempt: Option<u32>,
    /// The recorded data, to the byte.
    pub payload: Box<RawValue>,
    /// The events published with it, to the byte.
    pub events: Option<Box<RawValue>>,
    /// The person who caused it.
    pub actor: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// SHA-256 over the record and the hash before it.
    pub hash: [u8; 32],
}

/// Which instances to list. Everything given must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Standing here.
    pub status: Option<Status>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With exactly this business key.
    pub business_key: Option<String>,
    /// With this attribute (name, value).
    pub attribute: Option<(String, String)>,
    /// Accepted at or after.
    pub created_from: Option<DateTime<Utc>>,
    /// Accepted before.
    pub created_before: Option<DateTime<Utc>>,
    /// Only instances older than this one: the cursor of the page before.
    pub before: Option<Uuid>,
    /// At most so many, 1 to 200.
    pub limit: u32,
}
