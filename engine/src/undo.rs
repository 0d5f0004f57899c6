//! One attempt at undoing a step, from the record alone, and what is recorded of it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use crate::attempt::{self, Attempted, next_attempt};
use crate::dependency::Pass;
use crate::event::Event;
use crate::history::Attempts;
use crate::instance::{Instance, State, Terms, Transaction, Verdict};
use crate::record::{CompensationAttemptFailed, Entry, StepCompensated};
use crate::registry::AnyStep;
use crate::sabotage::Bug;
use crate::step::{Call, Effect, StepError, Undone};
use crate::transaction_step::PgConnection;

/// One attempt at undoing a step.
pub(crate) struct AskedUndo<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) step: &'a dyn AnyStep,
    pub(crate) key: &'a str,
    pub(crate) input: Box<RawValue>,
    /// None: it is not known whether there is anything to undo.
    pub(crate) output: Option<Box<RawValue>>,
    pub(crate) attempts: Attempts,
    pub(crate) call: Call,
    pub(crate) pass: Pass,
}

impl AskedUndo<'_> {
    /// Asks the step. One in a transaction gets its connection.
    pub(crate) async fn undo(
        &self,
        connection: Option<&mut PgConnection>,
    ) -> Result<Undone, StepError> {
        self.step.undo(connection, &self.call, self.input.get(), self.output()).await
    }

    fn output(&self) -> Option<&str> {
        self.output.as_deref().map(RawValue::get)
    }
}

impl Transaction for AskedUndo<'_> {
    type Output = Undone;

    fn terms(&self) -> Terms<'_> {
        let (attempt, timeout) = (self.call.attempt, self.step.facts().timeout);
        Terms { key: self.key, attempt, timeout, pass: &self.pass }
    }

    async fn perform(&self, connection: &mut PgConnection) -> Result<Undone, StepError> {
        self.undo(Some(connection)).await
    }

    fn done(&self, undone: &Undone) -> Result<(Entry, Vec<Event>), Verdict> {
        let (effect, known) = (self.step.facts().effect, self.output.is_some());
        let told = self
            .step
            .undone(self.input.get(), self.output(), undone)
            .map_err(|error| Verdict::Stick(error.failure().clone()))?;
        self.instance.worker.metrics.compensations.inc();
        let recheck_at = recheck_at(effect, known, &self.attempts, undone, self.call.now);
        let money = if Bug::RefundUnrecorded.is_on() { Vec::new() } else { told.money };
        let undone = undone.clone();
        Ok((Entry::StepCompensated(StepCompensated { undone, money, recheck_at }), told.events))
    }

    fn failed(&self, _: &mut State, error: &StepError) -> Result<(Entry, Vec<Event>), Verdict> {
        self.instance.worker.metrics.attempts_failed.inc();
        let chance = attempt::chance(self.instance.instance_id, self.call.key(), self.call.attempt);
        // An undo makes sure that something is not applied: an unknown end is asked for again.
        let effect = Effect::Idempotent { key_window: None };
        let (counted, policy) = (self.attempts.counted + 1, self.step.facts().undo_retry);
        let Attempted { outcome, retry_at } =
            next_attempt(error, counted, policy, effect, chance, self.call.now);
        let failure = error.failure().clone();
        let failed = CompensationAttemptFailed { outcome, failure, retry_at };
        Ok((Entry::CompensationAttemptFailed(failed), Vec::new()))
    }
}

/// When to undo once more what was unknown and was not found: a provider may be slow to show what
/// it applied. It is looked for once, after the time that the provider may take.
pub(crate) fn recheck_at(
    effect: Effect,
    known: bool,
    attempts: &Attempts,
    undone: &Undone,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let Effect::Queryable { quiet } = effect else {
        return None;
    };
    let doubtful = !known && !undone.applied && !attempts.is_recheck;
    TimeDelta::from_std(quiet).ok().filter(|_| doubtful).and_then(|it| now.checked_add_signed(it))
}
