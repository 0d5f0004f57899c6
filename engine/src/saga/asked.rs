//! One step, as it is asked for: what the history answers, and what is announced before an attempt.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::attempt::{Attempt, Attemptable, done};
use crate::declaration::Declaration;
use crate::dependency::Pass;
use crate::history::RecordedStep;
use crate::instance::{Direction, Instance, State, Verdict, Wait};
use crate::memo::{Memo, recall};
use crate::probe::{Attempting, Part};
use crate::record::{
    AttemptOutcome, Entry, Reason, ReasonKind, StepAttemptFailed, StepInterrupted, StepLate,
    StepNotFound, StepStarted,
};
use crate::registry::{AnyStep, Told};
use crate::sabotage::Bug;
use crate::step::{Compensation, Effect, Failure, Moment, Probed, Work};

/// A step as it is asked for in this replay.
pub(super) struct Asked<'a> {
    pub(super) instance: &'a Arc<Instance>,
    pub(super) erased: &'a dyn AnyStep,
    pub(super) key: &'a str,
    pub(super) input: &'a RawValue,
}

/// What there is to do about a step.
pub(super) enum Recalled {
    /// It is done: its output, and the record that says so.
    Done(Box<RawValue>, u32),
    Next {
        attempt: u32,
        due: Option<DateTime<Utc>>,
        probe: bool,
    },
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
        } else if let (Memo::Stick(_), Some(wanted)) = (&memo, obstacle.filter(Verdict::is_wanted))
        {
            // What is in doubt need not be found out first: its undo makes sure of it.
            return Err(wanted);
        }
        match memo {
            Memo::Done(output) => {
                let said = state.history.step(self.key).map_or(0, |step| step.last_seq);
                Ok(Recalled::Done(output, said))
            }
            Memo::Stick(failure) => Err(Verdict::Stick(failure)),
            Memo::Diverged(divergence) => Err(Verdict::Diverged(divergence)),
            Memo::Failed(failure) => Err(failed(failure)),
            Memo::Attempt { attempt, due } => Ok(Recalled::Next { attempt, due, probe: false }),
            Memo::Probe { attempt, due } => Ok(Recalled::Next { attempt, due, probe: true }),
        }
    }

    /// Whether the last worker was lost in a place where this step's effect may have begun. An
    /// at-most-once call and a pivot are announced first: without that they have not begun. A
    /// transaction step without a record has not happened.
    fn may_have_been_under_way(&self, state: &State) -> bool {
        let facts = self.erased.facts();
        let doubted = state.history.step(self.key).is_some_and(|step| step.unknown);
        state.history.is_interrupted()
            && !doubted
            && facts.effect.may_leave_no_record()
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
            Effect::Idempotent { .. } | Effect::AtMostOnce | Effect::Transaction => {
                TimeDelta::zero()
            }
        };
        let entry = Entry::StepInterrupted(StepInterrupted {
            input: self.input.to_owned(),
            retry_at: (!stopped).then_some(now + quiet),
        });
        state.append(Some(self.key), Some(attempt), entry, &[], None, now)?;
        state.settle_pivot(self.key, self.instance.workflow.steps());
        Ok(())
    }

    /// Says beforehand what must be known if this worker is lost: that a pivot is being tried, that
    /// an at-most-once call is about to leave.
    fn announce(&self, attempt: u32) -> Result<(), Verdict> {
        self.instance.state().announce_pivot(self.key, self.instance.workflow.steps());
        if self.erased.facts().effect == Effect::AtMostOnce {
            let entry =
                Entry::StepStarted(StepStarted { input: self.input.to_owned(), parked: false });
            self.instance.append(Some(self.key), Some(attempt), entry, &[])?;
        }
        Ok(())
    }

    /// Says that what was announced has not begun after all. What an earlier attempt left in doubt
    /// stays in doubt.
    fn take_back(&self, attempt: u32) -> Result<(), Verdict> {
        let at = self.instance.worker.clock.now();
        let mut state = self.instance.state();
        let begun = state.history.step(self.key).is_some_and(|step| step.begun);
        let taken_back = if begun {
            let entry = Entry::StepAttemptFailed(StepAttemptFailed {
                input: self.input.to_owned(),
                outcome: AttemptOutcome::Retry,
                failure: Failure::new("NOT_STARTED", "a command came before the call"),
                began_at: None,
                parked_until: None,
                retry_at: Some(at),
                money: Vec::new(),
            });
            state.append(Some(self.key), Some(attempt), entry, &[], None, at)
        } else {
            Ok(())
        };
        if !Bug::PivotKeptOnHold.is_on() {
            state.settle_pivot(self.key, self.instance.workflow.steps());
        }
        taken_back
    }

    /// Whether the step's deadline has passed while its next attempt was due: nobody was there to
    /// make it.
    pub(super) fn is_late(&self) -> bool {
        let state = self.instance.state();
        let stood_still = state.history.stood_still();
        let (deadline, now) = (self.erased.facts().deadline, self.instance.worker.clock.now());
        let step = state.history.step(self.key);
        !state.was_parked && step.is_some_and(|step| step.is_late(deadline, stood_still, now))
    }

    /// Records that no attempt is made any more, and says what that means for the instance.
    pub(super) fn give_up<S: Work<How>, How>(
        &self,
        step: &S,
        input: &S::Input,
    ) -> Result<Verdict, Verdict> {
        let at = self.instance.worker.clock.now();
        let mut state = self.instance.state();
        let recorded = state.history.step(self.key);
        let failure = recorded.and_then(|step| step.attempts.last.clone()).unwrap_or_else(|| {
            Failure::new("DEADLINE_EXCEEDED", format!("{} has had no answer in time", self.key))
        });
        let told = if recorded.is_some_and(RecordedStep::is_in_doubt) {
            Told::default()
        } else {
            Told::by(step, || Moment::Failed { input, failure: &failure })
        };
        state.failure = Some(failure.clone());
        let (input, money) = (self.input.to_owned(), told.money);
        let late = Entry::StepLate(StepLate { input, failure: failure.clone(), money });
        state.append(Some(self.key), None, late, &told.events, None, at)?;
        state.settle_pivot(self.key, self.instance.workflow.steps());
        Ok(failed(failure))
    }

    /// The announcement of an attempt, which is not made yet.
    pub(super) fn announcement(&self, attempt: u32) -> Announcement<'_> {
        Announcement { asked: self, attempt, is_open: false }
    }

    /// Makes one attempt. It belongs to the engine: if the run is dropped, it goes on, and what
    /// came of it is recorded all the same.
    pub(super) async fn attempt<S: Attemptable<How>, How: 'static>(
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
            began_at: self.instance.worker.clock.now(),
            was_parked: self.instance.state().was_parked,
            timeout: facts.timeout,
            pass,
        };
        let instance = self.instance;
        instance.worker.metrics.attempts.inc();
        let engine = Arc::clone(instance);
        instance.spawn_attempt(async move {
            if let Err(Err(verdict)) = answer.send(S::make(made).await) {
                // The run does not wait for it any more; what it means stands all the same.
                engine.state().halt_for(verdict);
            }
        });
        answered.await.unwrap_or(Err(Verdict::Lost))
    }

    /// Asks the provider what became of an attempt whose outcome is unknown.
    pub(super) async fn probe<S: Work<How>, How>(
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
        pass.report(&asked);
        let later = self.instance.worker.clock.now() + quiet;
        match asked {
            Ok(Probed::Applied(output)) => {
                record_done(self.instance, step, self.key, attempt, input, self.input, &output)?;
                Ok(Some(output))
            }
            Ok(Probed::NotFound) => {
                let entry = Entry::StepNotFound(StepNotFound { retry_at: later, parked: false });
                self.instance.append(Some(self.key), Some(attempt), entry, &[])?;
                Ok(None)
            }
            // Asking failed: nothing has been learnt, and asking again is harmless.
            Err(_) => Err(Verdict::Wait(Wait::until(Some(later)))),
        }
    }
}

