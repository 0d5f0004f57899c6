//! The workflows and steps that this process can run, with their types erased.
//!
//! The loops know workflows by name and version and steps by name; here both are found again, and
//! recorded JSON becomes typed data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::declaration::Declaration;
use crate::dependency::Dependency;
use crate::event::Event;
use crate::money::{Imbalance, Ledger, Movement};
use crate::retry::RetryPolicy;
use crate::saga::{Halt, Saga};
use crate::signal::Signals;
use crate::step::{Call, Compensation, Effect, Failure, Moment, Step, StepError, Undone, Work};
use crate::transaction_step::{PgConnection, TransactionStep};
use crate::workflow::{Milestone, Outcome, Workflow};

/// No provider applies anything later than this.
const SETTLES_WITHIN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The steps of a workflow, in the order of a successful instance.
#[derive(Default)]
pub struct Steps {
    steps: Vec<Arc<dyn AnyStep>>,
}

impl Steps {
    /// No steps yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step.
    #[must_use]
    pub fn step<S: Step>(self, step: &S) -> Self {
        self.add(step)
    }

    /// Adds a step whose SQL commits together with its record.
    #[must_use]
    pub fn transaction<S: TransactionStep>(self, step: &S) -> Self {
        self.add(step)
    }

    fn add<S: Work<How>, How: 'static>(mut self, step: &S) -> Self {
        self.steps.push(Arc::new(TypedStep { declaration: step.declare(), step: step.clone() }));
        self
    }

    #[cfg(test)]
    pub(crate) fn of(steps: Vec<Arc<dyn AnyStep>>) -> Self {
        Self { steps }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn AnyStep>> {
        self.steps.iter().find(|step| step.name() == name)
    }

    pub(crate) fn is_pivot(&self, name: &str) -> bool {
        self.get(name).is_some_and(|step| step.facts().compensation == Compensation::Pivot)
    }

    /// Whether a pivot may have been applied although nothing is recorded of it.
    pub(crate) fn have_doubtful_pivot(&self) -> bool {
        let facts = self.steps.iter().map(|step| step.facts());
        let mut pivots = facts.filter(|facts| facts.compensation == Compensation::Pivot);
        pivots.any(|facts| facts.effect.may_leave_no_record())
    }
}

/// What the engine needs of a step without its types.
pub(crate) trait AnyStep: Send + Sync {
    fn name(&self) -> &'static str;
    fn facts(&self) -> Facts<'_>;
    /// Runs the undo for recorded JSON; that of a transaction step on the connection of its
    /// transaction.
    fn undo<'a>(
        &'a self,
        connection: Option<&'a mut PgConnection>,
        call: &'a Call,
        input: &'a str,
        output: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Undone, StepError>>;
    /// Whether its types can read what is recorded of it, as its undo would.
    fn read(&self, input: &str, output: Option<&str>) -> Result<(), StepError>;
    /// What the step publishes and accounts for once a person has found out that it is done.
    fn done(&self, input: &str, output: &str) -> Result<Told, StepError>;
    /// What the step publishes and accounts for once it is undone.
    fn undone(&self, input: &str, output: Option<&str>, undone: &Undone)
    -> Result<Told, StepError>;
}

/// The declarations of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) effect: Effect,
    /// How long a provider may still apply what it was sent; none where nothing can be unknown.
    pub(crate) settles_within: Option<Duration>,
    pub(crate) compensation: Compensation,
    pub(crate) retry: &'a RetryPolicy,
    pub(crate) undo_retry: &'a RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) dependency: Option<&'static str>,
}

/// What a step or a workflow has to say about a moment.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: Vec<Event>,
    pub(crate) money: Vec<Movement>,
}

impl Told {
    pub(crate) fn by<'a, S: Work<How>, How>(
        step: &S,
        moment: impl Fn() -> Moment<'a, S, How>,
    ) -> Self {
        Self { events: step.events(moment()), money: step.money(moment()) }
    }
}

struct TypedStep<S: Work<How>, How> {
    step: S,
    declaration: Declaration<S, How>,
}

