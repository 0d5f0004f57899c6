//! Drives one held instance until it waits, ends, or needs a person.
//!
//! Forward by running its workflow, backward by executing its plan. Both only say what is to
//! become of the instance; this loop makes it so, and starts over when mail has come in between.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::value::RawValue;

use crate::attempt::{self, compensation_failed, panic_message};
use crate::children::unfinished;
use crate::compensation::{COMPENSATION_CHANGED, plan_compensation};
use crate::event::Event;
use crate::history::{History, Progress, step_name};
use crate::instance::{
    Closing, Direction, Flushed, Idle, Instance, Readiness, State, Transaction, Verdict, Wait,
};
use crate::limits;
use crate::memo::Divergence;
use crate::probe::{Attempting, Part};
use crate::reading::Reading;
use crate::record::{ChildEnded, CompensationPlanned, Ended, Entry, Reason, ReasonKind, Stuck};
use crate::registry::{self, Finished};
use crate::saga::{Saga, child_id};
use crate::status::{Status, Transition};
use crate::step::{Compensation, Effect, Failure};
use crate::undo::AskedUndo;
use crate::unsettled::Unsettled;
use crate::workflow::Outcome;

/// What a pass over the instance came to.
pub(crate) enum Pass<'w> {
    /// The workflow has answered.
    Finished(Finished<'w>),
    /// All that had been done is undone.
    Undone(Reason),
    /// It cannot go on by itself.
    Halted(Verdict),
}

/// Drives an instance until this worker has no more to do with it. A panic of the engine itself
/// must not leave it held for ever: a person is told.
pub(crate) async fn drive(instance: Arc<Instance>) {
    let driven = AssertUnwindSafe(drive_to_the_end(&instance)).catch_unwind().await;
    if let Err(panic) = driven {
        let failure = Failure::new("ENGINE_PANICKED", panic_message(&*panic));
        // Mail that comes in between is read and waits in the history for whoever resumes.
        let mut unsettled = Unsettled::default();
        while settle(&instance, Pass::Halted(Verdict::Stick(failure.clone()))).await.is_some()
            && !instance.worker.lost.is_cancelled()
        {
            unsettled.pause(&instance).await;
        }
    }
}

async fn drive_to_the_end(instance: &Arc<Instance>) {
    let mut pass = match instance.read_mail_if_any().await {
        Ok(()) => next(instance).await,
        Err(verdict) => Pass::Halted(verdict),
    };
    let mut unsettled = Unsettled::default();
    while let Some(again) = settle(instance, pass).await {
        unsettled.pause(instance).await;
        pass = match again {
            Again::Pass => next(instance).await,
            Again::Verdict(verdict) => Pass::Halted(verdict),
        };
    }
}

async fn next(instance: &Arc<Instance>) -> Pass<'_> {
    let (undoing, verdict) = {
        let state = instance.state();
        (state.history.undoing().is_some(), without_looking(&state))
    };
    if let Some(verdict) = verdict {
        return Pass::Halted(verdict);
    }
    let passed = if undoing { backward(instance).await } else { forward(instance).await };
    passed.unwrap_or_else(Pass::Halted)
}

/// What becomes of an instance whatever its workflow says.
fn without_looking(state: &State) -> Option<Verdict> {
    let history = &state.history;
    if let Some(verdict) = stopped(history) {
        return Some(verdict);
    }
    // Nothing can be decided from a history that cannot be read.
    if let Some(failure) = &state.unreadable {
        return Some(Verdict::Stick(failure.clone()));
    }
    if let (Some(refusal), None) = (state.refusal(), history.cancelled()) {
        return Some(refusal);
    }
    // Mail alone does not move what waits for a person.
    let is_stuck = state.status == Status::Stuck && history.cancelled().is_none();
    if is_stuck {
        return Some(Verdict::Wait(Wait::default()));
    }
    state.lost.is_guilty().then(|| {
        let message = format!(
            "{} workers were lost while it was the only suspect that they ran",
            limits::TRIALS_ALONE_MAX
        );
        Verdict::Stick(Failure::new("POISONED", message))
    })
}