/// What is said of an attempt before it begins. It is taken back when it is dropped, unless the
/// attempt has begun: also where the run is dropped in between.
pub(super) struct Announcement<'a> {
    asked: &'a Asked<'a>,
    attempt: u32,
    is_open: bool,
}

impl Announcement<'_> {
    pub(super) fn make(&mut self) -> Result<(), Verdict> {
        self.is_open = true;
        self.asked.announce(self.attempt)
    }

    /// The attempt begins, and will record what becomes of it.
    pub(super) fn come_true(mut self) {
        self.is_open = false;
    }
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        if !self.is_open || std::thread::panicking() {
            return;
        }
        if let Err(verdict) = self.asked.take_back(self.attempt) {
            self.asked.instance.state().halt_for(verdict);
        }
    }
}

fn record_done<S: Work<How>, How>(
    instance: &Instance,
    step: &S,
    key: &str,
    attempt: u32,
    input: &S::Input,
    raw: &RawValue,
    output: &S::Output,
) -> Result<(), Verdict> {
    let at = instance.worker.clock.now();
    let mut state = instance.state();
    let parked_until = state.was_parked.then_some(at);
    let (entry, events) = done(instance, step, key, input, raw, output, parked_until)?;
    state.failure = None;
    state.append(Some(key), Some(attempt), entry, &events, None, at)
}

/// A step failed for good: undo everything.
pub(super) fn failed(failure: Failure) -> Verdict {
    Verdict::Compensate(Reason { kind: ReasonKind::Failure, failure })
}
