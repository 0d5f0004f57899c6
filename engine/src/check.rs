//! Replays every live instance against this build: without an effect, a write, or a worker's row.
//!
//! The replay is that of production, on a worker that was lost at birth: it stops where the run
//! would leave its history. What is recorded by then must have been asked for, with the same input.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use uuid::Uuid;

use crate::compensation::plan_compensation;
use crate::drive;
use crate::engine::EngineBuilder;
use crate::error::Error;
use crate::history::step_name;
use crate::instance::{Instance, Verdict};
use crate::limits::CLAIM_MAX;
pub use crate::memo::Divergence;
use crate::step::Failure;
use crate::store::claim::Claimed;
use crate::store::{Store, live};
use crate::worker::Worker;

/// A live instance, held against this build.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its id.
    pub instance_id: Uuid,
    /// The workflow's name.
    pub workflow: String,
    /// The version it is on.
    pub version: u32,
    /// What it is about.
    pub business_key: String,
    /// Why this build cannot go on with it; `None`: it can.
    pub misfit: Option<Misfit>,
}

/// Why a build cannot go on with an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The run does something else than is recorded.
    Diverges(Divergence),
    /// The build lacks the workflow's version, or a step.
    CannotBeRun(String),
    /// The build cannot read a record, an input or an output.
    Unreadable(String),
    /// The workflow panics.
    Panics(String),
    /// The instance would be stuck for another reason, or would hang.
    Fails(String),
}

impl Misfit {
    /// What kind of misfit it is, in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Diverges(_) => "diverges",
            Self::CannotBeRun(_) => "cannot_be_run",
            Self::Unreadable(_) => "unreadable",
            Self::Panics(_) => "panics",
            Self::Fails(_) => "fails",
        }
    }
}

/// What a check has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live instances that this build can go on with.
    pub fits: u64,
    /// The others, by the kind of their misfit.
    pub misfits: BTreeMap<&'static str, u64>,
}

impl Report {
    /// How many live instances were checked.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.fits + self.misfits.values().sum::<u64>()
    }
}

impl EngineBuilder {
    /// Checks whether this build can go on with every live instance of the database, and tells
    /// `each` of every one, oldest first.
    ///
    /// Reads only, and may be done while others work on the same database. It needs as much memory
    /// as a page of instances, however many there are.
    pub async fn check(self, mut each: impl FnMut(&Checked)) -> Result<Report, Error> {
        let worker = Worker::lost_at_birth(self.parts(Store::read_only)?);
        let mut report = Report::default();
        let mut after = Uuid::nil();
        loop {
            let page = live::live_instances(worker.store.pool(), after, CLAIM_MAX).await?;
            let Some(last) = page.last() else { return Ok(report) };
            after = last.instance_id;
            for claimed in page {
                let checked = check(&worker, claimed).await;
                match &checked.misfit {
                    None => report.fits += 1,
                    Some(misfit) => *report.misfits.entry(misfit.kind()).or_default() += 1,
                }
                each(&checked);
            }
        }
    }
}

async fn check(worker: &Arc<Worker>, claimed: Claimed) -> Checked {
    let (instance_id, version) = (claimed.instance_id, claimed.version);
    let (workflow, business_key) = (claimed.workflow.clone(), claimed.business_key.clone());
    let misfit = match worker.registry.get(&workflow, version) {
        None => {
            let missing = format!("{workflow}@{version} is not in this build");
            Some(Misfit::CannotBeRun(missing))
        }
        Some(runnable) => {
            let runnable = Arc::clone(runnable);
            go_on(Arc::new(Instance::claimed(Arc::clone(worker), runnable, claimed))).await.err()
        }
    };
    Checked { instance_id, workflow, version, business_key, misfit }
}

