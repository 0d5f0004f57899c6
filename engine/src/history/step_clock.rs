//! For how long a step has been tried, as its deadline counts it: since its first attempt, or since
//! the first one after a person said to go on, less the time for which nothing could be tried. That
//! is the time for which people had the instance, or for which it was parked.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::sabotage::Bug;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepClock {
    since: DateTime<Utc>,
    /// For how long people had had the instance by then.
    people_had: TimeDelta,
    parked: TimeDelta,
}

impl StepClock {
    /// A clock that begins to run now, as the first attempt does.
    pub(crate) fn start(now: DateTime<Utc>, people_had: TimeDelta) -> Self {
        Self { since: now, people_had, parked: TimeDelta::zero() }
    }

    /// The instance was parked from when the attempt was due until then.
    pub(crate) fn parked(self, due: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        if Bug::ParkedTimeCounts.is_on() {
            return self;
        }
        Self { parked: self.parked + (until - due).max(TimeDelta::zero()), ..self }
    }

    /// No attempt begins later than this. `None`: there is no such time.
    pub(crate) fn latest(
        self,
        deadline: Option<Duration>,
        people_had: TimeDelta,
    ) -> Option<DateTime<Utc>> {
        let deadline = TimeDelta::from_std(deadline?).ok()?;
        let stood_still = self.parked + (people_had - self.people_had).max(TimeDelta::zero());
        self.since.checked_add_signed(deadline)?.checked_add_signed(stood_still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_people_have_or_a_dependency_takes_does_not_count() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let clock = StepClock::start(at(100), TimeDelta::seconds(7));
        let latest = |clock: StepClock, people_had| {
            clock.latest(Some(Duration::from_secs(60)), TimeDelta::seconds(people_had))
        };
        assert_eq!(latest(clock, 7), Some(at(160)));
        assert_eq!(latest(clock, 17), Some(at(170)));
        let clock = clock.parked(at(120), at(150));
        assert_eq!(latest(clock, 17), Some(at(200)));
        assert_eq!(
            latest(clock.parked(at(150), at(140)), 7),
            Some(at(190)),
            "a clock was set back"
        );
        assert_eq!(clock.latest(None, TimeDelta::zero()), None);
        assert_eq!(clock.latest(Some(Duration::MAX), TimeDelta::zero()), None);
    }
}
