//! `amends acknowledge-loss`: a person knows of commits that the database has lost, and
//! servers take orders in again.

use amends::{Address, Loss};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::{Context, bail};

use super::log::{self, Level};
use super::stop;
use super::table::{print, printable};

/// What `amends acknowledge-loss` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Who you are, for those who look later
    #[arg(long, value_name = "NAME")]
    actor: String,
    /// What you have found out, and why orders may be taken in on this database
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    log: log::Arguments,
}

/// Acknowledges everything that is known to be missing, and says what that is. Safe to repeat.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let Arguments { actor, reason, database, .. } = arguments;
    let database = Database::try_from(database)?;
    let shutdown = stop::asked()?;
    database::with(&database, async |database| {
        tokio::select! {
            acknowledged = acknowledge(database, &actor, &reason) => acknowledged,
            () = shutdown => bail!("stopped before the end"),
        }
    })
    .await
}

async fn acknowledge(database: Address, actor: &str, reason: &str) -> anyhow::Result<()> {
    let acknowledged = amends::acknowledge_losses(database, actor, reason).await;
    let losses = acknowledged.context("the loss cannot be acknowledged")?;
    for Loss { lost, found_by, found_at, .. } in &losses {
        print(&format!("{lost}: found missing by {} at {found_at}", printable(found_by)));
    }
    print(match losses.len() {
        0 => "no loss is waiting to be acknowledged",
        _ => "acknowledged; servers take orders in again within a second or two",
    });
    Ok(())
}
