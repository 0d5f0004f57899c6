//! Finding the instance that kills its workers, without a loss to those beside it.
//!
//! Who has lost two workers without progress is a suspect. A worker tries suspects only once it has
//! lived longer without them than they were held when their workers were lost, and few at a time:
//! fewer, and after a longer life, with each trial that a worker has not survived. Such a loss is
//! that of the suspects on trial and of nobody else. Whoever is lost three times as the only
//! suspect of its worker is found guilty. Progress, being let go of, and outliving the trial clear.
//! A worker that has cleared more of them than one group was takes up twice as many at a time: most
//! are innocent, and after an hour of crashes there are hundreds.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::limits::{SUSPECT_LOSSES, SUSPECTS_AT_ONCE, TRIALS_ALONE_MAX};
use crate::sabotage::Bug;

/// The level at which a suspect is tried alone.
const ALONE: i32 = SUSPECTS_AT_ONCE.len() as i32 - 1;

/// How many are tried at a time before that.
const GROUP: usize = SUSPECTS_AT_ONCE[SUSPECTS_AT_ONCE.len() - 2];

/// How many suspects of a level a worker tries at a time, to begin with.
fn at_once(level: i32) -> usize {
    usize::try_from(level).ok().and_then(|level| SUSPECTS_AT_ONCE.get(level)).copied().unwrap_or(1)
}

/// The level of suspects that were on trial together, `tried` of them, when their worker was lost.
/// One that was alone has been so, whatever its level.
pub(crate) fn next_level(level: i32, tried: i64) -> i32 {
    if tried == 1 {
        return level.max(ALONE) + 1;
    }
    let smaller = |level: &i32| (at_once(*level) as i64) < tried;
    let level = (level + 1..=ALONE).find(smaller).unwrap_or(ALONE);
    level.min(ALONE)
}

/// Whether a suspect of this level is what kills its workers.
pub(crate) fn is_guilty(level: i32) -> bool {
    level >= ALONE + TRIALS_ALONE_MAX
}

/// How long the hold on a suspect may have lasted, so that a worker that has lived for so long may
/// try it. Each level has a span of the worker's life to itself: what else kills workers at a
/// certain age is not mistaken for the suspect again and again.
pub(crate) fn lost_after_max(lived_seconds: i32, level: i32) -> i32 {
    lived_seconds / (level + 1)
}

/// How a held instance stands that has lost workers before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This worker holds it no more.
    Gone,
    /// An attempt has come to its end.
    Progressed,
    /// Nothing has been heard of it.
    Silent,
}

/// The held instances of a worker that have lost workers before.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    watched: HashMap<Uuid, Option<Trial>>,
    /// How many have been cleared that were to be tried alone.
    cleared_alone: usize,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    level: i32,
    /// It is cleared if its worker lives until then.
    until: DateTime<Utc>,
}

/// What is known of a claimed instance in this respect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    /// Workers that were lost while they held it, without progress between.
    pub(crate) losses: i32,
    /// How far its trials have come.
    pub(crate) level: i32,
    /// The longest that it was held when they were lost.
    pub(crate) lost_after_seconds: i32,
}

impl Losses {
    /// Whether it is what kills its workers.
    pub(crate) fn is_guilty(self) -> bool {
        let is_convicted = Bug::LossesConvict.is_on() && self.losses >= SUSPECT_LOSSES;
        self.losses > 0 && is_guilty(self.level) || is_convicted
    }
}

/// Who can be cleared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleared {
    pub(crate) progressed: Vec<Uuid>,
    pub(crate) survived: Vec<Uuid>,
}

impl Quarantine {
    /// Watches an instance that was claimed now, if it has lost workers before.
    pub(crate) fn watch(&mut self, id: Uuid, lost: Losses, now: DateTime<Utc>) {
        if lost.losses == 0 {
            self.watched.remove(&id);
            return;
        }
        let seconds = u64::try_from(lost.lost_after_seconds).unwrap_or_default();
        let span = TimeDelta::from_std(Duration::from_secs(seconds)).unwrap_or_default();
        let until = now.checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let trial = Trial { level: lost.level, until };
        self.watched.insert(id, (lost.losses >= SUSPECT_LOSSES).then_some(trial));
    }

    /// The level of the suspects on trial, and how many they are.
    pub(crate) fn on_trial(&self) -> Option<(i32, usize)> {
        let trials = self.watched.values().flatten();
        let level = trials.clone().map(|trial| trial.level).max()?;
        Some((level, trials.count()))
    }

    /// How many more suspects of this level can be tried now, beside so many that are. Whoever has
    /// been lost alone is tried so until it is cleared.
    pub(crate) fn room(&self, level: i32, tried: usize) -> usize {
        let most = match level {
            // There were more of them than come of one group.
            ALONE if self.cleared_alone > GROUP => (self.cleared_alone - GROUP).min(GROUP),
            level => at_once(level),
        };
        most.saturating_sub(tried)
    }

