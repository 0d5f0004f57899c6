//! What a reader that holds a snapshot for long does to the claim: dead rows cannot be cleaned up.

use std::time::Duration;

use amends::{Engine, Settings, Workflow};
use chrono::{TimeDelta, Utc};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

use crate::sleeper::{Sleeper, start};

/// New instances per second; each sleeps, and is claimed once.
const PER_SECOND: u64 = 200;
/// Long enough for an instance to be let go of meanwhile.
const SLEEP: TimeDelta = TimeDelta::seconds(3);
const WINDOW: Duration = Duration::from_secs(10);

/// Measures the claim before, while and after a reader holds its snapshot for `seconds`.
pub(crate) async fn measure(options: PgConnectOptions, seconds: usize) {
    let settings = Settings { linger: Duration::ZERO, ..Settings::default() };
    let builder = Engine::builder(options.clone()).settings(settings).workflow(Sleeper);
    let engine = builder.open().await.expect("the engine opens");
    let mut registry = Registry::default();
    engine.register_metrics(&mut registry);
    let load = tokio::spawn(load(engine.clone()));
    let watch = async |what: &str, windows: usize| {
        for _ in 0..windows {
            let before = Claims::read(&registry);
            tokio::time::sleep(WINDOW).await;
            println!("{what}: {}", Claims::read(&registry).since(&before));
        }
    };
    watch("before", 3).await;
    let mut reader = options.connect().await.expect("the database answers");
    for statement in
        ["begin isolation level repeatable read", "select count(*) from amends.instance"]
    {
        reader.execute(statement).await.expect("it can be read");
    }
    watch("held", seconds.div_ceil(WINDOW.as_secs() as usize)).await;
    reader.execute("commit").await.expect("the reader ends");
    watch("after", 6).await;
    load.abort();
    engine.shutdown().await.expect("it leaves");
}

async fn load(engine: Engine) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / PER_SECOND));
    for number in 0.. {
        ticks.tick().await;
        let engine = engine.clone();
        let key = format!("load/{number}");
        tokio::spawn(async move {
            start(&engine, Sleeper::NAME, key, &(Utc::now() + SLEEP)).await;
        });
    }
}

/// The histogram of the claim, as operators see it: how many took at most so long.
struct Claims(Vec<(f64, u64)>);

impl Claims {
    fn read(registry: &Registry) -> Self {
        let mut text = String::new();
        encode(&mut text, registry).expect("metrics are text");
        let bucket = |line: &str| {
            let rest = line.strip_prefix("amends_claim_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    /// What came between, in words.
    fn since(&self, before: &Self) -> String {
        let counts: Vec<(f64, u64)> = self
            .0
            .iter()
            .zip(&before.0)
            .map(|((bound, now), (_, then))| (*bound, now - then))
            .collect();
        let all = counts.last().map_or(0, |(_, count)| *count);
        let bound = |share: u64| {
            let enough = counts.iter().find(|(_, count)| *count * 100 >= all * share);
            enough.map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
        };
        format!("{all} claims, p50 <= {} ms, p99 <= {} ms", bound(50), bound(99))
    }
}
