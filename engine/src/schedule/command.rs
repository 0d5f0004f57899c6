//! What a person may ask of a schedule, and what he is told.
//!
//! Pure. A command is judged under the lock of the schedule's row.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::timetable::Timetable;
use crate::limits::BACKFILL_MAX;

/// What a person may ask of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleCommand {
    /// Nothing fires by the clock until it is resumed. What was started goes on.
    Pause,
    /// The clock counts again. What was missed is dealt with as the schedule's gap policy says.
    Resume,
    /// Fires now, for the present minute. Also while it is paused.
    Trigger,
    /// Fires for times in the past that have not fired.
    Backfill(Backfill),
}

/// A span of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfill {
    /// Firings at this time or later.
    pub from: DateTime<Utc>,
    /// Firings at this time or earlier; not in the future.
    pub until: DateTime<Utc>,
}

impl ScheduleCommand {
    /// As stored, and as written in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Trigger => "trigger",
            Self::Backfill(_) => "backfill",
        }
    }
}

/// What the person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleAnswer {
    /// It will happen.
    Accepted {
        /// How many firings will start an instance.
        planned: usize,
        /// How many of those asked for have fired before, or will anyway.
        already: usize,
    },
    /// It is paused already.
    AlreadyPaused,
    /// It is not paused.
    NotPaused,
    /// It has fired in this minute.
    AlreadyFired,
    /// The instance of the firing before has not ended, and the schedule skips what overlaps.
    PreviousNotEnded,
    /// No running process defines the schedule as it is stored.
    NotDefined,
    /// The backfill ends in the future, or before it begins.
    InvalidSpan,
    /// The backfill asks for more firings than one command may.
    TooMany,
}

impl ScheduleAnswer {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::AlreadyPaused => "already_paused",
            Self::NotPaused => "not_paused",
            Self::AlreadyFired => "already_fired",
            Self::PreviousNotEnded => "previous_not_ended",
            Self::NotDefined => "not_defined",
            Self::InvalidSpan => "invalid_span",
            Self::TooMany => "too_many",
        }
    }
}

/// What is known of a schedule when a command arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) is_paused: bool,
    /// A running process defines it as it is stored.
    pub(crate) is_defined: bool,
    /// A firing that comes due now would be skipped.
    pub(crate) would_overlap: bool,
    pub(crate) now: DateTime<Utc>,
}

/// Judges a command: the firings that it asks for, oldest first, or why not.
pub(crate) fn judge(
    command: ScheduleCommand,
    seen: Seen,
    timetable: &Timetable,
) -> Result<Vec<DateTime<Utc>>, ScheduleAnswer> {
    match command {
        ScheduleCommand::Pause if seen.is_paused => Err(ScheduleAnswer::AlreadyPaused),
        ScheduleCommand::Resume if !seen.is_paused => Err(ScheduleAnswer::NotPaused),
        ScheduleCommand::Pause | ScheduleCommand::Resume => Ok(Vec::new()),
        _ if !seen.is_defined => Err(ScheduleAnswer::NotDefined),
        ScheduleCommand::Trigger if seen.would_overlap => Err(ScheduleAnswer::PreviousNotEnded),
        ScheduleCommand::Trigger => {
            Ok(vec![seen.now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(seen.now)])
        }
        ScheduleCommand::Backfill(Backfill { from, until }) => {
            if until < from || until > seen.now {
                return Err(ScheduleAnswer::InvalidSpan);
            }
            // The calendar of the zones begins somewhere.
            let from = from.max(DateTime::UNIX_EPOCH);
            let firings: Vec<_> = timetable.between(from, until).take(BACKFILL_MAX + 1).collect();
            if firings.len() > BACKFILL_MAX { Err(ScheduleAnswer::TooMany) } else { Ok(firings) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKFILL: ScheduleCommand = ScheduleCommand::Backfill(Backfill {
        from: DateTime::UNIX_EPOCH,
        until: DateTime::UNIX_EPOCH,
    });

    fn judged(command: ScheduleCommand, seen: Seen) -> Result<usize, ScheduleAnswer> {
        let timetable = Timetable::parse("* * * * *", "UTC").unwrap();
        judge(command, seen, &timetable).map(|firings| firings.len())
    }

    #[test]
    fn every_standing_has_an_answer() {
        use ScheduleAnswer as A;
        use ScheduleCommand::{Pause, Resume, Trigger};
        for bits in 0..8 {
            let seen = Seen {
                is_paused: bits & 1 != 0,
                is_defined: bits & 2 != 0,
                would_overlap: bits & 4 != 0,
                now: DateTime::UNIX_EPOCH,
            };
            let paused = if seen.is_paused { Err(A::AlreadyPaused) } else { Ok(0) };
            let resumed = if seen.is_paused { Ok(0) } else { Err(A::NotPaused) };
            let backfilled = if seen.is_defined { Ok(1) } else { Err(A::NotDefined) };
            let triggered = if seen.would_overlap {
                backfilled.and(Err(A::PreviousNotEnded))
            } else {
                backfilled
            };
            assert_eq!(judged(Pause, seen), paused);
            assert_eq!(judged(Resume, seen), resumed);
            assert_eq!(judged(Trigger, seen), triggered);
            assert_eq!(judged(BACKFILL, seen), backfilled);
        }
    }

    #[test]
    fn a_backfill_is_of_the_past_and_bounded() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(10);
        let seen = Seen { is_paused: false, is_defined: true, would_overlap: true, now };
        let ask = |from: i64, until: i64| {
            let at = |minutes| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
            let span = Backfill { from: at(from), until: at(until) };
            judged(ScheduleCommand::Backfill(span), seen)
        };
        assert_eq!(ask(1, 1000), Ok(1000));
        assert_eq!(ask(1, 1001), Err(ScheduleAnswer::TooMany));
        assert_eq!(ask(2, 1), Err(ScheduleAnswer::InvalidSpan));
        assert_eq!(ask(14_400, 14_400), Ok(1));
        assert_eq!(ask(14_400, 14_401), Err(ScheduleAnswer::InvalidSpan));
    }
}
