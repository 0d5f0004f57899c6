//! Builds that define one schedule differently, side by side and one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::schedule::ScheduleCommand;
use amends::{Engine, Gap, Overlap, Schedule, Settings};
use amends_tests::scripted::{Script, Scripted};
use amends_tests::{World, WorldBuilder};

use super::{
    DAY, FIRST, HOUR, NIGHTLY, UNTIL_TWO, ask, defined, firings, keys, script, slow, utc, view,
};

const OLD: Schedule = NIGHTLY;
const NEW: Schedule = Schedule { cron: "30 3 * * *", ..NIGHTLY };

/// A world whose engines have the build of this number when they open. No lease ever runs out.
fn builds(builds: [Schedule; 2], script: Script) -> (Arc<AtomicUsize>, WorldBuilder) {
    let which = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&which);
    let world = World::builder().engine(move |builder| {
        let settings = Settings { lease: 400 * DAY, ..Settings::default() };
        let schedule = builds[shared.load(Ordering::SeqCst)];
        defined(builder.settings(settings), schedule, &script)
    });
    (which, world)
}

/// One more process, of the build of this number, beside those that run.
async fn joined(world: &mut World, which: &AtomicUsize, build: usize) -> Engine {
    which.store(build, Ordering::SeqCst);
    world.succeed().await;
    world.engine()
}

async fn pass(world: &World, time: Duration, engines: &[&Engine]) {
    world.advance(time);
    for engine in engines {
        engine.run_until_idle().await.unwrap();
    }
}

#[tokio::test]
async fn an_old_process_that_restarts_during_a_roll_out_takes_no_schedule_over() {
    let (which, world) = builds([OLD, NEW], script());
    let mut world = world.build().await;
    let old = world.engine();
    let new = joined(&mut world, &which, 1).await;
    let restarted = joined(&mut world, &which, 0).await;
    assert_eq!(view(&world).await.cron, NEW.cron);
    pass(&world, UNTIL_TWO + HOUR, &[&restarted, &old, &new]).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    for leaving in [&old, &restarted] {
        leaving.shutdown().await.unwrap();
    }
    for _ in 0..10 {
        pass(&world, DAY, &[&new]).await;
    }
    let days = (19..29).map(|day| format!("nightly/2026-11-{day}T03:30+01:00"));
    assert_eq!(keys(&world).await, Vec::from_iter(days));
    assert!(view(&world).await.is_defined);
    joined(&mut world, &which, 1).await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_build_that_has_left_defined_is_defined_anew_by_the_one_that_lives() {
    for leaves in [true, false] {
        let (which, world) = builds([OLD, NEW], script());
        let mut world = world.build().await;
        let old = world.engine();
        let new = joined(&mut world, &which, 1).await;
        assert_eq!(view(&world).await.cron, NEW.cron);
        // The new build is taken back, or is lost.
        if leaves {
            new.shutdown().await.unwrap();
        } else {
            new.abandon();
            let lapse =
                "update amends.worker set lease_until = '2026-11-18' where schedules[1] like $1";
            let text = format!("%{}%", NEW.cron);
            sqlx::query(lapse).bind(text).execute(&mut world.database().await).await.unwrap();
        }
        assert!(!view(&world).await.is_defined);
        old.run_until_idle().await.unwrap();
        let defined = view(&world).await;
        assert_eq!((defined.cron.as_str(), defined.is_defined), (OLD.cron, true));
        pass(&world, UNTIL_TWO, &[&old]).await;
        assert_eq!(keys(&world).await, [FIRST]);
        // And once more there.
        joined(&mut world, &which, 1).await;
        assert_eq!(view(&world).await.cron, NEW.cron);
        old.shutdown().await.unwrap();
        world.finish().await;
    }
}

#[tokio::test]
async fn a_release_that_knows_nothing_of_this_does_not_keep_a_schedule() {
    let world = World::builder().engine(|builder| defined(builder, NEW, &script())).build().await;
    // As the release before writes it when it opens, and leaves.
    let taken = "update amends.schedule set revision = revision + 1, cron = '0 2 * * *',
                     definition = 'nightly: as it was', next_at = '2026-11-19T01:00Z'";
    sqlx::query(taken).execute(&mut world.database().await).await.unwrap();
    assert!(!view(&world).await.is_defined);
    world.settle().await;
    assert_eq!(view(&world).await.cron, NEW.cron);
    world.pass(UNTIL_TWO).await;
    world.pass(2 * HOUR).await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-19T03:30+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn what_was_due_when_the_expression_changes_fires_or_is_shown_as_let_go() {
    let skip = Gap::Skip { grace: Duration::from_secs(1) };
    let new = "nightly/2026-11-20T03:30+01:00";
    for (gap, is_paused, fired) in
        [(Gap::Last, false, &[FIRST, new][..]), (skip, false, &[new]), (Gap::Last, true, &[new])]
    {
        let (which, world) = builds([Schedule { gap, ..OLD }, Schedule { gap, ..NEW }], script());
        let mut world = world.build().await;
        if is_paused {
            ask(&world, ScheduleCommand::Pause).await;
        }
        world.advance(UNTIL_TWO + 4 * HOUR);
        which.store(1, Ordering::SeqCst);
        world.restart().await;
        if is_paused {
            ask(&world, ScheduleCommand::Resume).await;
        }
        world.settle().await;
        world.pass(DAY - 5 * HOUR / 2).await;
        assert_eq!(keys(&world).await, fired, "{gap}, paused: {is_paused}");
        let missed = view(&world).await.missed.map(|missed| missed.from.to_utc());
        let let_go = !fired.contains(&FIRST);
        assert_eq!(missed, let_go.then(|| utc("2026-11-19T01:00:00Z")), "{gap}: {is_paused}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_firing_that_another_zone_has_planned_keeps_its_local_time() {
    let zones = ["Europe/Berlin", "Asia/Singapore"];
    let (which, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (build, hears) = (Arc::clone(&which), Arc::clone(&heard));
    let mut world = World::builder()
        .engine(move |builder| {
            let zone = zones[build.load(Ordering::SeqCst)];
            let hears = Arc::clone(&hears);
            let builder = builder.workflow(Scripted(script()));
            builder.schedule::<Scripted>(Schedule { zone, ..NIGHTLY }, move |firing| {
                hears.lock().unwrap().push(firing.at.to_rfc3339());
                7
            })
        })
        .build()
        .await;
    world.advance(UNTIL_TWO);
    which.store(1, Ordering::SeqCst);
    world.restart().await;
    world.settle().await;
    assert_eq!(keys(&world).await, [FIRST]);
    assert_eq!(*heard.lock().unwrap(), ["2026-11-19T02:00:00+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn a_single_firing_that_is_caught_up_waits_for_its_turn_too() {
    for gap in [Gap::All { max: 10 }, Gap::Last] {
        let schedule = Schedule { gap, overlap: Overlap::Skip, ..NIGHTLY };
        let (_, world) = builds([schedule; 2], slow(1, 30 * HOUR));
        let world = world.build().await;
        world.pass(UNTIL_TWO).await;
        world.pass(DAY + HOUR).await;
        let started = "19 02:00 due started";
        assert_eq!(firings(&world).await, [started, "20 02:00 due planned"], "{gap}");
        world.pass(6 * HOUR).await;
        assert_eq!(firings(&world).await, [started, "20 02:00 due started"], "{gap}");
        world.finish().await;
    }
}
