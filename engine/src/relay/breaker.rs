//! How much a receiver is asked: as much as it takes, and little while it takes nothing. Pure.
//!
//! A receiver that fails again and again without taking anything is asked twice after each pause;
//! the pauses grow to two seconds. Once it has taken something, it is asked more with each success, the
//! newest first: there may be much that it does not take.

use chrono::{DateTime, TimeDelta, Utc};

use crate::limits;

/// Failures in a row after which it opens.
const FAILURES_MAX: u32 = 16;
/// How often a receiver is asked after each pause.
const PROBES: u32 = 2;
/// Probes that may have no answer, of a receiver that answers nobody.
const PROBES_MAX: usize = 16;
/// Deliveries that may be under way once a receiver has taken something again.
const LIMIT_FIRST: usize = 4;
const PAUSE_FIRST: TimeDelta = TimeDelta::milliseconds(250);
/// Short enough for a receiver that is back to be noticed at once, as people see it.
const PAUSE_MAX: TimeDelta = TimeDelta::seconds(2);

/// What a receiver may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Whatever waits.
    Any,
    /// What waits, the newest first: what it takes now, it may not have taken before.
    Newest,
    /// Something by which it shows whether it takes anything.
    Probe,
    /// Nothing.
    None,
}

/// The breaker of one subscription. Shut, events flow; open, they do not.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Deliveries that may be under way while it is shut.
    limit: usize,
    /// Failures since the last success.
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    pause: TimeDelta,
    /// When it may be probed again.
    next_at: DateTime<Utc>,
    /// Probes that are left of this time.
    left: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { limit: limits::DELIVERIES_MAX, failures: 0, open: None }
    }
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What may be asked while so many deliveries are under way.
    pub(super) fn permit(&self, under_way: usize, now: DateTime<Utc>) -> Permit {
        match &self.open {
            None if under_way >= self.limit => Permit::None,
            None if self.limit == limits::DELIVERIES_MAX => Permit::Any,
            None => Permit::Newest,
            Some(open) if under_way < PROBES_MAX && (open.left > 0 || open.next_at <= now) => {
                Permit::Probe
            }
            _ => Permit::None,
        }
    }

    /// A probe begins.
    pub(super) fn probed(&mut self, now: DateTime<Utc>) {
        let Some(open) = &mut self.open else { return };
        if open.left > 0 {
            open.left -= 1;
        } else {
            open.left = PROBES - 1;
            open.next_at = now + open.pause;
            open.pause = (open.pause * 2).min(PAUSE_MAX);
        }
    }

    /// How long it is until the next probe, if that is what is waited for.
    pub(super) fn pause(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.open.as_ref().map(|open| open.next_at - now)
    }

    /// The receiver has taken something. Says whether it had taken nothing for long.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        if self.open.take().is_some() {
            self.limit = LIMIT_FIRST;
            return true;
        }
        self.limit = (self.limit + 1).min(limits::DELIVERIES_MAX);
        false
    }

    /// The receiver has not taken something. Says whether it takes nothing, as it turns out now.
    pub(super) fn failed(&mut self, now: DateTime<Utc>) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.open.is_some() || self.failures < FAILURES_MAX {
            return false;
        }
        self.open = Some(Open { pause: PAUSE_FIRST * 2, next_at: now + PAUSE_FIRST, left: 0 });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(milliseconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(at(0)));
        }
        assert!(breaker.failed(at(0)));
        breaker
    }

    /// How many probes may begin at this time.
    fn probes(breaker: &mut Breaker, at: DateTime<Utc>) -> u32 {
        let mut count = 0;
        while breaker.permit(count as usize, at) == Permit::Probe {
            breaker.probed(at);
            count += 1;
        }
        count
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_asked_little_and_with_growing_pauses_that_have_an_end() {
        let mut breaker = opened();
        assert!(breaker.is_open());
        let mut asked = Vec::new();
        for millisecond in (0..10_000).step_by(50) {
            let count = probes(&mut breaker, at(millisecond));
            if count > 0 {
                assert_eq!(count, PROBES);
                asked.push(millisecond);
            }
            breaker.failed(at(millisecond));
        }
        assert_eq!(asked, [250, 750, 1_750, 3_750, 5_750, 7_750, 9_750]);
    }

    #[test]
    fn one_success_lets_others_follow_and_each_of_them_one_more() {
        let mut breaker = opened();
        assert_eq!(breaker.permit(0, at(0)), Permit::None);
        assert!(breaker.succeeded());
        assert!(!breaker.is_open());
        let mut limit = LIMIT_FIRST;
        while limit < limits::DELIVERIES_MAX {
            assert_eq!(breaker.permit(limit - 1, at(0)), Permit::Newest);
            assert_eq!(breaker.permit(limit, at(0)), Permit::None);
            assert!(!breaker.succeeded());
            limit += 1;
        }
        assert_eq!(breaker.permit(limits::DELIVERIES_MAX - 1, at(0)), Permit::Any);
        assert_eq!(breaker.permit(limits::DELIVERIES_MAX, at(0)), Permit::None);
    }

    #[test]
    fn failures_between_successes_do_not_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            for _ in 1..FAILURES_MAX {
                assert!(!breaker.failed(at(0)));
            }
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn of_a_receiver_that_answers_nobody_only_so_many_probes_wait() {
        let mut breaker = opened();
        let mut under_way = 0;
        for second in 1..100 {
            while breaker.permit(under_way, at(second * 1_000)) == Permit::Probe {
                breaker.probed(at(second * 1_000));
                under_way += 1;
            }
        }
        assert_eq!(under_way, PROBES_MAX);
    }
}
