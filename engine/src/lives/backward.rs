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
        // "Make sure that it is not applied" is the same, however often it is said.
        let trial = self.trial(self.scope.undo_trials, |world, trial| {
            world.can_lose() || !matches!(trial, Trial::LostApplied | Trial::LostUnapplied)
        });
        let applied = self.world.applied[step];
        self.world.undo(step, trial);
        match answered(trial) {
            None => self.lose_the_worker(),
            Some(Ok(())) => {
                let known =
                    planned.known && matches!(self.recorded(step).progress, Progress::Done { .. });
                let undone = Undone { applied, ..Undone::nothing() };
                let (settles_within, doubted_at) =
                    (self.facts(step).settles_within, self.recorded(step).doubted_at);
                let recheck_at = recheck_at(settles_within, doubted_at, known, &undone, self.now);
                self.called_at[step] = self.now;
                let undone = StepCompensated { undone, money: Vec::new(), recheck_at };
                self.append(Some(step), Entry::StepCompensated(undone));
            }
            Some(Err(error)) => {
                let (counted, policy) = (attempts.counted + 1, self.facts(step).undo_retry);
                let effect = Effect::Idempotent { key_window: None };
                let attempted = next_attempt(&error, counted, policy, effect, 0.0, self.now);
                let (outcome, retry_at) = (attempted.outcome, attempted.retry_at);
                let failure = error.failure().clone();
                let failed = CompensationAttemptFailed { outcome, failure, retry_at };
                self.append(Some(step), Entry::CompensationAttemptFailed(failed));
            }
        }
        Next::Again
    }
}
