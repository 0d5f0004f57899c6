//! Steps and histories for the tests of the pure modules.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::attempt;
use crate::history::History;
use crate::record::{
    AttemptOutcome, CompensationAttemptFailed, Entry, Record, StepAttemptFailed, StepDone,
    StepInterrupted, StepStarted,
};
use crate::registry::{AnyStep, Facts, Steps, Told};
use crate::retry::RetryPolicy;
use crate::step::{Call, Compensation, Effect, StepError, Undone};

/// How long the provider of any of these steps may apply what it was sent.
pub(crate) const SETTLES_WITHIN: Duration = Duration::from_secs(90);

/// Steps that are nothing but a name and a kind.
pub(crate) fn steps(named: impl IntoIterator<Item = (&'static str, Compensation)>) -> Steps {
    declared(named, Effect::Idempotent { key_window: None }, &RetryPolicy::default())
}

/// The same, with this effect and these attempts at running and at undoing.
pub(crate) fn declared(
    named: impl IntoIterator<Item = (&'static str, Compensation)>,
    effect: Effect,
    retry: &RetryPolicy,
) -> Steps {
    let fakes = named.into_iter().map(|(name, compensation)| {
        let fake = Fake { name, effect, compensation, retry: retry.clone() };
        Arc::new(fake) as Arc<dyn AnyStep>
    });
    Steps::of(fakes.collect())
}

struct Fake {
    name: &'static str,
    effect: Effect,
    compensation: Compensation,
    retry: RetryPolicy,
}

impl AnyStep for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            effect: self.effect,
            settles_within: Some(SETTLES_WITHIN),
            compensation: self.compensation,
            retry: &self.retry,
            undo_retry: &self.retry,
            timeout: Duration::from_secs(1),
            deadline: None,
            dependency: None,
        }
    }

    fn undo<'a>(
        &'a self,
        _: Option<&'a mut crate::PgConnection>,
        _: &'a Call,
        _: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Undone, StepError>> {
        Box::pin(std::future::ready(Ok(Undone::nothing())))
    }

    fn read(&self, _: &str, _: Option<&str>) -> Result<(), StepError> {
        Ok(())
    }

    fn done(&self, _: &str, _: &str) -> Result<Told, StepError> {
        Ok(Told::default())
    }

    fn undone(&self, _: &str, _: Option<&str>, _: &Undone) -> Result<Told, StepError> {
        Ok(Told::default())
    }
}

thread_local! {
    static RECORDED: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// The records that `make` appends to `history`.
pub(crate) fn recording(history: &mut History, make: impl FnOnce(&mut History)) -> Vec<Record> {
    RECORDED.take();
    make(history);
    RECORDED.take()
}

pub(crate) fn append(history: &mut History, step: &str, entry: Entry) {
    let at = DateTime::UNIX_EPOCH;
    let record = history.append(Some(step), Some(1), entry, &[], None, at).unwrap();
    RECORDED.with_borrow_mut(|recorded| recorded.push(record));
}

/// What every step is asked with, and answers.
pub(crate) fn input() -> Box<RawValue> {
    RawValue::from_string(r#"{"amount":1}"#.to_owned()).unwrap()
}

/// The step is done.
pub(crate) fn done(history: &mut History, step: &str) {
    done_with(history, step, None);
}

/// The step is done, with this declared of its undo.
pub(crate) fn done_with(history: &mut History, step: &str, compensation: Option<Compensation>) {
    append(history, step, Entry::StepDone(StepDone { compensation, ..step_done() }));
}

/// Says that a step is done, and nothing else.
pub(crate) fn step_done() -> StepDone {
    let (money, compensation, parked_until) = (Vec::new(), None, None);
    StepDone { input: input(), output: input(), money, compensation, parked_until }
}

/// An attempt ended with `error`.
pub(crate) fn failed(
    history: &mut History,
    step: &str,
    error: &StepError,
    retry_at: Option<DateTime<Utc>>,
) {
    append(history, step, Entry::StepAttemptFailed(attempt_failed(error, retry_at)));
}

/// What is recorded of an attempt that ended with `error`.
pub(crate) fn attempt_failed(
    error: &StepError,
    retry_at: Option<DateTime<Utc>>,
) -> StepAttemptFailed {
    let (outcome, failure) = (outcome(error), error.failure().clone());
    let (began_at, money) = (None, Vec::new());
    StepAttemptFailed {
        input: input(),
        outcome,
        failure,
        began_at,
        parked_until: None,
        retry_at,
        money,
    }
}

/// An attempt at undoing it ended with `error`.
pub(crate) fn undo_failed(
    history: &mut History,
    step: &str,
    error: &StepError,
    retry_at: Option<DateTime<Utc>>,
) {
    let (outcome, failure) = (outcome(error), error.failure().clone());
    let failed = CompensationAttemptFailed { outcome, failure, retry_at };
    append(history, step, Entry::CompensationAttemptFailed(failed));
}

fn outcome(error: &StepError) -> AttemptOutcome {
    let (policy, now) = (RetryPolicy::default(), DateTime::UNIX_EPOCH);
    let effect = Effect::Idempotent { key_window: None };
    attempt::next_attempt(error, 1, &policy, effect, 0.0, now).outcome
}

/// An at-most-once call was announced.
pub(crate) fn begun(history: &mut History, step: &str) {
    append(history, step, Entry::StepStarted(StepStarted { input: input(), parked: false }));
}

/// The worker was lost, perhaps in the middle of the step.
pub(crate) fn interrupted(history: &mut History, step: &str) {
    let interrupted = StepInterrupted { input: input(), retry_at: Some(DateTime::UNIX_EPOCH) };
    append(history, step, Entry::StepInterrupted(interrupted));
}