impl<S: Work<How>, How: 'static> AnyStep for TypedStep<S, How> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            effect: self.declaration.effect,
            settles_within: self.declaration.settles_within,
            compensation: self.declaration.compensation,
            retry: &self.declaration.retry,
            undo_retry: &self.declaration.undo_retry,
            timeout: self.declaration.timeout,
            deadline: self.declaration.deadline,
            dependency: self.declaration.dependency,
        }
    }

    fn undo<'a>(
        &'a self,
        connection: Option<&'a mut PgConnection>,
        call: &'a Call,
        input: &'a str,
        output: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Undone, StepError>> {
        Box::pin(async move {
            let Some(undo) = self.declaration.undo else {
                return Ok(Undone::nothing());
            };
            let input: S::Input = recorded(input)?;
            let output: Option<S::Output> = output.map(recorded).transpose()?;
            undo(&self.step, connection, call, &input, output.as_ref()).await
        })
    }

    fn read(&self, input: &str, output: Option<&str>) -> Result<(), StepError> {
        recorded::<S::Input>(input)?;
        output.map(recorded::<S::Output>).transpose().map(drop)
    }

    fn done(&self, input: &str, output: &str) -> Result<Told, StepError> {
        let (input, output): (S::Input, S::Output) = (recorded(input)?, recorded(output)?);
        Ok(Told::by(&self.step, || Moment::Done { input: &input, output: &output }))
    }

    fn undone(
        &self,
        input: &str,
        output: Option<&str>,
        undone: &Undone,
    ) -> Result<Told, StepError> {
        let input: S::Input = recorded(input)?;
        let output: Option<S::Output> = output.map(recorded).transpose()?;
        Ok(Told::by(&self.step, || Moment::Undone {
            input: &input,
            output: output.as_ref(),
            undone,
        }))
    }
}

/// Reads recorded JSON back. What this build cannot read is no reason to guess: a person decides.
fn recorded<T: DeserializeOwned>(json: &str) -> Result<T, StepError> {
    serde_json::from_str(json)
        .map_err(|error| StepError::fail("RECORD_UNREADABLE", format!("recorded data: {error}")))
}

/// What the engine needs of a workflow without its types.
pub(crate) trait AnyWorkflow: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn steps(&self) -> &Steps;
    fn signals(&self) -> &Signals;
    /// Whether it can read the input of an instance.
    fn read(&self, input: &str) -> Result<(), serde_json::Error>;
    /// Reads an input for a new instance.
    fn prepare(&self, input: &str) -> Result<Prepared, serde_json::Error>;
    /// Runs or replays an instance from the top.
    fn run<'w: 'a, 'a>(
        &'w self,
        saga: &'a Saga,
        input: &'a str,
    ) -> BoxFuture<'a, Result<Finished<'w>, Ended>>;
    /// What the workflow publishes once everything is undone.
    fn undone(&self, input: &str, outcome: Outcome, failure: &Failure) -> Vec<Event>;
    /// What the workflow publishes once it is stopped by force.
    fn terminated(&self, input: &str, failure: &Failure) -> Vec<Event>;
    /// Whether the money of an instance adds up that is undone.
    fn balanced(&self, outcome: Outcome, input: &str, ledger: &Ledger) -> Result<(), Imbalance>;
}

/// What a new instance says of itself.
pub(crate) struct Prepared {
    pub(crate) events: Vec<Event>,
    pub(crate) attributes: Vec<(&'static str, String)>,
}

/// What a completed run answers.
pub(crate) struct Finished<'w> {
    pub(crate) output: String,
    pub(crate) events: Vec<Event>,
    /// Whether the money adds up.
    pub(crate) balanced: Box<Balanced<'w>>,
}

type Balanced<'w> = dyn Fn(&Ledger) -> Result<(), Imbalance> + Send + 'w;

/// Why a run ended without an output.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The saga stopped it, and knows why.
    Halted,
    /// Recorded or produced data does not fit this build.
    Unreadable(String),
}

impl From<Halt> for Ended {
    fn from(_: Halt) -> Self {
        Self::Halted
    }
}

