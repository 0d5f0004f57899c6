//! What an author gets wrong is refused when the engine opens, all of it at once and by its name.

use std::marker::PhantomData;
use std::time::Duration;

use amends::declaration::{EffectDeclared, Settles};
use amends::step::ByCall;
use amends::{
    Call, Declaration, Dependency, Engine, EngineBuilder, Error, Halt, RetryPolicy, Saga, Signal,
    Signals, Step, StepError, Steps, Undo, Undone, Workflow,
};
use amends_tests::cluster;
use serde::{Deserialize, Serialize};

/// What something is called.
trait Name: Send + Sync + 'static {
    const NAME: &'static str;
}

macro_rules! names {
    ($($marker:ident $name:literal),+) => {$(
        struct $marker;
        impl Name for $marker {
            const NAME: &'static str = $name;
        }
    )+};
}
names!(One "one", Two "two", Empty "", Slash "a/b", Hash "a#b", Nul "a\0b", Colon "a:b");

type Declare<N> = fn(EffectDeclared<Made<N>, ByCall, Settles>) -> Declaration<Made<N>>;

/// A step that is declared as a case says.
struct Made<N: Name>(Declare<N>);

impl<N: Name> Clone for Made<N> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<N: Name> Step for Made<N> {
    const NAME: &'static str = N::NAME;
    type Input = ();
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        self.0(Declaration::idempotent().settles_within(Duration::ZERO))
    }

    async fn run(&self, _: &Call, (): &()) -> Result<(), StepError> {
        Ok(())
    }
}

impl<N: Name> Undo for Made<N> {
    async fn undo(&self, _: &Call, (): &(), _: Option<&()>) -> Result<Undone, StepError> {
        Ok(Undone::nothing())
    }
}

/// News of this name.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct News<N>(PhantomData<N>);

impl<N: Name> Signal for News<N> {
    const NAME: &'static str = N::NAME;
}

/// A workflow with these steps and signals.
struct Wrong<N, const VERSION: u32 = 1> {
    steps: fn() -> Steps,
    signals: fn() -> Signals,
    name: PhantomData<N>,
}

impl<N: Name, const V: u32> Workflow for Wrong<N, V> {
    const NAME: &'static str = N::NAME;
    const VERSION: u32 = V;
    type Input = ();
    type Output = ();

    fn steps(&self) -> Steps {
        (self.steps)()
    }

    fn signals(&self) -> Signals {
        (self.signals)()
    }

    async fn run(&self, _: &Saga, (): ()) -> Result<(), Halt> {
        Ok(())
    }
}

fn made<N: Name, const V: u32>(steps: fn() -> Steps, signals: fn() -> Signals) -> Wrong<N, V> {
    Wrong { steps, signals, name: PhantomData }
}

fn steps(steps: fn() -> Steps) -> Wrong<One> {
    made(steps, Signals::new)
}

fn signals(signals: fn() -> Signals) -> Wrong<One> {
    made(Steps::new, signals)
}

fn step<N: Name>(declare: Declare<N>) -> Steps {
    Steps::new().step(&Made(declare))
}

/// Delays that nobody can compute.
fn odd() -> RetryPolicy {
    RetryPolicy { factor: f64::NAN, ..RetryPolicy::default() }
}

fn undoable<N: Name>() -> Steps {
    step::<N>(|it| it.undo())
}

type Mistake = (&'static str, fn(EngineBuilder) -> EngineBuilder, &'static str);

fn of_workflows() -> Vec<Mistake> {
    vec![
        (
            "a workflow without a name",
            |it| it.workflow(made::<Empty, 1>(Steps::new, Signals::new)),
            "\"\" is no name for a workflow",
        ),
        (
            "a workflow with a slash",
            |it| it.workflow(made::<Slash, 1>(Steps::new, Signals::new)),
            "\"a/b\" is no name for a workflow",
        ),
        (
            "a workflow with NUL",
            |it| it.workflow(made::<Nul, 1>(Steps::new, Signals::new)),
            "\"a\\0b\" is no name for a workflow",
        ),
        (
            "a version that is none",
            |it| it.workflow(made::<One, 0>(Steps::new, Signals::new)),
            "one@0: versions count from 1",
        ),
        (
            "the same version twice",
            |it| it.workflow(steps(Steps::new)).workflow(steps(Steps::new)),
            "one@1 is registered twice",
        ),
        (
            "two signals of one name",
            |it| {
                it.workflow(signals(|| Signals::new().signal::<News<Two>>().signal::<News<Two>>()))
            },
            "one@1 has two signals named two",
        ),
        (
            "a signal without a name",
            |it| it.workflow(signals(|| Signals::new().signal::<News<Empty>>())),
            "one@1: \"\" is no name for a signal",
        ),
        (
            "a signal with an occurrence",
            |it| it.workflow(signals(|| Signals::new().signal::<News<Hash>>())),
            "one@1: \"a#b\" is no name for a signal",
        ),
    ]
}

