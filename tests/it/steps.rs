//! What becomes of a step by what it declares and how it ends.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Effect, Started, Status, Undone};
use amends_tests::World;
use amends_tests::crash::Crash;
use amends_tests::improvised::{self, Part, Stage};
use amends_tests::scripted::{self, Act, ONCE, QUERYABLE, Script, Scripted, retry, unknown};
use amends_workflows::fulfilment::charge::Charge;
use futures::FutureExt;
use uuid::Uuid;

async fn world(script: &Script) -> World {
    let script = script.clone();
    World::builder().engine(move |engine| engine.workflow(Scripted(script.clone()))).build().await
}

async fn start(world: &World) -> Uuid {
    match world.engine().start(scripted::start("it")).await.unwrap() {
        Started::New(id) => id,
        other => panic!("it did not start: {other:?}"),
    }
}

async fn code(world: &World, id: Uuid) -> String {
    let instance = world.instance(id).await;
    assert_eq!(instance.status, Status::Stuck);
    instance.failure.unwrap().code.into_owned()
}

#[tokio::test]
async fn a_panic_in_a_step_is_an_unknown_outcome_and_not_the_end() {
    let script = Script::new(ONCE, [Act::Panic]);
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    world.pass(Duration::from_secs(1)).await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn an_at_most_once_step_whose_outcome_is_unknown_is_put_to_a_person() {
    let script = Script::new(Effect::AtMostOnce, [unknown()]);
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(code(&world, id).await, "OUTCOME_UNKNOWN");
    assert_eq!(script.ran(), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_at_most_once_step_whose_worker_was_lost_never_runs_again_by_itself() {
    let script = Script::new(Effect::AtMostOnce, [Act::Hang]);
    let registered = script.clone();
    // Intake, start, and the commit of the intent come first; then the effect begins.
    let (crash, probes) = Crash::at(None);
    let mut world = World::builder()
        .probes(probes)
        .engine(move |engine| engine.workflow(Scripted(registered.clone())))
        .build()
        .await;
    let id = start(&world).await;
    crash.reaches("effect.before").await;
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(code(&world, id).await, "OUTCOME_UNKNOWN");
    assert!(script.ran() <= 1);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_of_an_at_most_once_step_whose_worker_was_lost_makes_sure_that_it_is_undone() {
    let script = Script::new(Effect::AtMostOnce, [Act::Hang]);
    let mut world = world(&script).await;
    let id = start(&world).await;
    while script.ran() == 0 {
        tokio::task::yield_now().await;
    }
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(code(&world, id).await, "OUTCOME_UNKNOWN");
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!((script.ran(), script.undone()), (1, 1));
    world.finish().await;
}

#[tokio::test]
async fn a_pivot_that_the_provider_does_not_know_can_be_cancelled_again() {
    let pivot = Part::default().effect(QUERYABLE).pivot().acts([unknown()]);
    let stage = Stage::new(Part::default(), Part::default(), pivot);
    let world = stage
        .world(|saga, stage| {
            async move {
                saga.run(&stage.a, &"1".to_owned()).await?;
                saga.run(&stage.c, &"2".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = improvised::start(&world, "it").await;
    world.settle().await;
    world.pass(Duration::from_secs(61)).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::PastPivot, "not found once");
    world.pass(Duration::from_secs(61)).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a 1", "c 2", "probe c", "probe c", "undo a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn a_queryable_step_is_asked_for_and_not_run_again_if_it_was_applied() {
    let script = Script::new(QUERYABLE, [unknown()]).probes([Some(7)]);
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(script.probed(), 0, "the quiet period is not over");
    world.pass(Duration::from_secs(31)).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!((script.ran(), script.probed()), (1, 1));
    world.finish().await;
}

/// However much people press: what the provider does not show yet would be done twice.
#[tokio::test]
async fn nobody_can_have_a_provider_asked_before_it_can_know() {
    let script = Script::new(QUERYABLE, [unknown()]).probes([None, None]);
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    for probed in 0..2 {
        assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
        world.settle().await;
        world.pass(Duration::from_secs(59)).await;
        assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
        world.settle().await;
        assert_eq!((script.ran(), script.probed()), (1, probed), "the quiet period is not over");
        world.pass(Duration::from_secs(1)).await;
    }
    assert_eq!((script.ran(), script.probed()), (1, 2));
    assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(script.ran(), 2, "it is known not to be applied");
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn not_found_counts_only_the_second_time() {
    let script = Script::new(QUERYABLE, [unknown()]).probes([None, None]);
    let world = world(&script).await;
    let id = start(&world).await;
    for _ in 0..4 {
        world.pass(Duration::from_secs(61)).await;
    }
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!((script.ran(), script.probed()), (2, 2));
    world.finish().await;
}

#[tokio::test]
async fn a_replay_that_asks_for_something_else_is_put_to_a_person_and_nothing_is_undone() {
    let script = Script::new(ONCE, [retry("later")]).unstable();
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(code(&world, id).await, "DIVERGED");
    let message = world.instance(id).await.failure.unwrap().message;
    assert!(message.contains("act") && message.contains('7') && message.contains('8'), "{message}");
    assert_eq!(script.undone(), 0);
    world.finish().await;
}

#[tokio::test]
async fn money_that_does_not_add_up_keeps_an_instance_from_ending() {
    let script = Script::new(ONCE, []).takes_money_under("ch_1");
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "LEDGER_IMBALANCE");
    world.finish().await;
}

#[tokio::test]
async fn a_panic_in_a_workflow_is_put_to_a_person() {
    let script = Script::new(ONCE, []).panics();
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "WORKFLOW_PANICKED");
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_stored_sticks_its_own_instance_and_lets_the_others_through() {
    // Text in Postgres has no NUL; the failure is written with a batch that holds others.
    let script = Script::new(ONCE, [retry("a\0b")]);
    let world = world(&script).await;
    let others: Vec<String> = (0..50).map(|number| format!("{number}")).collect();
    let poisoned = start(&world).await;
    for order_id in &others {
        world.start_order(order_id).await;
    }
    world.settle().await;
    assert_eq!(code(&world, poisoned).await, "RECORD_REFUSED");
    let filter =
        amends::view::Filter { status: Some(Status::Completed), limit: 200, ..Default::default() };
    assert_eq!(world.engine().instances(&filter).await.unwrap().len(), others.len());
    world.finish().await;
}

#[tokio::test]
async fn an_applied_effect_whose_record_is_refused_is_in_doubt_and_not_forgotten() {
    // The reference of the money has a NUL, which the ledger's text cannot hold.
    let script = Script::new(ONCE, []).takes_money_under("ch_1\0");
    let world = world(&script).await;
    let id = start(&world).await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "RECORD_REFUSED");
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(script.undone(), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_undo_whose_record_is_refused_is_in_doubt_and_its_step_is_not() {
    let world = World::new().await;
    world.providers().fault("carrier", "ship", "refuse", Some(1)).await;
    // The reference of the money has a NUL, which the ledger's text cannot hold.
    world.undo::<Charge>(1).answers(Undone::by("re_1\0"));
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "RECORD_REFUSED");
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.status(id).await, Status::Compensated);
    let timeline = world.timeline(id).await;
    assert!(timeline.contains("compensation_attempt_failed charge RECORD_REFUSED [unknown]"));
    assert!(!timeline.contains("step_interrupted"), "{timeline}");
    world.finish().await;
}
