//! Deadlines, of instances and of steps: what runs against them, and what does not.

use std::time::Duration;

use amends::command::{Command, Finding, Resolution};
use amends::{Dependency, Effect, Status};
use amends_tests::World;
use amends_tests::improvised::{Packed, Part, Stage, send, start};
use amends_tests::scripted::{retry, unknown};
use futures::FutureExt;

const MINUTE: Duration = Duration::from_secs(60);

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn an_instance_that_is_not_completed_in_time_is_undone() {
    let stage = Stage::plain().deadline(10 * MINUTE);
    let world = stage
        .world(|saga, stage| {
            async move {
                saga.run(&stage.a, &text("1")).await?;
                saga.wait::<Packed>(Duration::MAX).await?;
                saga.run(&stage.b, &text("2")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(9 * MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(MINUTE).await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(stage.log(), ["a 1", "undo a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn the_time_for_which_people_have_an_instance_does_not_run_against_its_deadline() {
    let stuck = Part::default().effect(Effect::AtMostOnce).acts([unknown()]);
    let stage = Stage::new(Part::default(), stuck, Part::default()).deadline(10 * MINUTE);
    let world = stage
        .world(|saga, stage| {
            async move {
                saga.run(&stage.a, &text("1")).await?;
                saga.sleep(5 * MINUTE).await?;
                saga.run(&stage.b, &text("2")).await?;
                saga.sleep(4 * MINUTE).await?;
                saga.run(&stage.c, &text("3")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Hold).await;
    world.settle().await;
    world.pass(60 * MINUTE).await;
    world.command(id, Command::Release).await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Stuck, "its sleep was over");
    world.pass(60 * MINUTE).await;
    let applied = Resolution {
        step: Some(text("b")),
        evidence: text("the bank's statement"),
        finding: Some(Finding::Applied(serde_json::json!("2"))),
        money: Vec::new(),
    };
    world.engine().resolve(id, applied, "anna", "asked").await.unwrap();
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(4 * MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a 1", "b 2", "c 3"]);
    world.finish().await;
}

#[tokio::test]
async fn the_time_for_which_a_dependency_is_down_does_not_run_against_the_deadline_of_an_instance()
{
    let a = Part::default().acts([retry("down"), retry("down")]).through("courier");
    let stage = Stage::new(a, Part::default(), Part::default()).deadline(10 * MINUTE);
    let stage = stage.dependency(Dependency::new("courier").down_after(1));
    let world = stage
        .world(|saga, stage| {
            async move {
                saga.run(&stage.a, &text("1")).await?;
                saga.sleep(5 * MINUTE).await?;
                saga.run(&stage.b, &text("2")).await?;
                saga.wait::<Packed>(Duration::MAX).await?;
                saga.run(&stage.c, &text("3")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    // Parked before its first attempt.
    let other = start(&world, "other").await;
    world.settle().await;
    for _ in 0..2 {
        world.pass(Duration::from_millis(600)).await;
        assert_eq!(world.instance(id).await.parked_on.as_deref(), Some("courier"));
        world.pass(60 * MINUTE).await;
    }
    world.pass(MINUTE).await;
    world.pass(5 * MINUTE).await;
    assert_eq!(stage.log(), ["a 1", "a 1", "a 1", "a 1", "b 2", "b 2"]);
    for id in [id, other] {
        assert_eq!(world.instance(id).await.status, Status::Waiting);
    }
    // From here on it runs.
    world.pass(5 * MINUTE).await;
    for id in [id, other] {
        assert_eq!(world.instance(id).await.status, Status::Compensated);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_deadline_runs_on_for_a_branch_that_waits_once_the_other_one_is_parked_no_more() {
    let a = Part::default().acts([retry("down")]).through("courier");
    let stage = Stage::new(a, Part::default(), Part::default()).deadline(10 * MINUTE);
    let stage = stage.dependency(Dependency::new("courier").down_after(1));
    let world = stage
        .world(|saga, stage| {
            async move {
                let one = text("1");
                let called = saga.run(&stage.a, &one);
                let (packed, called) = futures::join!(saga.wait::<Packed>(Duration::MAX), called);
                packed?;
                called
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(Duration::from_millis(600)).await;
    assert_eq!(world.instance(id).await.parked_on.as_deref(), Some("courier"));
    world.pass(60 * MINUTE).await;
    assert_eq!(stage.log(), ["a 1", "a 1"]);
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(9 * MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    world.finish().await;
}

/// A world in which instances run `a` and nothing else; its attempts have to begin within ten minutes.
async fn step_world(a: Part<amends_tests::improvised::A>) -> (Stage, World) {
    let courier = Dependency::new("courier").down_after(1);
    let stage = Stage::new(a.deadline(10 * MINUTE), Part::default(), Part::default());
    let stage = stage.dependency(courier);
    let world =
        stage.world(|saga, stage| async { saga.run(&stage.a, &text("1")).await }.boxed()).await;
    (stage, world)
}

#[tokio::test]
async fn no_attempt_at_a_step_begins_after_its_deadline_if_nobody_was_there_to_make_it() {
    let (stage, world) = step_world(Part::default().acts([retry("down")])).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(60 * MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(stage.log(), ["a 1"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn the_time_for_which_people_have_an_instance_does_not_run_against_the_deadline_of_a_step() {
    let (stage, world) = step_world(Part::default().acts([retry("down"), retry("down")])).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Hold).await;
    world.settle().await;
    world.pass(60 * MINUTE).await;
    world.command(id, Command::Release).await;
    world.settle().await;
    assert_eq!(stage.log(), ["a 1", "a 1"]);
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn the_time_for_which_a_dependency_is_down_does_not_run_against_the_deadline_of_a_step() {
    let part = Part::default().acts([retry("down"), retry("down")]).through("courier");
    let (stage, world) = step_world(part).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(Duration::from_millis(600)).await;
    assert_eq!(world.instance(id).await.parked_on.as_deref(), Some("courier"));
    world.pass(60 * MINUTE).await;
    assert_eq!(stage.log(), ["a 1", "a 1"], "it is tried, late as it is");
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn what_comes_while_a_dependency_is_down_does_not_make_that_time_count() {
    for news in [None, Some(Command::Hold), Some(Command::Retry)] {
        let part = Part::default().acts([retry("down"), retry("down")]).through("courier");
        let (stage, world) = step_world(part).await;
        let id = start(&world, "it").await;
        world.settle().await;
        world.pass(Duration::from_millis(600)).await;
        assert_eq!(world.instance(id).await.parked_on.as_deref(), Some("courier"));
        world.set_clock(world.now() + 60 * MINUTE);
        match news {
            None => drop(send(&world, "it", "a parcel").await),
            Some(command) => drop(world.command(id, command).await),
        }
        world.settle().await;
        if news == Some(Command::Hold) {
            world.command(id, Command::Release).await;
            world.settle().await;
        }
        world.pass(MINUTE).await;
        world.pass(MINUTE).await;
        assert_eq!(world.instance(id).await.status, Status::Completed, "{news:?}");
        assert_eq!(stage.log(), ["a 1", "a 1", "a 1"], "{news:?}");
        world.finish().await;
    }
}
