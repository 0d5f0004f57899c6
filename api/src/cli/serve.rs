//! `amends serve`

use amends_api::config::{self, Config};

use super::log::{self, Level};
use super::stop;

/// What `amends serve` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: config::Arguments,
    #[command(flatten)]
    log: log::Arguments,
}

/// Runs the server until it is told to stop.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::try_from(arguments.server)?;
    let _log = log::start(&arguments.log, Level::Info)?;
    amends_api::serve::serve(config, stop::asked()?).await
}
