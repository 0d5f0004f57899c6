//! What a schedule does next. Pure.
//!
//! Every change of a schedule raises its revision, and is made only where the revision is still
//! the one that was read. So two processes that decide at the same time do not both act.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};

use super::definition::Definition;
use super::timetable::Timetable;
use super::{Gap, Overlap};
use crate::error::Error;
use crate::step::Failure;

/// What is heard of within this time is on time; after it, it is caught up.
const ON_TIME: TimeDelta = TimeDelta::minutes(1);

/// A schedule as it was read, and the time by the clock that decides.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) revision: i64,
    /// Whether it is stored as this build defines it.
    pub(crate) is_ours: bool,
    /// The stored expression, where this build has another one.
    pub(crate) before: Option<Timetable>,
    /// Every firing up to here is decided.
    pub(crate) decided_until: DateTime<Utc>,
    /// The first firing after that, as it is stored.
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

impl Head {
    /// When it is as the clock on the wall showed it to whoever planned it: its key ends with the
    /// offset.
    pub(crate) fn local(&self) -> Result<DateTime<FixedOffset>, Error> {
        local(self.at, &self.key)
    }
}

/// A firing at its local time, whatever the zone says by now.
pub(crate) fn local(at: DateTime<Utc>, key: &str) -> Result<DateTime<FixedOffset>, Error> {
    let offset = key.get(16..).unwrap_or_default();
    let offset: FixedOffset = offset.parse().map_err(|_| Error::Stored(key.to_owned()))?;
    Ok(at.with_timezone(&offset))
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Decide about what has come due.
    Plan(Plan),
    /// Store what this build defines.
    Define(Adopted),
    /// Start the instance of a planned firing.
    Start(Head),
    /// Nothing, for now.
    Rest,
}

/// The first firing that was let go, and the first thereafter that was not.
pub(crate) type LetGo = (DateTime<Utc>, Option<DateTime<Utc>>);

/// What is decided about firings that have come due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The firings that happen, oldest first, each under its key.
    pub(crate) firings: Vec<Head>,
    /// Why the firing is recorded and does not start, if so.
    pub(crate) skipped: Option<Failure>,
    pub(crate) missed: Option<LetGo>,
    /// Until when this decides.
    pub(crate) decided_until: DateTime<Utc>,
    pub(crate) next_at: Option<DateTime<Utc>>,
}

/// From when on the definition of this build counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adopted {
    pub(crate) decided_until: DateTime<Utc>,
    pub(crate) next_at: Option<DateTime<Utc>>,
    pub(crate) missed: Option<LetGo>,
}

/// Decides what a schedule does next. What is due by the stored expression is decided before another
/// one counts.
pub(crate) fn turn(definition: &Definition, standing: &Standing) -> Turn {
    let lets_overlap = definition.schedule.overlap == Overlap::Start;
    let timetable = standing.before.as_ref().unwrap_or(&definition.timetable);
    let next_at = timetable.after(standing.decided_until);
    match (next_at, &standing.head) {
        (Some(next_at), head) if next_at <= standing.now && !standing.is_paused => {
            let mut plan = due(timetable, definition.schedule.gap, next_at, standing.now);
            let meets_another = standing.is_busy || head.is_some();
            // What is caught up waits instead.
            let is_on_time = plan.firings.first().is_some_and(|it| standing.now - it.at < ON_TIME);
            if meets_another && !lets_overlap && is_on_time {
                let why = "the instance of a firing before had not ended, or not begun";
                plan.skipped = Some(Failure::new("PREVIOUS_NOT_ENDED", why));
            }
            Turn::Plan(plan)
        }
        _ if !standing.is_ours || next_at != standing.next_at => {
            Turn::Define(adopted(definition, standing, next_at))
        }
        (_, Some(head)) if lets_overlap || !standing.is_busy => Turn::Start(head.clone()),
        _ => Turn::Rest,
    }
}