/// Whether a person keeps every further effect from being begun.
fn stopped(history: &History) -> Option<Verdict> {
    if let Some(reason) = history.terminated() {
        return Some(Verdict::Terminate(reason.to_owned()));
    }
    history.is_held().then(|| Verdict::Wait(Wait::default()))
}

/// Runs the workflow from the top; what is recorded answers from the history.
pub(crate) async fn forward(instance: &Arc<Instance>) -> Result<Pass<'_>, Verdict> {
    let input = instance.input();
    {
        let mut state = instance.state();
        let cancelled = state.history.cancelled();
        if let (Some(reason), false) = (cancelled, state.history.is_interrupted()) {
            return Err(Verdict::Compensate(reason));
        }
        state.begin_replay();
    }
    instance.branches.begin_replay();
    let saga = Saga(Arc::clone(instance));
    let run = replay(instance, &saga, input.get()).await;
    // An attempt belongs to the engine: a run that was dropped does not end it.
    instance.settle_attempts().await;
    let mut state = instance.state();
    state.settle_pivots(instance.workflow.steps());
    if let Some(verdict) = state.halt.take() {
        return Err(verdict);
    }
    match run? {
        Ok(Ok(finished)) => match (state.history.unasked(), instance.obstacle_in(&state)) {
            (Some(key), _) => {
                let found = "the end of the run".to_owned();
                Err(Verdict::Diverged(Divergence::unasked(key, found)))
            }
            (None, Some(obstacle)) if obstacle.is_wanted() => Err(obstacle),
            (None, _) => {
                let unfinished = || unfinished(&state.history).map(Verdict::Stick);
                state.refusal().or_else(unfinished).map_or(Ok(Pass::Finished(finished)), Err)
            }
        },
        Ok(Err(registry::Ended::Unreadable(error))) => {
            Err(Verdict::Stick(Failure::new("RECORD_UNREADABLE", error)))
        }
        Ok(Err(registry::Ended::Halted)) => Err(Verdict::Stick(Failure::new(
            "HALTED_WITHOUT_REASON",
            "the run returned a halt that its saga had not given",
        ))),
        Err(panic) => {
            Err(Verdict::Stick(Failure::new("WORKFLOW_PANICKED", panic_message(&*panic))))
        }
    }
}

/// Runs the workflow until it answers, or until its every call waits.
async fn replay<'w>(instance: &'w Instance, saga: &Saga, input: &str) -> Result<Ran<'w>, Verdict> {
    let run = AssertUnwindSafe(instance.workflow.run(saga, input)).catch_unwind();
    let mut run = std::pin::pin!(run);
    // Dropped before the run: dropping a run whose every branch waits costs nothing.
    let _given_up = GivenUp(instance);
    let mut seen = None;
    loop {
        let idle = tokio::select! {
            biased;
            run = &mut run => return Ok(run),
            idle = instance.branches.idle() => idle,
        };
        // A run that has only yielded, or has just been woken, is not idle.
        if seen != Some(idle) {
            seen = Some(idle);
            tokio::task::yield_now().await;
            continue;
        }
        match idle {
            Idle::Waits(wait) => return Err(Verdict::Wait(instance.within_deadline(wait))),
            Idle::OutOfTurn(seq) => instance.branches.call_up_to(seq),
        }
    }
}

/// What a run comes to, if it does not panic.
type Ran<'w> = std::thread::Result<Result<Finished<'w>, registry::Ended>>;

/// Says, when it is dropped, that calls are dropped from now on because the engine drops the run.
struct GivenUp<'a>(&'a Instance);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.state().is_replaying = false;
    }
}

