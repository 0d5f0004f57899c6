//! What instances wait for besides time and mail: what their steps call, and each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amends::view::DependencyView;
use amends::{Dependency, Priority, Settings, Start, Started, Status};
use amends_tests::World;
use amends_tests::detour::{Detour, Loss};
use amends_tests::improvised::{Part, Stage, start, start_request};
use amends_tests::scripted::{Act, retry, unknown};
use futures::FutureExt;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

/// A stage whose step `a` goes through the courier.
fn stage(acts: impl IntoIterator<Item = Act>, courier: Dependency) -> Stage {
    let a = Part::default().acts(acts).through("courier");
    Stage::new(a, Part::default(), Part::default()).dependency(courier)
}

/// A world in which instances run `a` and nothing else.
async fn world(stage: &Stage) -> World {
    stage.world(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed()).await
}

async fn courier(world: &World) -> DependencyView {
    let mut all = world.engine().dependencies().await.unwrap();
    all.swap_remove(all.iter().position(|it| it.name == "courier").unwrap())
}

async fn many(world: &World, name: &str, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(start(world, &format!("{name}/{n}")).await);
    }
    ids
}

async fn completed(world: &World, ids: &[Uuid]) -> usize {
    let mut completed = 0;
    for id in ids {
        completed += usize::from(world.instance(*id).await.status == Status::Completed);
    }
    completed
}

#[tokio::test]
async fn while_a_dependency_is_down_instances_wait_without_spending_attempts() {
    let stage = stage((0..3).map(|_| retry("down")), Dependency::new("courier").down_after(3));
    let world = world(&stage).await;
    let first = many(&world, "first", 3).await;
    world.settle().await;
    assert_eq!(courier(&world).await.state, "down");
    let later = many(&world, "later", 20).await;
    world.settle().await;
    assert_eq!(stage.log().len(), 3, "nobody calls what is down");
    let waiting = world.instance(later[0]).await;
    assert_eq!(waiting.status, Status::Waiting);
    assert_eq!(waiting.parked_on.as_deref(), Some("courier"));
    assert_eq!(world.history(later[0]).await.len(), 1, "no attempt was spent");
    let fact = courier(&world).await;
    assert_eq!((fact.waiting, fact.failure_code.as_deref()), (20, Some("TRY_AGAIN")));
    // It is back: one is let through, and comes before one of the first, whose next attempt is due;
    // then all that a moment's outage has kept waiting.
    world.pass(SECOND).await;
    let all = [first, later].concat();
    let mut done = vec![completed(&world, &all).await];
    for _ in 0..2 {
        world.pass(SECOND).await;
        done.push(completed(&world, &all).await);
    }
    assert_eq!(done, [2, 23, 23]);
    world.pass(60 * SECOND).await;
    assert_eq!(courier(&world).await.state, "up");
    world.finish().await;
}

#[tokio::test]
async fn a_dependency_that_stays_down_is_tried_less_and_less_often_by_one_after_the_other() {
    let stage = stage((0..100).map(|_| unknown()), Dependency::new("courier").down_after(2));
    let world = world(&stage).await;
    let ids = many(&world, "first", 30).await;
    world.settle().await;
    let outage = courier(&world).await.since;
    let before = stage.log().len();
    for _ in 0..600 {
        world.pass(SECOND).await;
    }
    let tried = stage.log().len() - before;
    assert!((8..=16).contains(&tried), "tried {tried} times in ten minutes");
    assert_eq!(courier(&world).await.since, outage);
    for id in &ids {
        let attempts = world.history(*id).await.len() - 1;
        assert!(attempts <= 2, "one of them has spent {attempts} attempts");
    }
    world.engine().abandon();
}

