//! The dependencies as one worker sees them: who may call now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::health::{Health, State};
use super::{Dependency, Rate};
use crate::step::{Failure, StepError};

/// Every dependency that this build declares.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    gates: HashMap<&'static str, Arc<Gate>>,
}

/// One dependency, and what this worker may do with it.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) dependency: Dependency,
    /// This worker's share of the calls at a time; not used without such a limit.
    pub(crate) slots: Arc<Semaphore>,
    /// Rung when somebody who was turned away may come again.
    opened: Notify,
    /// How many wait for that in memory.
    awaiting: AtomicU32,
    /// Calls that have been let in, with those that wait for a slot or a turn.
    calls: AtomicU32,
    /// Calls that have given back their slots since they were last counted.
    ended: AtomicU32,
    inside: Mutex<Inside>,
    /// Rung when there is something to look after.
    tending: Arc<Notify>,
}

#[derive(Debug)]
struct Inside {
    health: Health,
    /// See [`Gate::turn`].
    turn: Option<u32>,
    /// Calls in a row that brought no answer.
    failures: u32,
    /// What the last of them said, if it is time to say that the dependency is down.
    down: Option<Failure>,
    /// It has answered since that was last noted.
    answered: bool,
    /// Times at which this worker may make a call.
    turns: Vec<DateTime<Utc>>,
    /// How many slots this worker holds, free or not.
    slots: usize,
    /// Somebody somewhere waits for a slot, or in the database.
    is_sought: bool,
    /// This worker wants more slots than it could get.
    is_short: bool,
}

