//! Workflows of which a test has several builds: an order that has its parcel packed by a child,
//! which has it labelled by another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Compensation, Declaration, Halt, RetryPolicy, Saga, Start, Step, StepError, Steps, Undo,
    Undone, Workflow,
};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A step, as a build declares it.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) compensation: Compensation,
    pub(super) dependency: Option<&'static str>,
    log: Arc<Mutex<Vec<String>>>,
    /// How the next attempts fail, of runs and of undos.
    failures: Arc<Mutex<VecDeque<StepError>>>,
}

impl Task {
    pub(super) fn new() -> Self {
        let (log, failures) = Default::default();
        Self { compensation: Compensation::Undo, dependency: None, log, failures }
    }

    /// The same step, as another build declares it.
    pub(super) fn declared(&self, compensation: Compensation) -> Self {
        Self { compensation, ..self.clone() }
    }

    /// The same step, through something else.
    pub(super) fn through(&self, dependency: &'static str) -> Self {
        Self { dependency: Some(dependency), ..self.clone() }
    }

    pub(super) fn fail(&self, times: usize) {
        let down = || StepError::retry("DOWN", "no answer");
        self.failures.lock().unwrap().extend(std::iter::repeat_with(down).take(times));
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn act(&self, what: String) -> Result<(), StepError> {
        if let Some(failure) = self.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        self.log.lock().unwrap().push(what);
        Ok(())
    }
}

impl Step for Task {
    const NAME: &'static str = "task";
    type Input = String;
    type Output = String;

    fn declare(&self) -> Declaration<Self> {
        let declared = Declaration::idempotent().settles_within(Duration::ZERO);
        let declared = match self.compensation {
            Compensation::Undo => declared.undo(),
            Compensation::Nothing => declared.nothing_to_undo(),
            Compensation::Pivot => declared.pivot(),
        };
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let declared = declared.retry(retry.clone()).undo_retry(retry);
        match self.dependency {
            Some(name) => declared.through(name),
            None => declared,
        }
    }

    async fn run(&self, _: &Call, input: &String) -> Result<String, StepError> {
        self.act(input.clone()).map(|()| input.clone())
    }
}

impl Undo for Task {
    async fn undo(
        &self,
        _: &Call,
        input: &String,
        _: Option<&String>,
    ) -> Result<Undone, StepError> {
        self.act(format!("undo {input}")).map(|()| Undone::by("it"))
    }
}

/// The step of a build whose parcels have numbers.
#[derive(Clone)]
pub(super) struct Numbered;

impl Step for Numbered {
    const NAME: &'static str = "task";
    type Input = u32;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().settles_within(Duration::ZERO).undo()
    }

    async fn run(&self, _: &Call, input: &u32) -> Result<u32, StepError> {
        Ok(*input)
    }
}

impl Undo for Numbered {
    async fn undo(&self, _: &Call, _: &u32, _: Option<&u32>) -> Result<Undone, StepError> {
        Ok(Undone::nothing())
    }
}

/// Does one thing and waits for a month.
pub(super) struct Trip(pub(super) Task);

impl Workflow for Trip {
    const NAME: &'static str = "trip";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        let done = saga.run(&self.0, &"trip".to_owned()).await?;
        saga.sleep(30 * DAY).await?;
        Ok(done)
    }
}

/// The same in a build whose step takes a number.
pub(super) struct NumberedTrip;

impl Workflow for NumberedTrip {
    const NAME: &'static str = "trip";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = u32;

    fn steps(&self) -> Steps {
        Steps::new().step(&Numbered)
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<u32, Halt> {
        saga.run(&Numbered, &7).await
    }
}

/// Has a parcel packed, and waits for a month.
pub(super) struct Order;

impl Workflow for Order {
    const NAME: &'static str = "order";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        let parcel = "parcel".to_owned();
        let packed = saga.start_child::<Packing<1>>("pack", &parcel).await?.output().await?;
        saga.sleep(30 * DAY).await?;
        Ok(packed)
    }
}

/// Packs, and has it labelled.
pub(super) struct Packing<const VERSION: u32>(pub(super) Task);

impl<const VERSION: u32> Workflow for Packing<VERSION> {
    const NAME: &'static str = "packing";
    const VERSION: u32 = VERSION;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        let packed = saga.run(&self.0, &"pack".to_owned()).await?;
        saga.start_child::<Labelling<1>>("label", &packed).await?.output().await
    }
}

/// The same in a build whose step takes a number.
pub(super) struct NumberedPacking;

impl Workflow for NumberedPacking {
    const NAME: &'static str = "packing";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = u32;

    fn steps(&self) -> Steps {
        Steps::new().step(&Numbered)
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<u32, Halt> {
        saga.run(&Numbered, &7).await
    }
}

pub(super) struct Labelling<const VERSION: u32>(pub(super) Task);

impl<const VERSION: u32> Workflow for Labelling<VERSION> {
    const NAME: &'static str = "labelling";
    const VERSION: u32 = VERSION;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        saga.run(&self.0, &"label".to_owned()).await
    }
}

pub(super) fn request(workflow: &'static str) -> Start {
    Start {
        workflow,
        business_key: "it".to_owned(),
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}
