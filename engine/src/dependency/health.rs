//! When a dependency is taken to be down, and how it is let up again. Pure.
//!
//! Down: nobody calls it. After a pause one instance may. If it is answered, more may, twice as many
//! at each turn, until it is up; if not, it is left alone for twice as long. What was away for a
//! moment is up at once, what was away for long is let up gently: the last pause tells.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How a dependency is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) state: State,
    /// When it went down, or came up again.
    pub(crate) since: DateTime<Utc>,
    /// How long it was left alone last.
    pub(crate) pause: Duration,
    /// When it is looked after next.
    pub(crate) tend_at: DateTime<Utc>,
    /// While recovering: how many may call it at a time.
    pub(crate) admitted: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Down,
    Recovering,
}

impl State {
    /// As stored, and as shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Recovering => "recovering",
        }
    }

    /// Reads a stored one.
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "down" => Self::Down,
            "recovering" => Self::Recovering,
            _ => Self::Up,
        }
    }
}

/// The first pause after it went down.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// One more may try when nothing has been heard of those who were let through for so long.
const SILENCE: Duration = Duration::from_secs(15);
/// From one turn to the next while it recovers.
pub(crate) const TURN: Duration = Duration::from_secs(1);
/// It is up when so many may call it at a time.
const ADMITTED_ALL: u32 = 128;

impl Health {
    /// Up since `now`.
    pub(crate) fn up(now: DateTime<Utc>) -> Self {
        let (since, tend_at) = (now, now);
        Self { state: State::Up, since, pause: Duration::ZERO, tend_at, admitted: 0 }
    }

    /// After calls without an answer: what it is now. `answered`: it has answered a call since the
    /// last turn.
    pub(crate) fn failed(&self, now: DateTime<Utc>, answered: bool) -> Self {
        let (since, pause) = match self.state {
            State::Down => return self.clone(),
            State::Up => (now, PAUSE_MIN),
            // It was back, so this is another outage.
            State::Recovering if answered || self.admitted > 1 => (self.since, PAUSE_MIN),
            State::Recovering => (self.since, (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX)),
        };
        Self { state: State::Down, since, pause, tend_at: after(now, pause), admitted: 0 }
    }

    /// When it is due to be looked after: what it is now, and how many more instances are let
    /// through. `answered`: it has answered a call since the last turn; `wanted`: instances wait.
    pub(crate) fn tended(&self, now: DateTime<Utc>, answered: bool, wanted: bool) -> (Self, u32) {
        let recovering = |admitted, next| Self {
            state: State::Recovering,
            tend_at: after(now, next),
            admitted,
            ..self.clone()
        };
        match self.state {
            State::Up => (self.clone(), 0),
            State::Down if !wanted => (self.clone(), 0),
            State::Down => (recovering(1, SILENCE), 1),
            // It has answered, and nobody wants more of it.
            State::Recovering if !answered && !wanted && self.admitted > 1 => (Self::up(now), 0),
            // Nobody has called it yet, or is still calling it: one more may try in a while.
            State::Recovering if !answered => (recovering(self.admitted, SILENCE), 1),
            State::Recovering => match self.admitted_next() {
                ADMITTED_ALL.. => (Self::up(now), ADMITTED_ALL),
                admitted => (recovering(admitted, TURN), admitted),
            },
        }
    }

    /// How many may call it at a time after it has answered.
    fn admitted_next(&self) -> u32 {
        let pauses = (self.pause.as_millis() / PAUSE_MIN.as_millis()).max(1);
        let first = u128::from(ADMITTED_ALL / 2) / pauses;
        let first = u32::try_from(first).unwrap_or(ADMITTED_ALL);
        if self.admitted == 1 { first.max(2) } else { self.admitted * 2 }
    }
}

fn after(now: DateTime<Utc>, pause: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(pause).ok().and_then(|pause| now.checked_add_signed(pause)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn it_is_left_alone_for_longer_each_time_it_does_not_answer() {
        let mut health = Health::up(at(0)).failed(at(100), false);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(health.pause.as_secs());
            let (recovering, released) = health.tended(health.tend_at, false, true);
            assert_eq!((recovering.state, released), (State::Recovering, 1));
            health = recovering.failed(recovering.tend_at, false);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(health.since, at(100), "the outage began when it began");
    }

    /// How many are let through at each turn of a recovery, after so many tries in vain.
    fn recovery(tries: u32) -> Vec<u32> {
        let mut health = Health::up(at(0)).failed(at(100), false);
        for _ in 0..tries {
            health = health.tended(health.tend_at, false, true).0.failed(health.tend_at, false);
        }
        let mut released = Vec::new();
        while health.state != State::Up {
            let (next, count) = health.tended(health.tend_at, true, true);
            released.push(count);
            health = next;
        }
        released
    }

    #[test]
    fn it_comes_up_by_doubling_and_the_more_gently_the_longer_it_was_away() {
        assert_eq!(recovery(0), [1, 64, 128]);
        assert_eq!(recovery(2), [1, 16, 32, 64, 128]);
        assert_eq!(recovery(9), [1, 2, 4, 8, 16, 32, 64, 128]);
    }

    #[test]
    fn what_has_answered_and_is_gone_again_is_not_left_alone_for_longer() {
        let mut health = Health::up(at(0)).failed(at(100), false);
        for _ in 0..4 {
            health = health.tended(health.tend_at, false, true).0.failed(health.tend_at, false);
        }
        let (first, _) = health.tended(health.tend_at, false, true);
        assert_eq!(first.failed(at(200), false).pause, PAUSE_MIN * 32);
        assert_eq!(first.failed(at(200), true).pause, PAUSE_MIN);
        let (more, _) = first.tended(first.tend_at, true, true);
        assert_eq!(more.failed(at(200), false).pause, PAUSE_MIN);
    }

    proptest! {
        #[test]
        fn whatever_happens_nobody_calls_what_is_down_and_it_is_always_tried_again(
            events in proptest::collection::vec((0..3_u8, 0..600_i64, proptest::bool::ANY), 0..50),
        ) {
            let (mut health, mut now) = (Health::up(at(0)), 0);
            for (event, seconds, wanted) in events {
                now += seconds;
                health = match event {
                    0 => health.failed(at(now), wanted),
                    1 => health.tended(at(now), true, wanted).0,
                    _ => health.tended(at(now), false, wanted).0,
                };
                prop_assert!(health.pause <= PAUSE_MAX);
                prop_assert!(health.tend_at <= at(now) + PAUSE_MAX);
                prop_assert_eq!(health.admitted > 0, health.state == State::Recovering);
            }
        }
    }
}
