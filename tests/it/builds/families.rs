//! A child that has completed can be taken back while what started it is live, and needs its version
//! until then.

use std::time::Duration;

use amends::check::Misfit;
use amends::command::{Answer, Command};
use amends::view::Filter;
use amends::{Engine, EngineBuilder, Started, Status};
use amends_tests::World;
use uuid::Uuid;

use super::check;
use super::stock::{DAY, Labelling, NumberedPacking, Order, Packing, Task, request};
use crate::versions::Builds;

const MINUTE: Duration = Duration::from_secs(60);

fn first(builder: EngineBuilder, task: &Task) -> EngineBuilder {
    builder
        .workflow(Order)
        .workflow(Packing::<1>(task.clone()))
        .workflow(Labelling::<1>(task.clone()))
}

fn second(builder: EngineBuilder, task: &Task) -> EngineBuilder {
    builder
        .workflow(Order)
        .workflow(Packing::<2>(task.clone()))
        .workflow(Labelling::<2>(task.clone()))
}

fn both(builder: EngineBuilder, task: &Task) -> EngineBuilder {
    let builder = first(builder, task);
    builder.workflow(Packing::<2>(task.clone())).workflow(Labelling::<2>(task.clone()))
}

/// An order whose parcel is packed and labelled, by a build that has left.
async fn packed(builds: &Builds, task: &Task) -> Uuid {
    let engine = builds.open(|builder| first(builder, task)).await;
    let started = engine.start(request("order")).await.unwrap();
    let Started::New(id) = started else { panic!("{started:?}") };
    engine.run_until_idle().await.unwrap();
    assert_eq!(task.log(), ["pack", "label"]);
    engine.shutdown().await.unwrap();
    id
}

/// The versions of a build: how many are live on it, how many can be taken back, whether it can go.
async fn versions(engine: &Engine) -> Vec<(String, u64, u64, bool)> {
    let versions = engine.versions().await.unwrap().into_iter().map(|it| {
        let name = format!("{}@{}", it.workflow, it.version);
        (name, it.live.total(), it.completed_children, it.is_safe_to_remove())
    });
    versions.collect()
}

fn on(name: &str, live: u64, children: u64, can_go: bool) -> (String, u64, u64, bool) {
    (name.to_owned(), live, children, can_go)
}

#[tokio::test]
async fn a_version_stays_while_a_live_instance_can_take_back_what_is_on_it() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    packed(&builds, &task).await;
    let engine = builds.open(|builder| both(builder, &task)).await;
    let news = [on("labelling@2", 0, 0, false), on("packing@2", 0, 0, false)];
    let [label_2, pack_2] = news;
    let expected = [
        on("labelling@1", 0, 1, false),
        label_2.clone(),
        on("order@1", 1, 0, false),
        on("packing@1", 0, 1, false),
        pack_2.clone(),
    ];
    assert_eq!(versions(&engine).await, expected);
    let without = builds.open(|builder| second(builder, &task)).await;
    assert_eq!(versions(&without).await, expected, "what this build lacks is listed as well");
    without.shutdown().await.unwrap();

    builds.advance(31 * DAY);
    engine.run_until_idle().await.unwrap();
    let ended = [
        on("labelling@1", 0, 0, true),
        label_2,
        on("order@1", 0, 0, false),
        on("packing@1", 0, 0, true),
        pack_2,
    ];
    assert_eq!(versions(&engine).await, ended);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_check_names_completed_children_that_a_build_could_not_undo() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    packed(&builds, &task).await;
    let (report, all) = check(&world, |builder| first(builder, &task)).await;
    assert_eq!((report.fits, report.completed_children), (3, 2), "{all:?}");
    let children: Vec<_> = all.iter().map(|it| it.is_completed_child).collect();
    assert_eq!(children, [false, true, true]);

    let (report, all) = check(&world, |builder| second(builder, &task)).await;
    let missing = |name: &str| Some(Misfit::CannotBeRun(format!("{name}@1 is not in this build")));
    let misfits: Vec<_> = all.iter().map(|it| it.misfit.clone()).collect();
    assert_eq!(misfits, [None, missing("packing"), missing("labelling")], "{report:?}");

    let numbered = |builder: EngineBuilder| {
        builder.workflow(Order).workflow(NumberedPacking).workflow(Labelling::<1>(task.clone()))
    };
    let (report, all) = check(&world, numbered).await;
    assert_eq!((report.fits, report.misfits["unreadable"]), (2, 1), "{all:?}");
    let Some(Misfit::Unreadable(message)) = &all[1].misfit else { panic!("{all:?}") };
    assert!(message.starts_with("the undo of task: recorded data:"), "{message}");

    // Once its parent has ended, nobody takes a child back.
    let engine = builds.open(|builder| first(builder, &task)).await;
    builds.advance(31 * DAY);
    engine.run_until_idle().await.unwrap();
    let (report, all) = check(&world, |builder| second(builder, &task)).await;
    assert_eq!(report.instances(), 0, "{all:?}");
    engine.abandon();
    world.finish().await;
}

