//! What must not wear the engine down: instances that kill their workers, histories without end,
//! effects that turn up late, clocks that are set.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Effect, Status, Undone};
use amends_tests::World;
use amends_tests::improvised::{Packed, Part, Stage, send, start};
use amends_tests::scripted::{Act, QUERYABLE, retry, unknown};
use chrono::TimeDelta;
use futures::FutureExt;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

async fn code(world: &World, id: Uuid) -> String {
    world.instance(id).await.failure.unwrap().code.into_owned()
}

async fn losses(world: &World, id: Uuid) -> i32 {
    sqlx::query_scalar("select losses from amends.instance where instance_id = $1")
        .bind(id)
        .fetch_one(&mut world.database().await)
        .await
        .unwrap()
}

/// Says that the worker of an instance was lost so often before.
async fn lose(world: &World, id: Uuid, losses: i32) {
    sqlx::query("update amends.instance set losses = $2 where instance_id = $1")
        .bind(id)
        .bind(losses)
        .execute(&mut world.database().await)
        .await
        .unwrap();
}

/// An instance whose step never answers, on a worker that is then lost.
async fn killed(stage: &Stage, losses_before: i32) -> (World, Uuid) {
    let mut world = stage
        .world(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed())
        .await;
    let id = start(&world, "it").await;
    while stage.log().is_empty() {
        tokio::task::yield_now().await;
    }
    lose(&world, id, losses_before).await;
    world.crash().await;
    (world, id)
}

#[tokio::test]
async fn a_lost_worker_counts_neither_as_an_attempt_nor_after_progress() {
    let acts = [Act::Hang, retry("down"), Act::Succeed];
    let stage = Stage::new(Part::default().acts(acts), Part::default(), Part::default());
    let (world, id) = killed(&stage, 3).await;
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(losses(&world, id).await, 0, "an attempt has come to its end");
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_history_without_end_is_put_to_a_person_and_can_still_be_undone() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| {
            async {
                saga.run(&stage.a, &"x".to_owned()).await?;
                for _ in 0..10_000 {
                    saga.now().await?;
                }
                saga.run(&stage.b, &"never".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "HISTORY_TOO_LONG");
    world.command(id, Command::Resume).await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "HISTORY_TOO_LONG");
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a x", "undo a x"]);
    world.finish().await;
}

#[tokio::test]
async fn an_effect_that_turns_up_after_its_undo_is_undone_as_well() {
    let a = Part::default().effect(QUERYABLE).acts([unknown()]);
    let a = a.undos([Undone::nothing(), Undone::by("late")]);
    let stage = Stage::new(a, Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed())
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensating);
    // However much people press: it would be looked for before it can be seen.
    assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(stage.log(), ["a x", "undo a x"]);
    world.pass(MINUTE).await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(stage.log(), ["a x", "undo a x", "undo a x"]);
    world.finish().await;
}

#[tokio::test]
async fn what_is_known_to_be_applied_is_undone_once() {
    let stage = Stage::new(
        Part::default().effect(Effect::Queryable { quiet: MINUTE }),
        Part::default().acts((0..20).map(|_| retry("down"))),
        Part::default(),
    );
    let world = stage
        .world(|saga, stage| {
            async {
                saga.run(&stage.a, &"x".to_owned()).await?;
                saga.run(&stage.b, &"y".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a x", "b y", "undo a x"]);
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_set_by_an_hour_delays_or_hastens_and_loses_nothing() {
    for hours in [-1, 1] {
        let stage =
            Stage::new(Part::default().acts([retry("down")]), Part::default(), Part::default());
        let mut world = stage
            .world(|saga, stage| {
                async {
                    saga.run(&stage.a, &"x".to_owned()).await?;
                    saga.sleep(10 * MINUTE).await?;
                    saga.wait::<Packed>(10 * MINUTE).await?;
                    saga.run(&stage.b, &"y".to_owned()).await
                }
                .boxed()
            })
            .await;
        let id = start(&world, "it").await;
        world.settle().await;
        world.set_clock(world.now() + TimeDelta::hours(hours));
        world.settle().await;
        world.crash().await;
        for _ in 0..10 {
            world.pass(15 * MINUTE).await;
        }
        assert_eq!(world.instance(id).await.status, Status::Completed, "{hours} h");
        assert_eq!(stage.log(), ["a x", "a x", "b y"]);
        let late = send(&world, "it", "late").await;
        assert_eq!(late, amends::Signalled::AlreadyEnded(id));
        world.finish().await;
    }
}

#[tokio::test]
async fn a_hold_stops_what_goes_forward_and_what_is_undone() {
    let down = |count| (0..count).map(|_| retry("down"));
    let stage = Stage::new(Part::default(), Part::default().acts(down(2)), Part::default());
    let world = stage
        .world(|saga, stage| {
            async {
                saga.run(&stage.a, &"x".to_owned()).await?;
                saga.run(&stage.b, &"y".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Hold).await, Answer::Accepted);
    world.settle().await;
    world.pass(60 * MINUTE).await;
    assert_eq!(stage.log(), ["a x", "b y"]);
    assert!(world.instance(id).await.held);
    assert_eq!(world.command(id, Command::Retry).await, Answer::Held);
    assert_eq!(world.command(id, Command::Release).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(stage.log(), ["a x", "b y", "b y"]);
    // A cancel lifts a hold; a hold after it stops the undoing.
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    assert_eq!(world.command(id, Command::Hold).await, Answer::Accepted);
    world.settle().await;
    world.pass(60 * MINUTE).await;
    assert_eq!(stage.log(), ["a x", "b y", "b y"]);
    assert_eq!(world.command(id, Command::Release).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn retry_now_makes_the_next_attempt_and_leaves_sleeps_alone() {
    let stage = Stage::new(Part::default().acts([retry("down")]), Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| {
            async {
                saga.run(&stage.a, &"x".to_owned()).await?;
                saga.sleep(60 * MINUTE).await?;
                saga.run(&stage.b, &"y".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(stage.log(), ["a x", "a x"]);
    assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(60 * MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}
