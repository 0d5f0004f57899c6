//! A workflow whose run a test writes on the spot, over steps that do what the test has written
//! down for them and keep a log of what they did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Declaration, Dependency, Effect, EngineBuilder, Halt, Probe, Probed, RetryPolicy, Saga,
    SendSignal, Signal, Signalled, Signals, Start, Started, Step, StepError, Steps, Undo, Undone,
    Workflow,
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::World;
use crate::kit::{Kit, KitBuilder};
use crate::scripted::{Act, Script, Scripted};

/// What a run answers.
pub type Ran<'a> = BoxFuture<'a, Result<String, Halt>>;

type Run = dyn for<'a> Fn(&'a Saga, &'a Stage) -> Ran<'a> + Send + Sync;

/// The steps of an improvised workflow, and what they have done. Clones share everything.
#[derive(Clone, Default)]
pub struct Stage {
    /// A step named `a`.
    pub a: Part<A>,
    /// A step named `b`.
    pub b: Part<B>,
    /// A step named `c`.
    pub c: Part<C>,
    log: Log,
    deadline: Option<Duration>,
    dependencies: Vec<Dependency>,
    child: Option<Script>,
}

type Log = Arc<Mutex<Vec<String>>>;

/// What a step is called.
pub trait Name: Send + Sync + 'static {
    /// The name.
    const NAME: &'static str;
}

macro_rules! names {
    ($($marker:ident $name:literal),+) => {$(
        #[doc = concat!("The name `", $name, "`.")]
        #[derive(Debug)]
        pub struct $marker;
        impl Name for $marker {
            const NAME: &'static str = $name;
        }
    )+};
}
names!(A "a", B "b", C "c");

/// One step: it does what is written down for it, attempt by attempt, and else succeeds.
pub struct Part<N> {
    acts: Arc<Mutex<VecDeque<Act>>>,
    undos: Arc<Mutex<VecDeque<Undone>>>,
    log: Log,
    effect: Option<Effect>,
    settles_within: Duration,
    deadline: Option<Duration>,
    dependency: Option<&'static str>,
    is_pivot: bool,
    name: std::marker::PhantomData<N>,
}

impl<N> Clone for Part<N> {
    fn clone(&self) -> Self {
        Self {
            acts: Arc::clone(&self.acts),
            undos: Arc::clone(&self.undos),
            log: Arc::clone(&self.log),
            effect: self.effect,
            settles_within: self.settles_within,
            deadline: self.deadline,
            dependency: self.dependency,
            is_pivot: self.is_pivot,
            name: self.name,
        }
    }
}

impl<N> Default for Part<N> {
    fn default() -> Self {
        Self {
            acts: Arc::default(),
            undos: Arc::default(),
            log: Log::default(),
            effect: None,
            settles_within: Duration::ZERO,
            deadline: None,
            dependency: None,
            is_pivot: false,
            name: std::marker::PhantomData,
        }
    }
}

impl<N> Part<N> {
    /// What the next attempts do.
    #[must_use]
    pub fn acts(self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts.lock().expect("no test panics here").extend(acts);
        self
    }

    /// What the next undos find.
    #[must_use]
    pub fn undos(self, undos: impl IntoIterator<Item = Undone>) -> Self {
        self.undos.lock().expect("no test panics here").extend(undos);
        self
    }

    /// What the step says of its effect; idempotent unless said otherwise.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// How long its provider may still apply what it was sent; no time at all unless said otherwise.
    #[must_use]
    pub fn settles_within(mut self, time: Duration) -> Self {
        self.settles_within = time;
        self
    }

    /// Nothing is undone once the step is done.
    #[must_use]
    pub fn pivot(mut self) -> Self {
        self.is_pivot = true;
        self
    }

    /// No attempt begins later than this after the first one.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What the step calls.
    #[must_use]
    pub fn through(mut self, dependency: &'static str) -> Self {
        self.dependency = Some(dependency);
        self
    }

    fn note(&self, what: String) {
        self.log.lock().expect("no test panics here").push(what);
    }
}

impl<N: Name> Step for Part<N> {
    const NAME: &'static str = N::NAME;
    type Input = String;
    type Output = String;

    fn declare(&self) -> Declaration<Self> {
        let declared = match self.effect {
            None | Some(Effect::Idempotent { .. }) => {
                Declaration::idempotent().settles_within(self.settles_within)
            }
            Some(Effect::Queryable { quiet }) => Declaration::queryable(quiet),
            Some(Effect::AtMostOnce) => {
                Declaration::at_most_once().settles_within(self.settles_within)
            }
            Some(Effect::Transaction) => panic!("this step is none"),
        };
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let declared = if self.is_pivot { declared.pivot() } else { declared.undo() };
        let declared = declared.retry(retry.clone()).undo_retry(retry);
        let declared = match self.deadline {
            Some(deadline) => declared.deadline(deadline),
            None => declared,
        };
        match self.dependency {
            Some(dependency) => declared.through(dependency),
            None => declared,
        }
    }

