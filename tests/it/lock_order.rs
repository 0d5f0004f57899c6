//! Writers that want the same rows in opposite orders: nobody waits in a circle, and everything
//! comes to its end.

use std::time::Duration;

use amends::command::Command;
use amends::{Dependency, Engine, Saga, Started, Status};
use amends_tests::chance::Chance;
use amends_tests::detour::Detour;
use amends_tests::family::{Book, Family, Plan, register};
use amends_tests::improvised::{Packed, Part, Ran, Stage, packed, start_request};
use amends_tests::kit::Kit;
use amends_tests::scripted::{ONCE, Script, Scripted};
use futures::FutureExt;
use futures::future::join_all;
use uuid::Uuid;

const INSTANCES: usize = 60;
const ROUNDS: usize = 10;
const FAMILIES: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// Calls through what takes few calls at a time, starts a child, and waits for news.
fn busy<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.start_child::<Scripted>("pack", &7).await?.output().await?;
        for _ in 0..ROUNDS {
            saga.wait::<Packed>(HOUR).await?;
            saga.now().await?;
        }
        saga.run(&stage.b, &"2".to_owned()).await
    }
    .boxed()
}

/// Starts every instance at once.
async fn start_all(engine: &Engine, keys: impl Iterator<Item = usize>) -> Vec<Uuid> {
    let begun = join_all(keys.map(|key| engine.start(start_request(&key.to_string())))).await;
    let id = |begun| match begun {
        Ok(Started::New(id) | Started::Duplicate(id)) => id,
        other => panic!("{other:?}"),
    };
    begun.into_iter().map(id).collect()
}

/// Writes to every instance at once, each in its turn.
async fn write_to_all<'a>(
    engine: &Engine,
    chance: &Chance,
    ids: impl Iterator<Item = (usize, &'a Uuid)>,
    round: usize,
) {
    join_all(ids.map(async |(key, id)| {
        chance.dawdle(20).await;
        engine.command(*id, Command::Hold, "anna", "why").await.unwrap();
        let parcel = format!("{round}/{}", chance.below(2));
        engine.signal(packed(&key.to_string(), &parcel)).await.unwrap();
        engine.command(*id, Command::Release, "anna", "why").await.unwrap();
    }))
    .await;
}

/// Has a worker that nobody has heard of for long hold every second instance that nobody holds.
async fn lose_a_worker(kit: &Kit) {
    let lose = "with lost as (
                    insert into amends.worker (worker_id, name, started_at, lease_until, relays)
                    values (gen_random_uuid(), 'lost', $1, $1, false) returning worker_id
                ), free as (
                    select instance_id from amends.instance
                    where worker_id is null and status = 'waiting'
                      and right(instance_id::text, 1) < '8'
                    for update skip locked
                )
                update amends.instance i
                set worker_id = lost.worker_id, run_at = null, status = 'running'
                from lost, free
                where i.instance_id = free.instance_id and i.worker_id is null
                  and i.status = 'waiting'";
    let long_ago = kit.now() - HOUR;
    sqlx::query(lose).bind(long_ago).execute(&mut kit.database().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_opposite_orders_never_wait_for_each_other_in_a_circle() {
    let (detour, chance) = (Detour::default(), Chance::seeded(1));
    let courier = Dependency::new("courier").concurrency(5);
    let a = Part::default().through("courier");
    let stage = Stage::new(a, Part::default(), Part::default());
    let stage = stage.dependency(courier).child(&Script::new(ONCE, []));
    let mut kit = stage.kit(Kit::builder().detour(&detour), busy).await;
    let first = kit.engine();
    let beside = kit.succeed().await;
    let second = kit.engine();
    let (ids, others) =
        tokio::join!(start_all(&first, 0..INSTANCES), start_all(&second, (0..INSTANCES).rev()),);
    assert!(ids.iter().eq(others.iter().rev()), "one instance per key");
    for round in 0..ROUNDS {
        tokio::join!(
            write_to_all(&first, &chance, ids.iter().enumerate(), round),
            write_to_all(&second, &chance, ids.iter().enumerate().rev(), round),
            lose_a_worker(&kit),
            beside.run_dry(),
            kit.settle(),
        );
    }
    for _ in 0..=ROUNDS {
        kit.pass(HOUR).await;
        beside.run_dry().await;
    }
    for id in ids {
        assert_eq!(kit.status(id).await, Status::Completed);
    }
    refuse_deadlocks(&kit, &detour).await;
    kit.finish().await;
}

/// Children and their children, all of which wait.
fn waiting_family() -> Plan {
    let child = || Plan::of([("q1", Plan::of([])), ("q2", Plan::of([]))]);
    Plan::of([("p1", child()), ("p2", child()), ("p3", child())])
}

async fn find_all(kit: &Kit) -> Vec<Uuid> {
    let all = "select instance_id from amends.instance order by instance_id";
    sqlx::query_scalar(all).fetch_all(&mut kit.database().await).await.unwrap()
}

/// Asks for the end of everything, each in its turn.
async fn cancel_all<'a>(engine: &Engine, chance: &Chance, ids: impl Iterator<Item = &'a Uuid>) {
    join_all(ids.map(async |id| {
        chance.dawdle(20).await;
        for command in [Command::Hold, Command::Release, Command::Cancel] {
            engine.command(*id, command, "anna", "why").await.unwrap();
        }
    }))
    .await;
}

