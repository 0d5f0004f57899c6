//! What people and programs outside may read of schedules.

use chrono::{DateTime, FixedOffset, Utc};
use uuid::Uuid;

use crate::priority::Priority;
use crate::step::Failure;

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// The cron expression.
    pub cron: String,
    /// The zone it is read in.
    pub zone: String,
    /// The workflow it starts.
    pub workflow: String,
    /// What becomes of missed firings.
    pub gap: String,
    /// What becomes of a firing while the instance of the one before has not ended.
    pub overlap: String,
    /// How urgent its instances are.
    pub priority: Priority,
    /// Whether a running process defines it so. If none does, it does not fire.
    pub is_defined: bool,
    /// Since when it is paused, by whom and why.
    pub paused: Option<Pause>,
    /// The next firings as the clock on the wall shows them; none while it does not fire.
    pub next: Vec<DateTime<FixedOffset>>,
    /// The firings that were let go last.
    pub missed: Option<Missed>,
    /// When it last started an instance.
    pub last_fired_at: Option<DateTime<Utc>>,
    /// The instance that it started last.
    pub last_instance_id: Option<Uuid>,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: DateTime<Utc>,
    /// Who paused it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A span of firings that were let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The first of them.
    pub from: DateTime<FixedOffset>,
    /// The first thereafter that was not let go.
    pub before: Option<DateTime<FixedOffset>>,
}

/// A schedule with what has become of it, newest first, 20 of each at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleDetail {
    /// The schedule as it stands.
    pub schedule: ScheduleView,
    /// Its latest firings, by the time they are for.
    pub firings: Vec<FiringView>,
    /// What people asked of it last.
    pub commands: Vec<ScheduleCommandView>,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringView {
    /// The minute it is for, as the clock on the wall shows it.
    pub at: DateTime<FixedOffset>,
    /// `due`, `trigger` or `backfill`.
    pub kind: String,
    /// What has become of it.
    pub state: FiringState,
    /// The instance it started.
    pub instance_id: Option<Uuid>,
    /// Why it did not start.
    pub failure: Option<Failure>,
    /// When this was decided.
    pub settled_at: Option<DateTime<Utc>>,
}

/// What has become of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FiringState {
    /// It will start an instance.
    Planned,
    /// It has started an instance.
    Started,
    /// It met the instance of the one before.
    Skipped,
    /// The workflow has not accepted its input.
    Refused,
}

impl FiringState {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Started => "started",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Planned, Self::Started, Self::Skipped, Self::Refused]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What a person asked of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleCommandView {
    /// `pause`, `resume`, `trigger` or `backfill`.
    pub command: String,
    /// What a backfill was asked for, both ends included.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What he was told.
    pub answer: String,
    /// When.
    pub given_at: DateTime<Utc>,
}
