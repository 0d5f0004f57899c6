//! The benchmark: orders through the real engine, and beside it, in the same run, the bare write
//! path doing the same rows with no engine, which is the limit.
//!
//! Rounds of both alternate in a database of their own, and medians are reported: what slows the
//! machine down slows both down. Providers answer at once and in process, so that what is measured
//! is the engine and its database.

mod load;
mod report;

use std::time::Duration;

use amends::bare::Bare;
use amends::sink::{Delivered, Sink, Undelivered};
use amends::{Engine, Settings, Status};
use amends_workflows::fulfilment;
use amends_workflows::ports::Ports;
use anyhow::{Context, bail};
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

pub use report::Report;
use report::{Alone, Round, Server};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Orders per round.
    pub orders: usize,
    /// Orders under way at once.
    pub concurrency: usize,
    /// Rounds of each kind; medians are reported.
    pub rounds: usize,
}

/// The database that a benchmark makes, and drops again.
const DATABASE: &str = "amends_bench";
/// Orders run one at a time for the latency at low load.
const ALONE: usize = 300;

/// Runs the benchmark on the server behind `server`, in a database of its own.
pub async fn bench(server: PgConnectOptions, options: Options) -> anyhow::Result<Report> {
    if options.orders == 0 || options.concurrency == 0 || options.rounds == 0 {
        bail!("orders, concurrency and rounds must be at least 1");
    }
    let mut admin = server.connect().await.context("the server cannot be reached")?;
    create(&mut admin).await?;
    let measured = measure(server.clone().database(DATABASE), options).await;
    drop_database(&mut admin).await?;
    admin.close().await?;
    measured
}

async fn create(admin: &mut PgConnection) -> anyhow::Result<()> {
    drop_database(admin).await?;
    admin.execute(AssertSqlSafe(format!("create database {DATABASE}"))).await?;
    Ok(())
}

async fn drop_database(admin: &mut PgConnection) -> anyhow::Result<()> {
    let drop = format!("drop database if exists {DATABASE} with (force)");
    admin.execute(AssertSqlSafe(drop)).await?;
    Ok(())
}

async fn measure(database: PgConnectOptions, options: Options) -> anyhow::Result<Report> {
    let mut observer = database.connect().await?;
    let server = Server::of(&mut observer).await?;
    let engine = fulfilment::register(Engine::builder(database.clone()), Ports::instant())
        .subscription("bench", Discard)
        .settings(Settings {
            instances_max: options.concurrency.max(Settings::default().instances_max),
            ..Settings::default()
        })
        .open()
        .await?;
    // The pattern of what the bare write path writes; it also warms the engine up.
    let template = load::run(&engine, "warm", 200, 50, &ProgressBar::hidden()).await?;
    let Some((template, Status::Completed)) = template.last else {
        bail!("the first order did not complete");
    };
    let mut bare = Bare::open(database, template).await?;

    let progress = progress(options);
    let mut rounds = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        progress.set_message("engine");
        let name = format!("round-{round}");
        let before = Counters::read(&mut observer).await?;
        let ran = load::run(&engine, &name, options.orders, options.concurrency, &progress).await?;
        let drained = load::drained(&mut observer).await? - ran.began;
        let after = Counters::read(&mut observer).await?;
        rounds.0.push(Round::of_engine(&ran, drained, options.orders, before.until(after)));
        progress.set_message("bare write path");
        let before = Counters::read(&mut observer).await?;
        let took = bare.run(options.orders, options.concurrency).await?;
        let after = Counters::read(&mut observer).await?;
        rounds.1.push(Round::of_bare(took, options.orders, before.until(after)));
        progress.inc(options.orders as u64);
    }
    progress.set_message("one at a time");
    let alone = alone(&engine, &mut bare, options.rounds).await?;
    progress.finish_and_clear();
    engine.shutdown().await?;
    Ok(Report::new(options, server, rounds.0, rounds.1, alone))
}

/// One order at a time, against its commits one after the other with nothing in between.
async fn alone(engine: &Engine, bare: &mut Bare, rounds: usize) -> anyhow::Result<Vec<Alone>> {
    let mut measured = Vec::new();
    for round in 0..rounds {
        let name = format!("alone-{round}");
        let ran = load::run(engine, &name, ALONE, 1, &ProgressBar::hidden()).await?;
        let bare_each = bare.run_alone(ALONE as u32).await?;
        measured.push(Alone { engine: ran.mean(), bare: bare_each, commits: bare.commits() });
    }
    Ok(measured)
}

fn progress(options: Options) -> ProgressBar {
    let bar = ProgressBar::new((options.orders * options.rounds * 2) as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders  {per_sec}  {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What the server has counted in this database.
#[derive(Debug, Clone, Copy)]
struct Counters {
    commits: i64,
    wal_bytes: i64,
}

/// What was spent between two readings.
#[derive(Debug, Clone, Copy)]
struct Spent {
    commits: i64,
    wal_bytes: i64,
}

impl Counters {
    async fn read(observer: &mut PgConnection) -> anyhow::Result<Self> {
        // Sessions report what they have done when they are idle for a moment.
        observer.execute("select pg_stat_clear_snapshot(), pg_sleep(1.1)").await?;
        let (commits, wal_bytes) = sqlx::query_as(
            "select xact_commit, (pg_current_wal_insert_lsn() - '0/0')::bigint
             from pg_stat_database where datname = current_database()",
        )
        .fetch_one(observer)
        .await?;
        Ok(Self { commits, wal_bytes })
    }

    fn until(self, later: Self) -> Spent {
        Spent { commits: later.commits - self.commits, wal_bytes: later.wal_bytes - self.wal_bytes }
    }
}

/// A subscription that takes everything at once.
struct Discard;

impl Sink for Discard {
    fn deliver<'a>(&'a self, _: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
