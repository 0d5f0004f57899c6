//! What a schedule does next. Pure.
//!
//! Every change of a schedule raises its revision, and is made only where the revision is still
//! the one that was read. So two processes that decide at the same time do not both act.

use chrono::{DateTime, Utc};

use super::definition::Definition;
use super::timetable::Timetable;
use super::{Gap, Overlap};
use crate::step::Failure;

/// A schedule as it was read, and the time by the clock that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) revision: i64,
    /// The first firing that has not been decided about.
    pub(crate) next_at: Option<DateTime<Utc>>,
    pub(crate) is_paused: bool,
    /// The instance that it started last has not ended.
    pub(crate) is_busy: bool,
    /// The oldest firing that is planned and not settled.
    pub(crate) head: Option<Head>,
    pub(crate) now: DateTime<Utc>,
}

/// A firing that is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: String,
    pub(crate) at: DateTime<Utc>,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Decide about what has come due.
    Plan(Plan),
    /// Start the instance of a planned firing.
    Start(Head),
    /// Nothing, for now.
    Rest,
}

/// What is decided about firings that have come due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The firings that happen, oldest first.
    pub(crate) firings: Vec<DateTime<Utc>>,
    /// Why the firing is recorded and does not start, if so.
    pub(crate) skipped: Option<Failure>,
    /// The first firing that was let go, and the first thereafter that was not.
    pub(crate) missed: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    pub(crate) next_at: Option<DateTime<Utc>>,
}

/// Decides what a schedule does next.
pub(crate) fn turn(definition: &Definition, standing: &Standing) -> Turn {
    let lets_overlap = definition.schedule.overlap == Overlap::Start;
    match (standing.next_at, &standing.head) {
        (Some(next_at), head) if next_at <= standing.now && !standing.is_paused => {
            let gap = definition.schedule.gap;
            let mut plan = due(&definition.timetable, gap, next_at, standing.now);
            let meets_another = standing.is_busy || head.is_some();
            // Of several that are caught up, each waits for the one before.
            if meets_another && !lets_overlap && plan.firings.len() == 1 {
                let why = "the instance of a firing before had not ended, or not begun";
                plan.skipped = Some(Failure::new("PREVIOUS_NOT_ENDED", why));
            }
            Turn::Plan(plan)
        }
        (_, Some(head)) if lets_overlap || !standing.is_busy => Turn::Start(head.clone()),
        _ => Turn::Rest,
    }
}

