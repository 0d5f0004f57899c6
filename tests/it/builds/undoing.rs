//! What becomes of what is undone, or may have to be, by a build that declares it otherwise.

use std::time::Duration;

use amends::check::{Misfit, Note};
use amends::command::{Answer, Command};
use amends::{Compensation, Dependency, Engine, EngineBuilder, Start, Started, Status};
use amends_tests::World;
use uuid::Uuid;

use super::check;
use super::stock::{NumberedTrip, Task, Trip, request};
use crate::versions::Builds;

const SECOND: Duration = Duration::from_secs(1);

async fn open(builds: &Builds, task: &Task) -> Engine {
    builds.open(|builder| builder.workflow(Trip(task.clone()))).await
}

async fn start(engine: &Engine) -> Uuid {
    let started = engine.start(request("trip")).await.unwrap();
    let Started::New(id) = started else { panic!("{started:?}") };
    engine.run_until_idle().await.unwrap();
    id
}

/// A trip that has begun as a build declares it that has left.
async fn begun(builds: &Builds, task: &Task) -> Uuid {
    let engine = open(builds, task).await;
    let id = start(&engine).await;
    engine.shutdown().await.unwrap();
    id
}

async fn cancel(engine: &Engine, id: Uuid) -> Answer {
    let answer = engine.command(id, Command::Cancel, "ann", "why").await.unwrap().unwrap();
    engine.run_until_idle().await.unwrap();
    answer
}

async fn stands(engine: &Engine, id: Uuid) -> (Status, String) {
    let view = engine.instance(id).await.unwrap().unwrap();
    (view.status, view.failure.map(|failure| failure.code.into_owned()).unwrap_or_default())
}

/// What a build makes of the one instance there is.
async fn misfit(
    world: &World,
    with: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Option<Misfit> {
    let (report, mut all) = check(world, with).await;
    assert_eq!(report.instances(), 1);
    all.remove(0).misfit
}

#[tokio::test]
async fn a_check_reads_what_undos_will_read() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let id = begun(&builds, &task).await;
    let engine = open(&builds, &task).await;
    task.fail(1);
    cancel(&engine, id).await;
    assert_eq!(stands(&engine, id).await.0, Status::Compensating);
    let found = misfit(&world, |builder| builder.workflow(NumberedTrip)).await;
    let Some(Misfit::Unreadable(message)) = found else { panic!("{found:?}") };
    assert!(message.starts_with("the undo of task: recorded data:"), "{message}");
    assert_eq!(misfit(&world, |builder| builder.workflow(Trip(task.clone()))).await, None);
    builds.advance(10 * SECOND);
    engine.run_until_idle().await.unwrap();
    assert_eq!(stands(&engine, id).await.0, Status::Cancelled);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_step_that_becomes_a_pivot_or_none_is_found_by_a_check() {
    let (undo, pivot) = (Compensation::Undo, Compensation::Pivot);
    for (was, is, why) in [
        (undo, pivot, "task is a pivot in this build: a cancel would be accepted"),
        (pivot, undo, "no pivot of this build is done: a cancel would be refused"),
    ] {
        let world = World::new().await;
        let builds = Builds::of(&world);
        let task = Task::new();
        begun(&builds, &task.declared(was)).await;
        let same = misfit(&world, |builder| builder.workflow(Trip(task.declared(was)))).await;
        assert_eq!(same, None);
        let found = misfit(&world, |builder| builder.workflow(Trip(task.declared(is)))).await;
        let Some(Misfit::PivotChanged(message)) = found else { panic!("{found:?}") };
        assert!(message.starts_with(why), "{message}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_step_that_loses_its_undo_is_not_left_out_of_a_plan() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let id = begun(&builds, &task).await;
    let nothing = task.declared(Compensation::Nothing);
    let found = misfit(&world, |builder| builder.workflow(Trip(nothing.clone()))).await;
    let message = "task had an undo when it was done, and has nothing to undo in this build";
    assert_eq!(found, Some(Misfit::CompensationChanged(message.to_owned())));

    let engine = open(&builds, &nothing).await;
    let preview = engine.preview(id, Command::Cancel).await.unwrap().unwrap();
    assert_eq!(preview.problem.unwrap().code, "COMPENSATION_CHANGED");
    assert_eq!(cancel(&engine, id).await, Answer::Accepted);
    assert_eq!(stands(&engine, id).await, (Status::Stuck, "COMPENSATION_CHANGED".to_owned()));
    engine.shutdown().await.unwrap();

    let engine = open(&builds, &task).await;
    engine.command(id, Command::Resume, "ann", "deployed").await.unwrap();
    engine.run_until_idle().await.unwrap();
    assert_eq!(stands(&engine, id).await.0, Status::Cancelled);
    assert_eq!(task.log(), ["trip", "undo trip"]);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_step_that_loses_its_undo_while_it_is_undone_does_not_count_as_undone() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let id = begun(&builds, &task).await;
    let engine = open(&builds, &task).await;
    task.fail(1);
    cancel(&engine, id).await;
    engine.shutdown().await.unwrap();
    let nothing = task.declared(Compensation::Nothing);
    let found = misfit(&world, |builder| builder.workflow(Trip(nothing.clone()))).await;
    let message = "task is to be undone, and has no undo in this build";
    assert_eq!(found, Some(Misfit::CompensationChanged(message.to_owned())));

    let engine = open(&builds, &nothing).await;
    builds.advance(10 * SECOND);
    engine.run_until_idle().await.unwrap();
    assert_eq!(stands(&engine, id).await, (Status::Stuck, "COMPENSATION_CHANGED".to_owned()));
    engine.shutdown().await.unwrap();

    let engine = open(&builds, &task).await;
    engine.command(id, Command::Resume, "ann", "deployed").await.unwrap();
    builds.advance(10 * SECOND);
    engine.run_until_idle().await.unwrap();
    assert_eq!(stands(&engine, id).await.0, Status::Cancelled);
    assert_eq!(task.log(), ["trip", "undo trip"]);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn what_waits_for_a_dependency_that_a_build_does_not_declare_is_noted() {
    let world = World::new().await;
    let (builds, task) = (Builds::of(&world), Task::new());
    let carrier = || Dependency::new("carrier").down_after(1);
    let by_carrier = || Trip(task.through("carrier"));
    let engine = builds.open(|it| it.workflow(by_carrier()).dependency(carrier())).await;
    task.fail(1);
    start(&engine).await;
    let second = Start { business_key: "second".to_owned(), ..request("trip") };
    engine.start(second).await.unwrap();
    engine.run_until_idle().await.unwrap();
    engine.shutdown().await.unwrap();
    let noted = async |dependency: &'static str| {
        let with = |builder: EngineBuilder| {
            let trip = Trip(task.through(dependency));
            builder.workflow(trip).dependency(Dependency::new(dependency))
        };
        let (report, all) = check(&world, with).await;
        assert_eq!((report.fits, all.len()), (2, 2), "{all:?}");
        let noted: Vec<_> = all.into_iter().filter_map(|it| it.note).collect();
        assert_eq!(report.notes.values().sum::<u64>(), noted.len() as u64);
        noted
    };
    assert_eq!(noted("carrier").await, []);
    assert_eq!(noted("dhl").await, [Note::DependencyUndeclared("carrier".to_owned())]);
    world.finish().await;
}
