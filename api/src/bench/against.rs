//! Two builds measured in turns, round by round, on one machine: before and after a change.
//!
//! Each turn is a run of its own of either program, for one round of the engine alone, with the same
//! orders for both. So neither profits from what the other has left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Command;

use super::chance::Chance;
use super::figures::{Figures, Spread, ratio, summary};
use super::{Options, progress};

/// A program that can run a benchmark, and what tells it where the database is.
#[derive(Debug, Clone)]
pub struct Build {
    /// The program.
    pub program: PathBuf,
    /// Flags beside those of the benchmark.
    pub flags: Vec<OsString>,
}

/// What has been found of two builds.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Orders per round.
    pub orders: usize,
    /// Orders under way at once.
    pub concurrency: usize,
    /// How often each build had its turn.
    pub rounds: usize,
    /// What chance was made of.
    pub seed: u64,
    /// By contestant and figure.
    pub contestants: BTreeMap<String, BTreeMap<String, Pair>>,
}

/// A figure of both builds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pair {
    /// Of this build.
    pub this: Spread,
    /// Of the other one.
    pub other: Spread,
    /// This one by the other one, within each round.
    pub ratio: Option<Spread>,
}

/// The turns of one build, by contestant.
type Turns = BTreeMap<String, Vec<Figures>>;

/// Measures `this` build and the `other` one in turns.
pub async fn against(this: Build, other: Build, options: Options) -> anyhow::Result<Comparison> {
    let mut chance = Chance::new(options.seed);
    let progress = progress(options.rounds * 2);
    let (mut of_this, mut of_other) = (Turns::new(), Turns::new());
    for round in 0..options.rounds {
        let seed = options.seed.wrapping_add(round as u64);
        let mut turns = [(&this, &mut of_this), (&other, &mut of_other)];
        chance.shuffle(&mut turns);
        for (build, turns) in turns {
            turn(build, Options { rounds: 1, seed, ..options }, turns, &progress).await?;
        }
    }
    progress.finish_and_clear();
    Ok(Comparison {
        orders: options.orders,
        concurrency: options.concurrency,
        rounds: options.rounds,
        seed: options.seed,
        contestants: pairs(&of_this, &of_other),
    })
}

/// Has a build take one turn, and adds what it came to.
async fn turn(
    build: &Build,
    options: Options,
    turns: &mut Turns,
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let program = build.program.display();
    progress.set_message(program.to_string());
    let numbers = [
        ("--orders", options.orders as u64),
        ("--concurrency", options.concurrency as u64),
        ("--rounds", options.rounds as u64),
        ("--seed", options.seed),
    ];
    let mut command = Command::new(&build.program);
    command.args(["bench", "--engine-only", "--json", "-"]).args(&build.flags);
    command
        .args(numbers.iter().flat_map(|(flag, number)| [(*flag).to_owned(), number.to_string()]));
    let run = command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = run.await.with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        bail!("{program} did not finish its benchmark: {}", output.status);
    }
    for (contestant, figures) in figures(&output.stdout).with_context(|| program.to_string())? {
        turns.entry(contestant).or_default().push(figures);
    }
    progress.inc(1);
    Ok(())
}

/// The only round of each contestant in a report.
fn figures(report: &[u8]) -> anyhow::Result<BTreeMap<String, Figures>> {
    let report: Value = serde_json::from_slice(report).context("its report is not JSON")?;
    let contestants = report["contestants"].as_object().context("its report has no figures")?;
    contestants
        .iter()
        .map(|(name, contest)| {
            let figures = Figures::deserialize(&contest["rounds"][0])?;
            Ok((name.clone(), figures))
        })
        .collect()
}

fn pairs(this: &Turns, other: &Turns) -> BTreeMap<String, BTreeMap<String, Pair>> {
    let both = this.iter().filter_map(|(name, a)| Some((name, a, other.get(name)?)));
    both.map(|(contestant, a, b)| {
        let of_other = summary(b);
        let figures = summary(a).into_iter().filter_map(|(figure, this)| {
            let other = *of_other.get(&figure)?;
            let ratio = ratio((a, &figure), (b, &figure)).map(|it| it.times(1.0));
            Some((figure, Pair { this, other, ratio }))
        });
        (contestant.clone(), figures.collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(rate: f64) -> Vec<u8> {
        let rounds = json!([{"orders_per_second": rate, "process_cpu_ms": 0.2}]);
        json!({"orders": 10, "contestants": {"engine": {"rounds": rounds}}}).to_string().into()
    }

    #[test]
    fn builds_are_compared_within_each_round() {
        let mut turns = [Turns::new(), Turns::new()];
        // The machine is twice as slow in the second round.
        for (rates, turns) in [[110.0, 55.0], [100.0, 50.0]].iter().zip(&mut turns) {
            for rate in rates {
                for (name, figures) in figures(&report(*rate)).unwrap() {
                    turns.entry(name).or_default().push(figures);
                }
            }
        }
        let pair = pairs(&turns[0], &turns[1])["engine"]["orders_per_second"];
        assert_eq!((pair.this.median, pair.other.median), (82.5, 75.0));
        assert_eq!(pair.ratio, Some(Spread { median: 1.1, least: 1.1, most: 1.1 }));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "{}", r#"{"contestants": {"engine": {"rounds": []}}}"#] {
            assert!(figures(text.as_bytes()).is_err(), "{text}");
        }
    }
}
