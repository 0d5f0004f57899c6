//! For how long a step has been tried, as its deadline counts it: since its first attempt, or since
//! the first one after a person said to go on, less the time for which its instance stood still.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepClock {
    since: DateTime<Utc>,
    /// For how long the instance had stood still by then.
    stood_still: TimeDelta,
}

impl StepClock {
    /// A clock that begins to run now, as the first attempt does.
    pub(crate) fn start(now: DateTime<Utc>, stood_still: TimeDelta) -> Self {
        Self { since: now, stood_still }
    }

    /// No attempt begins later than this, in an instance that has stood still for so long by now.
    /// `None`: there is no such time.
    pub(crate) fn latest(
        self,
        deadline: Option<Duration>,
        stood_still: TimeDelta,
    ) -> Option<DateTime<Utc>> {
        let deadline = TimeDelta::from_std(deadline?).ok()?;
        let stood_still = (stood_still - self.stood_still).max(TimeDelta::zero());
        self.since.checked_add_signed(deadline)?.checked_add_signed(stood_still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_for_which_nothing_could_be_tried_does_not_count() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let clock = StepClock::start(at(100), TimeDelta::seconds(7));
        let latest = |stood_still| {
            clock.latest(Some(Duration::from_secs(60)), TimeDelta::seconds(stood_still))
        };
        assert_eq!(latest(7), Some(at(160)));
        assert_eq!(latest(17), Some(at(170)));
        assert_eq!(clock.latest(None, TimeDelta::zero()), None);
        assert_eq!(clock.latest(Some(Duration::MAX), TimeDelta::zero()), None);
    }
}