#[tokio::test]
async fn a_cancel_reaches_an_instance_that_waits_for_a_dependency() {
    let stage = stage((0..2).map(|_| retry("down")), Dependency::new("courier").down_after(2));
    let world = world(&stage).await;
    many(&world, "first", 2).await;
    world.settle().await;
    let id = start(&world, "late").await;
    world.settle().await;
    world.command(id, amends::command::Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(world.instance(id).await.parked_on, None);
    world.finish().await;
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_the_dependency_takes_over_all_workers() {
    let stage = stage((0..20).map(|_| Act::Hang), Dependency::new("courier").concurrency(3));
    let mut world = world(&stage).await;
    let first = world.engine().clone();
    many(&world, "first", 10).await;
    let _zombie = world.succeed().await;
    let second = world.engine().clone();
    // Calls that hang keep each engine busy for good.
    let _running = [first, second]
        .map(|engine| tokio::spawn(async move { while engine.run_until_idle().await.is_ok() {} }));
    while stage.log().len() < 3 {
        tokio::task::yield_now().await;
    }
    let held: i64 = sqlx::query_scalar("select sum(slots) from amends.dependency_slot")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!((stage.log().len(), held), (3, 3));
    world.engine().abandon();
}

#[tokio::test]
async fn slots_that_are_given_back_are_free_for_others_also_if_the_first_word_of_it_is_lost() {
    let stage = stage([], Dependency::new("courier").concurrency(2));
    let detour = Detour::default();
    let world = stage
        .builder(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed())
        .detour(&detour)
        .build()
        .await;
    many(&world, "first", 3).await;
    world.settle().await;
    let mut database = world.database().await;
    let slots = "select slots from amends.dependency_slot order by wanted";
    let held: Vec<i32> = sqlx::query_scalar(slots).fetch_all(&mut database).await.unwrap();
    assert_eq!(held, [2]);
    let wants_none = "update amends.dependency_slot set wanted = 0";
    sqlx::query(wants_none).execute(&mut database).await.unwrap();
    let another_wants_one = "with other as (
            insert into amends.worker (worker_id, name, started_at, lease_until, relays, schedules)
            select gen_random_uuid(), 'other', started_at, lease_until + interval '1 day', false, '{}'
            from amends.worker
            returning worker_id
        )
        insert into amends.dependency_slot (name, worker_id, slots, wanted)
        select 'courier', worker_id, 0, 1 from other";
    sqlx::query(another_wants_one).execute(&mut database).await.unwrap();
    detour.lose_next("begin isolation level read committed", Loss::Request);
    let _ = world.engine().run_until_idle().await;
    assert_eq!(detour.lost().len(), 1);
    world.settle().await;
    let held: Vec<i32> = sqlx::query_scalar(slots).fetch_all(&mut database).await.unwrap();
    assert_eq!(held, [0, 0], "nobody is kept from them");
    world.engine().abandon();
}

#[tokio::test]
async fn a_dependency_is_called_no_faster_than_its_rate() {
    let stage = stage([], Dependency::new("courier").rate(2, SECOND));
    let world = world(&stage).await;
    let ids = many(&world, "first", 10).await;
    world.settle().await;
    assert!(stage.log().len() <= 2, "{:?}", stage.log());
    for second in 1..=10 {
        world.pass(SECOND).await;
        assert!(stage.log().len() <= 2 + 2 * second, "after {second} s: {}", stage.log().len());
    }
    assert_eq!(completed(&world, &ids).await, 10);
    world.finish().await;
}

#[tokio::test]
async fn whoever_keeps_to_a_high_rate_waits_for_the_clock_without_holding_up_the_worker() {
    let stage = stage([], Dependency::new("courier").rate(50, SECOND));
    let world = world(&stage).await;
    let ids = many(&world, "first", 3).await;
    world.settle().await;
    assert_eq!(stage.log().len(), 1);
    for _ in 0..10 {
        world.pass(Duration::from_millis(20)).await;
    }
    assert_eq!(completed(&world, &ids).await, 3);
    world.finish().await;
}

#[tokio::test]
async fn a_flood_of_urgent_instances_does_not_keep_the_others_waiting_to_its_end() {
    let stage = Stage::plain();
    let run =
        stage.engine(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed());
    let places = Arc::new(AtomicUsize::new(0));
    let for_engine = Arc::clone(&places);
    let builder = World::builder().engine(move |engine| {
        let instances_max = for_engine.load(Ordering::Relaxed);
        run(engine).settings(Settings { instances_max, ..Settings::default() })
    });
    let mut world = builder.build().await;
    let mut due = vec![(Priority::Low, "low".to_owned()), (Priority::Normal, "normal".to_owned())];
    due.extend((0..60).map(|n| (Priority::High, format!("high/{n}"))));
    let mut ids = Vec::new();
    for (priority, key) in due {
        ids.push(world.begin(Start { priority, ..start_request(&key) }).await);
    }
    places.store(4, Ordering::Relaxed);
    world.restart().await;
    let mut endings = world.engine().endings();
    world.settle().await;
    let ended: Vec<_> = std::iter::from_fn(|| endings.try_recv().ok()).map(|(id, _)| id).collect();
    assert_eq!(ended.len(), ids.len());
    for lower in &ids[..2] {
        let place = ended.iter().position(|id| id == lower).unwrap();
        assert!((3..45).contains(&place), "{place} of {} had ended before it", ids.len());
    }
    world.finish().await;
}

#[tokio::test]
async fn the_most_urgent_instance_is_taken_up_first() {
    let stage = Stage::plain();
    let mut world = stage
        .world(|saga, stage| {
            async {
                saga.sleep(SECOND).await?;
                saga.run(&stage.a, &"x".to_owned()).await
            }
            .boxed()
        })
        .await;
    let mut ids = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        let request = Start { priority, ..start_request(&format!("{priority:?}")) };
        let Ok(Started::New(id)) = world.engine().start(request).await else { panic!("started") };
        ids.push(id);
    }
    world.settle().await;
    world.restart().await;
    world.advance(SECOND);
    let mut order: Vec<Uuid> = Vec::new();
    let claim = include_str!("../../engine/src/store/sql/claim_instances.sql");
    let worker: Uuid = sqlx::query_scalar("select worker_id from amends.worker")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    for _ in 0..3 {
        let row = sqlx::query(claim)
            .bind(worker)
            .bind(world.now())
            .bind(vec!["improvised"])
            .bind(vec![1])
            .bind(1_i64)
            .bind(Uuid::nil())
            .bind(vec![0_i16, 1, 2])
            .bind(vec![1_i64; 3])
            .fetch_one(&mut world.database().await)
            .await
            .unwrap();
        order.push(sqlx::Row::get(&row, "instance_id"));
    }
    ids.reverse();
    assert_eq!(order, ids);
    world.engine().abandon();
}
