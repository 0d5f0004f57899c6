//! Figures that a timed test must not check: run it, and read what it prints.
//!
//! `timers` lets many timers run out in the same second while new instances come in; `waiting`
//! shows what a worker's memory has to do with how many instances wait; `takeover` kills a worker
//! and waits until all that it ran runs again; `horizon` has a reader hold its snapshot for so many
//! seconds, and looks at what the claim makes of it; `foreign` claims beside so many due instances of
//! a version that nobody runs; `refused` delivers beside so many keys whose events are refused.

#![expect(clippy::expect_used, reason = "a program of figures fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "figures are measured in real time")]

mod foreign;
mod horizon;
mod refused;
mod sleeper;
mod takeover;
mod timers;
mod waiting;

use std::path::PathBuf;
use std::str::FromStr;

use amends_api::postgres::{Durability, Embedded, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

/// Where the process finds its database that `takeover` kills.
const HELD_DATABASE: &str = "FIGURES_DATABASE";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, count) = match &arguments[..] {
        [what, count] => (what.as_str(), count.parse().expect("a number")),
        _ => panic!("figures timers|waiting|takeover|horizon|foreign|refused <how many>"),
    };
    // What `takeover` starts as a process of its own.
    if let ("hold", Ok(url)) = (what, std::env::var(HELD_DATABASE)) {
        return takeover::hold(PgConnectOptions::from_str(&url).expect("a url"), count).await;
    }
    let folder = amends_tests::cluster::scratch().join("figures");
    std::fs::create_dir_all(&folder).expect("the build directory is writable");
    let postgres = start(folder).await;
    let options = database(postgres.url()).await;
    match what {
        "timers" => timers::measure(options, count).await,
        "waiting" => waiting::measure(options, count).await,
        "takeover" => takeover::measure(options, count).await,
        "horizon" => horizon::measure(options, count).await,
        "foreign" => foreign::measure(options, count).await,
        "refused" => refused::measure(options, count).await,
        other => panic!("there is no figure {other}"),
    }
    postgres.stop().await.expect("Postgres stops");
}

/// An empty database.
async fn database(url: &str) -> PgConnectOptions {
    let options = PgConnectOptions::from_str(url).expect("the launcher's url is valid");
    let mut admin = options.connect().await.expect("the cluster answers");
    for statement in ["drop database if exists figures with (force)", "create database figures"] {
        admin.execute(statement).await.expect("a database can be made");
    }
    options.database("figures")
}

/// A private Postgres as durable as in production.
async fn start(data_dir: PathBuf) -> Embedded {
    let options = Options {
        data_dir,
        bin_dir: amends_tests::cluster::bin_dir(),
        durability: Durability::Full,
    };
    Embedded::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}
