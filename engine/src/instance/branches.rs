//! How many calls of a run are under way, and how many of them only wait.
//!
//! A run whose every call waits has nothing to do before the earliest of their times: its worker
//! lets go of it then. As long as one branch is at work, the others wait in memory.
//!
//! A call whose answer is recorded may have to wait for its turn: until the run has asked for
//! everything that was begun before. If the run comes to rest without that, the oldest goes first.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// The calls of one instance's run.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    counts: Mutex<Counts>,
    /// Rung when there may be no call that does not wait.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    waits: Vec<Wait>,
    /// Calls that a lost worker keeps from leaving the history.
    stopped: usize,
    /// Calls that wait for their turn, by the record that they are to hear.
    queue: BTreeMap<Place, Option<Waker>>,
    places: u64,
    /// Up to this record nobody waits for a turn.
    called_up_to: Option<u32>,
}

/// The record that a call waits to hear, and a number that makes the place unique.
type Place = (u32, u64);

/// Why a run cannot go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Every call waits; this ends the first of the waits.
    Waits(Wait),
    /// Nothing moves any more, and this is the oldest record that a call waits to hear.
    OutOfTurn(u32),
}

/// What a call waits for, beside mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wait {
    /// A time.
    pub(crate) until: Option<DateTime<Utc>>,
    /// A dependency that takes no call now.
    pub(crate) parked_on: Option<&'static str>,
}

impl Wait {
    /// Waits for a time; without one, for mail alone.
    pub(crate) fn until(until: Option<DateTime<Utc>>) -> Self {
        Self { until, parked_on: None }
    }

    /// Waits for a dependency.
    pub(crate) fn parked_on(dependency: &'static str) -> Self {
        Self { until: None, parked_on: Some(dependency) }
    }
}

impl Branches {
    /// Begins a replay.
    pub(crate) fn begin_replay(&self) {
        self.counts().called_up_to = None;
    }