async fn stands(engine: &Engine, id: Uuid) -> (Status, Option<String>) {
    let view = engine.instance(id).await.unwrap().unwrap();
    (view.status, view.failure.map(|failure| failure.to_string()))
}

const MISSING: &str = "CHILD_VERSION_MISSING: child:pack is to be undone, and no server runs packing@1; deploy a build with it, and resume";

#[tokio::test]
async fn a_child_whose_version_nobody_runs_is_put_to_a_person_and_undone_once_it_is_back() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let id = packed(&builds, &task).await;
    let without = builds.open(|builder| second(builder, &task)).await;
    let cancelled = without.command(id, Command::Cancel, "ann", "why").await.unwrap();
    assert_eq!(cancelled, Some(Answer::Accepted));
    without.run_until_idle().await.unwrap();
    assert_eq!(stands(&without, id).await.0, Status::Compensating, "servers may be on their way");
    builds.advance(5 * MINUTE);
    without.run_until_idle().await.unwrap();
    assert_eq!(stands(&without, id).await, (Status::Stuck, Some(MISSING.to_owned())));

    // Nothing is lost by a resume that comes too early.
    let resumed = without.command(id, Command::Resume, "ann", "why").await.unwrap();
    assert_eq!(resumed, Some(Answer::Accepted));
    without.run_until_idle().await.unwrap();
    builds.advance(5 * MINUTE);
    without.run_until_idle().await.unwrap();
    assert_eq!(stands(&without, id).await, (Status::Stuck, Some(MISSING.to_owned())));

    let with = builds.open(|builder| both(builder, &task)).await;
    with.command(id, Command::Resume, "ann", "deployed").await.unwrap();
    // Children have been told by then, and say when they are undone.
    for _ in 0..3 {
        without.run_until_idle().await.unwrap();
        with.run_until_idle().await.unwrap();
    }
    assert_eq!(stands(&with, id).await.0, Status::Cancelled);
    assert_eq!(task.log(), ["pack", "label", "undo label", "undo pack"]);
    without.abandon();
    with.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_version_that_goes_while_a_child_is_undone_is_missed_as_well() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let id = packed(&builds, &task).await;
    let with = builds.open(|builder| first(builder, &task)).await;
    task.fail(1);
    with.command(id, Command::Cancel, "ann", "why").await.unwrap();
    with.run_until_idle().await.unwrap();
    with.shutdown().await.unwrap();

    let without = builds.open(|builder| second(builder, &task)).await;
    builds.advance(60 * MINUTE);
    without.run_until_idle().await.unwrap();
    assert_eq!(stands(&without, id).await, (Status::Stuck, Some(MISSING.to_owned())));
    let filter = Filter { limit: 10, ..Filter::default() };
    let children = without.instances(&filter).await.unwrap();
    assert!(children.iter().all(|it| it.status != Status::Completed), "{children:?}");
    without.shutdown().await.unwrap();

    let with = builds.open(|builder| first(builder, &task)).await;
    with.command(id, Command::Resume, "ann", "deployed").await.unwrap();
    with.run_until_idle().await.unwrap();
    assert_eq!(stands(&with, id).await.0, Status::Cancelled);
    assert_eq!(task.log(), ["pack", "label", "undo label", "undo pack"]);
    with.abandon();
    world.finish().await;
}
