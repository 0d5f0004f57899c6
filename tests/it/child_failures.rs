//! Children that have failed: of whom nobody has heard, or of whom nobody knows what is left.

use std::time::Duration;

use amends::command::{Answer, ChildFate, Command, Finding, Resolution};
use amends::view::{Filter, InstanceView};
use amends::{Error, Failure, Saga, Status, StepError};
use amends_tests::World;
use amends_tests::family::{Book, Family, Plan, register};
use amends_tests::improvised::{Part, Ran, Stage, start};
use amends_tests::kit::Kit;
use amends_tests::scripted::{Act, ONCE, Script, Scripted, retry};
use futures::FutureExt;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

async fn find(world: &World, key: &str) -> Option<InstanceView> {
    let filter = Filter { business_key: Some(key.to_owned()), limit: 2, ..Filter::default() };
    world.engine().instances(&filter).await.unwrap().pop()
}

async fn status(world: &World, key: &str) -> Option<Status> {
    find(world, key).await.map(|it| it.status)
}

/// What an instance is stuck with.
async fn stuck(world: &World, id: Uuid) -> Failure {
    let view = world.instance(id).await;
    assert_eq!(view.status, Status::Stuck);
    view.failure.unwrap()
}

fn found(step: &str, finding: Finding) -> Resolution {
    let (step, finding) = (Some(step.to_owned()), Some(finding));
    Resolution { step, finding, evidence: "the list of labels".to_owned(), money: Vec::new() }
}

async fn resolve(world: &World, id: Uuid, finding: Finding) -> Result<Answer, Error> {
    let resolution = found("child:pack", finding);
    world.engine().resolve(id, resolution, "ann", "looked").await.map(Option::unwrap)
}

