//! Instances that start instances, to any depth: each prepares something, starts its children, ships
//! if it is to, and waits for the children. A book says what has really been done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Declaration, EngineBuilder, Halt, RetryPolicy, Saga, Signal, Signals, Step, StepError,
    Steps, Undo, Undone, Workflow,
};
use serde::{Deserialize, Serialize};

/// What is done for one business key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// It is prepared, and that is not undone.
    pub prepared: bool,
    /// It is shipped.
    pub shipped: bool,
}

/// What the outside world has seen. Clones share it.
#[derive(Clone, Default)]
pub struct Book {
    done: Arc<Mutex<BTreeMap<String, Done>>>,
    /// How long it takes to prepare something, in microseconds.
    pace: Arc<AtomicU64>,
}

impl Book {
    /// What is done for a business key.
    #[must_use]
    pub fn of(&self, key: &str) -> Done {
        self.done.lock().expect("no test panics here").get(key).copied().unwrap_or_default()
    }

    /// Everything that is done, in words.
    #[must_use]
    pub fn standing(&self) -> Vec<String> {
        let book = self.done.lock().expect("no test panics here");
        let words = |(key, done): (&String, &Done)| match done {
            Done { shipped: true, .. } => Some(format!("{key} shipped")),
            Done { prepared: true, .. } => Some(format!("{key} prepared")),
            Done { .. } => None,
        };
        book.iter().filter_map(words).collect()
    }

    /// How long it takes to prepare something from now on.
    pub fn pace(&self, pace: Duration) {
        self.pace.store(pace.as_micros() as u64, Ordering::Relaxed);
    }

    fn write(&self, call: &Call, write: impl FnOnce(&mut Done)) {
        let mut book = self.done.lock().expect("no test panics here");
        write(book.entry(call.business_key.clone()).or_default());
    }
}

fn twice_a_minute() -> RetryPolicy {
    RetryPolicy { jitter: 0.0, ..RetryPolicy::default() }
}

/// Prepares something, which can be undone.
#[derive(Clone)]
pub struct Prepare(Book);

impl Step for Prepare {
    const NAME: &'static str = "prepare";
    type Input = ();
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent()
            .settles_within(Duration::ZERO)
            .undo()
            .retry(twice_a_minute())
            .undo_retry(twice_a_minute())
    }

    #[expect(clippy::disallowed_methods, reason = "what is prepared is so in real time")]
    async fn run(&self, call: &Call, (): &()) -> Result<(), StepError> {
        let pace = self.0.pace.load(Ordering::Relaxed);
        if pace > 0 {
            tokio::time::sleep(Duration::from_micros(pace)).await;
        }
        self.0.write(call, |done| done.prepared = true);
        Ok(())
    }
}

impl Undo for Prepare {
    async fn undo(&self, call: &Call, (): &(), _: Option<&()>) -> Result<Undone, StepError> {
        self.0.write(call, |done| done.prepared = false);
        Ok(Undone::by("the book"))
    }
}

/// Ships it, which cannot be undone.
#[derive(Clone)]
pub struct Ship(Book);

impl Step for Ship {
    const NAME: &'static str = "ship";
    type Input = ();
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().pivot().retry(twice_a_minute())
    }

    async fn run(&self, call: &Call, (): &()) -> Result<(), StepError> {
        self.0.write(call, |done| done.shipped = true);
        Ok(())
    }
}

/// News that an instance waits for at its end, if it is to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Delivered;

impl Signal for Delivered {
    const NAME: &'static str = "delivered";
}

/// What an instance is told to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its children, by name.
    pub children: Vec<(String, Plan)>,
    /// Whether it ships.
    pub ships: bool,
    /// Whether it waits for news once its children have ended.
    pub waits: bool,
}

impl Plan {
    /// Prepares something, and ships it.
    #[must_use]
    pub fn ships() -> Self {
        Self { ships: true, ..Self::default() }
    }

    /// Prepares something, has children, and waits for news.
    #[must_use]
    pub fn of<'a>(children: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let children = children.into_iter().map(|(name, plan)| (name.to_owned(), plan)).collect();
        Self { children, ships: false, waits: true }
    }

    /// The same, and does not wait for news.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { waits: false, ..self }
    }
}

/// The workflow.
pub struct Family {
    prepare: Prepare,
    ship: Ship,
}

/// How long news is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Workflow for Family {
    const NAME: &'static str = "family";
    const VERSION: u32 = 1;
    type Input = Plan;
    type Output = bool;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.prepare).step(&self.ship)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<Delivered>()
    }

    async fn run(&self, saga: &Saga, plan: Plan) -> Result<bool, Halt> {
        saga.run(&self.prepare, &()).await?;
        let mut children = Vec::new();
        for (name, plan) in &plan.children {
            children.push(saga.start_child::<Self>(name, plan).await?);
        }
        if plan.ships {
            saga.run(&self.ship, &()).await?;
        }
        for child in children {
            child.output().await?;
        }
        if plan.waits { Ok(saga.wait::<Delivered>(PATIENCE).await?.is_some()) } else { Ok(true) }
    }
}

/// Gives the workflow to an engine, over this book.
pub fn register(engine: EngineBuilder, book: &Book) -> EngineBuilder {
    engine.workflow(Family { prepare: Prepare(book.clone()), ship: Ship(book.clone()) })
}
