//! `amends bench`

mod text;

use std::ffi::OsString;
use std::path::PathBuf;

use amends_api::bench::{self, Build, Options, Place, Scope};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::{Context, bail};
use serde::Serialize;

use super::log::{self, Level};
use super::stop;
use super::table::print;

/// What `amends bench` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Orders per round
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    orders: usize,
    /// Orders under way at once
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000)]
    concurrency: usize,
    /// How often everybody has a turn; medians are reported
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    rounds: usize,
    /// Decides the orders, and whose turn it is
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Leave out the bare write path and the yardsticks
    #[arg(long)]
    engine_only: bool,
    /// Another build of this program, to be measured in turns with this one
    // `--against` of a check is an address, which may hold a secret.
    #[arg(id = "other_build", long = "against", value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Also write everything as JSON to this file; `-`: print it, and nothing else
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    log: log::Arguments,
}

/// Measures, in a database of its own beside the configured one, and prints what was found.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let Arguments { orders, concurrency, rounds, seed, against, json, .. } = arguments;
    let scope = if arguments.engine_only { Scope::Engine } else { Scope::Everybody };
    let options = Options { orders, concurrency, rounds, seed, scope };
    let database = Database::try_from(arguments.database)?;
    let place = match &database {
        Database::Embedded { .. } => Place::Private,
        Database::Url(_) => Place::Foreign,
    };
    let flags = flags(&database);
    let shutdown = stop::asked()?;
    database::with(&database, async |server| {
        let work = async {
            let Some(program) = against else {
                let server = server.only().cloned().context("a benchmark takes one server")?;
                let report = bench::bench(server, place, options).await?;
                return tell(&report, json, text::report);
            };
            let this = std::env::current_exe().context("this program cannot be found")?;
            let [this, other] =
                [this, program].map(|program| Build { program, flags: flags.clone() });
            tell(&bench::against(this, other, options).await?, json, text::comparison)
        };
        tokio::select! {
            told = work => told,
            () = shutdown => bail!("stopped before the end"),
        }
    })
    .await
}

/// What tells another run where the same private database is. An address is a secret, and is handed
/// on by the environment, as it came.
fn flags(database: &Database) -> Vec<OsString> {
    let Database::Embedded { data_dir, bin_dir } = database else { return Vec::new() };
    let mut flags = vec!["--data-dir".into(), data_dir.clone().into_os_string()];
    if let Some(bin_dir) = bin_dir {
        flags.extend(["--pg-bin".into(), bin_dir.clone().into_os_string()]);
    }
    flags
}

/// Prints what was found, and writes all of it where it was asked for.
fn tell<T: Serialize>(
    found: &T,
    json: Option<PathBuf>,
    text: fn(&T) -> String,
) -> anyhow::Result<()> {
    let Some(path) = json else {
        print(&text(found));
        return Ok(());
    };
    let all = serde_json::to_string_pretty(found)?;
    if path.as_os_str() == "-" {
        print(&all);
        return Ok(());
    }
    print(&text(found));
    std::fs::write(&path, all + "\n").with_context(|| path.display().to_string())
}