fn refusal(answer: Result<Answer, Error>) -> String {
    match answer {
        Err(Error::InvalidInput(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn fails() -> Act {
    Act::Err(StepError::fail("NO_BOX", "no box is large enough"))
}

/// Starts a child that nobody awaits, and takes longer than that.
fn child_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.start_child::<Scripted>("pack", &7).await?;
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.sleep(MINUTE).await?;
        saga.run(&stage.b, &"2".to_owned()).await
    }
    .boxed()
}

/// An instance whose run has ended after its child, which did this.
async fn ended_after(child: impl IntoIterator<Item = Act>) -> (World, Stage, Script, Uuid) {
    let script = Script::new(ONCE, child);
    let stage = Stage::plain().child(&script);
    let world = stage.world(child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    (world, stage, script, id)
}

#[tokio::test]
async fn a_run_does_not_end_over_a_child_that_has_failed_unheard() {
    let (world, _, _, id) = ended_after([fails()]).await;
    let Failure { code, message } = stuck(&world, id).await;
    assert_eq!(code, "CHILD_UNHEARD");
    let child = find(&world, "it/pack").await.unwrap().instance_id;
    let says = format!("child:pack (instance {child}) has failed (NO_BOX), and the run has ended");
    assert!(message.starts_with(&says), "{message}");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed, "a person has said so");
    world.finish().await;
}

#[tokio::test]
async fn a_child_that_has_completed_need_not_be_heard_of() {
    let (world, _, _, id) = ended_after([]).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn what_is_stuck_over_a_child_unheard_can_be_undone_or_have_another_child() {
    let (world, stage, _, id) = ended_after([fails()]).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a 1", "b 2", "undo b 2", "undo a 1"]);
    world.finish().await;

    let (world, _, script, id) = ended_after([fails()]).await;
    assert_eq!(resolve(&world, id, Finding::Again).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Completed));
    if world.instance(id).await.status == Status::Stuck {
        assert_eq!(stuck(&world, id).await.code, "CHILD_OPEN");
        assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
        world.settle().await;
    }
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(script.ran(), 2);
    world.finish().await;
}

#[tokio::test]
async fn who_resumes_for_one_reason_has_not_answered_another() {
    let failure = Failure::new("DOWN", "later");
    let later = Act::Err(StepError::Retry { failure, after: Some(2 * MINUTE) });
    let (world, _, _, id) = ended_after([later, fails()]).await;
    assert_eq!(stuck(&world, id).await.code, "CHILD_OPEN");
    world.pass(2 * MINUTE).await;
    assert_eq!(status(&world, "it/pack").await, Some(Status::Compensated));
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(stuck(&world, id).await.code, "CHILD_UNHEARD", "that was about an open child");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

/// Starts a child, passes the pivot `c`, and needs what the child answers for `b`.
fn child_c_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        let child = saga.start_child::<Scripted>("pack", &7).await?;
        saga.run(&stage.c, &"ship".to_owned()).await?;
        let acted = child.output().await?;
        saga.run(&stage.b, &acted.output.to_string()).await
    }
    .boxed()
}

/// An instance whose child was stopped by force, past its pivot or not.
async fn child_stopped_by_force(c: Part<amends_tests::improvised::C>) -> (World, Script, Uuid) {
    let script = Script::new(ONCE, [retry("down")]);
    let stage = Stage::new(Part::default(), Part::default(), c).child(&script);
    let world = stage.world(child_c_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    let child = find(&world, "it/pack").await.unwrap().instance_id;
    assert_eq!(world.command(child, Command::Terminate).await, Answer::Accepted);
    world.settle().await;
    (world, script, id)
}

#[tokio::test]
async fn a_child_stopped_by_force_is_started_again_once_a_person_has_undone_what_was_left() {
    let (world, script, id) = child_stopped_by_force(Part::default().pivot()).await;
    assert_eq!(stuck(&world, id).await.code, "PAST_PIVOT");
    let why = refusal(resolve(&world, id, Finding::Again).await);
    assert!(why.contains("resolve child:pack as undone first"), "{why}");
    let undone = || Finding::Undone(Some("label 9".to_owned()));
    assert_eq!(resolve(&world, id, undone()).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(stuck(&world, id).await.code, "PAST_PIVOT", "the child has not packed anything");
    let why = refusal(resolve(&world, id, undone()).await);
    assert!(why.contains("is not waiting to be undone"), "{why}");
    assert_eq!(resolve(&world, id, Finding::Again).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, "it/pack").await, Some(Status::Terminated));
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Completed));
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(script.ran(), 2);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

/// What a cancel would mean for the child that was stopped by force.
async fn fate_of_first(world: &World, id: Uuid) -> ChildFate {
    let preview = world.engine().preview(id, Command::Cancel).await.unwrap().unwrap();
    preview.children.iter().find(|child| child.business_key == "it/pack").unwrap().fate
}

#[tokio::test]
async fn the_child_in_the_place_of_one_stopped_by_force_is_undone_with_its_parent() {
    let lost = Act::Err(StepError::unknown("LOST", "no answer"));
    let c = Part::default().effect(amends::Effect::AtMostOnce).acts([lost]);
    let (world, script, id) = child_stopped_by_force(c).await;
    assert_eq!(stuck(&world, id).await.code, "OUTCOME_UNKNOWN");
    assert_eq!(fate_of_first(&world, id).await, ChildFate::AskPerson);
    let undone = Finding::Undone(None);
    assert_eq!(resolve(&world, id, undone).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(fate_of_first(&world, id).await, ChildFate::Unchanged);
    assert_eq!(resolve(&world, id, Finding::Again).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Completed));
    assert_eq!(fate_of_first(&world, id).await, ChildFate::Unchanged);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Cancelled));
    assert_eq!(script.undone(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_child_stopped_by_force_is_not_undone_as_long_as_something_below_it_lives() {
    let book = Book::default();
    let kit = {
        let book = book.clone();
        Kit::builder().build(move |engine| register(engine, &book)).await
    };
    let plan = Plan::of([("c", Plan::of([("d", Plan::of([]))]).at_once())]);
    let id = kit.start::<Family>("it", &Plan { ships: true, ..plan }).await;
    kit.settle().await;
    let of = async |key: &str| {
        let filter = Filter { business_key: Some(key.to_owned()), limit: 2, ..Filter::default() };
        kit.engine().instances(&filter).await.unwrap().pop().unwrap()
    };
    let child = of("it/c").await.instance_id;
    let policy = amends::command::ChildPolicy::Leave;
    kit.engine().terminate(child, policy, "ann", "it hangs").await.unwrap();
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Stuck);
    let undone = || found("child:c", Finding::Undone(None));
    let why = refusal(kit.engine().resolve(id, undone(), "ann", "why").await.map(Option::unwrap));
    let below = of("it/c/d").await.instance_id;
    assert!(why.contains(&format!("instance {below} below it, which is waiting")), "{why}");
    assert_eq!(kit.command(below, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    kit.engine().resolve(id, undone(), "ann", "why").await.unwrap();
    kit.settle().await;
    kit.command(id, Command::Terminate).await;
    kit.settle().await;
    kit.engine().abandon();
}
