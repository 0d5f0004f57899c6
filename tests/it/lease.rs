//! Losing the lease: what a dead worker held is taken over, and what it still wants is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amends::Status;
use amends::probe::Probes;
use amends_tests::World;
use amends_tests::crash::Crash;
use amends_tests::http::{Api, Call};
use chrono::{DateTime, TimeDelta, Utc};

const KEY: &str = "acme.myshopify.com/1001";

#[tokio::test]
async fn what_a_dead_worker_held_is_finished_by_another() {
    let (crash, probes) = Crash::at(Some(8));
    let mut world = World::builder().probes(probes).build().await;
    let id = world.start_order("1001").await;
    crash.happened().await;
    world.crash().await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Running, "the lease has not run out");
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_leaves_hands_over_at_once_and_nothing_is_lost() {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(world.start_order(&format!("{number}")).await);
    }
    // In the middle of whatever each of them is doing; no lease has to run out.
    world.restart().await;
    world.settle().await;
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(world.instance(id).await.status, Status::Completed);
        let kinds = world.history(id).await.into_iter().map(|record| record.kind);
        assert!(!kinds.into_iter().any(|kind| kind == "worker_lost"), "{id} was let go of");
        let counts = world.providers().counts(&format!("acme.myshopify.com/{number}")).await;
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_held_by_a_worker_that_is_not_there_is_finished_by_another() {
    let (crash, probes) = Crash::at(Some(8));
    let mut world = World::builder().probes(probes).build().await;
    let id = world.start_order("1001").await;
    crash.happened().await;
    let mut database = world.database().await;
    sqlx::query("delete from amends.worker").execute(&mut database).await.unwrap();
    world.crash().await;
    // No lease has to run out: there is none.
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

/// The clock of a test stands, so what passes meanwhile only makes the offset less.
#[tokio::test]
async fn each_renewal_measures_the_clock_against_the_database_s() {
    let world = World::new().await;
    let present: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    for ahead in [3_600, 0, -3_600] {
        world.set_clock(present + TimeDelta::seconds(ahead));
        world.settle().await;
        let offset = world.engine().clock_offset().unwrap();
        let shown = gauge(&world, "amends_clock_offset_seconds").await;
        assert_eq!(shown, offset.ahead.as_seconds_f64());
        let (least, most) = ((ahead - 300) as f64, ahead as f64);
        assert!(least < shown && shown < most, "{shown} s, {ahead} s ahead when it was set");
        assert_eq!(gauge(&world, "amends_clock_offset_uncertainty_seconds").await, 0.0);
    }
    world.finish().await;
}

/// The value of a gauge without labels, as it is shown.
async fn gauge(world: &World, name: &str) -> f64 {
    let answer = Api::of(world).send(Call::get("/metrics")).await;
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not shown: {text}")).parse().unwrap()
}

/// A bug in the write path must not leave a worker that holds instances and cannot write.
#[tokio::test]
async fn a_worker_whose_committer_panics_is_lost_and_nothing_with_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let probes = Probes::new(move |point| {
        let is_fifth = point == "commit.before" && count.fetch_add(1, Ordering::SeqCst) == 4;
        Box::pin(async move { assert!(!is_fifth, "the test wants it") })
    });
    let mut world = World::builder().probes(probes).build().await;
    let id = world.start_order("1001").await;
    world.engine().quiesce().await;
    let ready = world.engine().ready().await;
    assert!(matches!(ready, Err(amends::Error::Unavailable)), "{ready:?}");
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    let counts = world.providers().counts(KEY).await;
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    world.finish().await;
}

/// A worker is stopped at every point of an order in turn, outlives its lease, is taken over, and
/// then goes on as if nothing had been: it writes no row, and its effects are those that its
/// successor asked for under the same keys.
#[tokio::test]
async fn a_worker_that_was_taken_over_writes_nothing_when_it_wakes_up() {
    let mut points = 0;
    loop {
        let (crash, probes) = Crash::at(Some(points));
        let mut world = World::builder().probes(probes).build().await;
        let started = amends_tests::orders::order("1001");
        let stopped = tokio::select! {
            () = async { let _ = world.start(&started).await; world.settle().await } => false,
            () = crash.happened() => true,
        };
        if !stopped {
            world.finish().await;
            break;
        }
        let zombie = world.succeed().await;
        // Whoever got no answer asks again.
        world.start(&started).await.unwrap();
        world.outlive_lease().await;
        let before = rows(&world).await;
        crash.release();
        zombie.run_dry().await;
        assert_eq!(rows(&world).await, before, "after it woke up at point {points}");
        let counts = world.providers().counts(KEY).await;
        let once = ["charge", "issue", "reserve", "send", "ship"].map(|o| (o.to_owned(), 1));
        assert_eq!(counts, once.into(), "after it woke up at point {points}");
        world.finish().await;
        points += 1;
    }
    assert!(points > 20, "only {points} points were tried");
}

/// The same with nobody to take over but the deletion of its row: the row alone keeps it out.
#[tokio::test]
async fn a_worker_without_its_row_writes_nothing() {
    // The first points lie before the order is accepted.
    for nth in 4..12 {
        let (crash, probes) = Crash::at(Some(nth));
        let mut world = World::builder().probes(probes).build().await;
        world.start_order("1001").await;
        crash.happened().await;
        let mut database = world.database().await;
        sqlx::query("delete from amends.worker").execute(&mut database).await.unwrap();
        let before = rows(&world).await;
        let zombie = world.succeed().await;
        crash.release();
        zombie.run_dry().await;
        assert_eq!(rows(&world).await, before, "after it went on at point {nth}");
        // What a take-over does once the row is gone.
        let free = "update amends.instance set worker_id = null, run_at = created_at";
        sqlx::query(free).execute(&mut database).await.unwrap();
        world.settle().await;
        world.finish().await;
    }
}

/// Everything that is written, as one text.
async fn rows(world: &World) -> String {
    sqlx::query_scalar(
        "select concat_ws(E'\\n',
             (select string_agg(i::text, E'\\n' order by instance_id) from amends.instance i),
             (select string_agg(r::text, E'\\n' order by instance_id, seq) from amends.record r),
             (select string_agg(o::text, E'\\n' order by outbox_id) from amends.outbox o),
             (select string_agg(l::text, E'\\n' order by instance_id, seq) from amends.ledger l))",
    )
    .fetch_one(&mut world.database().await)
    .await
    .unwrap()
}