    async fn run(&self, _: &Call, input: &String) -> Result<String, StepError> {
        let act = self.acts.lock().expect("no test panics here").pop_front();
        self.note(format!("{} {input}", N::NAME));
        act.unwrap_or(Act::Succeed).perform(input.clone()).await
    }
}

impl<N: Name> Undo for Part<N> {
    async fn undo(
        &self,
        _: &Call,
        input: &String,
        output: Option<&String>,
    ) -> Result<Undone, StepError> {
        self.note(format!("undo {} {input}", N::NAME));
        let undone = self.undos.lock().expect("no test panics here").pop_front();
        Ok(undone.unwrap_or_else(|| {
            output.map_or_else(Undone::nothing, |output| Undone::by(output.clone()))
        }))
    }
}

impl<N: Name> Probe for Part<N> {
    async fn probe(&self, _: &Call, _: &String) -> Result<Probed<String>, StepError> {
        self.note(format!("probe {}", N::NAME));
        Ok(Probed::NotFound)
    }
}

/// A signal that improvised workflows take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Which parcel is packed.
    pub parcel: String,
}

impl Signal for Packed {
    const NAME: &'static str = "packed";
}

/// The workflow.
struct Improvised {
    stage: Stage,
    run: Arc<Run>,
}

impl Workflow for Improvised {
    const NAME: &'static str = "improvised";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.stage.a).step(&self.stage.b).step(&self.stage.c)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<Packed>()
    }

    fn deadline(&self, _: &String) -> Option<Duration> {
        self.stage.deadline
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        (self.run)(saga, &self.stage).await
    }
}

impl Stage {
    /// A stage with these steps.
    #[must_use]
    pub fn new(a: Part<A>, b: Part<B>, c: Part<C>) -> Self {
        let log = Log::default();
        let (mut a, mut b, mut c) = (a, b, c);
        a.log = Arc::clone(&log);
        b.log = Arc::clone(&log);
        c.log = Arc::clone(&log);
        Self { a, b, c, log, deadline: None, dependencies: Vec::new(), child: None }
    }

    /// A stage whose steps all succeed.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(Part::default(), Part::default(), Part::default())
    }

    /// Instances have to be completed within `deadline`.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Declares what steps go through.
    #[must_use]
    pub fn dependency(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    /// Registers the scripted workflow too, for runs that start it as a child.
    #[must_use]
    pub fn child(mut self, script: &Script) -> Self {
        self.child = Some(script.clone());
        self
    }

    /// What the steps have done, in order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panics here").clone()
    }

    /// A world in which `run` is registered over these steps.
    pub async fn world(
        &self,
        run: impl for<'a> Fn(&'a Saga, &'a Stage) -> Ran<'a> + Send + Sync + 'static,
    ) -> World {
        self.builder(run).build().await
    }

    /// The same, for a world with something else special about it.
    pub fn builder(
        &self,
        run: impl for<'a> Fn(&'a Saga, &'a Stage) -> Ran<'a> + Send + Sync + 'static,
    ) -> crate::WorldBuilder {
        World::builder().engine(self.engine(run))
    }

    /// A kit, and nothing else, in which `run` is registered over these steps.
    pub async fn kit(
        &self,
        builder: KitBuilder,
        run: impl for<'a> Fn(&'a Saga, &'a Stage) -> Ran<'a> + Send + Sync + 'static,
    ) -> Kit {
        builder.build(self.engine(run)).await
    }

    /// Registers `run` over these steps.
    pub fn engine(
        &self,
        run: impl for<'a> Fn(&'a Saga, &'a Stage) -> Ran<'a> + Send + Sync + 'static,
    ) -> impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static {
        let (stage, run) = (self.clone(), Arc::new(run) as Arc<Run>);
        move |engine| {
            let engine =
                engine.workflow(Improvised { stage: stage.clone(), run: Arc::clone(&run) });
            let engine = match &stage.child {
                Some(script) => engine.workflow(Scripted(script.clone())),
                None => engine,
            };
            stage.dependencies.iter().cloned().fold(engine, EngineBuilder::dependency)
        }
    }
}

/// A request to start the improvised workflow.
#[must_use]
pub fn start_request(business_key: &str) -> Start {
    Start {
        workflow: Improvised::NAME,
        business_key: business_key.to_owned(),
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}

/// Starts the improvised workflow.
pub async fn start(world: &World, business_key: &str) -> Uuid {
    match world.engine().start(start_request(business_key)).await {
        Ok(Started::New(instance_id)) => instance_id,
        other => panic!("it did not start: {other:?}"),
    }
}

/// The signal that a parcel is packed.
#[must_use]
pub fn packed(business_key: &str, parcel: &str) -> SendSignal {
    SendSignal {
        workflow: Improvised::NAME.to_owned(),
        business_key: business_key.to_owned(),
        name: Packed::NAME.to_owned(),
        body: format!(r#"{{"parcel":"{parcel}"}}"#),
        sender: "warehouse".to_owned(),
        signal_id: Some(parcel.to_owned()),
    }
}

/// Sends it.
pub async fn send(world: &World, business_key: &str, parcel: &str) -> Signalled {
    world.engine().signal(packed(business_key, parcel)).await.expect("the signal is taken")
}
