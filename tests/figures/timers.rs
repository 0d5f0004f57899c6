//! Many timers in one second: how long until all have fired, and what newcomers notice of it.

use std::time::{Duration, Instant};

use amends::{Engine, Workflow};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use crate::sleeper::{Arrive, Newcomer, Quick, Sleeper, start};

/// New instances per second while the timers fire.
const NEWCOMERS_PER_SECOND: u64 = 100;

pub(crate) async fn measure(options: PgConnectOptions, count: usize) {
    let arrive = Arrive::default();
    let builder = Engine::builder(options.clone()).workflow(Sleeper);
    let engine = builder.workflow(Quick(arrive.clone())).open().await.expect("the engine opens");
    // Far enough away for all of them to be asleep by then.
    let due = Utc::now() + TimeDelta::seconds(10 + count as i64 / 2_000);
    stream::iter(0..count)
        .for_each_concurrent(2_000, |n| start(&engine, Sleeper::NAME, format!("timer/{n}"), &due))
        .await;
    let mut database = options.connect().await.expect("the database answers");
    while waiting(&mut database).await < count as i64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let early = (due - Utc::now()).to_std().expect("all of them sleep before the time comes");
    println!("{count} timers are due in {:.1} s", early.as_secs_f64());
    tokio::time::sleep(early.saturating_sub(Duration::from_secs(4))).await;
    let quiet =
        newcomers(&engine, &arrive, "quiet", |_| Utc::now() + TimeDelta::seconds(1) < due).await;
    while Utc::now() < due {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let watch = tokio::spawn(async move { watch(database, due).await });
    let busy = newcomers(&engine, &arrive, "busy", |_| !watch.is_finished()).await;
    let fired = watch.await.expect("nobody panics");
    println!("all fired {:.1} s after they were due", fired.as_secs_f64());
    for (when, mut latencies) in [("before", quiet), ("meanwhile", busy)] {
        latencies.sort();
        let percentile =
            |share: usize| latencies[latencies.len() * share / 100].as_secs_f64() * 1e3;
        println!(
            "first step of {} new instances {when}: p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            latencies.len(),
            percentile(50),
            percentile(99),
            latencies[latencies.len() - 1].as_secs_f64() * 1e3,
        );
    }
    engine.shutdown().await.expect("it leaves");
}

/// Starts new instances at a steady rate for as long as `go_on` says, and tells how long each took
/// from being sent to its first step.
async fn newcomers(
    engine: &Engine,
    arrive: &Arrive,
    name: &str,
    go_on: impl Fn(usize) -> bool,
) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / NEWCOMERS_PER_SECOND));
    let (mut sent, mut started) = (Vec::new(), Vec::new());
    while go_on(sent.len()) {
        ticks.tick().await;
        let (engine, n) = (engine.clone(), sent.len());
        let key = format!("{name}/{n}");
        sent.push(Instant::now());
        started.push(tokio::spawn(async move {
            start(&engine, Quick::NAME, key, &Newcomer(n)).await;
        }));
    }
    for start in started {
        start.await.expect("nobody panics");
    }
    loop {
        if arrive.count() >= sent.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    arrive.take().into_iter().map(|(n, at)| at - sent[n]).collect()
}

/// How long after `due` the last timer has fired.
async fn watch(mut database: PgConnection, due: DateTime<Utc>) -> Duration {
    while waiting(&mut database).await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (Utc::now() - due).to_std().unwrap_or_default()
}

async fn waiting(database: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select count(*) from amends.instance
         where status in ('pending', 'running', 'waiting') and workflow = 'sleeper'
           and (status = 'waiting' or ended_at is null)",
    )
    .fetch_one(database)
    .await
    .expect("it can be counted")
}
