//! Instances and their histories as JSON, for the server that writes them and the command line
//! that reads them.

use std::collections::BTreeMap;
use std::fmt::Write;

use amends::versions;
use amends::view::{DependencyView, InstanceView, RecordView};
use amends::{Priority, Status};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use crate::timeline::waits;

/// An instance as it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id; ids grow with the time of acceptance.
    pub instance_id: Uuid,
    /// The workflow's name.
    #[schema(example = "fulfilment")]
    pub workflow: String,
    /// The version it was started with, and stays on.
    #[schema(example = 1)]
    pub version: u32,
    /// What it is about; unique within the workflow.
    #[schema(example = "acme.myshopify.com/5940139491234")]
    pub business_key: String,
    /// Where it stands.
    #[schema(schema_with = status_schema)]
    pub status: Status,
    /// The last step that has been recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "ship")]
    pub step: Option<String>,
    /// Why it is waiting, stuck, compensating or undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it is due next, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// What it waits for, in words; not there if it waits for nothing, or for a person to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "waits for the signal parcel_packed, at most until 2026-11-18 14:05:00 UTC"
    )]
    pub waits: Option<String>,
    /// Whether the point of no return has been reached.
    pub past_pivot: bool,
    /// Whether somebody has asked for nothing more to be begun.
    #[serde(default)]
    pub held: bool,
    /// How urgent it is: due instances of higher priority are taken up first.
    #[serde(default)]
    #[schema(value_type = String, example = "normal")]
    pub priority: Priority,
    /// The dependency that it waits for: one that is down, or that takes no more calls now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "carrier")]
    pub parked_on: Option<String>,
    /// The instance that started it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    /// What it can be found by.
    pub attributes: BTreeMap<String, String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its status last changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// Why something did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Stable, upper case.
    #[schema(example = "SHIPMENT_ERROR")]
    pub code: String,
    /// One sentence for a person.
    #[schema(example = "the carrier does not deliver to this address")]
    pub message: String,
}

/// One entry of a history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// 0 for the start; without gaps.
    pub seq: u32,
    /// What happened.
    #[schema(example = "step_done")]
    pub kind: String,
    /// The step it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "charge")]
    pub step: Option<String>,
    /// Which attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The recorded data, to the byte.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// The events published with it, to the byte: number, type and data of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub events: Option<Box<RawValue>>,
    /// The person who caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "anna")]
    pub actor: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// SHA-256 over the record and the hash before it, in hexadecimal.
    pub hash: String,
}

/// A page of instances, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The instances.
    pub items: Vec<Instance>,
    /// Send it as `cursor` to get the next page; not there on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A whole history, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The records.
    pub items: Vec<Record>,
}

/// A version of a workflow that has live instances, or is part of the server's build, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The workflow's name.
    #[schema(example = "fulfilment")]
    pub workflow: String,
    /// Its number.
    #[schema(example = 1)]
    pub version: u32,
    /// Whether the server that answers can run it.
    pub runnable: bool,
    /// Whether the server that answers starts new instances on it.
    pub starts_new: bool,
    /// Whether nothing is on it, nothing that can still be taken back, and nothing new starts on it.
    pub safe_to_remove: bool,
    /// How many of its instances have not ended.
    pub live: u64,
    /// Of these, accepted, and run by nobody yet.
    pub pending: u64,
    /// Of these, run by a worker.
    pub running: u64,
    /// Of these, waiting for time, a retry or a signal.
    pub waiting: u64,
    /// Of these, being undone.
    pub compensating: u64,
    /// Of these, in need of a person.
    pub stuck: u64,
    /// How many have completed and can still be taken back: they were started by live instances, or
    /// by such ones.
    #[serde(default)]
    pub completed_children: u64,
    /// When the oldest live one was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<DateTime<Utc>>,
}

/// Every version of every workflow, by name and number.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// The versions.
    pub items: Vec<Version>,
}

/// Something that steps call, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dependency {
    /// Its name.
    #[schema(example = "carrier")]
    pub name: String,
    /// `up`, `down`, or `recovering`: let up again, a few instances at a time.
    #[schema(example = "down")]
    pub state: String,
    /// When it went down, or came up again.
    pub since: DateTime<Utc>,
    /// How many instances wait for it.
    #[schema(example = 412)]
    pub waiting: i64,
    /// Why it is taken to be down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it is tried again, or more instances are let through; not there while it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

/// Everything that steps call, by name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Dependencies {
    /// The dependencies.
    pub items: Vec<Dependency>,
}

impl From<DependencyView> for Dependency {
    fn from(view: DependencyView) -> Self {
        let failure = view
            .failure_code
            .map(|code| Failure { code, message: view.failure_message.unwrap_or_default() });
        let next_try_at = (view.state != "up").then_some(view.next_try_at);
        let DependencyView { name, state, since, waiting, .. } = view;
        Self { name, state, since, waiting, failure, next_try_at }
    }
}

/// The schema of a status: the words of [`Status`].
pub(crate) fn status_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Where it stands"))
        .enum_values(Some(Status::ALL.map(Status::as_str)))
        .build()
}

impl From<InstanceView> for Instance {
    fn from(view: InstanceView) -> Self {
        Self {
            waits: waits(
                view.status,
                view.held,
                view.parked_on.as_deref(),
                view.step.as_deref(),
                view.run_at,
            ),
            priority: view.priority,
            parked_on: view.parked_on,
            parent_id: view.parent_id,
            instance_id: view.instance_id,
            workflow: view.workflow,
            version: view.version,
            business_key: view.business_key,
            status: view.status,
            step: view.step,
            failure: view.failure.map(Failure::from),
            run_at: view.run_at,
            past_pivot: view.past_pivot,
            held: view.held,
            attributes: view.attributes,
            created_at: view.created_at,
            updated_at: view.updated_at,
            ended_at: view.ended_at,
        }
    }
}

impl From<versions::Version> for Version {
    fn from(version: versions::Version) -> Self {
        let live = version.live;
        Self {
            safe_to_remove: version.is_safe_to_remove(),
            workflow: version.workflow,
            version: version.version,
            runnable: version.runnable,
            starts_new: version.starts_new,
            live: live.total(),
            pending: live.pending,
            running: live.running,
            waiting: live.waiting,
            compensating: live.compensating,
            stuck: live.stuck,
            completed_children: version.completed_children,
            oldest: version.oldest,
        }
    }
}

impl From<amends::Failure> for Failure {
    fn from(failure: amends::Failure) -> Self {
        Self { code: failure.code.into_owned(), message: failure.message }
    }
}

impl From<RecordView> for Record {
    fn from(view: RecordView) -> Self {
        Self {
            seq: view.seq,
            kind: view.kind,
            step: view.step,
            attempt: view.attempt,
            payload: view.payload,
            events: view.events,
            actor: view.actor,
            at: view.at,
            hash: hexadecimal(&view.hash),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_passed_on_to_the_byte() {
        let json = concat!(
            r#"{"seq":0,"kind":"started","payload":{"b": 1.50,  "a":"\u00e9"},"#,
            r#""at":"2026-11-18T11:06:41Z","hash":"00ff"}"#,
        );
        let record: Record = serde_json::from_str(json).expect("a record");
        assert_eq!(serde_json::to_string(&record).expect("JSON"), json);
        assert_eq!(hexadecimal(&[0, 255]), "00ff");
    }
}
