//! One attempt at undoing a step, from the record alone, and what is recorded of it.

use std::time::Duration;

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
    /// Since when it is not known.
    pub(crate) doubted_at: DateTime<Utc>,
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
        let (settles_within, known) = (self.step.facts().settles_within, self.output.is_some());
        let undone = undone.clone().with_ledger(self.call.ledger().clone());
        let told = self
            .step
            .undone(self.input.get(), self.output(), &undone)
            .map_err(|error| Verdict::Stick(error.failure().clone()))?;
        self.instance.worker.metrics.compensations.inc();
        let as_of = self.attempts.answered_as_of(self.call.now);
        let recheck_at = recheck_at(settles_within, self.doubted_at, known, &undone, as_of);
        let moved = undone.moved.clone().unwrap_or(told.money);
        let money = if Bug::RefundUnrecorded.is_on() { Vec::new() } else { moved };
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

/// When to undo once more what was unknown and was not found: a provider may still apply it, until
/// it has settled. `as_of` is the moment at which the undo found nothing.
pub(crate) fn recheck_at(
    settles_within: Option<Duration>,
    doubted_at: DateTime<Utc>,
    known: bool,
    undone: &Undone,
    as_of: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if known || undone.applied || Bug::UndoLooksOnce.is_on() {
        return None;
    }
    let settled_at = doubted_at.checked_add_signed(TimeDelta::from_std(settles_within?).ok()?)?;
    (as_of < settled_at).then_some(settled_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_looks_again_once_if_it_found_nothing_before_the_provider_had_settled() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let again = |known, undone: &Undone, began| {
            recheck_at(Some(Duration::from_secs(60)), at(100), known, undone, at(began))
        };
        let nothing = &Undone::nothing();
        assert_eq!(again(false, nothing, 100), Some(at(160)));
        assert_eq!(again(false, nothing, 159), Some(at(160)));
        assert_eq!(again(false, nothing, 160), None);
        assert_eq!(again(true, nothing, 100), None);
        assert_eq!(again(false, &Undone::by("re_1"), 100), None);
        assert_eq!(recheck_at(None, at(100), false, nothing, at(100)), None);
    }
}
