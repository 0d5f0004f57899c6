//! Schedules as programs outside read them.

use amends::Priority;
use amends::schedule::{FiringView, ScheduleCommandView, ScheduleView};
use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::view::Failure;

/// Every schedule, by name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Schedules {
    /// The schedules.
    pub items: Vec<Schedule>,
}

/// A schedule as it stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name.
    #[schema(example = "nightly-settlement")]
    pub name: String,
    /// The cron expression.
    #[schema(example = "0 2 * * *")]
    pub cron: String,
    /// The zone it is read in.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// The workflow it starts.
    #[schema(example = "settlement")]
    pub workflow: String,
    /// What becomes of missed firings.
    #[schema(example = "last")]
    pub gap: String,
    /// What becomes of a firing while the instance of the one before has not ended.
    #[schema(example = "skip")]
    pub overlap: String,
    /// How urgent its instances are: due instances of higher priority are taken up first.
    #[serde(default)]
    #[schema(value_type = String, example = "normal")]
    pub priority: Priority,
    /// Whether a running process defines it so. If none does, it does not fire.
    pub is_defined: bool,
    /// Since when it is paused, by whom and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// The next firings as the clock on the wall shows them; none while it does not fire.
    pub next: Vec<DateTime<FixedOffset>>,
    /// The firings that were let go last, because they were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// When it last started an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired_at: Option<DateTime<Utc>>,
    /// The instance that it started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_instance_id: Option<Uuid>,
}

/// A pause.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// Since when.
    pub at: DateTime<Utc>,
    /// Who paused it.
    #[schema(example = "anna")]
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A span of firings that were let go.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Missed {
    /// The first of them.
    pub from: DateTime<FixedOffset>,
    /// The first thereafter that was not let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<FixedOffset>>,
}

/// A schedule with what has become of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// The schedule as it stands.
    pub schedule: Schedule,
    /// Its latest firings, newest first, 20 at most.
    pub firings: Vec<Firing>,
    /// What people asked of it, newest first, 20 at most.
    pub commands: Vec<ScheduleCommand>,
}

/// A firing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Firing {
    /// The minute it is for, as the clock on the wall shows it.
    pub at: DateTime<FixedOffset>,
    /// `due`, `trigger` or `backfill`.
    #[schema(example = "due")]
    pub kind: String,
    /// `planned`, `started`, `skipped` or `refused`.
    #[schema(example = "started")]
    pub state: String,
    /// The instance it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
    /// Why it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When this was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<DateTime<Utc>>,
}

/// What a person asked of a schedule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScheduleCommand {
    /// `pause`, `resume`, `trigger` or `backfill`.
    #[schema(example = "backfill")]
    pub command: String,
    /// Of a backfill: the first time it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Of a backfill: the last time it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Who asked.
    #[schema(example = "anna")]
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What he was told.
    #[schema(example = "accepted")]
    pub answer: String,
    /// When.
    pub given_at: DateTime<Utc>,
}

impl From<ScheduleView> for Schedule {
    fn from(view: ScheduleView) -> Self {
        Self {
            name: view.name,
            cron: view.cron,
            zone: view.zone,
            workflow: view.workflow,
            gap: view.gap,
            overlap: view.overlap,
            priority: view.priority,
            is_defined: view.is_defined,
            paused: view.paused.map(|pause| Pause {
                at: pause.at,
                by: pause.by,
                reason: pause.reason,
            }),
            next: view.next,
            missed: view.missed.map(|missed| Missed { from: missed.from, before: missed.before }),
            last_fired_at: view.last_fired_at,
            last_instance_id: view.last_instance_id,
        }
    }
}

impl From<amends::schedule::ScheduleDetail> for ScheduleDetail {
    fn from(view: amends::schedule::ScheduleDetail) -> Self {
        Self {
            schedule: view.schedule.into(),
            firings: view.firings.into_iter().map(Firing::from).collect(),
            commands: view.commands.into_iter().map(ScheduleCommand::from).collect(),
        }
    }
}

impl From<FiringView> for Firing {
    fn from(view: FiringView) -> Self {
        Self {
            at: view.at,
            kind: view.kind,
            state: view.state.as_str().to_owned(),
            instance_id: view.instance_id,
            failure: view.failure.map(Failure::from),
            settled_at: view.settled_at,
        }
    }
}

impl From<ScheduleCommandView> for ScheduleCommand {
    fn from(view: ScheduleCommandView) -> Self {
        let (from, until) = view.span.unzip();
        Self {
            command: view.command,
            from,
            until,
            actor: view.actor,
            reason: view.reason,
            answer: view.answer,
            given_at: view.given_at,
        }
    }
}