/// Goes on with an instance as far as its history reaches.
async fn go_on(instance: Arc<Instance>) -> Result<(), Misfit> {
    if instance.state().history.undoing().is_some() {
        return can_be_undone(&instance);
    }
    let unreadable = instance.state().unreadable.clone();
    if let Some(failure) = unreadable {
        return stuck(failure);
    }
    match until_idle(drive::forward(&instance)).await {
        Some(Ok(_)) => Ok(()),
        Some(Err(verdict)) => halted(&instance, verdict),
        None => stopped(&instance),
    }
}

/// Undoing runs no workflow; it needs the steps of the plan that is recorded.
fn can_be_undone(instance: &Instance) -> Result<(), Misfit> {
    let steps = instance.workflow.steps();
    let state = instance.state();
    let planned = state.history.undoing().into_iter().flat_map(|undoing| &undoing.plan.steps);
    let is_undone = |key: &str| state.history.step(key).is_some_and(|step| step.compensated);
    let is_child = |key: &str| state.history.step(key).is_some_and(|step| step.child.is_some());
    let mut missing = planned
        .map(|planned| planned.step.as_str())
        .filter(|key| !is_undone(key) && !is_child(key) && steps.get(step_name(key)).is_none());
    missing.next().map_or(Ok(()), |key| {
        let missing = format!("step {key} is to be undone and not in this build");
        Err(Misfit::CannotBeRun(missing))
    })
}

/// The run has ended before the end of the workflow.
fn halted(instance: &Instance, verdict: Verdict) -> Result<(), Misfit> {
    match verdict {
        Verdict::Diverged(divergence) => Err(Misfit::Diverges(divergence)),
        Verdict::Compensate(_) => {
            plan_compensation(&instance.state().history, instance.workflow.steps())
                .map(drop)
                .or_else(stuck)
        }
        Verdict::Stick(failure) => stuck(failure),
        Verdict::Unrecordable(error) => Err(Misfit::Fails(error)),
        Verdict::Terminate(_) => Ok(()),
        // Nobody reads mail here.
        Verdict::Wait(_) | Verdict::Release | Verdict::StepAside(_) | Verdict::Lost => {
            Err(Misfit::Fails("the run goes beyond its history unnoticed".to_owned()))
        }
    }
}

/// The instance needs a person: because of what has happened to it, or because of this build.
fn stuck(failure: Failure) -> Result<(), Misfit> {
    match &*failure.code {
        "OUTCOME_UNKNOWN" | "KEY_WINDOW_CLOSED" | "PAST_PIVOT" | "PIVOT_UNKNOWN" => Ok(()),
        "STEP_MISSING" | "STEP_NOT_REGISTERED" => Err(Misfit::CannotBeRun(failure.message)),
        "RECORD_UNREADABLE" => Err(Misfit::Unreadable(failure.message)),
        "WORKFLOW_PANICKED" => Err(Misfit::Panics(failure.message)),
        _ => Err(Misfit::Fails(failure.to_string())),
    }
}

/// The run wants to leave its history. A recorded step that it has not asked for by then comes
/// later in this build than in the one that recorded it, or not at all.
fn stopped(instance: &Instance) -> Result<(), Misfit> {
    let state = instance.state();
    if state.stopped_at.is_empty() {
        let outside = "the run waits for something that its saga knows nothing of";
        return Err(Misfit::Fails(outside.to_owned()));
    }
    state.history.unasked().map_or(Ok(()), |step| {
        let found = format!("step {}", state.stopped_at.join(", "));
        Err(Misfit::Diverges(Divergence::unasked(step, found)))
    })
}

/// Polls `run` until nothing that it does itself wakes it any more. `None`: it waits.
///
/// A branch that has stopped does not keep the others from being replayed.
async fn until_idle<T>(run: impl Future<Output = T>) -> Option<T> {
    let mut run = pin!(run);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        let mut context = Context::from_waker(&waker);
        if let Poll::Ready(output) = run.as_mut().poll(&mut context) {
            return Some(output);
        }
        // A run that has yielded is woken once this task has yielded too.
        tokio::task::yield_now().await;
        if !bell.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
}

/// Whether a run wants to be polled again.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