/// Which of the firings from `next_at` to `now` happen.
fn due(timetable: &Timetable, gap: Gap, next_at: DateTime<Utc>, now: DateTime<Utc>) -> Plan {
    let count = match gap {
        Gap::Skip { .. } | Gap::Last => 1,
        Gap::All { max } => max as usize,
    };
    let mut firings = timetable.latest(count, next_at, now);
    if let Gap::Skip { grace } = gap {
        firings.retain(|at| (now - *at).to_std().is_ok_and(|late| late <= grace));
    }
    let after = timetable.after(now);
    let kept_from = firings.first().copied().or(after);
    let missed = (kept_from != Some(next_at)).then_some((next_at, kept_from));
    Plan { firings, skipped: None, missed, next_at: after }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::Schedule;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn hourly(gap: Gap, overlap: Overlap) -> Definition {
        let zone = "Europe/Berlin";
        Definition::of(Schedule { name: "s", cron: "0 * * * *", zone, gap, overlap })
    }

    fn standing(next_at: &str, now: &str) -> Standing {
        Standing {
            name: "s".to_owned(),
            revision: 1,
            next_at: Some(utc(next_at)),
            is_paused: false,
            is_busy: false,
            head: None,
            now: utc(now),
        }
    }

    fn plan(definition: &Definition, standing: &Standing) -> Plan {
        match turn(definition, standing) {
            Turn::Plan(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    const NINE: &str = "2026-11-21T09:00:00Z";
    const NOON: &str = "2026-11-21T12:00:00Z";

    #[test]
    fn what_is_due_fires_and_what_is_not_does_not() {
        let definition = hourly(Gap::Last, Overlap::Start);
        assert_eq!(turn(&definition, &standing(NINE, "2026-11-21T08:59:59.999Z")), Turn::Rest);
        let on_time = Plan {
            firings: vec![utc(NINE)],
            skipped: None,
            missed: None,
            next_at: Some(utc("2026-11-21T10:00:00Z")),
        };
        assert_eq!(plan(&definition, &standing(NINE, NINE)), on_time);
        let paused = Standing { is_paused: true, ..standing(NINE, NOON) };
        assert_eq!(turn(&definition, &paused), Turn::Rest);
    }

    #[test]
    fn every_policy_says_what_becomes_of_a_gap() {
        let at = |hours: &[i64]| -> Vec<_> {
            hours.iter().map(|hour| utc(NINE) + TimeDelta::hours(hour - 9)).collect()
        };
        let minute = Duration::from_secs(60);
        for (gap, now, fired, missed) in [
            (Gap::Skip { grace: minute }, "2026-11-21T12:00:59Z", &[12][..], Some((9, 12))),
            (Gap::Skip { grace: minute }, "2026-11-21T12:01:01Z", &[], Some((9, 13))),
            (Gap::Skip { grace: minute }, "2026-11-21T09:01:00Z", &[9], None),
            (Gap::Last, "2026-11-21T12:59:59Z", &[12], Some((9, 12))),
            (Gap::Last, "2026-11-21T09:59:59Z", &[9], None),
            (Gap::All { max: 4 }, NOON, &[9, 10, 11, 12], None),
            (Gap::All { max: 2 }, NOON, &[11, 12], Some((9, 11))),
        ] {
            let plan = plan(&hourly(gap, Overlap::Start), &standing(NINE, now));
            let missed = missed.map(|(from, before)| (at(&[from])[0], Some(at(&[before])[0])));
            assert_eq!((plan.firings, plan.missed), (at(fired), missed), "{gap} at {now}");
        }
    }

    #[test]
    fn a_firing_that_meets_the_one_before_is_skipped_or_not_as_was_said() {
        let planned = Head { key: "k".to_owned(), at: utc(NINE) };
        let head = Some(planned.clone());
        let skips = hourly(Gap::All { max: 10 }, Overlap::Skip);
        let starts = hourly(Gap::All { max: 10 }, Overlap::Start);
        let idle = standing(NINE, NINE);
        let busy = Standing { is_busy: true, ..idle.clone() };
        let behind = Standing { head: head.clone(), ..idle.clone() };
        for (standing, is_met) in [(&idle, false), (&busy, true), (&behind, true)] {
            assert_eq!(plan(&skips, standing).skipped.is_some(), is_met);
            assert_eq!(plan(&starts, standing).skipped, None);
        }
        // What is caught up waits for its turn instead.
        let late = Standing { now: utc(NOON), ..busy.clone() };
        assert_eq!((plan(&skips, &late).firings.len(), plan(&skips, &late).skipped), (4, None));
        let before = utc("2026-11-21T08:30:00Z");
        let waiting = Standing { now: before, head: head.clone(), ..busy };
        assert_eq!(turn(&skips, &waiting), Turn::Rest);
        assert_eq!(turn(&starts, &waiting), Turn::Start(planned.clone()));
        let free = Standing { is_busy: false, ..waiting };
        assert_eq!(turn(&skips, &free), Turn::Start(planned));
    }

    fn gaps() -> impl Strategy<Value = Gap> {
        prop_oneof![
            (0..7200u64).prop_map(|grace| Gap::Skip { grace: Duration::from_secs(grace) }),
            Just(Gap::Last),
            (1..20u32).prop_map(|max| Gap::All { max }),
        ]
    }

    proptest! {
        /// A life of looks at the clock, some of them long after the one before.
        #[test]
        fn time_goes_on_no_firing_comes_twice_and_no_plan_is_longer_than_was_allowed(
            gap in gaps(),
            cron in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "30 2 * * *", "0 2,3 * * *"]),
            start in prop::sample::select(vec!["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"]),
            pauses in prop::collection::vec((1..20_000i64, any::<bool>()), 1..40),
        ) {
            let zone = "Europe/Berlin";
            let schedule = Schedule { name: "s", cron, zone, gap, overlap: Overlap::Start };
            let definition = Definition::of(schedule);
            let mut now = utc(start);
            let mut next_at = definition.timetable.after(now);
            let mut seen = BTreeSet::new();
            for (seconds, is_paused) in pauses {
                now += TimeDelta::seconds(seconds);
                let look = Standing { next_at, is_paused, now, ..standing(NINE, NINE) };
                let Turn::Plan(plan) = turn(&definition, &look) else { continue };
                prop_assert!(!is_paused);
                prop_assert!(plan.next_at > Some(now) && plan.next_at > next_at);
                let allowed = if let Gap::All { max } = gap { max as usize } else { 1 };
                prop_assert!(plan.firings.len() <= allowed);
                for at in &plan.firings {
                    prop_assert!(Some(*at) >= next_at && *at <= now);
                    prop_assert!(seen.insert(definition.timetable.key(*at)), "{at} came twice");
                }
                if let Some((from, before)) = plan.missed {
                    prop_assert!(Some(from) == next_at && before > Some(from));
                }
                next_at = plan.next_at;
            }
        }
    }
}