    /// Who can be cleared now. What is gone is not watched any more.
    pub(crate) fn review(
        &mut self,
        now: DateTime<Utc>,
        standing: impl Fn(Uuid) -> Standing,
    ) -> Cleared {
        let mut cleared = Cleared::default();
        let cleared_alone = &mut self.cleared_alone;
        self.watched.retain(|id, trial| {
            let standing = standing(*id);
            let is_silent = match (standing, &trial) {
                (Standing::Silent, Some(trial)) if now >= trial.until => {
                    cleared.survived.push(*id);
                    false
                }
                (Standing::Progressed, _) => {
                    cleared.progressed.push(*id);
                    false
                }
                (standing, _) => standing == Standing::Silent,
            };
            let was_alone = trial.is_some_and(|trial| trial.level == ALONE);
            *cleared_alone += usize::from(was_alone && !is_silent);
            standing != Standing::Gone
        });
        cleared
    }

    /// They are cleared, and it is durable.
    pub(crate) fn clear(&mut self, cleared: &Cleared) {
        for id in &cleared.progressed {
            self.watched.remove(id);
        }
        for id in &cleared.survived {
            self.watched.insert(*id, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn suspect(level: i32) -> Losses {
        Losses { losses: 2, level, lost_after_seconds: 30 }
    }

    /// How many workers find the one guilty among so many that are tried alone, if it is the one
    /// at `place`.
    fn workers_lost(innocents: usize, place: usize) -> usize {
        let mut suspects: Vec<i32> = vec![ALONE; innocents + 1];
        let (mut guilty, mut lost) = (place, 0);
        while !is_guilty(suspects[guilty]) {
            let mut quarantine = Quarantine::default();
            let level = suspects[0];
            loop {
                let group = quarantine.room(level, 0).min(suspects.len());
                if guilty < group {
                    for tried in &mut suspects[..group] {
                        *tried = next_level(level, group as i64);
                    }
                    break;
                }
                suspects.drain(..group);
                guilty -= group;
                quarantine.cleared_alone += group;
            }
            lost += 1;
        }
        lost
    }

    #[test]
    fn whoever_is_tried_alone_is_soon_followed_by_more_and_the_guilty_one_is_found_nevertheless() {
        for innocents in 0..100 {
            for place in 0..=innocents {
                let lost = workers_lost(innocents, place);
                let most = if place <= GROUP { 3 } else { 8 };
                assert!((3..=most).contains(&lost), "{lost}, {place} of {innocents}");
            }
        }
    }

    /// How many trials find the one guilty among `suspects`.
    fn trials(suspects: i64) -> i32 {
        let (mut level, mut trials, mut group) = (0, 0, suspects);
        while !is_guilty(level) {
            group = group.min(at_once(level) as i64);
            level = next_level(level, group);
            trials += 1;
        }
        trials
    }

    #[test]
    fn the_guilty_one_is_found_after_five_trials_at_most_and_after_three_if_it_is_the_only_suspect()
    {
        assert_eq!(trials(1), 3);
        assert_eq!(trials(2), 4);
        assert_eq!(trials(16), 4);
        assert_eq!(trials(17), 5);
        assert_eq!(trials(10_000_000), 5);
    }

    #[test]
    fn suspects_that_were_tried_together_are_never_guilty() {
        for level in 0..9 {
            for tried in 2..600 {
                assert!(!is_guilty(next_level(level, tried)), "{level}, {tried}");
                assert!(level >= ALONE || next_level(level, tried) > level, "{level}, {tried}");
            }
        }
    }

    #[test]
    fn each_level_needs_a_longer_life_of_the_worker() {
        assert_eq!([0, 1, 2].map(|level| lost_after_max(90, level)), [90, 45, 30]);
    }

    #[test]
    fn a_suspect_is_on_trial_until_it_makes_progress_is_let_go_of_or_outlives_it() {
        let mut quarantine = Quarantine::default();
        let ids: Vec<Uuid> = (0..5).map(Uuid::from_u128).collect();
        for id in &ids[..3] {
            quarantine.watch(*id, suspect(1), second(0));
        }
        quarantine.watch(ids[3], Losses { losses: 1, ..suspect(4) }, second(0));
        quarantine.watch(ids[4], Losses { losses: 0, ..suspect(4) }, second(0));
        assert_eq!(quarantine.on_trial(), Some((1, 3)));
        let standing = |id| match ids.iter().position(|other| *other == id) {
            Some(0) => Standing::Gone,
            Some(1 | 3) => Standing::Progressed,
            _ => Standing::Silent,
        };
        let mut cleared = quarantine.review(second(29), standing);
        cleared.progressed.sort();
        assert_eq!(cleared, Cleared { progressed: vec![ids[1], ids[3]], survived: vec![] });
        assert_eq!(quarantine.on_trial(), Some((1, 2)), "until it is durable");
        quarantine.clear(&cleared);
        assert_eq!(quarantine.on_trial(), Some((1, 1)));
        let cleared = quarantine.review(second(30), |_| Standing::Silent);
        assert_eq!(cleared, Cleared { progressed: vec![], survived: vec![ids[2]] });
        quarantine.clear(&cleared);
        assert_eq!(quarantine.on_trial(), None);
    }
}
