//! Mail that cannot be recorded as what it is: its instance says so, and spins on nothing.

use std::time::Duration;

use amends::command::{Answer, Command, Finding, Resolution};
use amends::view::InstanceView;
use amends::{
    Effect, Error, Halt, Money, Movement, MovementKind, Saga, Signalled, Start, Started, Status,
    StepError, Steps, Workflow,
};
use amends_tests::World;
use amends_tests::improvised::{Packed, Part, Ran, Stage, packed, send, start};
use amends_tests::scripted::{Act, ONCE, Script, Scripted, retry};
use futures::FutureExt;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// What a payload may have.
const LARGEST: usize = 1024 * 1024;

/// Waits for two parcels.
fn two_parcels<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async move {
        let name = |packed: Option<Packed>| packed.map_or("none".to_owned(), |it| it.parcel);
        let first = saga.wait::<Packed>(Duration::MAX).await?;
        saga.run(&stage.a, &name(first)).await?;
        let second = saga.wait::<Packed>(Duration::MAX).await?;
        saga.run(&stage.b, &name(second)).await
    }
    .boxed()
}

/// Puts a message into the mail as it is, as a build would that does not look at it, or that knows
/// more.
async fn post(world: &World, id: Uuid, kind: &str, name: &str, body: &str) {
    sqlx::query(
        "with due as (
             update amends.instance set mail_count = mail_count + 1, run_at = $5
             where instance_id = $1
             returning mail_count
         )
         insert into amends.mail (instance_id, mail_seq, kind, name, body, actor, sent_at)
         select $1, mail_count, $2, $3, $4::json, 'somebody', $5 from due",
    )
    .bind(id)
    .bind(kind)
    .bind(name)
    .bind(body)
    .bind(world.now())
    .execute(&mut world.database().await)
    .await
    .unwrap();
}

