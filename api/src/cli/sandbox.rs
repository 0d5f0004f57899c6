//! `amends sandbox`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use amends_api::sandbox::{Options, serve};
use anyhow::Context;

use super::log::{self, Level};
use super::stop;

/// What `amends sandbox` takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Address to listen on
    #[arg(
        long,
        env = "AMENDS_SANDBOX_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8090"
    )]
    listen: SocketAddr,
    /// File in which everything that was done is written down
    #[arg(
        long,
        env = "AMENDS_SANDBOX_LEDGER",
        value_name = "FILE",
        default_value = ".amends/sandbox.jsonl"
    )]
    ledger: PathBuf,
    #[command(flatten)]
    log: log::Arguments,
}

/// Runs the stand-ins until they are told to stop.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Info)?;
    let Arguments { listen, ledger, .. } = arguments;
    if let Some(folder) = ledger.parent().filter(|folder| *folder != Path::new("")) {
        let cannot = || format!("cannot make {}", folder.display());
        tokio::fs::create_dir_all(folder).await.with_context(cannot)?;
    }
    Ok(serve(Options { ledger, listen }, stop::asked()?).await?)
}