    /// Counts a call for as long as the guard lives.
    pub(crate) fn call(&self) -> Guard<'_> {
        self.counts().calls += 1;
        Guard { branches: self, counted: Counted::Call }
    }

    /// Counts a wait of a call for as long as the guard lives.
    pub(crate) fn wait(&self, wait: Wait) -> Guard<'_> {
        self.counts().waits.push(wait);
        self.changed.notify_one();
        Guard { branches: self, counted: Counted::Wait(wait) }
    }

    /// Counts a call that goes no further for as long as the guard lives.
    pub(crate) fn stop(&self) -> Guard<'_> {
        self.counts().stopped += 1;
        self.changed.notify_one();
        Guard { branches: self, counted: Counted::Stopped }
    }

    /// Queues a call that waits to hear record `seq`, for as long as the guard lives.
    pub(crate) fn queue(&self, seq: u32) -> Guard<'_> {
        let mut counts = self.counts();
        counts.places += 1;
        let place = (seq, counts.places);
        counts.queue.insert(place, None);
        self.changed.notify_one();
        Guard { branches: self, counted: Counted::Queued(place) }
    }

    /// Whether record `seq` may be heard, in a replay that has asked for everything that was begun
    /// before record `unasked_from`.
    pub(crate) fn is_turn(&self, seq: u32, unasked_from: Option<u32>) -> bool {
        unasked_from.is_none_or(|from| seq <= from)
            || self.counts().called_up_to.is_some_and(|called| seq <= called)
    }

    /// Wakes the calls whose turn has come with that.
    pub(crate) fn wake(&self, unasked_from: Option<u32>) {
        let mut counts = self.counts();
        let due = counts.queue.range_mut(..=(unasked_from.unwrap_or(u32::MAX), u64::MAX));
        due.filter_map(|(_, waker)| waker.take()).for_each(Waker::wake);
    }

    /// Lets every record up to `seq` be heard out of turn.
    pub(crate) fn call_up_to(&self, seq: u32) {
        self.counts().called_up_to = Some(seq);
        self.wake(Some(seq));
    }

    /// How many calls are under way.
    pub(crate) fn calls(&self) -> usize {
        self.counts().calls
    }

    /// Comes back when no call can go on by itself.
    pub(crate) async fn idle(&self) -> Idle {
        loop {
            let idle = self.counts().idle();
            match idle {
                Some(idle) => return idle,
                None => self.changed.notified().await,
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Counts {
    fn idle(&self) -> Option<Idle> {
        let at_rest = self.waits.len() + self.stopped + self.queue.len();
        if self.calls == 0 || at_rest < self.calls {
            return None;
        }
        if let Some(((seq, _), _)) = self.queue.first_key_value() {
            return Some(Idle::OutOfTurn(*seq));
        }
        let until = self.waits.iter().filter_map(|wait| wait.until).min();
        let parked_on = self.waits.iter().find_map(|wait| wait.parked_on);
        (self.stopped == 0).then_some(Idle::Waits(Wait { until, parked_on }))
    }
}

/// Something of a call that is being counted.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    branches: &'a Branches,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    Call,
    Wait(Wait),
    Stopped,
    Queued(Place),
}

impl Guard<'_> {
    /// Has a queued call woken when its turn comes.
    pub(crate) fn register(&self, waker: &Waker) {
        if let Counted::Queued(place) = &self.counted {
            self.branches.counts().queue.insert(*place, Some(waker.clone()));
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut counts = self.branches.counts();
        match &self.counted {
            Counted::Call => {
                counts.calls -= 1;
                self.branches.changed.notify_one();
            }
            Counted::Wait(wait) => {
                if let Some(index) = counts.waits.iter().position(|other| other == wait) {
                    counts.waits.swap_remove(index);
                }
            }
            Counted::Stopped => counts.stopped -= 1,
            Counted::Queued(place) => drop(counts.queue.remove(place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn at(seconds: i64) -> Wait {
        Wait::until(DateTime::from_timestamp(seconds, 0))
    }

    #[test]
    fn a_run_is_idle_when_its_last_busy_call_waits_or_ends() {
        let branches = Branches::default();
        let (_one, two, _three) = (branches.call(), branches.call(), branches.call());
        let _late = branches.wait(at(20));
        let _soon = branches.wait(at(10));
        assert_eq!(branches.idle().now_or_never(), None);
        drop(two);
        assert_eq!(branches.idle().now_or_never(), Some(Idle::Waits(at(10))));
    }

    #[test]
    fn a_wait_that_is_over_does_not_count() {
        let branches = Branches::default();
        let _call = branches.call();
        drop(branches.wait(Wait::default()));
        assert_eq!(branches.idle().now_or_never(), None);
        let _again = branches.wait(Wait::parked_on("carrier"));
        let parked = Wait::parked_on("carrier");
        assert_eq!(branches.idle().now_or_never(), Some(Idle::Waits(parked)));
    }

    #[test]
    fn a_run_at_rest_hears_the_oldest_record_first() {
        let branches = Branches::default();
        let (_one, _two, three) = (branches.call(), branches.call(), branches.call());
        let (_late, early) = (branches.queue(7), branches.queue(5));
        assert_eq!(branches.idle().now_or_never(), None, "a call is at work");
        drop(three);
        assert_eq!(branches.idle().now_or_never(), Some(Idle::OutOfTurn(5)));
        assert!(!branches.is_turn(5, Some(2)));
        branches.call_up_to(5);
        assert!(branches.is_turn(5, Some(2)) && !branches.is_turn(7, Some(2)));
        drop(early);
        let _wait = branches.wait(at(10));
        assert_eq!(branches.idle().now_or_never(), Some(Idle::OutOfTurn(7)));
        branches.begin_replay();
        assert!(!branches.is_turn(5, Some(2)) && branches.is_turn(5, Some(6)));
    }

    #[test]
    fn a_run_that_a_lost_worker_stops_is_idle_only_for_what_waits_for_its_turn() {
        let branches = Branches::default();
        let (_one, _two) = (branches.call(), branches.call());
        let (_stopped, queued) = (branches.stop(), branches.queue(3));
        assert_eq!(branches.idle().now_or_never(), Some(Idle::OutOfTurn(3)));
        drop(queued);
        let _waits = branches.wait(at(10));
        assert_eq!(branches.idle().now_or_never(), None);
    }
}
