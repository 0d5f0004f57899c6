//! When a cron expression fires in a zone. Pure.
//!
//! The expression is read on the local clock; what becomes of it where that clock is changed is
//! decided here and nowhere else. A schedule of given times (no `*` for minute or hour) keeps to
//! the wall clock: a time that does not exist fires at the end of what was left out, and one that
//! exists twice fires the first time. A schedule with a `*` there keeps to elapsed time: what does
//! not exist is left out, and what exists twice fires twice.
//!
//! Of two day fields that are both given, either is enough, unless one begins with a `*`, as `*/2`
//! does: then both have to fit. So it is in Vixie cron.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{IANA_TZDB_VERSION, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// The time-zone database of this build, such as `2025b`. Later ones compare greater.
pub(crate) const ZONES: &str = IANA_TZDB_VERSION;

/// A cron expression in a zone.
#[derive(Debug, Clone)]
pub(crate) struct Timetable {
    cron: Cron,
    zone: Tz,
    keeps_to: KeepsTo,
}

/// What a schedule follows where the local clock is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeepsTo {
    WallClock,
    ElapsedTime,
}

impl Timetable {
    /// Reads an expression of five fields (or `@hourly` to `@yearly`) and the name of a zone.
    pub(crate) fn parse(cron: &str, zone: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .dom_and_dow(has_open_day(cron))
            .build();
        // The parser takes nothing for a value, and then looks for it in every year there is.
        if cron.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
            return Err(format!("cron {cron:?}: an entry of a list is empty"));
        }
        let parsed = parser.parse(cron).map_err(|error| format!("cron {cron:?}: {error}"))?;
        let known =
            zone.parse().map_err(|_| format!("{zone:?} is no zone of the IANA database"))?;
        let timetable = Self { cron: parsed, zone: known, keeps_to: keeps_to(cron) };
        if timetable.after(DateTime::UNIX_EPOCH).is_none() {
            return Err(format!("cron {cron:?} never fires"));
        }
        Ok(timetable)
    }

    /// The first firing after `instant`.
    pub(crate) fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let here = instant.with_timezone(&self.zone);
        let ahead = self.first(here.naive_local(), |at| at > instant);
        // Where the clock is about to be set back, times that it has passed come once more.
        let again = self.set_back(&here).and_then(|edge| {
            let local = edge.with_timezone(&self.zone).naive_local() - TimeDelta::seconds(1);
            self.first(local, |at| at >= edge)
        });
        ahead.into_iter().chain(again).min()
    }

    /// The firings from `from` to `until`, both included.
    pub(crate) fn between(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.after(from - TimeDelta::microseconds(1)), |at| self.after(*at))
            .take_while(move |at| *at <= until)
    }

    /// The last `count` firings from `from` to `until`, both included, oldest first.
    pub(crate) fn latest(
        &self,
        count: usize,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Vec<DateTime<Utc>> {
        let mut reach = TimeDelta::hours(1);
        loop {
            let since = (until - reach).max(from);
            let found: Vec<_> = self.between(since, until).collect();
            if found.len() >= count || since == from {
                return found[found.len().saturating_sub(count)..].to_vec();
            }
            reach = reach * 2;
        }
    }

    /// The minute of a firing as the clock on the wall shows it, with its offset, such as
    /// `2026-11-22T02:00+01:00`.
    pub(crate) fn key(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%Y-%m-%dT%H:%M%:z").to_string()
    }

    /// An instant as the clock on the wall shows it.
    pub(crate) fn local(&self, at: DateTime<Utc>) -> DateTime<chrono::FixedOffset> {
        at.with_timezone(&self.zone).fixed_offset()
    }

    /// The first firing at local times after `local` that is wanted.
    fn first(
        &self,
        mut local: NaiveDateTime,
        is_wanted: impl Fn(DateTime<Utc>) -> bool,
    ) -> Option<DateTime<Utc>> {
        loop {
            local = self.cron.find_next_occurrence(&local, false).ok()?;
            let found = self.instants(local).into_iter().flatten().find(|at| is_wanted(*at));
            if found.is_some() {
                return found;
            }
        }
    }

    /// When a local time of the expression fires, earlier first.
    fn instants(&self, local: NaiveDateTime) -> [Option<DateTime<Utc>>; 2] {
        match (self.zone.from_local_datetime(&local), self.keeps_to) {
            (MappedLocalTime::Single(at), _) => [Some(at.to_utc()), None],
            (MappedLocalTime::Ambiguous(first, _), KeepsTo::WallClock) => {
                [Some(first.to_utc()), None]
            }
            (MappedLocalTime::Ambiguous(first, second), KeepsTo::ElapsedTime) => {
                [Some(first.to_utc()), Some(second.to_utc())]
            }
            (MappedLocalTime::None, KeepsTo::WallClock) => [self.end_of_gap(local), None],
            (MappedLocalTime::None, KeepsTo::ElapsedTime) => [None, None],
        }
    }

    /// The first instant after the local times that do not exist around `local`.
    fn end_of_gap(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        // The longest gap there has been is the day that Samoa left out.
        (1..=2 * 24 * 60).find_map(|minutes| {
            let later = local + TimeDelta::minutes(minutes);
            self.zone.from_local_datetime(&later).earliest().map(|at| at.to_utc())
        })
    }

    /// When the clock is set back, if that makes the local time of `here` come once more.
    fn set_back(&self, here: &DateTime<Tz>) -> Option<DateTime<Utc>> {
        let MappedLocalTime::Ambiguous(first, second) =
            self.zone.from_local_datetime(&here.naive_local())
        else {
            return None;
        };
        if self.keeps_to == KeepsTo::WallClock || first != *here {
            return None;
        }
        let minute = here.to_utc() - TimeDelta::seconds(here.timestamp().rem_euclid(60));
        (1..=(second - first).num_minutes())
            .map(|minutes| minute + TimeDelta::minutes(minutes))
            .map(|at| at - TimeDelta::nanoseconds(at.timestamp_subsec_nanos().into()))
            .find(|at| at.with_timezone(&self.zone).offset().fix() != here.offset().fix())
    }
}

