//! `amends migrate`: brings the schema up to date before servers do, and says who may use it.

use amends::Address;
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::{Context, bail};

use super::log::{self, Level};
use super::stop;
use super::table::print;

/// What `amends migrate` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Let this role run servers, which is there already: it creates nothing, and can neither change
    /// nor delete what is append-only
    #[arg(long, value_name = "ROLE")]
    grant: Option<String>,
    #[command(flatten)]
    log: log::Arguments,
}

/// Applies what is missing. Safe to repeat, and beside servers that run.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let database = Database::try_from(arguments.database)?;
    let shutdown = stop::asked()?;
    database::with(&database, async |database| {
        tokio::select! {
            migrated = migrate(database, arguments.grant.as_deref()) => migrated,
            () = shutdown => bail!("stopped before the end; what is missing is applied next time"),
        }
    })
    .await
}

async fn migrate(database: Address, role: Option<&str>) -> anyhow::Result<()> {
    amends::migrate(database.clone()).await.context("the schema cannot be brought up to date")?;
    print("the schema is up to date");
    if let Some(role) = role {
        amends::grant(database, role).await.context("the role cannot be given its rights")?;
        print(&format!("{role} may run servers"));
    }
    Ok(())
}
