//! Schedules: instances that start by the clock on a wall somewhere.
//!
//! A schedule is defined in code. A *firing* is a schedule and a local minute; it happens once,
//! whether the clock, a person or a backfill asks for it, and whichever process hears it first.

mod command;
mod decide;
mod definition;
mod desk;
mod run;
mod timetable;
mod view;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};

use crate::priority::Priority;

pub use command::{Backfill, ScheduleAnswer, ScheduleCommand};
pub(crate) use command::{Seen, judge};
pub(crate) use decide::{Adopted, Head, Plan, Standing, local};
pub(crate) use definition::{Definition, Definitions};
pub(crate) use run::{define, introduce, run_due, watch};
pub(crate) use timetable::{Timetable, ZONES};
pub use view::{
    FiringState, FiringView, Missed, Pause, ScheduleCommandView, ScheduleDetail, ScheduleView,
};

/// When a workflow is started by the clock. Nothing has a default; what cannot be is refused when
/// the engine opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// What people call it: up to 100 letters, digits, dots, dashes and underscores. Stored, and
    /// part of the business key of every instance it starts, so it never changes.
    pub name: &'static str,
    /// Five fields, as in `0 2 * * MON-FRI`, or `@hourly`, `@daily`, `@weekly`, `@monthly`,
    /// `@yearly`. Of two day fields that are both given, either is enough, unless one begins with
    /// `*`, as `*/2` does: then both have to fit. Where clocks are changed, an expression without `*` for minute and hour keeps to
    /// the clock on the wall: a time that does not exist fires at the end of what was left out,
    /// one that exists twice fires the first time. One with a `*` keeps to elapsed time.
    pub cron: &'static str,
    /// The zone of the IANA database in which the expression is read, such as `Europe/Berlin`.
    pub zone: &'static str,
    /// What becomes of firings that were missed, because no process ran or it was paused.
    pub gap: Gap,
    /// What becomes of a firing while the instance of the one before has not ended.
    pub overlap: Overlap,
}

impl Schedule {
    /// The same, whose instances are taken up as urgently as this; as usual if it is not said.
    #[must_use]
    pub fn priority(self, priority: Priority) -> PrioritizedSchedule {
        PrioritizedSchedule { schedule: self, priority }
    }
}

/// A schedule, and how urgent its instances are: see [`Schedule::priority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrioritizedSchedule {
    /// The schedule.
    pub schedule: Schedule,
    /// The priority of every instance that it starts, also of one that was triggered or backfilled.
    pub priority: Priority,
}

impl From<Schedule> for PrioritizedSchedule {
    fn from(schedule: Schedule) -> Self {
        schedule.priority(Priority::default())
    }
}

/// What becomes of firings that were missed, because no process ran or the schedule was paused.
/// What is let go can be backfilled later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// They are let go, except the last one if it is not later than this.
    Skip {
        /// How late a firing may be. A restart takes some time, so zero would miss firings.
        grace: Duration,
    },
    /// The last one fires, the others are let go.
    Last,
    /// All fire, oldest first; of more than `max` (1 to 1,000), the last `max`.
    All {
        /// How many at most.
        max: u32,
    },
}

/// What becomes of a firing while the instance of the one before has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It starts beside it.
    Start,
    /// It is skipped, and recorded as skipped (`PREVIOUS_NOT_ENDED`). What is caught up, since it
    /// was heard of a minute late or later, or backfilled waits instead, one instance after the
    /// other; what comes due in time while such firings wait is skipped too.
    Skip,
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip { grace } => write!(formatter, "skip after {grace:?}"),
            Self::Last => formatter.write_str("last"),
            Self::All { max } => write!(formatter, "all up to {max}"),
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Start => "start",
            Self::Skip => "skip",
        })
    }
}

/// A firing, as the input of its instance is made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The schedule's name.
    pub schedule: &'static str,
    /// The minute it is for, as the clock on the wall shows it. A backfill, or one that is late,
    /// happens after it; what the instance is about should come from here.
    pub at: DateTime<FixedOffset>,
}
