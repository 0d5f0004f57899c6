//! Several processes follow one schedule, and some of them are lost.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amends::schedule::{FiringState, ScheduleAnswer, ScheduleCommand};
use amends::{Engine, Gap, Overlap, Schedule, Settings, Status};
use amends_api::postgres::{Durability, Embedded, Options};
use amends_tests::crash::Crash;
use amends_tests::scripted::Scripted;
use amends_tests::{World, WorldBuilder, cluster};
use sqlx::postgres::PgConnectOptions;

use super::{
    DAY, FIRST, HOUR, NIGHTLY, UNTIL_TWO, accepted, ask, defined, detail, firings, instances, keys,
    script, view, with,
};

#[tokio::test]
async fn two_engines_on_one_database_fire_once() {
    let hourly = Schedule { cron: "0 * * * *", gap: Gap::All { max: 50 }, ..NIGHTLY };
    let hourly = Schedule { overlap: Overlap::Start, ..hourly };
    let script = script();
    let mut world = World::builder()
        .engine(move |builder| {
            // Neither takes the other over when the clock jumps.
            let settings = Settings { lease: DAY, ..Settings::default() };
            defined(builder.settings(settings), hourly, &script)
        })
        .build()
        .await;
    let beside = world.succeed().await;
    for _ in 0..5 {
        world.advance(5 * HOUR);
        tokio::join!(world.settle(), beside.run_dry());
    }
    let workers = sqlx::query_scalar("select count(*) from amends.worker");
    assert_eq!(workers.fetch_one(&mut world.database().await).await.ok(), Some(2_i64));
    let mut keys = keys(&world).await;
    assert_eq!(keys.len(), 25);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 25);
    assert!(detail(&world).await.firings.iter().all(|it| it.state == FiringState::Started));
    world.finish().await;
}

/// The process is lost at each point between hearing of a firing and its instance's end.
#[tokio::test]
async fn a_crash_at_every_point_fires_neither_twice_nor_never() {
    let mut nth = 0;
    loop {
        let (crash, probes) = Crash::at(Some(nth));
        let script = script();
        let mut world = with(NIGHTLY, script.clone()).probes(probes).build().await;
        world.advance(UNTIL_TWO);
        let crashed = tokio::select! {
            () = world.settle() => false,
            () = crash.happened() => true,
        };
        if crashed {
            world.crash().await;
            world.outlive_lease().await;
            world.pass(HOUR).await;
        }
        assert_eq!(keys(&world).await, [FIRST], "after a crash at point {nth}");
        assert_eq!(firings(&world).await, ["19 02:00 due started"], "at point {nth}");
        assert_eq!(instances(&world).await[0].status, Status::Completed);
        world.finish().await;
        crash.release();
        if !crashed {
            let reached = crash.reached();
            for point in ["schedule.planned", "start.after", "schedule.started"] {
                assert!(reached.contains(&point), "{point} is not among {reached:?}");
            }
            return;
        }
        nth += 1;
    }
}

#[tokio::test]
async fn an_older_build_leaves_alone_what_a_newer_one_has_changed() {
    let crons = ["0 2 * * *", "30 3 * * *"];
    let which = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&which);
    let mut world = World::builder()
        .engine(move |builder| {
            let cron = crons[shared.fetch_add(1, Ordering::SeqCst).min(1)];
            // The newer one lives on when the clock jumps.
            let settings = Settings { lease: DAY, ..Settings::default() };
            defined(builder.settings(settings), Schedule { cron, ..NIGHTLY }, &script())
        })
        .build()
        .await;
    let older = world.succeed().await;
    world.advance(UNTIL_TWO + 2 * HOUR);
    older.run_dry().await;
    assert_eq!(firings(&world).await, Vec::<String>::new());
    world.restart().await;
    world.settle().await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-19T03:30+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn what_no_running_build_defines_does_not_fire_and_says_so() {
    let is_defined = Arc::new(AtomicUsize::new(1));
    let mut world = defined_while(&is_defined).build().await;
    assert!(view(&world).await.is_defined);
    is_defined.store(0, Ordering::SeqCst);
    world.restart().await;
    let listed = world.engine().schedules().await.unwrap();
    assert_eq!((listed.len(), listed[0].is_defined, listed[0].next.len()), (1, false, 0));
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, ScheduleAnswer::NotDefined);
    world.pass(2 * DAY).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    world.finish().await;
}

/// On a clock that nobody moves, and so on a database that forgets nothing.
#[tokio::test]
async fn a_running_process_follows_its_schedules_by_itself() {
    let data_dir = cluster::scratch().join("schedules");
    // There is none before the first run. A minute that it has fired would not fire again.
    let _ = std::fs::remove_dir_all(&data_dir);
    std::fs::create_dir_all(&data_dir).unwrap();
    let bin_dir = cluster::bin_dir();
    let durability = Durability::Full;
    let postgres =
        Embedded::start(Options { data_dir: data_dir.clone(), bin_dir, durability }).await.unwrap();
    cluster::stop_with_this_process(&data_dir);
    let options = PgConnectOptions::from_str(postgres.url()).unwrap();
    cluster::deafen_if_wanted(&options).await;
    let builder = Engine::builder(options);
    let free = Schedule { name: "free", overlap: Overlap::Start, ..NIGHTLY };
    let engine = defined(builder, free, &script()).open().await.unwrap();
    let mut endings = engine.endings();
    let trigger = ScheduleCommand::Trigger;
    let answer = engine.command_schedule("free", trigger, "anna", "why").await.unwrap();
    assert_eq!(answer, Some(accepted(1, 0)));
    assert_eq!(endings.recv().await.unwrap().1, Status::Completed);
    let detail = engine.schedule("free").await.unwrap().unwrap();
    assert_eq!(detail.firings[0].kind, "trigger");
    engine.shutdown().await.unwrap();
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_pause_that_was_accepted_stops_what_was_just_being_decided() {
    let (crash, probes) = Crash::at(Some(0));
    let world = with(NIGHTLY, script()).probes(probes).build().await;
    world.advance(UNTIL_TWO);
    let paused = async {
        crash.happened().await;
        assert_eq!(crash.reached(), ["schedule.decided"]);
        assert_eq!(ask(&world, ScheduleCommand::Pause).await, accepted(0, 0));
        crash.release();
    };
    tokio::join!(world.settle(), paused);
    world.settle().await;
    assert_eq!(firings(&world).await, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_process_that_has_lost_its_lease_decides_nothing() {
    let (crash, probes) = Crash::at(Some(0));
    let is_defined = Arc::new(AtomicUsize::new(1));
    let mut world = defined_while(&is_defined).probes(probes).build().await;
    world.advance(UNTIL_TWO);
    let stopped = world.engine().clone();
    let stopped = tokio::spawn(async move { stopped.run_until_idle().await });
    crash.happened().await;
    assert_eq!(crash.reached(), ["schedule.decided"]);
    is_defined.store(0, Ordering::SeqCst);
    let _zombie = world.succeed().await;
    world.outlive_lease().await;
    crash.release();
    // What it wants is refused; how it takes that is its own business.
    let _ = stopped.await.unwrap();
    assert_eq!(firings(&world).await, Vec::<String>::new());
    world.finish().await;
}

/// Engines that are opened while the number is not 0 define the schedule.
fn defined_while(number: &Arc<AtomicUsize>) -> WorldBuilder {
    let shared = Arc::clone(number);
    World::builder().engine(move |builder| match shared.load(Ordering::SeqCst) {
        0 => builder.workflow(Scripted(script())),
        _ => defined(builder, NIGHTLY, &script()),
    })
}