/// Executes the plan, latest step first.
async fn backward(instance: &Arc<Instance>) -> Result<Pass<'_>, Verdict> {
    loop {
        let (reason, planned) = {
            let state = instance.state();
            let refusal = || state.refusal().filter(|_| state.history.cancelled().is_none());
            if let Some(verdict) = stopped(&state.history).or_else(refusal) {
                return Err(verdict);
            }
            let Some(undoing) = state.history.undoing() else {
                return Err(Verdict::Stick(Failure::new("PLAN_MISSING", "nothing to execute")));
            };
            (undoing.reason.clone(), state.history.next_to_undo().cloned())
        };
        match planned {
            None => return Ok(Pass::Undone(reason)),
            Some(planned) => match child_id(instance, &planned.step) {
                Some(child) => instance.take_back(&planned.step, child).await?,
                None => undo(instance, &planned.step, planned.known).await?,
            },
        }
    }
}

/// Makes one attempt at undoing a step, when it is due.
async fn undo(instance: &Arc<Instance>, key: &str, known: bool) -> Result<(), Verdict> {
    let missing =
        || Verdict::Stick(Failure::new("STEP_MISSING", format!("{key} is not part of this build")));
    let steps = instance.workflow.steps();
    let (input, output, doubted_at, attempts) = {
        let state = instance.state();
        let step = state.history.step(key).ok_or_else(missing)?;
        let output = match &step.progress {
            Progress::Done { output } if known => Some(output.clone()),
            _ => None,
        };
        (step.input.clone(), output, step.doubted_at, step.undo.clone())
    };
    let step = steps.get(step_name(key)).ok_or_else(missing)?;
    // The plan was made by a build that had an undo: this one leaves nothing out silently.
    if step.facts().compensation != Compensation::Undo {
        let message = format!("{key} is to be undone, and has no undo in this build");
        return Err(Verdict::Stick(Failure::new(COMPENSATION_CHANGED, message)));
    }
    if let (Some(failure), None, true) = (&attempts.last, attempts.retry_at, attempts.counted > 0) {
        return Err(Verdict::Stick(compensation_failed(key, failure)));
    }
    if attempts.retry_at.is_some_and(|due| due > instance.worker.clock.now()) {
        return instance.pause_until(attempts.retry_at).await;
    }
    let Some(pass) = instance.enter(step.facts().dependency).await? else {
        return Ok(());
    };
    if instance.ready_for_effect(|| Ok(())).await? == Readiness::ThinkAgain {
        return Ok(());
    }
    let attempt = attempts.total + 1;
    let mut call = instance.call(key, attempt, Direction::Undo);
    if step.facts().effect == Effect::Transaction {
        // None of its attempts can be in doubt.
        call = call.with_ledger(instance.state().history.ledger().clone());
    }
    instance.worker.metrics.attempts.inc();
    let step = step.as_ref();
    let asked = AskedUndo { instance, step, key, input, output, doubted_at, attempts, call, pass };
    if step.facts().effect == Effect::Transaction {
        return instance.transact(&asked).await.map(drop);
    }
    let attempting = Attempting { step: key, part: Part::Undo, call: &asked.call };
    let undo = instance.worker.probes.attempt(attempting, asked.undo(None));
    let undo = AssertUnwindSafe(undo).catch_unwind();
    let result = attempt::judge(tokio::time::timeout(step.facts().timeout, undo).await);
    instance.worker.probes.reach("undo.after").await;
    asked.pass.report(&result);
    let (entry, events) = match result {
        Ok(undone) => asked.done(&undone)?,
        Err(error) => asked.failed(&mut instance.state(), &error)?,
    };
    instance.append(Some(key), Some(attempt), entry, &events)
}

/// How to go on after a pass could not be settled.
enum Again {
    Pass,
    Verdict(Verdict),
}

