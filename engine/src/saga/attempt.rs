//! One attempt at a step. It belongs to the engine, and not to the run that asked for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde_json::value::{RawValue, to_raw_value};

use crate::attempt::{Attempted, next_attempt};
use crate::dependency::Pass;
use crate::event::Event;
use crate::instance::{Direction, Instance, State, Terms, Transaction, Verdict};
use crate::probe::{Attempting, Part};
use crate::record::{Entry, StepAttemptFailed, StepDone};
use crate::registry::Told;
use crate::step::{ByCall, Compensation, Failure, Moment, Step, StepError, Work};
use crate::transaction_step::{InTransaction, PgConnection, TransactionStep};

/// Everything that one attempt owns.
pub(super) struct Attempt<S: Work<How>, How> {
    pub(super) instance: Arc<Instance>,
    pub(super) step: S,
    pub(super) key: String,
    pub(super) input: S::Input,
    pub(super) raw: Box<RawValue>,
    pub(super) attempt: u32,
    pub(super) began_at: DateTime<Utc>,
    /// Its instance was kept from it by a dependency.
    pub(super) was_parked: bool,
    pub(super) timeout: Duration,
    pub(super) pass: Pass,
}

/// A step at which attempts are made in the way `How`.
pub(super) trait Attemptable<How>: Work<How> {
    /// Applies the effect once and records what came of it.
    fn make(
        attempt: Attempt<Self, How>,
    ) -> impl Future<Output = Result<Option<Self::Output>, Verdict>> + Send;
}

impl<S: Step> Attemptable<ByCall> for S {
    async fn make(attempt: Attempt<S, ByCall>) -> Result<Option<S::Output>, Verdict> {
        let Attempt { instance, step, key, input, pass, .. } = &attempt;
        let call = instance.call(key, attempt.attempt, Direction::Forward);
        let attempting = Attempting { step: key, part: Part::Run, call: &call };
        let run = instance.worker.probes.attempt(attempting, step.run(&call, input));
        let run = AssertUnwindSafe(run).catch_unwind();
        let result = crate::attempt::judge(tokio::time::timeout(attempt.timeout, run).await);
        instance.worker.probes.reach("effect.after").await;
        pass.report(&result);
        let at = instance.worker.clock.now();
        let mut state = instance.state();
        let (output, (entry, events)) = match result {
            Ok(output) => {
                let done = attempt.done(&output)?;
                state.failure = None;
                (Some(output), done)
            }
            Err(error) => (None, attempt.failed(&mut state, &error)?),
        };
        state.append(Some(key), Some(attempt.attempt), entry, &events, None, at)?;
        state.settle_pivot(key, instance.workflow.steps());
        Ok(output)
    }
}

impl<S: TransactionStep> Attemptable<InTransaction> for S {
    async fn make(attempt: Attempt<S, InTransaction>) -> Result<Option<S::Output>, Verdict> {
        let made = attempt.instance.transact(&attempt).await;
        let instance = &attempt.instance;
        // Whatever came of it is in the history, or it has not happened.
        instance.state().settle_pivot(&attempt.key, instance.workflow.steps());
        made
    }
}

impl<S: TransactionStep> Transaction for Attempt<S, InTransaction> {
    type Output = S::Output;

    fn terms(&self) -> Terms<'_> {
        Terms { key: &self.key, attempt: self.attempt, timeout: self.timeout, pass: &self.pass }
    }

    async fn perform(&self, connection: &mut PgConnection) -> Result<S::Output, StepError> {
        let call = self.instance.call(&self.key, self.attempt, Direction::Forward);
        self.step.run(connection, &call, &self.input).await
    }

    fn done(&self, output: &S::Output) -> Result<(Entry, Vec<Event>), Verdict> {
        self.done(output)
    }

    fn failed(&self, state: &mut State, error: &StepError) -> Result<(Entry, Vec<Event>), Verdict> {
        self.failed(state, error)
    }
}

impl<S: Work<How>, How> Attempt<S, How> {
    fn done(&self, output: &S::Output) -> Result<(Entry, Vec<Event>), Verdict> {
        let Self { instance, step, key, input, raw, .. } = self;
        done(instance, step, key, input, raw, output, self.parked_until())
    }

    /// Until when a dependency kept the instance from it, if one did.
    fn parked_until(&self) -> Option<DateTime<Utc>> {
        self.was_parked.then_some(self.began_at)
    }

    /// The record of a failed attempt, and what it means for the instance.
    fn failed(&self, state: &mut State, error: &StepError) -> Result<(Entry, Vec<Event>), Verdict> {
        let instance = &self.instance;
        instance.worker.metrics.attempts_failed.inc();
        let Some(erased) = instance.workflow.steps().get(S::NAME) else {
            return Err(Verdict::Stick(Failure::new("STEP_NOT_REGISTERED", S::NAME)));
        };
        let facts = erased.facts();
        let now = instance.worker.clock.now();
        let (began_at, deadline) = (self.began_at, facts.deadline);
        let latest = state.history.latest_attempt(&self.key, began_at, self.was_parked, deadline);
        let step = state.history.step(&self.key);
        let counted = step.map_or(0, |step| step.attempts.counted);
        let began_at = step.is_none().then_some(self.began_at);
        let parked_until = self.parked_until();
        let unknown = step.is_some_and(|step| step.unknown);
        let chance = crate::attempt::chance(instance.instance_id, &self.key, self.attempt);
        let Attempted { outcome, retry_at } =
            next_attempt(error, counted + 1, facts.retry, facts.effect, chance, now);
        let retry_at = retry_at.filter(|at| latest.is_none_or(|latest| *at <= latest));
        let failure = error.failure().clone();
        let in_doubt = outcome.leaves_doubt(unknown);
        let told = if retry_at.is_none() && !in_doubt {
            let (input, failure) = (&self.input, &failure);
            Told::by(&self.step, || Moment::Failed { input, failure })
        } else {
            Told::default()
        };
        state.failure = Some(failure.clone());
        let input = self.raw.clone();
        let money = told.money;
        let failed =
            StepAttemptFailed { input, outcome, failure, began_at, parked_until, retry_at, money };
        Ok((Entry::StepAttemptFailed(failed), told.events))
    }
}

/// The record of a step that is done.
pub(super) fn done<S: Work<How>, How>(
    instance: &Instance,
    step: &S,
    key: &str,
    input: &S::Input,
    raw: &RawValue,
    output: &S::Output,
    parked_until: Option<DateTime<Utc>>,
) -> Result<(Entry, Vec<Event>), Verdict> {
    let output_raw = to_raw_value(output)
        .map_err(|error| Verdict::Unrecordable(format!("output of {key}: {error}")))?;
    let told = Told::by(step, || Moment::Done { input, output });
    let (input, money) = (raw.to_owned(), told.money);
    let declared = instance.workflow.steps().get(S::NAME).map(|step| step.facts().compensation);
    let compensation = declared.filter(|declared| *declared != Compensation::Nothing);
    let done = StepDone { input, output: output_raw, money, compensation, parked_until };
    Ok((Entry::StepDone(done), told.events))
}