/// The right to make one call.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Option<Arc<Gate>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Dependencies {
    /// Gates for these dependencies, all of them up.
    pub(crate) fn new(declared: &[Dependency], now: DateTime<Utc>, tending: &Arc<Notify>) -> Self {
        let gates = declared.iter().map(|dependency| {
            let inside = Inside {
                health: Health::up(now),
                turn: None,
                failures: 0,
                down: None,
                answered: false,
                turns: Vec::new(),
                slots: 0,
                is_sought: false,
                is_short: false,
            };
            let gate = Gate {
                dependency: dependency.clone(),
                slots: Arc::new(Semaphore::new(0)),
                opened: Notify::new(),
                awaiting: AtomicU32::new(0),
                calls: AtomicU32::new(0),
                ended: AtomicU32::new(0),
                inside: Mutex::new(inside),
                tending: Arc::clone(tending),
            };
            (dependency.name, Arc::new(gate))
        });
        Self { gates: gates.collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Gate>> {
        self.gates.values()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Gate>> {
        self.gates.get(name)
    }
}

impl Gate {
    /// A pass for one more call, if its health lets that through. Slots and turns come on top.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Pass> {
        let inside = self.inside();
        let admitted = match inside.health.state {
            State::Up => true,
            State::Down => false,
            State::Recovering => inside.turn.is_some_and(|turn| self.calls() < turn),
        };
        admitted.then(|| {
            self.calls.fetch_add(1, Ordering::Relaxed);
            Pass { gate: Some(Arc::clone(self)), slot: None }
        })
    }

    /// A slot, if one is free. Otherwise more are asked for, if there may be more.
    pub(crate) fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        if slot.is_none() && !self.inside().is_short {
            self.tending.notify_one();
        }
        slot
    }

    /// Waits until the dependency may have come up, or this worker has got slots.
    pub(crate) async fn wait(&self) {
        let _awaiting = Counted::new(&self.awaiting);
        self.opened.notified().await;
    }

    /// Whether somebody waits in memory.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaiting.load(Ordering::Relaxed) > 0
    }

    /// How many calls have been let in, with those that wait for a slot or a turn.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// When this worker may make its next call, if it has reserved a turn for it. A turn that was
    /// not used in its time is lost: all of them at once would be faster than the rate.
    pub(crate) fn next_turn(&self, now: DateTime<Utc>, rate: Rate) -> Option<DateTime<Utc>> {
        let oldest = now - TimeDelta::from_std(rate.interval()).unwrap_or_default();
        let turns = &mut self.inside().turns;
        std::iter::from_fn(|| turns.pop()).find(|turn| *turn >= oldest)
    }

    /// Adds turns, the first of which is handed out first.
    pub(crate) fn add_turns(&self, mut turns: Vec<DateTime<Utc>>) {
        turns.reverse();
        self.inside().turns.splice(0..0, turns);
    }

    pub(crate) fn health(&self) -> Health {
        self.inside().health.clone()
    }

    /// Takes over what the database says.
    pub(crate) fn set_health(&self, health: Health) {
        let mut inside = self.inside();
        if inside.health != health {
            if inside.health.state != health.state {
                inside.failures = 0;
            }
            // Another worker has had the next turn.
            inside.turn = inside.turn.filter(|turn| *turn == health.admitted);
            inside.health = health;
            self.opened.notify_waiters();
        }
    }

    /// Takes over what this worker has just made of it.
    pub(crate) fn turned(&self, health: Health) {
        self.inside().turn = (health.state == State::Recovering).then_some(health.admitted);
        self.set_health(health);
    }

    /// How many this worker has let through while it recovers, if it was this one that did.
    pub(crate) fn turn(&self) -> Option<u32> {
        self.inside().turn
    }

    /// Says who lacks slots: anybody, if only in the database, and this worker.
    pub(crate) fn set_lacking(&self, is_sought: bool, is_short: bool) {
        let mut inside = self.inside();
        (inside.is_sought, inside.is_short) = (is_sought, is_short);
    }

    /// Why it is to be taken down, once.
    pub(crate) fn take_down(&self) -> Option<Failure> {
        self.inside().down.take()
    }

    /// Whether it has answered since this was last asked.
    pub(crate) fn take_answered(&self) -> bool {
        std::mem::take(&mut self.inside().answered)
    }

    /// How many calls have ended since this was last asked.
    pub(crate) fn take_ended(&self) -> u32 {
        self.ended.swap(0, Ordering::Relaxed)
    }

    /// Has this worker hold `slots` slots. Slots in use are given back when they come free; says
    /// how many it holds meanwhile.
    pub(crate) fn resize(&self, slots: usize) -> usize {
        let mut inside = self.inside();
        if slots > inside.slots {
            self.slots.add_permits(slots - inside.slots);
            inside.slots = slots;
            self.opened.notify_waiters();
        } else {
            inside.slots -= self.slots.forget_permits(inside.slots - slots);
        }
        inside.slots
    }

    /// How many slots this worker holds.
    pub(crate) fn slots_held(&self) -> usize {
        self.inside().slots
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn answered(&self) {
        let mut inside = self.inside();
        inside.failures = 0;
        let is_news = !std::mem::replace(&mut inside.answered, true);
        if is_news && inside.health.state == State::Recovering {
            self.tending.notify_one();
        }
    }

    fn unanswered(&self, failure: &Failure) {
        let mut inside = self.inside();
        inside.failures += 1;
        let enough = match inside.health.state {
            State::Up => inside.failures >= self.dependency.failures_max,
            // The first calls decide. Once it answers, an error now and then is no outage.
            State::Recovering => {
                inside.failures >= self.dependency.failures_max.min(inside.health.admitted)
            }
            State::Down => false,
        };
        if enough {
            inside.failures = 0;
            inside.down = Some(failure.clone());
            // This worker does not wait for the others to know.
            inside.health.state = State::Down;
            self.tending.notify_one();
        }
    }
}

