//! How what was done in a life is undone.

use super::life::{Life, NAMES, Next, answered};
use super::world::{Trial, settling_time};
use crate::attempt::{compensation_failed, next_attempt};
use crate::history::Progress;
use crate::record::{CompensationAttemptFailed, Entry, StepCompensated};
use crate::step::{Effect, Undone};
use crate::undo::recheck_at;

impl Life<'_> {
    /// Makes one attempt at undoing the next step of the plan.
    pub(super) fn backward(&mut self) -> Next {
        let reason = self.history.undoing().map(|undoing| undoing.reason.clone()).unwrap();
        let Some(planned) = self.history.next_to_undo().cloned() else {
            return Next::Undone(reason);
        };
        let step = NAMES.iter().position(|name| *name == planned.step).unwrap();
        let attempts = self.recorded(step).undo.clone();
        match (&attempts.last, attempts.retry_at) {
            (Some(failure), None) if attempts.counted > 0 => {
                return Next::Stick(compensation_failed(&planned.step, failure));
            }
            (_, Some(due)) if due > self.now => return Next::Wait(due),
            _ => {}
        }
        if attempts.is_recheck {
            let settled_at = self.recorded(step).doubted_at + settling_time();
            assert!(self.now >= settled_at, "looked again too early: {:?}", self.told());
        }
        let trial = self.trial(self.scope.undo_trials, |world, trial| {
            world.can_lose() || !matches!(trial, Trial::LostApplied | Trial::LostUnapplied)
        });
        let key = (self.recorded(step).attempts.round, attempts.round);
        let applied = self.world.undo(step, key, trial);
        match answered(trial) {
            None => self.lose_the_worker(),
            Some(Ok(())) => {
                let known =
                    planned.known && matches!(self.recorded(step).progress, Progress::Done { .. });
                let undone = Undone { applied, ..Undone::nothing() };
                let (settles_within, doubted_at) =
                    (self.facts(step).settles_within, self.recorded(step).doubted_at);
                let as_of = attempts.answered_as_of(self.now);
                let recheck_at = recheck_at(settles_within, doubted_at, known, &undone, as_of);
                self.called_at[step] = self.now;
                let undone = StepCompensated { undone, money: Vec::new(), recheck_at };
                self.append(Some(step), Entry::StepCompensated(undone));
            }
            Some(Err(error)) => {
                let (counted, policy) = (attempts.counted + 1, self.facts(step).undo_retry);
                let effect = Effect::Idempotent { key_window: None };
                let attempted = next_attempt(&error, counted, policy, effect, 0.0, self.now);
                let (outcome, mut retry_at) = (attempted.outcome, attempted.retry_at);
                if trial == Trial::LostApplied && self.choices.one_of(&[false, true]) {
                    // By then the provider has settled.
                    retry_at = retry_at.map(|due| due + settling_time());
                }
                let failure = error.failure().clone();
                let failed = CompensationAttemptFailed { outcome, failure, retry_at };
                self.append(Some(step), Entry::CompensationAttemptFailed(failed));
            }
        }
        Next::Again
    }
}
