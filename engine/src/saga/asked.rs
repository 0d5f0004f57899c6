//! One step, from the question to the record: what the history answers, what is announced, and
//! the attempt, which belongs to the engine and not to the run that asked for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;

use crate::attempt::{Attempted, next_attempt};
use crate::dependency::Pass;
use crate::instance::{Direction, Instance, State, Verdict, Wait};
use crate::memo::{Memo, recall};
use crate::probe::{Attempting, Part};
use crate::record::{
    AttemptOutcome, Entry, Reason, ReasonKind, StepAttemptFailed, StepDone, StepInterrupted,
    StepNotFound, StepStarted,
};
use crate::registry::{AnyStep, Told};
use crate::step::{Compensation, Declaration, Effect, Failure, Moment, Probed, Step, StepError};

/// A step as it is asked for in this replay.
pub(super) struct Asked<'a> {
    pub(super) instance: &'a Arc<Instance>,
    pub(super) erased: &'a dyn AnyStep,
    pub(super) key: &'a str,
    pub(super) input: &'a RawValue,
}

/// What there is to do about a step.
pub(super) enum Recalled {
    Done(Box<RawValue>),
    Next { attempt: u32, due: Option<DateTime<Utc>>, probe: bool },
}

impl Asked<'_> {
    /// Looks the step up in the history. What stops the run comes back as its verdict.
    pub(super) fn recall(&self) -> Result<Recalled, Verdict> {
        let effect = self.erased.facts().effect;
        let now = self.instance.worker.clock.now();
        let obstacle = self.instance.obstacle();
        let mut state = self.instance.state();
        let mut memo = recall(state.history.ask(self.key), self.input, effect, now);
        if let Some(attempt) = memo.next_attempt() {
            if self.may_have_been_under_way(&state) {
                self.record_interrupted(&mut state, attempt, effect, obstacle.is_some(), now)?;
                memo = recall(state.history.ask(self.key), self.input, effect, now);
            }
            if let Some(obstacle) = obstacle {
                return Err(obstacle);
            }
        }
        match memo {
            Memo::Done(output) => Ok(Recalled::Done(output)),
            Memo::Stick(failure) => Err(Verdict::Stick(failure)),
            Memo::Diverged(divergence) => Err(Verdict::Diverged(divergence)),
            Memo::Failed(failure) => Err(failed(failure)),
            Memo::Attempt { attempt, due } => Ok(Recalled::Next { attempt, due, probe: false }),
            Memo::Probe { attempt, due } => Ok(Recalled::Next { attempt, due, probe: true }),
        }
    }

    /// Whether the last worker was lost in a place where this step's effect may have begun. An
    /// at-most-once call and a pivot are announced first: without that they have not begun.
    fn may_have_been_under_way(&self, state: &State) -> bool {
        let facts = self.erased.facts();
        let doubted = state.history.step(self.key).is_some_and(|step| step.unknown);
        state.history.is_interrupted()
            && !doubted
            && facts.effect != Effect::AtMostOnce
            && (facts.compensation != Compensation::Pivot || state.past_pivot)
    }

    /// The last worker was lost, and may have been in the middle of this step: until an answer
    /// settles it, its outcome is unknown. (An at-most-once call has its intent recorded instead.)
    fn record_interrupted(
        &self,
        state: &mut State,
        attempt: u32,
        effect: Effect,
        stopped: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        let quiet = match effect {
            Effect::Queryable { quiet } => TimeDelta::from_std(quiet).unwrap_or_default(),
            Effect::Idempotent { .. } | Effect::AtMostOnce => TimeDelta::zero(),
        };
        let entry = Entry::StepInterrupted(StepInterrupted {
            input: self.input.to_owned(),
            retry_at: (!stopped).then_some(now + quiet),
        });
        state.append(Some(self.key), Some(attempt), entry, &[], None, now)
    }

    /// Says beforehand what must be known if this worker is lost: that a pivot is being tried, that
    /// an at-most-once call is about to leave.
    pub(super) fn announce(&self, attempt: u32) -> Result<(), Verdict> {
        let facts = self.erased.facts();
        if facts.compensation == Compensation::Pivot {
            self.instance.state().set_past_pivot(true);
        }
        if facts.effect == Effect::AtMostOnce {
            let entry = Entry::StepStarted(StepStarted { input: self.input.to_owned() });
            self.instance.append(Some(self.key), Some(attempt), entry, &[])?;
        }
        Ok(())
    }

    /// Says that an announced at-most-once call has not left after all.
    pub(super) fn take_back(&self, attempt: u32) -> Result<(), Verdict> {
        let begun = self.instance.state().history.step(self.key).is_some_and(|step| step.begun);
        if !begun {
            return Ok(());
        }
        let entry = Entry::StepAttemptFailed(StepAttemptFailed {
            input: self.input.to_owned(),
            outcome: AttemptOutcome::Retry,
            failure: Failure::new("NOT_STARTED", "a command came before the call"),
            retry_at: Some(self.instance.worker.clock.now()),
            money: Vec::new(),
        });
        self.instance.append(Some(self.key), Some(attempt), entry, &[])
    }

    /// Makes one attempt. It belongs to the engine: if the run is dropped, it goes on, and what
    /// came of it is recorded all the same.
    pub(super) async fn attempt<S: Step>(
        &self,
        step: &S,
        input: &S::Input,
        attempt: u32,
        pass: Pass,
    ) -> Result<Option<S::Output>, Verdict> {
        let (answer, answered) = oneshot::channel();
        let facts = self.erased.facts();
        let made = Attempt {
            instance: Arc::clone(self.instance),
            step: step.clone(),
            key: self.key.to_owned(),
            input: input.clone(),
            raw: self.input.to_owned(),
            attempt,
            timeout: facts.timeout,
            pass,
        };
        let instance = self.instance;
        instance.worker.metrics.attempts.inc();
        instance.spawn_attempt(async move {
            let _ = answer.send(made.make().await);
        });
        answered.await.unwrap_or(Err(Verdict::Lost))
    }

    /// Asks the provider what became of an attempt whose outcome is unknown.
    pub(super) async fn probe<S: Step>(
        &self,
        step: &S,
        input: &S::Input,
        attempt: u32,
        pass: Pass,
    ) -> Result<Option<S::Output>, Verdict> {
        let Declaration { probe: Some(probe), effect: Effect::Queryable { quiet }, .. } =
            step.declare()
        else {
            return Err(Verdict::Stick(Failure::new("PROBE_MISSING", self.key.to_owned())));
        };
        let call = self.instance.call(self.key, attempt, Direction::Forward);
        let attempting = Attempting { step: self.key, part: Part::Probe, call: &call };
        let asked = probe(step, &call, input);
        let asked = self.instance.worker.probes.attempt(attempting, asked);
        let asked = AssertUnwindSafe(asked).catch_unwind();
        let asked = tokio::time::timeout(self.erased.facts().timeout, asked).await;
        let asked = crate::attempt::judge(asked);
        self.instance.worker.heed(&pass, &asked);
        let later = self.instance.worker.clock.now() + quiet;
        match asked {
            Ok(Probed::Applied(output)) => {
                record_done(self.instance, step, self.key, attempt, input, self.input, &output)?;
                Ok(Some(output))
            }
            Ok(Probed::NotFound) => {
                let entry = Entry::StepNotFound(StepNotFound { retry_at: later });
                self.instance.append(Some(self.key), Some(attempt), entry, &[])?;
                Ok(None)
            }
            // Asking failed: nothing has been learnt, and asking again is harmless.
            Err(_) => Err(Verdict::Wait(Wait::until(Some(later)))),
        }
    }
}

