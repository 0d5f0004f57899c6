//! Runs the product on a Postgres that is highly available, and takes it away in every way that is
//! known: two servers under Patroni with etcd, HAProxy before them, and two servers of ours.
//!
//! Each figure is printed beside the bound that it has to hold. The verdict is from outside: what
//! customers were told, the providers' ledger, and the database at the end.
//!
//! Exit codes: 0 every bound is held, 2 one is not; 1 the run did not come to its end.

#![expect(clippy::expect_used, reason = "a program that tests fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "it runs against real processes, in real time")]

mod account;
mod guard;
mod patroni;
mod scene;

mod load;
mod report;

mod failover;
mod loss;
mod silence;

mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::time::sleep;

use load::Load;
use report::Report;
use scene::Scene;

/// How long everything is left in peace before something is done to it.
const PEACE: Duration = Duration::from_secs(5);

/// Runs Amends on a highly available Postgres, and breaks that
#[derive(Parser)]
#[command(name = "ha")]
struct Arguments {
    /// Only these, in this order; each may come more than once
    #[arg(long, value_enum, value_delimiter = ',')]
    phases: Vec<Phase>,
    /// Keep logs, ledger and databases although every bound is held
    #[arg(long)]
    keep: bool,
}

/// What is done to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// The primary hands over in order
    Switchover,
    /// The Postgres of the primary is killed
    PostgresKilled,
    /// The Postgres of the primary and its Patroni are killed
    MachineKilled,
    /// The standby is away that every commit waits for
    StandbyAway,
    /// Every session of the servers is silent
    BlackHole,
    /// A standby that lacks the last commits becomes the primary; the last one
    CommitsLost,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Switchover,
        Self::PostgresKilled,
        Self::MachineKilled,
        Self::StandbyAway,
        Self::BlackHole,
        Self::CommitsLost,
    ];
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { phases, keep } = Arguments::parse();
    let phases = if phases.is_empty() { Phase::ALL.to_vec() } else { phases };
    let mut scene = Scene::open().await?;
    println!("logs: {}", scene.folder.display());
    let missed = run(&mut scene, &phases).await?;
    let folder = scene.close().await?;
    if missed > 0 {
        println!("{missed} bounds are not held; see {}", folder.display());
        return Ok(ExitCode::from(2));
    }
    if !keep {
        std::fs::remove_dir_all(folder)?;
    }
    println!("every bound is held");
    Ok(ExitCode::SUCCESS)
}

/// Everything that is done, and the verdict; how many bounds are not held.
async fn run(scene: &mut Scene, phases: &[Phase]) -> anyhow::Result<usize> {
    let mut report = Report::default();
    let urls: Vec<_> = scene.servers.iter().map(|server| server.url().to_owned()).collect();
    let load = Load::begin(&urls, &scene.folder)?;
    let mut lost = None;
    for phase in phases {
        scene.ready().await;
        sleep(PEACE).await;
        match phase {
            Phase::Switchover => failover::switchover(scene, &load, &mut report).await?,
            Phase::PostgresKilled => failover::postgres_killed(scene, &load, &mut report).await?,
            Phase::MachineKilled => failover::machine_killed(scene, &load, &mut report).await?,
            Phase::StandbyAway => silence::standby_away(scene, &load, &mut report).await?,
            Phase::BlackHole => silence::black_hole(scene, &load, &mut report).await?,
            Phase::CommitsLost => {
                lost = Some(loss::commits_lost(scene, &load, &mut report).await?);
            }
        }
    }
    verdict::judge(scene, &load, lost, &mut report).await?;
    Ok(report.missed())
}