/// Each cancel locks a whole family, of which every member is cancelled by itself at the same time,
/// is being written by its worker, and is taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancels_of_whole_families_never_wait_in_a_circle_for_those_of_their_members() {
    let (detour, chance, book) = (Detour::default(), Chance::seeded(2), Book::default());
    let registered = book.clone();
    let builder = Kit::builder().detour(&detour);
    let mut kit = builder.build(move |engine| register(engine, &registered)).await;
    let first = kit.engine();
    let beside = kit.succeed().await;
    let second = kit.engine();
    for round in 0..ROUNDS {
        let keys: Vec<_> = (0..FAMILIES).map(|n| format!("{round}/{n}")).collect();
        let plan = waiting_family();
        let roots = join_all(keys.iter().map(|key| kit.start::<Family>(key, &plan))).await;
        // In every second round, everything is there when it is cancelled.
        if round % 2 == 0 {
            kit.settle().await;
        }
        let all = find_all(&kit).await;
        let all = &all[all.len() - all.len() / (round + 1)..];
        tokio::join!(
            cancel_all(&first, &chance, roots.iter()),
            cancel_all(&second, &chance, all.iter().rev()),
            lose_a_worker(&kit),
            beside.run_dry(),
            kit.settle(),
        );
        for _ in 0..3 {
            kit.pass(HOUR).await;
            beside.run_dry().await;
        }
        for id in roots {
            // A child that is cancelled by itself undoes its parent.
            let ended = kit.status(id).await;
            assert!(matches!(ended, Status::Cancelled | Status::Compensated), "{ended}");
        }
        assert_eq!(book.standing(), Vec::<String>::new());
    }
    refuse_deadlocks(&kit, &detour).await;
    kit.finish().await;
}

/// Whole batches of the same keys meet; only the order in which they are inserted keeps each from
/// waiting for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_same_keys_in_opposite_orders_never_wait_for_each_other_in_a_circle() {
    let detour = Detour::default();
    let mut kit = Stage::plain().kit(Kit::builder().detour(&detour), once).await;
    let first = kit.engine();
    let beside = kit.succeed().await;
    let second = kit.engine();
    for round in 0..3 * ROUNDS {
        let keys = round * INSTANCES..(round + 1) * INSTANCES;
        let backwards = keys.clone().rev();
        tokio::join!(start_all(&first, keys), start_all(&second, backwards));
    }
    beside.run_dry().await;
    kit.settle().await;
    refuse_deadlocks(&kit, &detour).await;
    kit.finish().await;
}

fn once<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async { saga.run(&stage.a, &"1".to_owned()).await }.boxed()
}

async fn refuse_deadlocks(kit: &Kit, detour: &Detour) {
    assert!(!detour.refusals().contains(&"40P01".to_owned()), "{:?}", detour.refusals());
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let deadlocks: i64 =
        sqlx::query_scalar(deadlocks).fetch_one(&mut kit.database().await).await.unwrap();
    assert_eq!(deadlocks, 0);
}
