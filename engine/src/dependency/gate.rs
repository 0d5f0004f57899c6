//! The dependencies as one worker sees them: who may call now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Dependency;
use super::health::{Health, State};
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
    pub(crate) opened: Notify,
    calls: AtomicU32,
    /// Calls that have come back since they were last counted.
    ended: AtomicU32,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    health: Health,
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
}

/// The right to make one call.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Option<Arc<Gate>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Dependencies {
    /// Gates for these dependencies, all of them up.
    pub(crate) fn new(declared: &[Dependency], now: DateTime<Utc>) -> Self {
        let gates = declared.iter().map(|dependency| {
            let inside = Inside {
                health: Health::up(now),
                failures: 0,
                down: None,
                answered: false,
                turns: Vec::new(),
                slots: 0,
            };
            let gate = Gate {
                dependency: dependency.clone(),
                slots: Arc::new(Semaphore::new(0)),
                opened: Notify::new(),
                calls: AtomicU32::new(0),
                ended: AtomicU32::new(0),
                inside: Mutex::new(inside),
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
            State::Recovering => self.calls.load(Ordering::Relaxed) < inside.health.admitted,
        };
        admitted.then(|| {
            self.calls.fetch_add(1, Ordering::Relaxed);
            Pass { gate: Some(Arc::clone(self)), slot: None }
        })
    }

    /// When this worker may make its next call, if it has reserved a turn for it.
    pub(crate) fn next_turn(&self) -> Option<DateTime<Utc>> {
        self.inside().turns.pop()
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
            inside.health = health;
            self.opened.notify_waiters();
        }
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
        inside.answered = true;
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
        }
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

    /// Says how the call has ended. Says whether the dependency has just been taken to be down.
    pub(crate) fn report<T>(&self, result: &Result<T, StepError>) -> bool {
        let Some(gate) = &self.gate else {
            return false;
        };
        match result {
            Ok(_) | Err(StepError::Fail(_) | StepError::Refused(_)) => gate.answered(),
            Err(StepError::Retry { failure, .. } | StepError::Unknown(failure)) => {
                gate.unanswered(failure);
            }
        }
        gate.inside().down.is_some()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // The slot is free before anybody is told.
        self.slot = None;
        if let Some(gate) = &self.gate {
            gate.calls.fetch_sub(1, Ordering::Relaxed);
            gate.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate of a dependency that recovers, and may be called so often at a time.
    fn recovering(admitted: u32) -> Arc<Gate> {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        let dependencies = Dependencies::new(&[Dependency::new("courier")], now);
        let gate = Arc::clone(dependencies.get("courier").unwrap());
        let health = Health { state: State::Recovering, admitted, ..Health::up(now) };
        gate.set_health(health);
        gate
    }

    /// Makes a call; says whether the dependency is down by now.
    fn call(gate: &Arc<Gate>, is_answered: bool) -> bool {
        let failure = StepError::unknown("LATE", "no answer");
        let result = if is_answered { Ok(()) } else { Err(failure) };
        gate.admit().unwrap().report(&result)
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
            gate.set_health(Health { admitted, ..gate.health() });
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
        gate.set_health(recovering);
        let three: Vec<_> = (0..3).map(|_| call(&gate, false)).collect();
        assert_eq!(three, [false; 3]);
    }
}