/// Everything that one attempt owns.
struct Attempt<S: Step> {
    instance: Arc<Instance>,
    step: S,
    key: String,
    input: S::Input,
    raw: Box<RawValue>,
    attempt: u32,
    timeout: Duration,
    pass: Pass,
}

impl<S: Step> Attempt<S> {
    /// Applies the effect once and records what came of it.
    async fn make(self) -> Result<Option<S::Output>, Verdict> {
        let call = self.instance.call(&self.key, self.attempt, Direction::Forward);
        let attempting = Attempting { step: &self.key, part: Part::Run, call: &call };
        let run = self.step.run(&call, &self.input);
        let run = self.instance.worker.probes.attempt(attempting, run);
        let run = AssertUnwindSafe(run).catch_unwind();
        let result = crate::attempt::judge(tokio::time::timeout(self.timeout, run).await);
        self.instance.worker.probes.reach("effect.after").await;
        self.instance.worker.heed(&self.pass, &result);
        match result {
            Ok(output) => {
                record_done(
                    &self.instance,
                    &self.step,
                    &self.key,
                    self.attempt,
                    &self.input,
                    &self.raw,
                    &output,
                )?;
                Ok(Some(output))
            }
            Err(error) => self.record_failed(error).map(|()| None),
        }
    }

    fn record_failed(self, error: StepError) -> Result<(), Verdict> {
        let instance = &self.instance;
        instance.worker.metrics.attempts_failed.inc();
        let Some(erased) = instance.workflow.steps().get(S::NAME) else {
            return Err(Verdict::Stick(Failure::new("STEP_NOT_REGISTERED", S::NAME)));
        };
        let facts = erased.facts();
        let now = instance.worker.clock.now();
        let (counted, first_at) = {
            let state = instance.state();
            let step = state.history.step(&self.key);
            step.map_or((0, now), |step| (step.attempts.counted, step.first_at))
        };
        let chance = crate::attempt::chance(instance.instance_id, &self.key, self.attempt);
        let Attempted { outcome, retry_at } =
            next_attempt(&error, counted + 1, facts.retry, facts.effect, chance, now);
        let retry_at = retry_at.filter(|at| !is_late(*at, first_at, facts.deadline));
        let failure = error.failure().clone();
        let told = if retry_at.is_none() && outcome != AttemptOutcome::Unknown {
            let (input, failure) = (&self.input, &failure);
            Told::by(&self.step, || Moment::Failed { input, failure })
        } else {
            Told::default()
        };
        if facts.compensation == Compensation::Pivot && outcome != AttemptOutcome::Unknown {
            let unknown = instance.state().history.step(&self.key).is_some_and(|step| step.unknown);
            // What an earlier attempt left unknown stays so; a refusal settles it.
            if !unknown || outcome == AttemptOutcome::Fail {
                instance.state().set_past_pivot(false);
            }
        }
        instance.state().failure = Some(failure.clone());
        let entry = Entry::StepAttemptFailed(StepAttemptFailed {
            input: self.raw,
            outcome,
            failure,
            retry_at,
            money: told.money,
        });
        instance.append(Some(&self.key), Some(self.attempt), entry, &told.events)
    }
}

