//! What is logged, for people or for machines.

use amends_api::log::{self, Log};
use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// What to log, such as `info` or `warn,amends=debug`
    #[arg(long, env = "AMENDS_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Log JSON lines instead of text
    #[arg(long, env = "AMENDS_LOG_JSON", value_parser = BoolishValueParser::new())]
    log_json: bool,
}

/// What is logged if nobody says otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// What a server does.
    Info,
    /// What a person should know who looks at something else.
    Warn,
}

impl Level {
    fn filter(self) -> &'static str {
        match self {
            // Postgres notes what is there already, at every start.
            Self::Info => "info,sqlx::postgres::notice=warn",
            // A statement that takes long is nothing that a person here could change, and the demo
            // tells of its cases itself.
            Self::Warn => "warn,sqlx::query=error,amends_api::intake=error",
        }
    }
}

/// Starts logging, for as long as what is returned is there.
pub(crate) fn start(arguments: &Arguments, default: Level) -> anyhow::Result<Log> {
    let asked = arguments.log.as_deref().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(asked.unwrap_or(default.filter()))
        .context("AMENDS_LOG is not a filter")?;
    log::start(filter, arguments.log_json)
}
