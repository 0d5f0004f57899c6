//! How far this machine's clock is from the database's: measured with every renewal of the lease,
//! and said in the log when it begins to matter and when it is over.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::limits::CLOCK_OFFSET_MAX;

/// What the log calls the machine that it is written on.
const THIS: &str = "this machine's";

/// How far a machine's clock is from the database's, as far as an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// By how much this machine's clock is ahead; negative if it is behind.
    pub ahead: TimeDelta,
    /// By how much that may be wrong: half of the time that the answer took.
    pub uncertainty: TimeDelta,
}

impl ClockOffset {
    /// By the time of the database in an answer, which was asked for and came at these times of this
    /// machine.
    pub(crate) fn measured(
        asked: DateTime<Utc>,
        answered: DateTime<Utc>,
        database: DateTime<Utc>,
    ) -> Self {
        let half = (answered - asked) / 2;
        Self { ahead: asked + half - database, uncertainty: half.abs() }
    }

    /// Whether it is too much, whatever the answer took.
    fn is_beyond(&self) -> bool {
        self.ahead.abs() - self.uncertainty > CLOCK_OFFSET_MAX
    }

    /// Whether it is not too much, whatever the answer took.
    fn is_within(&self) -> bool {
        self.ahead.abs() + self.uncertainty <= CLOCK_OFFSET_MAX
    }

    /// In words, about a machine that is called so.
    pub(crate) fn in_words(&self, whose: &str) -> String {
        let milliseconds = self.ahead.num_milliseconds();
        let side = if milliseconds < 0 { "behind" } else { "ahead of" };
        format!("{whose} clock is {} ms {side} the database's", milliseconds.abs())
    }
}

/// The offset as it was measured last, whichever worker this process is.
#[derive(Debug, Default)]
pub(crate) struct OffsetWatch {
    last: Mutex<Last>,
    ahead_seconds: Gauge<f64, AtomicU64>,
    uncertainty_seconds: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Default)]
struct Last {
    offset: Option<ClockOffset>,
    is_beyond: bool,
}

/// What is new about an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It has become too much.
    Beyond,
    /// It is not too much any more.
    Within,
}

impl Last {
    /// Takes note of an offset. One that may be too much or not changes nothing.
    fn note(&mut self, offset: ClockOffset) -> Option<Change> {
        self.offset = Some(offset);
        let is_beyond = if self.is_beyond { !offset.is_within() } else { offset.is_beyond() };
        if is_beyond == std::mem::replace(&mut self.is_beyond, is_beyond) {
            return None;
        }
        Some(if is_beyond { Change::Beyond } else { Change::Within })
    }
}

impl OffsetWatch {
    /// Shows an offset, and says in the log what is new about it.
    pub(crate) fn note(&self, offset: ClockOffset) {
        self.ahead_seconds.set(offset.ahead.as_seconds_f64());
        self.uncertainty_seconds.set(offset.uncertainty.as_seconds_f64());
        let change = self.last.lock().unwrap_or_else(PoisonError::into_inner).note(offset);
        match change {
            Some(Change::Beyond) => tracing::warn!(
                "{}: have both keep time (NTP), since deadlines follow them",
                offset.in_words(THIS)
            ),
            Some(Change::Within) => tracing::info!("{} again", offset.in_words(THIS)),
            None => {}
        }
    }

    /// What was measured last, if anything was.
    pub(crate) fn last(&self) -> Option<ClockOffset> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).offset
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "clock_offset",
                "By how much this machine's clock is ahead of the database's",
                &self.ahead_seconds,
            ),
            (
                "clock_offset_uncertainty",
                "By how much the offset of the clocks may be wrong",
                &self.uncertainty_seconds,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that took so long, of a database that is so far behind this machine's clock.
    fn offset(ahead: i64, took: i64) -> ClockOffset {
        let ms = TimeDelta::milliseconds;
        let asked = DateTime::UNIX_EPOCH;
        ClockOffset::measured(asked, asked + ms(took), asked + ms(took / 2 - ahead))
    }

    #[test]
    fn the_database_is_taken_to_have_answered_in_the_middle() {
        for ahead in [-70_000, 0, 70_000] {
            let measured = offset(ahead, 40);
            assert_eq!(measured.ahead, TimeDelta::milliseconds(ahead));
            assert_eq!(measured.uncertainty, TimeDelta::milliseconds(20));
        }
    }

    #[test]
    fn each_change_is_told_once_and_what_is_not_sure_is_none() {
        let mut last = Last::default();
        let beyond = Some(Change::Beyond);
        let within = Some(Change::Within);
        for (ahead, took, told) in [
            (900, 10, None),
            // Perhaps, but perhaps it is the way of the answer.
            (1_900, 4_000, None),
            (1_900, 10, beyond),
            (-5_000, 10, None),
            (900, 4_000, None),
            (900, 10, within),
            (0, 0, None),
            (-1_900, 10, beyond),
        ] {
            assert_eq!(last.note(offset(ahead, took)), told, "{ahead} ms, in {took} ms");
        }
    }

    #[test]
    fn it_is_said_which_clock_is_ahead() {
        assert_eq!(
            offset(70, 0).in_words(THIS),
            "this machine's clock is 70 ms ahead of the database's"
        );
        assert_eq!(
            offset(-70, 0).in_words(THIS),
            "this machine's clock is 70 ms behind the database's"
        );
    }
}
