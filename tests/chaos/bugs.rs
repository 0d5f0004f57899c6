//! Tests the test: with a bug in the engine on purpose, a promise has to be found broken.
//!
//! Runs this program once without a bug, and then with one bug after the other, each with up to
//! three seeds until it is noticed.

use std::process::{ExitCode, Output};

use amends::sabotage::Bug;
use anyhow::{Context, bail};
use tokio::process::Command;

use crate::report::{BROKEN, CLEAN, UNTRIED};

/// Names the bug to the servers of a run.
const BUG: &str = "AMENDS_SABOTAGE";
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

/// Which bugs, and how long each run is.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these; all without
    bugs: Vec<String>,
    /// Orders of each run
    #[arg(long, default_value_t = 400)]
    orders: u64,
}

/// Runs all of them, and says which were noticed. Fails unless all were.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let bugs = chosen(&arguments.bugs)?;
    let sound = attempt(None, 1, arguments.orders).await?;
    if let Some(promise) = broken_promise(&sound)? {
        bail!("without a bug: {promise}");
    }
    println!("without a bug, seed 1: no promise is broken");
    let mut unnoticed = Vec::new();
    for bug in bugs {
        match notice(bug, arguments.orders).await? {
            Some((seed, promise)) => println!("{bug:?}, seed {seed}: {promise}"),
            None => {
                println!("{bug:?}: NOT NOTICED with seeds {SEEDS:?}");
                unnoticed.push(bug);
            }
        }
    }
    Ok(if unnoticed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Bug>> {
    if names.is_empty() {
        return Ok(Bug::ALL.to_vec());
    }
    let find = |name: &String| {
        let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name);
        bug.with_context(|| format!("there is no bug {name}; there are {:?}", Bug::ALL))
    };
    names.iter().map(find).collect()
}

/// Puts the bug into this server that the run is about, if it is about one.
pub(crate) fn put_in() -> anyhow::Result<()> {
    if let Ok(name) = std::env::var(BUG) {
        chosen(&[name])?.into_iter().for_each(Bug::put_in);
    }
    Ok(())
}

/// With which seed a bug is noticed, and by what.
async fn notice(bug: Bug, orders: u64) -> anyhow::Result<Option<(u64, String)>> {
    for seed in SEEDS {
        let output = attempt(Some(bug), seed, orders).await?;
        if let Some(promise) = broken_promise(&output)? {
            return Ok(Some((seed, promise)));
        }
    }
    Ok(None)
}

async fn attempt(bug: Option<Bug>, seed: u64, orders: u64) -> anyhow::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--orders", &orders.to_string()]);
    command.env_remove(BUG);
    if let Some(bug) = bug {
        command.env(BUG, format!("{bug:?}"));
    }
    Ok(command.output().await?)
}

/// The first promise that the run found broken, if any. A short run may put too little to the test.
fn broken_promise(output: &Output) -> anyhow::Result<Option<String>> {
    let told = String::from_utf8_lossy(&output.stdout);
    match output.status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(CLEAN | UNTRIED) => Ok(None),
        Some(BROKEN) => {
            let line = told.lines().find(|line| line.starts_with("BROKEN PROMISE"));
            Ok(Some(line.unwrap_or("a broken promise").to_lowercase()))
        }
        _ => bail!("a run did not come to its end:\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}
