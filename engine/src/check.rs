//! Replays every live instance against this build: without an effect, a write, or a worker's row.
//!
//! The replay is that of production, on a worker that was lost at birth: it stops where the run
//! would leave its history. What is recorded by then must have been asked for, with the same input.
//! What is undone, or may have to be, needs its steps, their undos, and types that read what is
//! recorded: also in children that have completed and can still be taken back.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use uuid::Uuid;

use crate::compensation::{COMPENSATION_CHANGED, Plan, plan_compensation};
use crate::drive;
use crate::engine::EngineBuilder;
use crate::error::Error;
use crate::history::{History, Progress, step_name};
use crate::instance::{Instance, Verdict};
use crate::limits::CLAIM_MAX;
pub use crate::memo::Divergence;
use crate::registry::{AnyWorkflow, Steps};
use crate::status::Status;
use crate::step::{Compensation, Failure};
use crate::store::Store;
use crate::store::live::{self, Found};
use crate::worker::Worker;

/// An instance that is live, or that a live one can still take back, held against this build.
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
    /// Whether it is a child that has completed, of an instance that is live or can itself be taken
    /// back: all that can become of it is to be undone.
    pub is_completed_child: bool,
    /// Why this build cannot go on with it; `None`: it can.
    pub misfit: Option<Misfit>,
    /// What will be otherwise than its build had meant it, although this one can go on with it.
    pub note: Option<Note>,
}

/// What a build does otherwise with an instance than the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// It waits for a dependency of this name that the build does not declare: it will be taken up
    /// at once, whether or not what it calls answers again.
    DependencyUndeclared(String),
}

impl Note {
    /// What kind of note it is, in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::DependencyUndeclared(_) => "dependency_undeclared",
        }
    }
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
    /// A step that was done with an undo, or as a pivot, has nothing to undo in this build: undoing
    /// would leave it out.
    CompensationChanged(String),
    /// What counts as past its pivot does not in this build, or the other way round: until it goes
    /// on, a cancel is refused that could happen, or accepted and cannot.
    PivotChanged(String),
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
            Self::CompensationChanged(_) => "compensation_changed",
            Self::PivotChanged(_) => "pivot_changed",
            Self::Panics(_) => "panics",
            Self::Fails(_) => "fails",
        }
    }
}

/// What a check has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Instances that this build can go on with.
    pub fits: u64,
    /// The others, by the kind of their misfit.
    pub misfits: BTreeMap<&'static str, u64>,
    /// How many of either are children that have completed; the others are live.
    pub completed_children: u64,
    /// What was noted beside, by its kind.
    pub notes: BTreeMap<&'static str, u64>,
}

impl Report {
    /// How many instances were checked.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.fits + self.misfits.values().sum::<u64>()
    }

    fn count(&mut self, checked: &Checked) {
        match &checked.misfit {
            None => self.fits += 1,
            Some(misfit) => *self.misfits.entry(misfit.kind()).or_default() += 1,
        }
        if let Some(note) = &checked.note {
            *self.notes.entry(note.kind()).or_default() += 1;
        }
        self.completed_children += u64::from(checked.is_completed_child);
    }
}

impl EngineBuilder {
    /// Checks whether this build can go on with every live instance of the database, and undo every
    /// completed child that these can still take back. Tells `each` of every one: live ones oldest
    /// first, a page at a time, and after each page the children.
    ///
    /// Reads only, and may be done while others work on the same database. It needs as much memory
    /// as a page of instances, however many there are.
    pub async fn check(self, mut each: impl FnMut(&Checked)) -> Result<Report, Error> {
        let worker = Worker::lost_at_birth(self.parts(Store::read_only)?);
        let mut report = Report::default();
        let mut after = Uuid::nil();
        loop {
            let page = next_page(&worker, Which::Live, after).await?;
            let Some(last) = page.last() else { return Ok(report) };
            after = last.claimed.instance_id;
            let ids: Arc<[Uuid]> = page.iter().map(|found| found.claimed.instance_id).collect();
            check_page(&worker, page, &mut report, &mut each).await;
            let mut child = Uuid::nil();
            loop {
                let of = Which::CompletedChildren(Arc::clone(&ids));
                let page = next_page(&worker, of, child).await?;
                let Some(last) = page.last() else { break };
                child = last.claimed.instance_id;
                check_page(&worker, page, &mut report, &mut each).await;
            }
        }
    }
}

/// Which instances are looked at.
enum Which {
    Live,
    /// Those that these instances can take back.
    CompletedChildren(Arc<[Uuid]>),
}

/// The next instances after `after`: rows and histories of one moment.
async fn next_page(worker: &Worker, which: Which, after: Uuid) -> Result<Vec<Found>, Error> {
    let page = worker.store.snapshot(move |connection| {
        Box::pin(async move {
            match which {
                Which::Live => live::live_instances(connection, after, CLAIM_MAX).await,
                Which::CompletedChildren(of) => {
                    live::completed_children(connection, &of, after, CLAIM_MAX).await
                }
            }
        })
    });
    page.await
}

async fn check_page(
    worker: &Arc<Worker>,
    page: Vec<Found>,
    report: &mut Report,
    each: &mut impl FnMut(&Checked),
) {
    for found in page {
        let checked = check(worker, found).await;
        report.count(&checked);
        each(&checked);
    }
}

