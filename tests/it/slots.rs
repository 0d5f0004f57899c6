//! How many calls a dependency takes at a time, by the clock on the wall: whoever has calls to make
//! makes them, however many servers there are.

use std::time::Duration;

use amends::{Clock, Dependency, Engine, EngineBuilder, Settings, Started};
use amends_tests::booking::{Book, Booking};
use amends_tests::durable::Durable;
use amends_tests::improvised::{Part, Stage, start_request};
use amends_tests::scripted::{Act, retry};
use amends_tests::{World, cluster};
use futures::FutureExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use tokio::time::{Instant, sleep};

const CALLS: usize = 60;
const CALL: Duration = Duration::from_millis(25);

/// Sixty calls, and a dependency that takes so many at a time.
fn stage(calls_max: u32) -> Stage {
    let acts = (0..CALLS).map(|_| Act::Take(CALL));
    let a = Part::default().acts(acts).through("courier");
    let courier = Dependency::new("courier").concurrency(calls_max);
    Stage::new(a, Part::default(), Part::default()).dependency(courier)
}

/// Adds a workflow that makes the stage's one call.
fn build(stage: &Stage, engine: EngineBuilder) -> EngineBuilder {
    let run =
        stage.engine(|saga, stage| async { saga.run(&stage.a, &"x".to_owned()).await }.boxed());
    run(engine)
}

/// A server that carries out the stage.
async fn server(options: &PgConnectOptions, stage: &Stage) -> Engine {
    build(stage, Engine::builder(options.clone())).open().await.unwrap()
}

/// Starts an order for each call, in turn on each server, and waits until all have been carried
/// out. Says how long that took.
#[expect(clippy::disallowed_methods, reason = "servers keep time by the clock on the wall")]
async fn carried_out(servers: &[&Engine], database: &mut PgConnection) -> Duration {
    let begun = Instant::now();
    for number in 0..CALLS {
        let engine = servers[number % servers.len()];
        let started = engine.start(start_request(&format!("order/{number}"))).await.unwrap();
        assert!(matches!(started, Started::New(_)));
    }
    let left = "select count(*) from amends.instance where ended_at is null";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(&mut *database).await.unwrap() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// A Postgres for servers that keep time by the clock on the wall: they take no other than a durable
/// one.
async fn postgres(name: &str) -> Durable {
    let folder = cluster::scratch().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Durable::start(&folder).await
}

/// How long so many servers take for sixty calls, one at a time.
async fn one_at_a_time(servers: usize, options: &PgConnectOptions, name: &str) -> Duration {
    let mut database = options.connect().await.unwrap();
    database.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let (options, stage) = (options.clone().database(name), stage(1));
    let mut engines = Vec::new();
    for _ in 0..servers {
        engines.push(server(&options, &stage).await);
    }
    let mut database = options.connect().await.unwrap();
    let engines: Vec<_> = engines.iter().collect();
    let took = carried_out(&engines, &mut database).await;
    for engine in engines {
        engine.shutdown().await.unwrap();
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_make_calls_one_at_a_time_about_as_fast_as_one_does() {
    let mut ratios = Vec::new();
    let postgres = postgres("slots").await;
    let options = postgres.options();
    for turn in 0..3 {
        let one = one_at_a_time(1, &options, &format!("one_{turn}")).await;
        let three = one_at_a_time(3, &options, &format!("three_{turn}")).await;
        ratios.push(three.as_secs_f64() / one.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!("three servers took {ratios:.2?} times as long as one");
    assert!(ratios[1] < 1.6, "{ratios:?} times as long");
    postgres.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_go_to_those_who_can_make_calls() {
    let postgres = postgres("slots-of-those-who-call").await;
    let (options, stage) = (postgres.options(), stage(2));
    // They are there first: one that takes orders and carries none out, and a build that has the
    // dependency and not the workflow.
    let front = Settings { instances_max: 0, ..Settings::default() };
    let front =
        build(&stage, Engine::builder(options.clone())).settings(front).open().await.unwrap();
    let courier = Dependency::new("courier").concurrency(2);
    let other = Engine::builder(options.clone()).workflow(Booking::with(&Book::default()));
    let other = other.dependency(courier).open().await.unwrap();
    let server = server(&options, &stage).await;
    let mut database = options.connect().await.unwrap();
    carried_out(&[&front], &mut database).await;
    let slots = "select slots from amends.dependency_slot where slots > 0";
    let slots: Vec<i32> = sqlx::query_scalar(slots).fetch_all(&mut database).await.unwrap();
    assert_eq!(slots, [2], "one of them holds both");
    for engine in [front, other, server] {
        engine.shutdown().await.unwrap();
    }
    postgres.stop().await;
}

#[tokio::test]
async fn who_waits_for_what_a_later_build_does_not_call_any_more_goes_on_there() {
    let courier = |name| Dependency::new(name).down_after(1);
    let named = |name: &'static str, acts: Vec<Act>| {
        let a = Part::default().acts(acts).through(name);
        Stage::new(a, Part::default(), Part::default()).dependency(courier(name))
    };
    let before = named("van", vec![retry("down"); 9]);
    let world = World::builder().engine(move |engine| build(&before, engine)).build().await;
    let id = amends_tests::improvised::start(&world, "order/1").await;
    world.settle().await;
    world.pass(Duration::from_millis(900)).await;
    assert_eq!(world.instance(id).await.parked_on.as_deref(), Some("van"));
    world.engine().shutdown().await.unwrap();
    let after = build(&named("bike", Vec::new()), Engine::builder(world.options()));
    let after = after.clock(Clock::manual(world.now())).open().await.unwrap();
    after.run_until_idle().await.unwrap();
    let status = after.instance(id).await.unwrap().unwrap().status;
    assert_eq!(status, amends::Status::Completed);
    after.shutdown().await.unwrap();
}
