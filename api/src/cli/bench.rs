//! `amends bench`

use amends_api::bench::{self, Options, Report};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::bail;

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
    /// Rounds of the engine, and of the bare write path beside it; medians are reported
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    log: log::Arguments,
}

/// Measures, in a database of its own beside the configured one, and prints the report.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    log::start(&arguments.log, Level::Warn)?;
    let Arguments { orders, concurrency, rounds, .. } = arguments;
    let options = Options { orders, concurrency, rounds };
    let database = Database::try_from(arguments.database)?;
    let shutdown = stop::asked()?;
    let report: anyhow::Result<Report> = database::with(&database, async |server| {
        tokio::select! {
            report = bench::bench(server, options) => report,
            () = shutdown => bail!("stopped before the end"),
        }
    })
    .await;
    print(&serde_json::to_string_pretty(&report?)?);
    Ok(())
}
