//! Clocks that are set, and zones whose law has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amends::{Gap, Overlap, Schedule};
use amends_tests::World;
use chrono::TimeDelta;

use super::{
    DAY, FIRST, HOUR, NIGHTLY, UNTIL_TWO, defined, firings, keys, script, utc, view, with,
};

/// Two at night on the first of the month, in a country that changed its mind in October 2024: by
/// the zones of the time before, April 2025 begins at 04:00Z there, and by its law at 03:00Z.
const MONTHLY: Schedule = Schedule {
    cron: "0 2 1 * *",
    zone: "America/Asuncion",
    gap: Gap::All { max: 10 },
    overlap: Overlap::Start,
    ..NIGHTLY
};

#[tokio::test]
async fn a_zone_whose_law_has_changed_since_the_next_firing_was_found_loses_none() {
    let hour = "2025-04-01T06:00Z";
    for before in [
        // As this release left it with the zones of the time.
        format!("next_at = '{hour}', derived_next_at = '{hour}', zones = '2024a'"),
        // As the release before left it.
        format!("next_at = '{hour}', derived_next_at = null, zones = null, decided_until = null"),
    ] {
        let is_defined = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&is_defined);
        let mut world = World::builder()
            .engine(move |builder| match shared.load(Ordering::SeqCst) {
                0 => builder,
                _ => defined(builder, MONTHLY, &script()),
            })
            .build()
            .await;
        world.set_clock(utc("2025-03-20T12:00:00Z"));
        is_defined.store(1, Ordering::SeqCst);
        world.restart().await;
        let found = format!("update amends.schedule set {before}");
        let found = sqlx::query(sqlx::AssertSqlSafe(found));
        found.execute(&mut world.database().await).await.unwrap();
        world.advance(DAY);
        world.restart().await;
        assert_eq!(view(&world).await.next[0].to_rfc3339(), "2025-04-01T02:00:00-03:00");
        world.set_clock(utc("2025-04-01T04:59:59Z"));
        world.settle().await;
        assert_eq!(firings(&world).await, Vec::<String>::new());
        for _ in 0..40 {
            world.pass(DAY).await;
        }
        let first = |month| format!("nightly/2025-{month}-01T02:00-03:00");
        assert_eq!(keys(&world).await, [first("04"), first("05")], "{before}");
        assert_eq!(view(&world).await.missed, None);
        world.finish().await;
    }
}

#[tokio::test]
async fn whoever_has_the_newest_zones_decides_as_long_as_it_lives() {
    let world = with(NIGHTLY, script()).build().await;
    let mut database = world.database().await;
    for newer in [
        "insert into amends.worker
             (worker_id, name, started_at, lease_until, relays, schedules, zones)
         select gen_random_uuid(), 'newer', '2026-11-18', '2026-12-18', false, array[definition],
                '2999a'
         from amends.schedule",
        "update amends.schedule set zones = '2999a'",
    ] {
        sqlx::query(newer).execute(&mut database).await.unwrap();
    }
    world.pass(UNTIL_TWO).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    let leaves = "delete from amends.worker where name = 'newer'";
    sqlx::query(leaves).execute(&mut database).await.unwrap();
    world.settle().await;
    assert_eq!(keys(&world).await, [FIRST]);
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_and_is_set_back_loses_and_doubles_no_firing() {
    let all = Schedule { gap: Gap::All { max: 10 }, ..NIGHTLY };
    let mut world = with(all, script()).build().await;
    world.pass(UNTIL_TWO + DAY).await;
    let night = |day| format!("nightly/2026-11-{day}T02:00+01:00");
    assert_eq!(keys(&world).await, [night(19), night(20)]);
    world.set_clock(world.now() - TimeDelta::hours(30));
    for _ in 0..2 {
        world.settle().await;
        assert_eq!(view(&world).await.next[0].to_rfc3339(), "2026-11-21T02:00:00+01:00");
        world.restart().await;
    }
    for _ in 0..6 {
        world.pass(12 * HOUR).await;
    }
    assert_eq!(keys(&world).await, [19, 20, 21].map(night));
    assert_eq!(view(&world).await.missed, None);
    world.finish().await;
}

#[tokio::test]
async fn another_zone_under_a_clock_that_was_set_back_does_not_fire_a_moment_again() {
    let respelt = Schedule { cron: "0 1 * * *", zone: "UTC", ..NIGHTLY };
    let which = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&which);
    let mut world = World::builder()
        .engine(move |builder| {
            let schedule = [NIGHTLY, respelt][shared.load(Ordering::SeqCst)];
            defined(builder, schedule, &script())
        })
        .build()
        .await;
    world.pass(UNTIL_TWO).await;
    assert_eq!(keys(&world).await, [FIRST]);
    world.set_clock(world.now() - TimeDelta::hours(2));
    which.store(1, Ordering::SeqCst);
    world.restart().await;
    world.pass(2 * HOUR).await;
    assert_eq!(keys(&world).await, [FIRST]);
    world.pass(DAY).await;
    assert_eq!(keys(&world).await, [FIRST, "nightly/2026-11-20T01:00+00:00"]);
    world.finish().await;
}