/// Whether an attempt at this time would come after the step's deadline.
fn is_late(at: DateTime<Utc>, first_at: DateTime<Utc>, deadline: Option<Duration>) -> bool {
    let latest = deadline
        .and_then(|deadline| TimeDelta::from_std(deadline).ok())
        .and_then(|deadline| first_at.checked_add_signed(deadline));
    latest.is_some_and(|latest| at > latest)
}

fn record_done<S: Step>(
    instance: &Instance,
    step: &S,
    key: &str,
    attempt: u32,
    input: &S::Input,
    raw: &RawValue,
    output: &S::Output,
) -> Result<(), Verdict> {
    let output_raw = to_raw_value(output)
        .map_err(|error| Verdict::Unrecordable(format!("output of {key}: {error}")))?;
    let told = Told::by(step, || Moment::Done { input, output });
    let entry =
        Entry::StepDone(StepDone { input: raw.to_owned(), output: output_raw, money: told.money });
    let at = instance.worker.clock.now();
    let mut state = instance.state();
    state.failure = None;
    state.append(Some(key), Some(attempt), entry, &told.events, None, at)
}

/// A step failed for good: undo everything.
fn failed(failure: Failure) -> Verdict {
    Verdict::Compensate(Reason { kind: ReasonKind::Failure, failure })
}