/// A changed expression counts from now on: what a pause has kept back until then is let go.
fn adopted(
    definition: &Definition,
    standing: &Standing,
    next_at: Option<DateTime<Utc>>,
) -> Adopted {
    let decided_until = standing.decided_until;
    if standing.before.is_none() {
        return Adopted { decided_until, next_at, missed: None };
    }
    // A clock that was set back makes nothing undecided.
    let decided_until = decided_until.max(standing.now);
    let kept_back = next_at.filter(|at| *at <= standing.now);
    let next_at = definition.timetable.after(decided_until);
    Adopted { decided_until, next_at, missed: kept_back.map(|from| (from, next_at)) }
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
    let firings = firings.into_iter().map(|at| Head { key: timetable.key(at), at }).collect();
    Plan { firings, skipped: None, missed, decided_until: now, next_at: after }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

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
            is_ours: true,
            before: None,
            decided_until: utc(next_at) - TimeDelta::microseconds(1),
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

    fn times(plan: &Plan) -> Vec<DateTime<Utc>> {
        plan.firings.iter().map(|firing| firing.at).collect()
    }

    const NINE: &str = "2026-11-21T09:00:00Z";
    const NOON: &str = "2026-11-21T12:00:00Z";

    #[test]
    fn what_is_due_fires_and_what_is_not_does_not() {
        let definition = hourly(Gap::Last, Overlap::Start);
        assert_eq!(turn(&definition, &standing(NINE, "2026-11-21T08:59:59.999Z")), Turn::Rest);
        let on_time = Plan {
            firings: vec![Head { key: "2026-11-21T10:00+01:00".to_owned(), at: utc(NINE) }],
            skipped: None,
            missed: None,
            decided_until: utc(NINE),
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
            assert_eq!((times(&plan), plan.missed), (at(fired), missed), "{gap} at {now}");
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
        // What is caught up waits for its turn instead, also if it is a single one.
        for (now, count) in [(NOON, 4), ("2026-11-21T09:01:00Z", 1)] {
            let late = plan(&skips, &Standing { now: utc(now), ..busy.clone() });
            assert_eq!((late.firings.len(), late.skipped), (count, None), "at {now}");
        }
        let within_its_minute = Standing { now: utc("2026-11-21T09:00:59Z"), ..busy.clone() };
        assert!(plan(&skips, &within_its_minute).skipped.is_some());
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
        /// A life of looks at the clock, some of them long after the one before, and some before it,
        /// since the clock was set back.
        #[test]
        fn no_firing_comes_twice_and_none_is_lost_however_the_clock_is_set(
            gap in gaps(),
            cron in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "30 2 * * *", "0 2,3 * * *"]),
            start in prop::sample::select(vec!["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"]),
            looks in prop::collection::vec((-10_000..20_000i64, any::<bool>()), 1..40),
        ) {
            let zone = "Europe/Berlin";
            let schedule = Schedule { name: "s", cron, zone, gap, overlap: Overlap::Start };
            let definition = Definition::of(schedule);
            let mut now = utc(start);
            let (mut decided_until, mut next_at) = (now, definition.timetable.after(now));
            let (mut seen, mut let_go) = (BTreeSet::new(), Vec::new());
            for (seconds, is_paused) in looks {
                now += TimeDelta::seconds(seconds);
                let look = standing(NINE, NINE);
                let look = Standing { decided_until, next_at, is_paused, now, ..look };
                let Turn::Plan(plan) = turn(&definition, &look) else { continue };
                prop_assert!(!is_paused);
                prop_assert!(plan.next_at > Some(now) && plan.next_at > next_at);
                prop_assert!(plan.decided_until > decided_until);
                let allowed = if let Gap::All { max } = gap { max as usize } else { 1 };
                prop_assert!(plan.firings.len() <= allowed);
                for firing in &plan.firings {
                    prop_assert!(Some(firing.at) >= next_at && firing.at <= now);
                    prop_assert!(seen.insert(firing.at), "{} came twice", firing.key);
                }
                if let Some((from, before)) = plan.missed {
                    prop_assert!(Some(from) == next_at && before > Some(from));
                    let_go.push((from, before.unwrap()));
                }
                (decided_until, next_at) = (plan.decided_until, plan.next_at);
            }
            // What is decided has fired, or was let go and said so.
            for at in definition.timetable.between(utc(start) + TimeDelta::seconds(1), decided_until) {
                let was_let_go = let_go.iter().any(|(from, before)| (*from..*before).contains(&at));
                prop_assert!(seen.contains(&at) != was_let_go, "{at}");
            }
        }
    }

    #[test]
    fn what_is_due_by_the_stored_expression_is_decided_before_another_one_counts() {
        let definition = hourly(Gap::All { max: 10 }, Overlap::Start);
        let before = Timetable::parse("30 * * * *", "Europe/Berlin").unwrap();
        let stored = Standing {
            is_ours: false,
            before: Some(before),
            ..standing("2026-11-21T10:30:00Z", "2026-11-21T12:10:00Z")
        };
        let due = plan(&definition, &stored);
        let half_past = ["2026-11-21T10:30:00Z", "2026-11-21T11:30:00Z"].map(utc);
        assert_eq!((times(&due), due.decided_until), (half_past.to_vec(), stored.now));

        let decided = Standing { decided_until: stored.now, ..stored.clone() };
        let next_at = Some(utc("2026-11-21T13:00:00Z"));
        let counts = Adopted { decided_until: stored.now, next_at, missed: None };
        assert_eq!(turn(&definition, &decided), Turn::Define(counts.clone()));
        // What a pause has kept back is let go, and said so.
        let paused = Standing { is_paused: true, ..stored };
        let missed = Some((half_past[0], next_at));
        assert_eq!(turn(&definition, &paused), Turn::Define(Adopted { missed, ..counts }));
    }

    #[test]
    fn where_the_expression_is_the_same_nothing_is_decided_by_a_new_definition() {
        let definition = hourly(Gap::Last, Overlap::Start);
        let next_at = Some(utc("2026-11-21T10:00:00Z"));
        // The next firing was found by other time zones: it comes earlier than that.
        let stored = Standing { next_at: Some(utc(NOON)), ..standing(NINE, NINE) };
        let stored = Standing { decided_until: utc(NINE), ..stored };
        let adopted = Adopted { decided_until: utc(NINE), next_at, missed: None };
        for is_ours in [true, false] {
            let stored = Standing { is_ours, ..stored.clone() };
            assert_eq!(turn(&definition, &stored), Turn::Define(adopted.clone()));
        }
    }
}
