//! How long instances stand still whose worker is killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use amends::{Engine, EngineBuilder, Settings, Workflow};
use futures::{StreamExt, stream};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use crate::HELD_DATABASE;
use crate::sleeper::{Arrive, Newcomer, Quick, start};

const LEASE: Duration = Duration::from_secs(10);

/// Has a process of its own hold `count` instances in the middle of a step, kills it, and waits
/// until this one has begun that step again for each of them.
pub(crate) async fn measure(options: PgConnectOptions, count: usize) {
    amends::migrate(options.clone()).await.expect("the schema can be made");
    let mut holder = Command::new(std::env::current_exe().expect("a running program has a file"))
        .args(["hold", &count.to_string()])
        .env(HELD_DATABASE, options.to_url_lossy().as_str())
        .stdout(Stdio::null())
        .spawn()
        .expect("it can be started again");
    let mut database = options.connect().await.expect("the database answers");
    while begun(&mut database).await < count as i64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let arrive = Arrive::default();
    let engine = engine(options, count, Quick(arrive.clone())).open().await;
    let engine = engine.expect("the engine opens");
    holder.kill().expect("it can be killed");
    let killed = Instant::now();
    holder.wait().expect("it can be waited for");
    while arrive.count() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = |at: Instant| (at - killed).as_secs_f64();
    let arrived = arrive.take();
    let (first, last) = (arrived[0].1, arrived[arrived.len() - 1].1);
    println!(
        "{count} instances of a killed worker, lease {LEASE:?}: the first ran again after {:.1} s, \
         the last after {:.1} s",
        after(first),
        after(last),
    );
    let mut again: Vec<usize> = arrived.into_iter().map(|(number, _)| number).collect();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), count, "some ran twice, and others not at all");
    engine.shutdown().await.expect("it leaves");
}

/// Starts `count` instances, and holds each in the middle of its step for ever.
pub(crate) async fn hold(options: PgConnectOptions, count: usize) {
    let arrive = Arrive::endless();
    let engine = engine(options, count, Quick(arrive)).open().await.expect("the engine opens");
    let begin = async |n: usize| {
        start(&engine, Quick::NAME, n.to_string(), &Newcomer(n)).await;
    };
    stream::iter(0..count).for_each_concurrent(2_000, begin).await;
    std::future::pending().await
}

/// A quarter of a worker's places is kept for what is new.
fn engine(options: PgConnectOptions, count: usize, workflow: Quick) -> EngineBuilder {
    let instances_max = count * 3 / 2;
    let settings = Settings { lease: LEASE, instances_max, ..Settings::default() };
    Engine::builder(options).settings(settings).workflow(workflow)
}

async fn begun(database: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from amends.instance where status = 'running'")
        .fetch_one(database)
        .await
        .expect("it can be counted")
}