/// Counts as one as long as it lives.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pass {
    /// For what has no dependency.
    pub(crate) fn free() -> Self {
        Self { gate: None, slot: None }
    }

    /// Adds the slot that the call takes.
    pub(super) fn with_slot(mut self, slot: OwnedSemaphorePermit) -> Self {
        self.slot = Some(slot);
        self
    }

    /// Says how the call has ended.
    pub(crate) fn report<T>(&self, result: &Result<T, StepError>) {
        let Some(gate) = &self.gate else {
            return;
        };
        match result {
            Ok(_) | Err(StepError::Fail(_) | StepError::Refused(_)) => gate.answered(),
            Err(StepError::Retry { failure, .. } | StepError::Unknown(failure)) => {
                gate.unanswered(failure);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // The slot is free before anybody is told.
        let has_called = self.slot.take().is_some();
        if let Some(gate) = &self.gate {
            gate.calls.fetch_sub(1, Ordering::Relaxed);
            gate.ended.fetch_add(u32::from(has_called), Ordering::Relaxed);
            if gate.slots.available_permits() > 0 && gate.inside().is_sought {
                gate.tending.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate of a dependency that recovers, and may be called so often at a time.
    fn recovering(admitted: u32) -> Arc<Gate> {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        let declared = [Dependency::new("courier")];
        let dependencies = Dependencies::new(&declared, now, &Arc::default());
        let gate = Arc::clone(dependencies.get("courier").unwrap());
        gate.turned(Health { state: State::Recovering, admitted, ..Health::up(now) });
        gate
    }

    /// Makes a call; says whether the dependency is down by now.
    fn call(gate: &Arc<Gate>, is_answered: bool) -> bool {
        let failure = StepError::unknown("LATE", "no answer");
        let result = if is_answered { Ok(()) } else { Err(failure) };
        gate.admit().unwrap().report(&result);
        gate.inside().down.is_some()
    }

    #[test]
    fn the_first_calls_of_a_recovery_decide() {
        for (admitted, failures) in [(1, 1), (2, 2), (4, 4), (8, 5), (64, 5)] {
            let gate = recovering(admitted);
            let down: Vec<_> = (0..failures).map(|_| call(&gate, false)).collect();
            let mut expected = vec![false; failures];
            expected[failures - 1] = true;
            assert_eq!(down, expected, "{admitted} at a time");
        }
    }

    #[test]
    fn what_fails_now_and_then_recovers_as_it_would_stay_up() {
        let gate = recovering(1);
        assert!(!call(&gate, true));
        for admitted in [2, 4, 8, 16, 32, 64] {
            gate.turned(Health { admitted, ..gate.health() });
            for n in 0..admitted {
                assert!(!call(&gate, n % 3 != 0), "{admitted} at a time, call {n}");
            }
        }
    }

    #[test]
    fn failures_before_an_outage_do_not_count_in_its_recovery() {
        let gate = recovering(4);
        assert!(!call(&gate, false));
        let (down, recovering) = (State::Down, gate.health());
        gate.set_health(Health { state: down, admitted: 0, ..gate.health() });
        gate.turned(recovering);
        let three: Vec<_> = (0..3).map(|_| call(&gate, false)).collect();
        assert_eq!(three, [false; 3]);
    }

    #[test]
    fn only_the_worker_that_has_let_them_through_admits_anybody_during_a_recovery() {
        let gate = recovering(1);
        let mine = gate.admit();
        assert!(mine.is_some());
        assert!(gate.admit().is_none(), "one at a time");
        drop(mine);
        let turned_elsewhere = Health { admitted: 64, ..gate.health() };
        gate.set_health(turned_elsewhere);
        assert!(gate.admit().is_none());
    }

    #[test]
    fn a_turn_that_is_not_used_in_its_time_is_lost() {
        let gate = recovering(1);
        let rate = Rate { calls: 100, per: std::time::Duration::from_secs(1) };
        let at = |milliseconds| DateTime::from_timestamp_millis(milliseconds).unwrap();
        gate.add_turns([0, 10, 20, 30].map(at).to_vec());
        assert_eq!(gate.next_turn(at(0), rate), Some(at(0)));
        assert_eq!(gate.next_turn(at(29), rate), Some(at(20)));
        assert_eq!(gate.next_turn(at(3_600_000), rate), None);
    }
}