struct TypedWorkflow<W: Workflow> {
    workflow: W,
    steps: Steps,
    signals: Signals,
}

impl<W: Workflow> AnyWorkflow for TypedWorkflow<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn version(&self) -> u32 {
        W::VERSION
    }

    fn steps(&self) -> &Steps {
        &self.steps
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn read(&self, input: &str) -> Result<(), serde_json::Error> {
        serde_json::from_str::<W::Input>(input).map(drop)
    }

    fn prepare(&self, input: &str) -> Result<Prepared, serde_json::Error> {
        let input: W::Input = serde_json::from_str(input)?;
        Ok(Prepared {
            events: self.workflow.events(Milestone::Started { input: &input }),
            attributes: self.workflow.attributes(&input),
        })
    }

    fn run<'w: 'a, 'a>(
        &'w self,
        saga: &'a Saga,
        input: &'a str,
    ) -> BoxFuture<'a, Result<Finished<'w>, Ended>> {
        Box::pin(async move {
            let unreadable = |error: serde_json::Error| Ended::Unreadable(error.to_string());
            let read = serde_json::from_str(input).map_err(unreadable)?;
            saga.0.state().run_within(self.workflow.deadline(&read));
            let output = self.workflow.run(saga, read).await?;
            // The input was moved into the run; reading it again is cheaper than asking every
            // author for a clone that only this line needs.
            let input: W::Input = serde_json::from_str(input).map_err(unreadable)?;
            let milestone = Milestone::Completed { input: &input, output: &output };
            let events = self.workflow.events(milestone);
            let answer = serde_json::to_string(&output).map_err(unreadable)?;
            let balanced = move |ledger: &Ledger| {
                self.workflow.balanced(Outcome::Completed, &input, ledger)?;
                self.workflow.answers_for(&input, &output, ledger)
            };
            Ok(Finished { output: answer, events, balanced: Box::new(balanced) })
        })
    }

    fn undone(&self, input: &str, outcome: Outcome, failure: &Failure) -> Vec<Event> {
        serde_json::from_str(input).map_or_else(
            |_| Vec::new(),
            |input| self.workflow.events(Milestone::Undone { input: &input, outcome, failure }),
        )
    }

    fn terminated(&self, input: &str, failure: &Failure) -> Vec<Event> {
        serde_json::from_str(input).map_or_else(
            |_| Vec::new(),
            |input| self.workflow.events(Milestone::Terminated { input: &input, failure }),
        )
    }

    fn balanced(&self, outcome: Outcome, input: &str, ledger: &Ledger) -> Result<(), Imbalance> {
        let input =
            serde_json::from_str(input).map_err(|error| Imbalance(format!("input: {error}")))?;
        self.workflow.balanced(outcome, &input, ledger)
    }
}

/// Every workflow this process can run, by name and version.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    workflows: HashMap<(&'static str, u32), Arc<dyn AnyWorkflow>>,
    dependencies: Vec<Dependency>,
    mistakes: Vec<String>,
}

impl Registry {
    /// Adds a workflow; mistakes are gathered for [`Registry::checked`].
    pub(crate) fn add<W: Workflow>(&mut self, workflow: W) {
        let (steps, signals) = (workflow.steps(), workflow.signals());
        self.mistakes.extend(mistakes::<W>(&steps, &signals));
        let typed = TypedWorkflow { workflow, steps, signals };
        let known = self.workflows.insert((W::NAME, W::VERSION), Arc::new(typed));
        if known.is_some() {
            self.mistakes.push(format!("{}@{} is registered twice", W::NAME, W::VERSION));
        }
    }

    /// Adds a dependency.
    pub(crate) fn depend(&mut self, dependency: Dependency) {
        self.mistakes.extend(dependency.mistakes());
        if self.dependencies.iter().any(|other| other.name == dependency.name) {
            self.mistakes.push(format!("dependency {} is declared twice", dependency.name));
        }
        self.dependencies.push(dependency);
    }

