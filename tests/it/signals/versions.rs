//! Signals to instances of several versions, and those that a build cannot read.

use std::time::Duration;

use amends::command::{Answer, Command, Finding, Resolution};
use amends::{
    Engine, Error, Halt, Saga, SendSignal, Signal, Signalled, Signals, Start, Started, Status,
    Steps, Workflow,
};
use amends_tests::World;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::versions::Builds;

/// The news that something is packed, in the form of some version.
#[derive(Serialize, Deserialize)]
struct Packed<T> {
    parcel: T,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Signal for Packed<T> {
    const NAME: &'static str = "packed";
}

/// Waits for that news.
struct Waits<const VERSION: u32, T>(std::marker::PhantomData<fn() -> T>);

impl<const VERSION: u32, T> Waits<VERSION, T> {
    const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<const VERSION: u32, T> Workflow for Waits<VERSION, T>
where
    T: ToString + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    const NAME: &'static str = "waits";
    const VERSION: u32 = VERSION;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<Packed<T>>()
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        let packed = saga.wait::<Packed<T>>(Duration::MAX).await?;
        Ok(packed.map_or_else(String::new, |packed| packed.parcel.to_string()))
    }
}

const WORDS: Waits<1, String> = Waits::new();
const NUMBERS: Waits<2, u32> = Waits::new();
/// The first version, of a build that has changed what it takes.
const CHANGED: Waits<1, u32> = Waits::new();

fn packed(id: &str, parcel: &str) -> SendSignal {
    SendSignal {
        workflow: "waits".to_owned(),
        business_key: "it".to_owned(),
        name: "packed".to_owned(),
        body: format!(r#"{{"parcel":{parcel}}}"#),
        sender: "warehouse".to_owned(),
        signal_id: Some(id.to_owned()),
    }
}

async fn start(engine: &Engine) -> Uuid {
    let start = Start {
        workflow: "waits",
        business_key: "it".to_owned(),
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    };
    let Ok(Started::New(id)) = engine.start(start).await else { panic!("it did not start") };
    engine.run_until_idle().await.unwrap();
    id
}

/// Where it stands, and why if it is stuck.
async fn standing(engine: &Engine, id: Uuid) -> (Status, String) {
    engine.run_until_idle().await.unwrap();
    let it = engine.instance(id).await.unwrap().unwrap();
    (it.status, it.failure.map_or_else(String::new, |failure| failure.code.into_owned()))
}

fn is_invalid<T: std::fmt::Debug>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::InvalidInput(_)))
}

fn dropped() -> Resolution {
    Resolution {
        step: Some("wait:packed".to_owned()),
        finding: Some(Finding::Dropped),
        evidence: "the warehouse sends another".to_owned(),
        money: Vec::new(),
    }
}

#[tokio::test]
async fn a_signal_is_held_against_the_version_of_its_instance() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let first = builds.open(|engine| engine.workflow(WORDS)).await;
    let id = start(&first).await;
    first.shutdown().await.unwrap();
    let both = builds.open(|engine| engine.workflow(WORDS).workflow(NUMBERS)).await;
    let numbers = both.signal(packed("1", "7")).await;
    assert!(is_invalid(&numbers), "{numbers:?}");
    let words = both.signal(packed("2", "\"p\"")).await;
    assert_eq!(words.unwrap(), Signalled::Accepted(id));
    assert_eq!(standing(&both, id).await.0, Status::Completed);
    both.abandon();
    world.finish().await;
}

#[tokio::test]
async fn who_does_not_have_the_version_of_an_instance_leaves_its_signals_to_others() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let second = builds.open(|engine| engine.workflow(NUMBERS)).await;
    let id = start(&second).await;
    let first = builds.open(|engine| engine.workflow(WORDS)).await;
    for parcel in ["7", "\"p\""] {
        let unknown = first.signal(packed("1", parcel)).await.unwrap_err();
        assert!(matches!(unknown, Error::UnknownVersion { version: 2, .. }), "{unknown}");
        assert!(unknown.is_transient());
    }
    assert_eq!(second.signal(packed("1", "7")).await.unwrap(), Signalled::Accepted(id));
    assert_eq!(standing(&second, id).await.0, Status::Completed);
    first.abandon();
    second.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_came_early_is_held_against_the_version_that_is_there_then() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let both = builds.open(|engine| engine.workflow(WORDS).workflow(NUMBERS)).await;
    assert_eq!(both.signal(packed("1", "7")).await.unwrap(), Signalled::Kept);
    // A process of the build before starts it.
    let first = builds.open(|engine| engine.workflow(WORDS)).await;
    let id = start(&first).await;
    assert_eq!(standing(&first, id).await, (Status::Stuck, "MAIL_REFUSED".to_owned()));
    assert_eq!(first.signal(packed("2", "\"p\"")).await.unwrap(), Signalled::Accepted(id));
    let resumed = first.command(id, Command::Resume, "anna", "they send it anew").await;
    assert_eq!(resumed.unwrap(), Some(Answer::Accepted));
    assert_eq!(standing(&first, id).await.0, Status::Completed);
    both.abandon();
    first.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_person_gives_up_a_signal_that_cannot_be_read_and_the_next_one_is_taken() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let before = builds.open(|engine| engine.workflow(WORDS)).await;
    let id = start(&before).await;
    before.signal(packed("1", "\"p\"")).await.unwrap();
    before.shutdown().await.unwrap();
    let after = builds.open(|engine| engine.workflow(CHANGED)).await;
    let unreadable = (Status::Stuck, "SIGNAL_UNREADABLE".to_owned());
    assert_eq!(standing(&after, id).await, unreadable);
    let resumed = after.command(id, Command::Resume, "anna", "perhaps").await;
    assert_eq!(resumed.unwrap(), Some(Answer::Accepted));
    assert_eq!(standing(&after, id).await, unreadable, "it is read again");

    let elsewhere = Resolution { step: Some("wait:sent".to_owned()), ..dropped() };
    let refused = after.resolve(id, elsewhere, "anna", "asked").await;
    assert!(is_invalid(&refused), "{refused:?}");
    let answer = after.resolve(id, dropped(), "anna", "asked").await;
    assert_eq!(answer.unwrap(), Some(Answer::Accepted));
    assert_eq!(standing(&after, id).await.0, Status::Waiting);
    after.signal(packed("2", "7")).await.unwrap();
    assert_eq!(standing(&after, id).await.0, Status::Completed);
    after.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_can_be_read_is_not_given_up() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let before = builds.open(|engine| engine.workflow(WORDS)).await;
    let id = start(&before).await;
    before.signal(packed("1", "\"p\"")).await.unwrap();
    before.shutdown().await.unwrap();
    let after = builds.open(|engine| engine.workflow(CHANGED)).await;
    assert_eq!(standing(&after, id).await.1, "SIGNAL_UNREADABLE");
    after.shutdown().await.unwrap();
    let again = builds.open(|engine| engine.workflow(WORDS)).await;
    let refused = again.resolve(id, dropped(), "anna", "asked").await;
    assert!(is_invalid(&refused), "{refused:?}");
    again.command(id, Command::Resume, "anna", "it is mended").await.unwrap();
    assert_eq!(standing(&again, id).await.0, Status::Completed);
    again.abandon();
    world.finish().await;
}