/// Makes the end of a pass durable. `None`: this worker is done with the instance.
async fn settle(instance: &Arc<Instance>, pass: Pass<'_>) -> Option<Again> {
    let closing = match pass {
        Pass::Finished(finished) => end(instance, Outcome::Completed, Some(finished), None),
        Pass::Undone(reason) => {
            let cancelled =
                reason.kind == ReasonKind::Cancel || instance.state().history.cancelled().is_some();
            let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Compensated };
            end(instance, outcome, None, Some(reason.failure))
        }
        Pass::Halted(Verdict::Compensate(reason)) => {
            return Some(plan(instance, reason).map_or_else(Again::Verdict, |()| Again::Pass));
        }
        Pass::Halted(Verdict::Wait(wait)) => rest(instance, wait),
        Pass::Halted(Verdict::Release) => {
            rest(instance, Wait::until(Some(instance.worker.clock.now())))
        }
        Pass::Halted(Verdict::Terminate(reason)) => terminate(instance, reason),
        Pass::Halted(Verdict::Stick(failure)) => stick(instance, failure),
        Pass::Halted(Verdict::Diverged(divergence)) => stick(instance, divergence.into()),
        Pass::Halted(Verdict::StepAside(unknown)) => step_aside(instance, &unknown),
        Pass::Halted(Verdict::Unrecordable(error)) => {
            // What cannot be recorded is taken out of the memory too; a person is told.
            if let Err(verdict) = instance.reload().await {
                return Some(Again::Verdict(verdict));
            }
            match instance.sift_mail().await {
                Ok(true) => return Some(Again::Pass),
                Ok(false) => {}
                Err(verdict) => return Some(Again::Verdict(verdict)),
            }
            let message = format!("what happened last could not be recorded: {error}");
            stick(instance, Failure::new("RECORD_REFUSED", message))
        }
        Pass::Halted(Verdict::Lost) => return None,
    };
    close(instance, closing).await
}

async fn close(instance: &Arc<Instance>, closing: Closing) -> Option<Again> {
    let end = instance.state().status.after(closing.transition).filter(|to| to.is_terminal());
    instance.worker.probes.reach("close.before").await;
    match instance.close(closing).await {
        Flushed::Yes => {
            if let Some(status) = end {
                instance.worker.metrics.ended.inc();
                // Nobody may be listening.
                let _ = instance.worker.endings.send((instance.instance_id, status));
                if instance.state().history.parent().is_some() {
                    instance.worker.tell_parent(instance.instance_id).await;
                }
            }
            None
        }
        Flushed::MailRead => Some(Again::Pass),
        Flushed::Refused(verdict) => Some(Again::Verdict(verdict)),
    }
}

/// Records the plan; the next write makes it durable, before anything is undone.
fn plan(instance: &Instance, reason: Reason) -> Result<(), Verdict> {
    let steps = instance.workflow.steps();
    let plan = plan_compensation(&instance.state().history, steps).map_err(Verdict::Stick)?;
    let plan_hash = plan.hash();
    instance.state().failure = Some(reason.failure.clone());
    let entry = Entry::CompensationPlanned(CompensationPlanned { reason, plan, plan_hash });
    instance.append(None, None, entry, &[])?;
    let mut state = instance.state();
    state.transit(Transition::Compensate);
    // Mail comes before the plan, also where the status stays.
    state.touch_row();
    state.settle_pivots(steps);
    Ok(())
}

