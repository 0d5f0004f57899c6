//! Where log lines go: standard error, for people or for machines.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Args;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// What to log, such as `info` or `warn,amends=debug`
    #[arg(long, env = "AMENDS_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// Log JSON lines instead of text
    #[arg(long, env = "AMENDS_LOG_JSON")]
    log_json: bool,
}

/// Starts logging, for the rest of the program.
pub(crate) fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).context("AMENDS_LOG is not a filter")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started =
        if arguments.log_json { log.json().try_init() } else { log.with_target(false).try_init() };
    started.map_err(|error| anyhow::anyhow!("cannot log: {error}"))
}
