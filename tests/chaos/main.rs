//! Tries to break every promise with real processes, and judges by outside evidence alone.
//!
//! A seed decides what is broken when. Two phases: while things are broken, nothing wrong may
//! happen; once everything is healed, everything must come to its end. The verdict is the checker's,
//! which reads what customers and operators were told, the providers' ledger, the receiver's log
//! and the database. A run that has put too little to the test fails as well.
//!
//! Exit codes: 0 nothing is wrong, 2 a promise is broken, 3 too little was put to the test; 1 the
//! run did not come to its end.

#![expect(clippy::expect_used, reason = "a program that tests fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "it runs against real processes, in real time")]

mod pace;
mod schedule;

mod load;
mod operator;
mod saboteur;
mod watch;

mod log;
mod proxy;
mod scene;
mod server;
mod wire;

mod dispatch;
mod money;
mod provider;
mod serve;
mod settlement;
mod stranger;

#[cfg(feature = "sabotage")]
mod bugs;
mod checker;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use checker::Evidence;
use load::Load;
use log::Log;
use operator::{Operator, Round};
use report::{Report, Run};
use scene::Scene;
use schedule::Schedule;
use watch::Watch;

/// How long people wait before they look again what is left to be put right.
const LOOK: Duration = Duration::from_secs(1);
/// Where nothing has changed for so much longer than anything has to wait by itself, nothing will.
const STANDSTILL: Duration = Duration::from_secs(90);
/// The engine leaves a provider alone that was down again and again for so long at most.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(60);

/// The providers that are left alone at this moment.
const LEFT_ALONE: &str = "select name from amends.dependency where state = 'down'";
/// For how many seconds those are tried, in all, that may be what kills their workers.
const TRIALS: &str = "select coalesce(sum(lost_after_seconds), 0) from amends.instance
    where losses >= 2 and ended_at is null";

/// Breaks Amends in every way that is known, and checks that it keeps what it promises
#[derive(Parser)]
#[command(name = "chaos")]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(clap::Args)]
struct Arguments {
    /// Decides what is broken when; the same seed breaks the same things
    #[arg(long)]
    seed: Option<u64>,
    /// How many orders are sent: 2,000 take four minutes, 40,000 an hour
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..))]
    orders: u64,
    /// Another build of this program: at every start of a server it is one of either, as in a roll-out
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// Print what would be broken when, and do nothing
    #[arg(long)]
    print_schedule: bool,
    /// Keep logs, ledger and database although nothing is wrong
    #[arg(long)]
    keep: bool,
}