async fn check(worker: &Arc<Worker>, found: Found) -> Checked {
    let Found { claimed, parked_on } = found;
    let (instance_id, version) = (claimed.instance_id, claimed.version);
    let (workflow, business_key) = (claimed.workflow.clone(), claimed.business_key.clone());
    let (was, past_pivot) = (claimed.was, claimed.past_pivot);
    let misfit = match worker.registry.get(&workflow, version) {
        None => {
            let missing = format!("{workflow}@{version} is not in this build");
            Some(Misfit::CannotBeRun(missing))
        }
        Some(runnable) => {
            let runnable = Arc::clone(runnable);
            let instance = Arc::new(Instance::claimed(Arc::clone(worker), runnable, claimed));
            go_on(instance, was, past_pivot).await.err()
        }
    };
    let is_undeclared = |name: &String| worker.dependencies.get(name).is_none();
    let note = parked_on.filter(is_undeclared).map(Note::DependencyUndeclared);
    let is_completed_child = was == Status::Completed;
    Checked { instance_id, workflow, version, business_key, is_completed_child, misfit, note }
}

/// Goes on with an instance as far as its history reaches, and looks whether it could be undone.
async fn go_on(instance: Arc<Instance>, was: Status, past_pivot: bool) -> Result<(), Misfit> {
    let (unreadable, undoing) = {
        let state = instance.state();
        let undoing = state.history.undoing().map(|undoing| undoing.plan.clone());
        (state.unreadable.clone(), undoing)
    };
    if let Some(failure) = unreadable {
        return stuck(failure);
    }
    if undoing.is_some() || was == Status::Completed {
        input_can_be_read(&*instance.workflow, &instance.state().history)?;
    } else {
        run(&instance).await?;
    }
    let state = instance.state();
    let (history, steps) = (&state.history, instance.workflow.steps());
    if let Some(plan) = undoing {
        return can_be_undone(&plan, history, steps);
    }
    // What runs may have announced its pivot, of which nothing is recorded yet.
    if was != Status::Running {
        pivot_is_as_it_was(past_pivot, state.past_pivot, history, steps)?;
    }
    match plan_compensation(history, steps) {
        Ok(plan) => can_be_undone(&plan, history, steps),
        Err(failure) => stuck(failure),
    }
}

async fn run(instance: &Arc<Instance>) -> Result<(), Misfit> {
    match until_idle(drive::forward(instance)).await {
        Some(Ok(_)) => Ok(()),
        Some(Err(verdict)) => halted(verdict),
        None => stopped(instance),
    }
}

/// At its end an instance accounts for what it was started with.
fn input_can_be_read(workflow: &dyn AnyWorkflow, history: &History) -> Result<(), Misfit> {
    let read = workflow.read(history.input().get());
    read.map_err(|error| Misfit::Unreadable(format!("the input: {error}")))
}

/// Undoing runs no workflow; it needs the steps of a plan, their undos, and what those read.
fn can_be_undone(plan: &Plan, history: &History, steps: &Steps) -> Result<(), Misfit> {
    for planned in &plan.steps {
        let key = &planned.step;
        let Some(recorded) = history.step(key).filter(|step| !step.compensated) else {
            continue;
        };
        // A child is undone by its own steps.
        if recorded.child.is_some() {
            continue;
        }
        let Some(step) = steps.get(step_name(key)) else {
            let missing = format!("step {key} is to be undone and not in this build");
            return Err(Misfit::CannotBeRun(missing));
        };
        if step.facts().compensation != Compensation::Undo {
            let changed = format!("{key} is to be undone, and has no undo in this build");
            return Err(Misfit::CompensationChanged(changed));
        }
        let output = match &recorded.progress {
            Progress::Done { output } if planned.known => Some(output.get()),
            _ => None,
        };
        let read = step.read(recorded.input.get(), output);
        read.map_err(|error| {
            Misfit::Unreadable(format!("the undo of {key}: {}", error.failure().message))
        })?;
    }
    Ok(())
}

/// Compares what the row says, by which people are answered, with what this build makes of it.
fn pivot_is_as_it_was(
    was_past: bool,
    is_past: bool,
    history: &History,
    steps: &Steps,
) -> Result<(), Misfit> {
    let pivot = history.steps().find(|step| steps.is_pivot(step.name()));
    match (was_past, is_past, pivot) {
        (false, true, Some(pivot)) => Err(Misfit::PivotChanged(format!(
            "{} is a pivot in this build: a cancel would be accepted and could not happen",
            pivot.key
        ))),
        (true, false, _) => Err(Misfit::PivotChanged(
            "no pivot of this build is done: a cancel would be refused although it could happen"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The run has ended before the end of the workflow.
fn halted(verdict: Verdict) -> Result<(), Misfit> {
    match verdict {
        Verdict::Diverged(divergence) => Err(Misfit::Diverges(divergence)),
        Verdict::Stick(failure) => stuck(failure),
        Verdict::Unrecordable(error) => Err(Misfit::Fails(error)),
        // Whether it can be undone is looked at anyway.
        Verdict::Compensate(_) | Verdict::Terminate(_) => Ok(()),
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
        COMPENSATION_CHANGED => Err(Misfit::CompensationChanged(failure.message)),
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
