//! A workflow that sleeps until a time, and one that makes one step at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amends::{
    Call, Declaration, Engine, Halt, Priority, Saga, Start, Step, StepError, Steps, Workflow,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Sleeps until the time it was started with.
pub(crate) struct Sleeper;

impl Workflow for Sleeper {
    const NAME: &'static str = "sleeper";
    const VERSION: u32 = 1;
    type Input = DateTime<Utc>;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new()
    }

    async fn run(&self, saga: &Saga, until: DateTime<Utc>) -> Result<(), Halt> {
        saga.sleep_until(until).await
    }
}

/// When each new instance came to its first step.
#[derive(Clone, Default)]
pub(crate) struct Arrive {
    arrived: Arc<Mutex<Vec<(usize, Instant)>>>,
    is_endless: bool,
}

impl Arrive {
    /// A step that does not come to its end.
    pub(crate) fn endless() -> Self {
        Self { is_endless: true, ..Self::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.arrived.lock().expect("nobody panics").len()
    }

    /// All that came so far, in order.
    pub(crate) fn take(&self) -> Vec<(usize, Instant)> {
        std::mem::take(&mut self.arrived.lock().expect("nobody panics"))
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Newcomer(pub(crate) usize);

impl Step for Arrive {
    const NAME: &'static str = "arrive";
    type Input = Newcomer;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        let declaration = Declaration::idempotent().nothing_to_undo();
        if self.is_endless { declaration.timeout(Duration::from_secs(3_600)) } else { declaration }
    }

    async fn run(&self, _: &Call, newcomer: &Newcomer) -> Result<(), StepError> {
        self.arrived.lock().expect("nobody panics").push((newcomer.0, Instant::now()));
        if self.is_endless { std::future::pending().await } else { Ok(()) }
    }
}

/// Makes one step at once.
pub(crate) struct Quick(pub(crate) Arrive);

impl Workflow for Quick {
    const NAME: &'static str = "quick";
    const VERSION: u32 = 1;
    type Input = Newcomer;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, newcomer: Newcomer) -> Result<(), Halt> {
        saga.run(&self.0, &newcomer).await
    }
}

/// Starts an instance of `workflow`.
pub(crate) async fn start(
    engine: &Engine,
    workflow: &'static str,
    key: String,
    input: &impl Serialize,
) {
    let input = serde_json::to_string(input).expect("JSON");
    let priority = Priority::Normal;
    let start = Start { workflow, business_key: key, input, delivery: None, priority };
    engine.start(start).await.expect("it starts");
}