/// The end of an instance, if its money adds up; else a person has to look.
fn end(
    instance: &Instance,
    outcome: Outcome,
    finished: Option<Finished<'_>>,
    failure: Option<Failure>,
) -> Closing {
    let input = instance.input();
    let balanced = {
        let state = instance.state();
        let ledger = state.history.ledger();
        match &finished {
            Some(finished) => (finished.balanced)(ledger),
            None => instance.workflow.balanced(outcome, input.get(), ledger),
        }
    };
    if let Err(imbalance) = balanced {
        return stick(instance, Failure::new("LEDGER_IMBALANCE", imbalance.0));
    }
    let (status, transition) = match outcome {
        Outcome::Completed => (Status::Completed, Transition::Complete),
        Outcome::Compensated => (Status::Compensated, Transition::FinishCompensated),
        Outcome::Cancelled => (Status::Cancelled, Transition::FinishCancelled),
    };
    let (output, events) = match (finished, &failure) {
        (Some(finished), _) => (RawValue::from_string(finished.output).ok(), finished.events),
        (None, Some(failure)) => (None, instance.workflow.undone(input.get(), outcome, failure)),
        (None, None) => (None, Vec::new()),
    };
    if let Some(refusal) = refused_by_parent(instance, status, output.as_deref()) {
        return stick(instance, Failure::new("OUTPUT_TOO_LARGE", refusal));
    }
    ended(instance, Ended { status, output, failure, unread: Vec::new() }, transition, events)
}

/// Why the parent of an instance could not record what that answers, if it could not.
fn refused_by_parent(
    instance: &Instance,
    status: Status,
    output: Option<&RawValue>,
) -> Option<String> {
    let output = output.map(ToOwned::to_owned);
    let key = instance.state().history.parent()?.key.clone();
    let (instance_id, failure, parked) = (instance.instance_id, None, false);
    let said = ChildEnded { instance_id, status, output, failure, parked };
    Reading::child_ended(key, said).refuse().map(|why| format!("the output: {why}"))
}

/// The end by force: nothing is undone, and nothing is checked.
fn terminate(instance: &Instance, reason: String) -> Closing {
    let failure = Failure::new("TERMINATED", reason);
    let input = instance.input();
    if let Err(error) = instance.workflow.read(input.get()) {
        tracing::warn!(
            instance.id = %instance.instance_id,
            %error,
            "no event tells that instance {} is stopped: its workflow cannot read its input",
            instance.instance_id,
        );
    }
    let events = instance.workflow.terminated(input.get(), &failure);
    let status = Status::Terminated;
    let end = Ended { status, output: None, failure: Some(failure), unread: Vec::new() };
    ended(instance, end, Transition::Terminate, events)
}

fn ended(
    instance: &Instance,
    mut end: Ended,
    transition: Transition,
    events: Vec<Event>,
) -> Closing {
    end.unread = instance.state().history.unread_signals();
    let failure = end.failure.clone();
    let entry = Some((Entry::Ended(end), events));
    Closing { entry, transition, wait: Wait::default(), failure, leaves_mail: false }
}

fn rest(instance: &Instance, wait: Wait) -> Closing {
    let state = instance.state();
    // What is stuck stays so while it has nothing new to say.
    let transition = match state.status {
        Status::Stuck | Status::Completed => Transition::Claim,
        _ => Transition::Wait,
    };
    let failure = state.failure.clone();
    Closing { entry: None, transition, wait, failure, leaves_mail: false }
}

/// Leaves an instance to a newer build, and its mail unread.
fn step_aside(instance: &Instance, unknown: &str) -> Closing {
    tracing::warn!(
        instance.id = %instance.instance_id,
        "instance {} waits for a newer build: {unknown}", instance.instance_id,
    );
    let until = instance.worker.clock.now() + limits::UNKNOWN_MAIL_PAUSE;
    Closing { leaves_mail: true, ..rest(instance, Wait::until(Some(until))) }
}

fn stick(instance: &Instance, failure: Failure) -> Closing {
    instance.worker.metrics.stuck.inc();
    tracing::warn!(
        instance.id = %instance.instance_id,
        code = %failure.code,
        "instance {} needs a person: {failure}", instance.instance_id,
    );
    let transition = match instance.state().status {
        Status::Stuck => Transition::Claim,
        _ => Transition::Stick,
    };
    let entry = Entry::Stuck(Stuck { failure: failure.clone() });
    let (entry, wait) = (Some((entry, Vec::new())), Wait::default());
    Closing { entry, transition, wait, failure: Some(failure), leaves_mail: false }
}