    pub(crate) fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }

    /// The registry, or every mistake in it, together with those made elsewhere.
    pub(crate) fn checked(mut self, elsewhere: Vec<String>) -> Result<Self, String> {
        self.mistakes.extend(elsewhere);
        for workflow in self.workflows.values() {
            for step in &workflow.steps().steps {
                let Some(name) = step.facts().dependency else { continue };
                if !self.dependencies.iter().any(|dependency| dependency.name == name) {
                    let at = format!("{}@{}", workflow.name(), workflow.version());
                    let step = step.name();
                    self.mistakes.push(format!(
                        "{at}: step {step} goes through {name}, which is not declared"
                    ));
                }
            }
        }
        if self.mistakes.is_empty() { Ok(self) } else { Err(self.mistakes.join("; ")) }
    }

    pub(crate) fn get(&self, name: &str, version: u32) -> Option<&Arc<dyn AnyWorkflow>> {
        // The map is keyed by static names; a handful of workflows is looked through at once.
        self.workflows
            .values()
            .find(|workflow| workflow.name() == name && workflow.version() == version)
    }

    /// The newest version of a workflow, which new instances start with.
    pub(crate) fn newest(&self, name: &str) -> Option<&Arc<dyn AnyWorkflow>> {
        self.workflows
            .values()
            .filter(|workflow| workflow.name() == name)
            .max_by_key(|workflow| workflow.version())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn AnyWorkflow>> {
        self.workflows.values()
    }
}

/// What is wrong with the declarations of a workflow.
fn mistakes<W: Workflow>(steps: &Steps, signals: &Signals) -> Vec<String> {
    let at = format!("{}@{}", W::NAME, W::VERSION);
    let mut mistakes = Vec::new();
    if W::NAME.is_empty() || W::NAME.contains(['/', '@', '\0']) {
        mistakes.push(format!("{:?} is no name for a workflow", W::NAME));
    }
    if W::VERSION == 0 {
        mistakes.push(format!("{at}: versions count from 1"));
    }
    let names: Vec<_> = signals.names().collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            mistakes.push(format!("{at} has two signals named {name}"));
        }
        if name.is_empty() || name.contains(['#', '\0']) {
            mistakes.push(format!("{at}: {name:?} is no name for a signal"));
        }
    }
    mistakes.extend(step_mistakes(&at, steps));
    mistakes
}

/// What is wrong with the declarations of a workflow's steps.
fn step_mistakes(at: &str, steps: &Steps) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut pivot = None;
    for (index, step) in steps.steps.iter().enumerate() {
        let (name, facts) = (step.name(), step.facts());
        if steps.steps[..index].iter().any(|other| other.name() == name) {
            mistakes.push(format!("{at} has two steps named {name}"));
        }
        if name.is_empty() || name.contains(['/', '#', ':', '~', '\0']) {
            mistakes.push(format!("{at}: {name:?} is no name for a step"));
        }
        if facts.timeout.is_zero() {
            mistakes.push(format!("{at}: step {name} has a time-out of zero"));
        }
        if facts.deadline.is_some_and(|deadline| deadline.is_zero()) {
            mistakes.push(format!("{at}: step {name} has a deadline of zero"));
        }
        if facts.settles_within.is_some_and(|time| time > SETTLES_WITHIN_MAX) {
            mistakes.push(format!("{at}: step {name} takes longer than a year to settle"));
        }
        if facts.retry.attempts_max == 0 || facts.undo_retry.attempts_max == 0 {
            mistakes.push(format!("{at}: step {name} allows no attempt"));
        }
        for policy in [facts.retry, facts.undo_retry] {
            if !policy.factor.is_finite() || !policy.jitter.is_finite() {
                mistakes.push(format!("{at}: step {name} has a retry policy that is not a number"));
            }
        }
        match (facts.compensation, pivot) {
            (Compensation::Pivot, None) => pivot = Some(name),
            (Compensation::Pivot, Some(first)) => {
                mistakes.push(format!("{at} has two pivots, {first} and {name}"));
            }
            (Compensation::Undo, Some(pivot)) => mistakes.push(format!(
                "{at}: step {name} comes after the pivot {pivot} but is declared undoable"
            )),
            (Compensation::Undo, None) | (Compensation::Nothing, _) => {}
        }
    }
    mistakes
}