/// What the program starts itself as.
#[derive(Subcommand)]
enum Role {
    /// A server that is broken from outside
    #[command(hide = true)]
    Serve(serve::Arguments),
    /// The stand-in providers
    #[command(hide = true)]
    Sandbox(serve::SandboxArguments),
    /// Has one bug after the other put into the engine, and checks that each is noticed
    #[cfg(feature = "sabotage")]
    Bugs(bugs::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let CommandLine { arguments, role } = CommandLine::parse();
    match role {
        Some(Role::Serve(arguments)) => serve::serve(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Role::Sandbox(arguments)) => {
            serve::sandbox(arguments).await.map(|()| ExitCode::SUCCESS)
        }
        #[cfg(feature = "sabotage")]
        Some(Role::Bugs(arguments)) => bugs::run(arguments).await,
        None => run(arguments).await,
    }
}

async fn run(
    Arguments { seed, orders, beside, print_schedule, keep }: Arguments,
) -> anyhow::Result<ExitCode> {
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let schedule = Schedule::of(seed, orders);
    let as_json = serde_json::to_string_pretty(&schedule)?;
    if print_schedule {
        println!("{as_json}");
        return Ok(ExitCode::SUCCESS);
    }
    let scene = Arc::new(Scene::open(seed, beside).await?);
    let (folder, pace) = (scene.folder.display(), scene.pace.0);
    println!("seed {seed}, {orders} orders, leases of {pace} times their length; logs: {folder}");
    std::fs::write(scene.folder.join("schedule.json"), as_json)?;
    let report = judge(&scene, &schedule).await?;
    println!("{report}");
    std::fs::write(scene.folder.join("report.json"), serde_json::to_string_pretty(&report)?)?;
    if let Ok(scene) = Arc::try_unwrap(scene) {
        let folder = scene.close().await?;
        if report.is_clean() && !keep {
            std::fs::remove_dir_all(folder)?;
        }
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Both phases, and the verdict.
async fn judge(scene: &Arc<Scene>, schedule: &Schedule) -> anyhow::Result<Report> {
    let watch = Watch::begin(scene)?;
    let operator = Operator::open(&scene.servers, &scene.folder)?;
    let load = Load::open(schedule.seed, scene, Arc::clone(&operator))?;
    scene.tell_sandbox("/faults/random", &saboteur::mix(schedule.seed)).await?;

    let begin = Instant::now();
    let (customers, orders) = (Arc::clone(&load), schedule.clone());
    let sending = tokio::spawn(async move { customers.send(&orders, begin).await });
    let broken = saboteur::work(scene, schedule, begin).await;
    let safety = begin.elapsed();

    scene.heal(schedule.seed).await?;
    let healed = Instant::now();
    let left = until_all_has_ended(scene, &operator, &sending, healed).await?;
    let liveness = healed.elapsed();
    let lapsed_p99 = watch.lapsed_p99();
    sending.abort();
    // What the providers and the database say is about the same world only if it stands still.
    for server in &scene.servers {
        server.end().await;
    }

    let evidence = Evidence::gather(scene, schedule, &load, &operator).await?;
    let run = Run { schedule, safety, liveness, broken, left, lapsed_p99, watch: &watch };
    Ok(Report::of(run, &evidence))
}

/// Waits until every order has ended and every event is delivered, and has people put right what
/// needs them. Says what is left when the time is over. What people take for decisions that nobody
/// else can make does not count: after an hour there are many. Nor does the time for which the
/// engine leaves a provider alone that was down again and again, nor what each server takes for
/// trying one suspect after the other.
async fn until_all_has_ended(
    scene: &Scene,
    operator: &Operator,
    sending: &JoinHandle<()>,
    healed: Instant,
) -> anyhow::Result<Vec<String>> {
    let liveness = scene.pace.liveness();
    let (mut seen, mut changed) = (Vec::new(), healed);
    let [mut taken_by_people, mut left_alone, mut on_trial] = [Duration::ZERO; 3];
    let mut on_trial_max = None;
    let healing = Log::create(&scene.folder.join("healing.jsonl"))?;
    let mut judged = healed;
    loop {
        let begun = Instant::now();
        let Round { mut left, decisions } = operator.put_right(scene).await?;
        let deciding = begun.elapsed();
        let database = &mut scene.database().await?;
        let down: Vec<String> = sqlx::query_scalar(LEFT_ALONE).fetch_all(&mut *database).await?;
        let trials: i64 = sqlx::query_scalar(TRIALS).fetch_one(&mut *database).await?;
        let trials = Duration::from_secs(trials.try_into()?) / u32::try_from(scene.servers.len())?;
        let on_trial_max = *on_trial_max.get_or_insert(trials);
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from amends.outbox").fetch_one(database).await?;
        if waiting > 0 {
            left.push(format!("{waiting} events are not delivered"));
        }
        if !sending.is_finished() {
            left.push("some customers are still being served".to_owned());
        }
        healing.add((healed.elapsed().as_secs(), down.clone(), trials, left.clone()));
        if left != seen {
            (seen, changed) = (left, Instant::now());
        }
        let round = judged.elapsed();
        judged += round;
        if !down.is_empty() {
            left_alone += round;
        } else if !trials.is_zero() {
            on_trial += round;
        } else if decisions > 0 {
            taken_by_people += deciding;
        }
        let excused = taken_by_people + left_alone.min(LEFT_ALONE_MAX) + on_trial.min(on_trial_max);
        let is_over = healed.elapsed() > liveness + excused
            || down.is_empty() && changed.elapsed() > STANDSTILL * scene.pace.0;
        if seen.is_empty() || is_over {
            break;
        }
        sleep(LOOK).await;
    }
    Ok(seen)
}