/// Whether a day field begins with a `*`, or with a `?`, which is the same.
fn has_open_day(cron: &str) -> bool {
    cron.split_whitespace().skip(2).step_by(2).any(|field| field.starts_with(['*', '?']))
}

fn keeps_to(cron: &str) -> KeepsTo {
    let cron = cron.trim();
    let has_star = cron.split_whitespace().take(2).any(|field| field.contains('*'));
    if has_star || cron.eq_ignore_ascii_case("@hourly") {
        KeepsTo::ElapsedTime
    } else {
        KeepsTo::WallClock
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BERLIN: &str = "Europe/Berlin";

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The keys of the first firings after a time.
    fn firings(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let timetable = Timetable::parse(cron, zone).unwrap();
        let first = timetable.after(utc(after));
        std::iter::successors(first, |at| timetable.after(*at))
            .take(count)
            .map(|at| timetable.key(at))
            .collect()
    }

    #[test]
    fn a_time_that_does_not_exist_fires_at_the_end_of_the_gap_and_once() {
        let night = "2026-03-28T12:00:00Z";
        assert_eq!(
            firings("30 2 * * *", BERLIN, night, 2),
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
        );
        // Several of them end at the same instant, which may be a firing itself.
        assert_eq!(
            firings("15,45 2,3 * * *", BERLIN, night, 4),
            [
                "2026-03-29T03:00+02:00",
                "2026-03-29T03:15+02:00",
                "2026-03-29T03:45+02:00",
                "2026-03-30T02:15+02:00"
            ]
        );
        assert_eq!(
            firings("0 2,3 * * *", BERLIN, night, 2),
            ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]
        );
    }

    #[test]
    fn a_time_that_exists_twice_fires_the_first_time_only() {
        assert_eq!(
            firings("0,30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 3),
            ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:00+01:00"]
        );
        // Also seen from the hour in which it comes again.
        assert_eq!(
            firings("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1),
            ["2026-10-26T02:30+01:00"]
        );
    }

    #[test]
    fn what_runs_every_so_often_keeps_to_elapsed_time() {
        assert_eq!(
            firings("0 * * * *", BERLIN, "2026-03-29T00:30:00Z", 2),
            ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"]
        );
        assert_eq!(
            firings("*/30 * * * *", BERLIN, "2026-10-24T23:59:30Z", 5),
            [
                "2026-10-25T02:00+02:00",
                "2026-10-25T02:30+02:00",
                "2026-10-25T02:00+01:00",
                "2026-10-25T02:30+01:00",
                "2026-10-25T03:00+01:00"
            ]
        );
    }

    #[test]
    fn a_zone_without_summer_time_and_one_with_half_an_hour_of_it_are_right_too() {
        assert_eq!(
            firings("0 2 * * *", "Asia/Singapore", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T02:00+08:00", "2026-03-30T02:00+08:00"]
        );
        assert_eq!(
            firings("15 2 4 10 *", "Australia/Lord_Howe", "2026-10-01T00:00:00Z", 1),
            ["2026-10-04T02:30+11:00"]
        );
        // The day that Samoa left out.
        assert_eq!(
            firings("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
            ["2011-12-31T00:00+14:00"]
        );
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(
            firings("0 9 29 2 *", BERLIN, "2026-01-01T00:00:00Z", 2),
            ["2028-02-29T09:00+01:00", "2032-02-29T09:00+01:00"]
        );
        assert_eq!(
            firings("0 9 31 * *", BERLIN, "2026-03-31T12:00:00Z", 2),
            ["2026-05-31T09:00+02:00", "2026-07-31T09:00+02:00"]
        );
        assert_eq!(
            firings("0 23 L * *", BERLIN, "2028-02-01T00:00:00Z", 2),
            ["2028-02-29T23:00+01:00", "2028-03-31T23:00+02:00"]
        );
        assert_eq!(
            firings("0 9 * * MON#1", BERLIN, "2026-11-21T00:00:00Z", 1),
            ["2026-12-07T09:00+01:00"]
        );
    }

    #[test]
    fn of_two_day_fields_either_is_enough_unless_one_begins_with_a_star() {
        let found = |cron: &str| -> Vec<_> {
            let found = firings(cron, "UTC", "2026-11-21T12:00:00Z", 4);
            found.into_iter().map(|key| key[..10].to_owned()).collect()
        };
        let mondays = ["2026-11-23", "2026-11-30", "2026-12-07", "2026-12-14"];
        assert_eq!(found("0 9 * * MON"), mondays);
        assert_eq!(found("0 9 */1 * MON"), mondays);
        assert_eq!(
            found("0 9 */2 * MON"),
            ["2026-11-23", "2026-12-07", "2026-12-21", "2027-01-11"]
        );
        assert_eq!(
            found("0 9 1,24 * */3"),
            ["2027-01-24", "2027-02-24", "2027-03-24", "2027-04-24"]
        );
        assert_eq!(
            found("0 9 1,24 * MON"),
            ["2026-11-23", "2026-11-24", "2026-11-30", "2026-12-01"]
        );
    }

    #[test]
    fn what_is_no_timetable_is_refused() {
        for (cron, zone, why) in [
            ("", BERLIN, "empty"),
            ("0 2 * *", BERLIN, "5 fields"),
            ("0 0 2 * * *", BERLIN, "5 fields"),
            ("0 2 * * * 2027 *", BERLIN, "5 fields"),
            ("60 2 * * *", BERLIN, "60"),
            ("*/30 , * * *", BERLIN, "is empty"),
            ("0 2,,3 * * *", BERLIN, "is empty"),
            ("@fortnightly", BERLIN, "cron"),
            ("0 0 31 2 *", BERLIN, "never fires"),
            ("0 2 * * *", "Europe/Bonn", "no zone"),
            ("0 2 * * *", "", "no zone"),
        ] {
            let error = Timetable::parse(cron, zone).unwrap_err();
            assert!(error.contains(why), "{cron:?} in {zone:?}: {error}");
        }
    }

    /// Whether a minute fires, found without searching.
    fn fires(timetable: &Timetable, at: DateTime<Utc>) -> bool {
        let here = at.with_timezone(&timetable.zone);
        let before = (at - TimeDelta::minutes(1)).with_timezone(&timetable.zone);
        let matches = |local: NaiveDateTime| timetable.cron.is_time_matching(&local).unwrap();
        let shift = here.naive_local() - before.naive_local() - TimeDelta::minutes(1);
        let repeats = timetable.zone.from_local_datetime(&here.naive_local()).earliest().unwrap();
        match timetable.keeps_to {
            KeepsTo::ElapsedTime => matches(here.naive_local()),
            KeepsTo::WallClock if repeats != here => false,
            KeepsTo::WallClock => (0..=shift.num_minutes().max(0))
                .any(|minutes| matches(here.naive_local() - TimeDelta::minutes(minutes))),
        }
    }

    fn field(of: std::ops::Range<u32>, every: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (2..every).prop_map(|step| format!("*/{step}")),
            of.clone().prop_map(|one| one.to_string()),
            (of.clone(), of).prop_map(|(one, other)| format!("{one},{other}")),
        ]
    }

    proptest! {
        /// From a day before each change of clocks, in three zones, minute by minute.
        #[test]
        fn a_search_finds_what_looking_at_every_minute_finds(
            minute in field(0..60, 30),
            hour in field(0..4, 6),
            zone in prop::sample::select(vec![BERLIN, "America/New_York", "Asia/Singapore"]),
            change in prop::sample::select(vec![
                "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z",
                "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z",
            ]),
            seconds in 1..7200i64,
        ) {
            let timetable = Timetable::parse(&format!("{minute} {hour} * * *"), zone).unwrap();
            let start = utc(change) - TimeDelta::hours(3);
            let minutes = (1..36 * 60).map(|minutes| start + TimeDelta::minutes(minutes));
            let from = start + TimeDelta::seconds(seconds);
            let end = start + TimeDelta::minutes(36 * 60 - 1);
            let expected: Vec<_> =
                minutes.filter(|at| *at >= from && fires(&timetable, *at)).collect();
            prop_assert_eq!(timetable.between(from, end).collect::<Vec<_>>(), expected.clone());
            let latest = timetable.latest(3, from, end);
            prop_assert_eq!(&latest[..], &expected[expected.len().saturating_sub(3)..]);
        }

        #[test]
        fn no_text_makes_the_parser_panic(cron in r"[0-9*/,@LW#+?\- A-Za-zß€]{0,20}") {
            let _ = Timetable::parse(&cron, "UTC");
        }
    }
}
