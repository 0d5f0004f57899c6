//! The benchmark: what an order costs.
//!
//! Contestants take turns in a database of their own, in an order that chance decides, and medians
//! over the rounds are reported: what slows the machine down slows all of them down. Beside the
//! engine there are fixed yardsticks, which know nothing of it, and the bare write path, which issues
//! the engine's statements without the engine and tells where its cost lies. Providers answer at once
//! and in process, so that what is measured is the engine and its database.

mod against;
mod chance;
mod cpu;
mod figures;
mod load;
mod meter;
mod orders;
mod report;
mod turn;
mod yardstick;

use std::time::Duration;

use amends::bare::Recorder;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

pub use against::{Build, Comparison, Pair, against};
pub use figures::{Figures, Spread};
pub use report::{Compared, Contest, Report, Server};

use chance::Chance;
use cpu::Postmaster;
use report::Rounds;
use turn::{Contestant, Course, Crowd};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Orders per round.
    pub orders: usize,
    /// Orders under way at once.
    pub concurrency: usize,
    /// How often each contestant has its turn; medians are reported.
    pub rounds: usize,
    /// What decides the orders and whose turn it is.
    pub seed: u64,
    /// Who takes turns.
    pub scope: Scope,
}

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The engine, the bare write path and the yardsticks.
    Everybody,
    /// The engine, with many orders at a time and with one.
    Engine,
}

/// Whose the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nobody else uses it: what its processes do, they do for us.
    Private,
    /// Others may use it too.
    Foreign,
}

/// The database that a benchmark makes, and drops again.
const DATABASE: &str = "amends_bench";

/// Runs the benchmark on the server behind `server`, in a database of its own.
pub async fn bench(
    server: PgConnectOptions,
    place: Place,
    options: Options,
) -> anyhow::Result<Report> {
    if options.orders == 0 || options.concurrency == 0 || options.rounds == 0 {
        bail!("orders, concurrency and rounds must be at least 1");
    }
    let mut admin = server.connect().await.context("the server cannot be reached")?;
    create(&mut admin).await?;
    let measured = measure(server.clone().database(DATABASE), place, options).await;
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

async fn measure(
    database: PgConnectOptions,
    place: Place,
    options: Options,
) -> anyhow::Result<Report> {
    let mut observer = database.connect().await?;
    let server = Server::of(&mut observer).await?;
    let postmaster = match place {
        Place::Foreign => None,
        Place::Private => {
            let session = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut observer);
            Postmaster::of_session(session.await?)
        }
    };
    yardstick::set_up(&mut observer).await?;
    let mut course = Course {
        database,
        observer,
        postmaster,
        pattern: Recorder::of_writes(),
        crowd: Crowd { orders: options.orders, concurrency: options.concurrency },
        chance: Chance::new(options.seed),
    };
    course.record_pattern().await?;
    let rounds = rounds(&mut course, options).await?;
    Ok(Report::new(options, server, rounds))
}

async fn rounds(course: &mut Course, options: Options) -> anyhow::Result<Rounds> {
    let mut contestants = match options.scope {
        Scope::Everybody => Contestant::ALL.to_vec(),
        Scope::Engine => Contestant::ENGINE_ONLY.to_vec(),
    };
    let progress = progress(options.rounds * contestants.len());
    let mut rounds = Rounds::new();
    for round in 0..options.rounds {
        course.chance.shuffle(&mut contestants);
        for contestant in &contestants {
            let name = contestant.name();
            progress.set_message(name);
            let figures = course.turn(*contestant, round).await.context(name)?;
            rounds.entry(name.to_owned()).or_default().push(figures);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(rounds)
}

fn progress(turns: usize) -> ProgressBar {
    let bar = ProgressBar::new(turns as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} turns  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
