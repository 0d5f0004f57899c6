//! When the parts of a worker last came round, so that nobody says of a server that it is ready while
//! one of them stands still.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How much longer than its pause a part may take to come round.
const GRACE: Duration = Duration::from_secs(10);

/// The parts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pulses(Mutex<BTreeMap<&'static str, Pulse>>);

#[derive(Debug)]
struct Pulse {
    last: DateTime<Utc>,
    pause: Duration,
}

impl Pulses {
    /// A part begins, which rests for so long between two turns.
    pub(crate) fn enter(&self, part: &'static str, pause: Duration, now: DateTime<Utc>) {
        self.pulses().insert(part, Pulse { last: now, pause });
    }

    /// A part has come round.
    pub(crate) fn beat(&self, part: &'static str, now: DateTime<Utc>) {
        if let Some(pulse) = self.pulses().get_mut(part) {
            pulse.last = now;
        }
    }

    /// The parts that stand still.
    pub(crate) fn stalled(&self, now: DateTime<Utc>) -> Vec<&'static str> {
        let is_late = |pulse: &Pulse| {
            let most = TimeDelta::from_std(pulse.pause + GRACE).unwrap_or(TimeDelta::MAX);
            now - pulse.last > most
        };
        let pulses = self.pulses();
        pulses.iter().filter(|(_, pulse)| is_late(pulse)).map(|(part, _)| *part).collect()
    }

    fn pulses(&self) -> MutexGuard<'_, BTreeMap<&'static str, Pulse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_still_once_it_is_later_than_its_pause_and_the_grace() {
        let (pulses, begin) = (Pulses::default(), DateTime::UNIX_EPOCH);
        pulses.enter("claim", Duration::from_secs(1), begin);
        pulses.enter("mail", Duration::from_secs(60), begin);
        let at = |seconds| begin + TimeDelta::seconds(seconds);
        assert!(pulses.stalled(at(11)).is_empty());
        assert_eq!(pulses.stalled(at(12)), ["claim"]);
        pulses.beat("claim", at(12));
        assert!(pulses.stalled(at(20)).is_empty());
        assert_eq!(pulses.stalled(at(80)), ["claim", "mail"]);
    }
}