fn of_steps() -> Vec<Mistake> {
    vec![
        (
            "two steps of one name",
            |it| it.workflow(steps(|| undoable::<Two>().step(&Made::<Two>(|it| it.undo())))),
            "one@1 has two steps named two",
        ),
        (
            "a step without a name",
            |it| it.workflow(steps(undoable::<Empty>)),
            "one@1: \"\" is no name for a step",
        ),
        (
            "a step that is called as a timer",
            |it| it.workflow(steps(undoable::<Colon>)),
            "one@1: \"a:b\" is no name for a step",
        ),
        (
            "a step with an occurrence",
            |it| it.workflow(steps(undoable::<Hash>)),
            "one@1: \"a#b\" is no name for a step",
        ),
        (
            "no time for an attempt",
            |it| it.workflow(steps(|| step::<Two>(|it| it.undo().timeout(Duration::ZERO)))),
            "one@1: step two has a time-out of zero",
        ),
        (
            "no time for all attempts",
            |it| it.workflow(steps(|| step::<Two>(|it| it.undo().deadline(Duration::ZERO)))),
            "one@1: step two has a deadline of zero",
        ),
        (
            "an effect that never settles",
            |it| {
                it.workflow(steps(|| {
                    step::<Two>(|_| {
                        let never = Duration::from_secs(400 * 86_400);
                        Declaration::idempotent().settles_within(never).undo()
                    })
                }))
            },
            "one@1: step two takes longer than a year to settle",
        ),
        (
            "no attempt",
            |it| {
                it.workflow(steps(|| step::<Two>(|it| it.undo().retry(RetryPolicy::immediate(0)))))
            },
            "one@1: step two allows no attempt",
        ),
        (
            "no attempt at undoing",
            |it| {
                it.workflow(steps(|| {
                    step::<Two>(|it| it.undo().undo_retry(RetryPolicy::immediate(0)))
                }))
            },
            "one@1: step two allows no attempt",
        ),
        (
            "delays that are no number",
            |it| it.workflow(steps(|| step::<Two>(|it| it.undo().retry(odd())))),
            "one@1: step two has a retry policy that is not a number",
        ),
    ]
}

fn of_pivots() -> Vec<Mistake> {
    vec![
        (
            "two pivots",
            |it| {
                it.workflow(steps(|| {
                    step::<One>(|it| it.pivot()).step(&Made::<Two>(|it| it.pivot()))
                }))
            },
            "one@1 has two pivots, one and two",
        ),
        (
            "an undo after the pivot",
            |it| {
                it.workflow(steps(|| {
                    step::<One>(|it| it.pivot()).step(&Made::<Two>(|it| it.undo()))
                }))
            },
            "one@1: step two comes after the pivot one but is declared undoable",
        ),
    ]
}

fn of_dependencies() -> Vec<Mistake> {
    vec![
        (
            "a step through what is not declared",
            |it| it.workflow(steps(|| step::<Two>(|it| it.undo().through("carrier")))),
            "one@1: step two goes through carrier, which is not declared",
        ),
        (
            "a dependency without a name",
            |it| it.dependency(Dependency::new("")),
            "\"\" is no name for a dependency",
        ),
        (
            "a dependency twice",
            |it| it.dependency(Dependency::new("bank")).dependency(Dependency::new("bank")),
            "dependency bank is declared twice",
        ),
        (
            "no call at a time",
            |it| it.dependency(Dependency::new("bank").concurrency(0)),
            "dependency bank allows no call at a time",
        ),
        (
            "no call in a second",
            |it| it.dependency(Dependency::new("bank").rate(0, Duration::from_secs(1))),
            "dependency bank has a rate of zero",
        ),
        (
            "down before anything has failed",
            |it| it.dependency(Dependency::new("bank").down_after(0)),
            "dependency bank is down after no failure",
        ),
    ]
}

#[tokio::test]
async fn every_mistake_is_refused_by_name_before_the_database_is_touched() {
    let nowhere =
        "postgres://nobody@127.0.0.1:1/nowhere".parse::<sqlx::postgres::PgConnectOptions>();
    let nowhere = nowhere.unwrap();
    let mut wrong = Vec::new();
    for (what, make, message) in
        [of_workflows(), of_steps(), of_pivots(), of_dependencies()].concat()
    {
        match make(Engine::builder(nowhere.clone())).open().await {
            Err(Error::Registration(told)) if told == message => {}
            Err(other) => wrong.push(format!("{what}: {other}")),
            Ok(_) => wrong.push(format!("{what}: it opened")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn several_mistakes_are_told_at_once() {
    let builder = Engine::builder(cluster::database().await);
    let builder = builder.workflow(steps(undoable::<Empty>)).dependency(Dependency::new(""));
    let Err(Error::Registration(told)) = builder.open().await else { panic!("it opened") };
    assert_eq!(told, "one@1: \"\" is no name for a step; \"\" is no name for a dependency");
}