fn parcel_of(bytes: usize) -> String {
    format!(r#"{{"parcel":"{}"}}"#, "x".repeat(bytes - 13))
}

fn code(instance: &InstanceView) -> &str {
    instance.failure.as_ref().map_or("", |failure| &failure.code)
}

async fn kinds(world: &World, id: Uuid) -> Vec<String> {
    world.history(id).await.into_iter().map(|record| record.kind).collect()
}

async fn waiting() -> (World, Stage, Uuid) {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    world.settle().await;
    (world, stage, id)
}

#[tokio::test]
async fn a_message_that_is_too_large_is_put_to_a_person_and_keeps_no_other_back() {
    let (world, stage, id) = waiting().await;
    post(&world, id, "signal", "packed", &parcel_of(LARGEST)).await;
    assert_eq!(send(&world, "it", "one").await, Signalled::Accepted(id));
    world.settle().await;
    let stuck = world.instance(id).await;
    assert_eq!((stuck.status, code(&stuck)), (Status::Stuck, "MAIL_REFUSED"));
    assert_eq!(kinds(&world, id).await[2..], ["mail_refused", "signal", "stuck"]);
    assert_eq!(stage.log(), [""; 0], "nothing happens before somebody has looked");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    send(&world, "it", "two").await;
    world.settle().await;
    assert_eq!(stage.log(), ["a one", "b two"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_message_that_the_database_refuses_is_found_among_others() {
    let stage = Stage::new(
        Part::default()
            .effect(Effect::AtMostOnce)
            .acts([Act::Err(StepError::unknown("LOST", "?"))]),
        Part::default(),
        Part::default(),
    );
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    send(&world, "it", "one").await;
    world.settle().await;
    assert_eq!(code(&world.instance(id).await), "OUTCOME_UNKNOWN");
    let less_than_nothing = r#"{"reason":"r","resolution":{"evidence":"e","money":[
        {"kind":"refund","amount_minor":-5,"currency":"EUR","reference":"re"}]}}"#;
    send(&world, "it", "two").await;
    post(&world, id, "command", "resolve", less_than_nothing).await;
    send(&world, "it", "three").await;
    world.settle().await;
    let stuck = world.instance(id).await;
    assert_eq!((stuck.status, code(&stuck)), (Status::Stuck, "MAIL_REFUSED"));
    let kinds = kinds(&world, id).await;
    assert_eq!(kinds[kinds.len() - 4..], ["signal", "mail_refused", "signal", "stuck"]);
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(code(&world.instance(id).await), "OUTCOME_UNKNOWN", "as before");
    world.command(id, Command::Terminate).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_that_was_accepted_behind_such_a_message_happens() {
    let (world, _, id) = waiting().await;
    post(&world, id, "signal", "packed", &parcel_of(LARGEST)).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    world.finish().await;
}

#[tokio::test]
async fn a_resume_that_came_before_anybody_could_know_of_the_message_is_no_answer_to_it() {
    let stage = Stage::plain();
    let world = stage.world(|_, _| async { panic!("as the test says") }.boxed()).await;
    let id = start(&world, "it").await;
    world.settle().await;
    post(&world, id, "signal", "packed", &parcel_of(LARGEST)).await;
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(code(&world.instance(id).await), "MAIL_REFUSED");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(code(&world.instance(id).await), "WORKFLOW_PANICKED");
    world.command(id, Command::Terminate).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_newer_build_has_sent_is_left_to_it_and_asked_for_seldom() {
    let (world, stage, id) = waiting().await;
    post(&world, id, "command", "freeze", r#"{"reason":"r"}"#).await;
    send(&world, "it", "one").await;
    for _ in 0..8 {
        world.pass(15 * SECOND).await;
        let left = world.instance(id).await;
        assert_eq!((left.status, left.step.as_deref()), (Status::Waiting, Some("wait:packed")));
        assert_eq!(left.run_at, Some(world.now() + 15 * SECOND));
    }
    assert_eq!(stage.log(), [""; 0]);
    // As a build reads it that knows the command; mail does not change otherwise.
    let mut database = world.database().await;
    for statement in [
        "set session_replication_role = replica",
        "update amends.mail set name = 'hold' where name = 'freeze'",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    world.pass(15 * SECOND).await;
    assert_eq!(kinds(&world, id).await[2..], ["command", "signal"]);
    world.command(id, Command::Cancel).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn what_no_build_knows_for_an_hour_is_put_to_a_person() {
    let (world, _, id) = waiting().await;
    send(&world, "it", "one").await;
    post(&world, id, "command", "freeze", r#"{"reason":"r"}"#).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.pass(HOUR - SECOND).await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(HOUR).await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let kinds = kinds(&world, id).await;
    assert!(kinds.iter().any(|kind| kind == "mail_refused"), "{kinds:?}");
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_accepted() {
    let (world, _, id) = waiting().await;
    let signal = amends::SendSignal { body: parcel_of(LARGEST), ..packed("it", "one") };
    let refused = world.engine().signal(signal).await;
    assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    let movement = |amount_minor: i64, reference: &str| Movement {
        kind: MovementKind::Refund,
        money: Money { amount_minor, currency: "EUR".parse().unwrap() },
        reference: reference.to_owned(),
    };
    let money = |movement| Resolution {
        step: None,
        finding: None,
        evidence: "a letter".to_owned(),
        money: vec![movement],
    };
    let large = Resolution {
        step: Some("a".to_owned()),
        finding: Some(Finding::Applied("x".repeat(LARGEST).into())),
        money: Vec::new(),
        ..money(movement(1, "re"))
    };
    for resolution in [
        money(movement(-5, "re")),
        money(movement(0, "re")),
        money(movement(1, "re\0")),
        money(movement(1, " ")),
        Resolution { evidence: "two\nlines".to_owned(), ..money(movement(1, "re")) },
    ] {
        let refused = world.engine().resolve(id, resolution, "anna", "asked").await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
    world.command(id, Command::Cancel).await;
    world.settle().await;
    world.finish().await;

    let lost = Act::Err(StepError::unknown("LOST", "?"));
    let a = Part::default().effect(Effect::AtMostOnce).acts([lost]);
    let stage = Stage::new(a, Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| async { saga.run(&stage.a, &"1".to_owned()).await }.boxed())
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let refused = world.engine().resolve(id, large, "anna", "asked").await;
    assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    world.command(id, Command::Terminate).await;
    world.settle().await;
    world.finish().await;
}

/// Answers with so many bytes.
struct Large;

impl Workflow for Large {
    const NAME: &'static str = "large";
    const VERSION: u32 = 1;
    type Input = usize;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    async fn run(&self, _: &Saga, bytes: usize) -> Result<String, Halt> {
        Ok("x".repeat(bytes))
    }
}

/// Has that done by a child.
struct Larger;

impl Workflow for Larger {
    const NAME: &'static str = "larger";
    const VERSION: u32 = 1;
    type Input = usize;
    type Output = usize;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    async fn run(&self, saga: &Saga, bytes: usize) -> Result<usize, Halt> {
        Ok(saga.start_child::<Large>("it", &bytes).await?.output().await?.len())
    }
}

#[tokio::test]
async fn a_child_does_not_end_with_what_its_parent_could_not_record() {
    let world = World::builder().engine(|it| it.workflow(Large).workflow(Larger)).build().await;
    let largest = LARGEST - 60;
    let start = Start {
        workflow: Larger::NAME,
        business_key: "it".to_owned(),
        input: largest.to_string(),
        delivery: None,
        priority: amends::Priority::Normal,
    };
    let Ok(Started::New(id)) = world.engine().start(start).await else { panic!() };
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    let child = world.instances::<Large>().await.pop().unwrap();
    assert_eq!((child.status, code(&child)), (Status::Stuck, "OUTPUT_TOO_LARGE"));
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    world.finish().await;
}

#[tokio::test]
async fn a_child_whose_end_could_not_be_recorded_counts_as_failed_and_is_taken_back() {
    let stage = Stage::plain().child(&Script::new(ONCE, [retry("down")]));
    let world = stage
        .world(|saga, stage| {
            async {
                saga.run(&stage.a, &"1".to_owned()).await?;
                saga.start_child::<Scripted>("pack", &7).await?.output().await?;
                Ok("packed".to_owned())
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let child = world.instances::<Scripted>().await.pop().unwrap();
    let ended = format!(
        r#"{{"instance_id":"{}","status":"completed","output":{}}}"#,
        child.instance_id,
        serde_json::json!("x".repeat(LARGEST))
    );
    post(&world, id, "child", "child:pack", &ended).await;
    world.settle().await;
    assert_eq!(code(&world.instance(id).await), "MAIL_REFUSED");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(world.instance(child.instance_id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a 1", "undo a 1"]);
    world.finish().await;
}
