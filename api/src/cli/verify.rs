//! `amends verify`: checks every history on the database itself, and names what is broken.

use amends::Address;
use amends::verify::{self, Report};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use uuid::Uuid;

use super::log::{self, Level};
use super::stop;
use super::table::print;

/// The SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// What `amends verify` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: log::Arguments,
}

/// What was found, for machines.
#[derive(Serialize)]
struct Found {
    instances: u64,
    records: u64,
    broken: Vec<Broken>,
}

/// A history that is not as it was written.
#[derive(Serialize)]
struct Broken {
    instance_id: Uuid,
    /// The first bad record.
    seq: u32,
    what: &'static str,
}

/// Checks every history; one that is broken is an error.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let database = Database::try_from(arguments.database)?;
    let shutdown = stop::asked()?;
    let found = database::with(&database, async |database| {
        tokio::select! {
            found = check(database) => found,
            () = shutdown => bail!("stopped before the end"),
        }
    });
    let found = found.await?;
    print(&if arguments.json { serde_json::to_string(&found)? } else { found.in_words() });
    if found.broken.is_empty() { Ok(()) } else { bail!("somebody has changed what was recorded") }
}

async fn check(database: Address) -> anyhow::Result<Found> {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} histories checked") {
        progress.set_style(style);
    }
    let checked = verify::verify(database, |report| progress.set_position(report.instances)).await;
    progress.finish_and_clear();
    match checked {
        Err(amends::Error::Database(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(UNDEFINED_TABLE) =>
        {
            bail!("this database was never used by Amends: there is nothing to check")
        }
        checked => checked.map(Found::from).context("the histories cannot be checked"),
    }
}

impl From<Report> for Found {
    fn from(report: Report) -> Self {
        let broken = report.broken.into_iter().map(|(instance_id, found)| Broken {
            instance_id,
            seq: found.seq,
            what: found.what,
        });
        Self { instances: report.instances, records: report.records, broken: broken.collect() }
    }
}

impl Found {
    fn in_words(&self) -> String {
        let mut text = String::new();
        for Broken { instance_id, seq, what } in &self.broken {
            text.push_str(&format!("instance {instance_id}, record {seq}: {what}\n"));
        }
        let Self { instances, records, broken } = self;
        let verdict = match broken.len() {
            0 => "all are as they were written".to_owned(),
            1 => "1 is not as it was written".to_owned(),
            broken => format!("{broken} are not as they were written"),
        };
        text.push_str(&format!("{instances} histories with {records} records checked; {verdict}"));
        text
    }
}
