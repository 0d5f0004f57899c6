//! `amends demo`

use std::env;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use amends_api::config::{Database, DatabaseArguments};
use amends_api::demo::{Colours, Options, Then, demo};

use super::log::{self, Level};
use super::stop;

/// What `amends demo` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Stop after the show; fail unless every order has ended as it should
    #[arg(long)]
    once: bool,
    /// Address to listen on [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, env = "AMENDS_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    log: log::Arguments,
    /// Any value: no colours
    #[arg(long, env = "NO_COLOR", hide = true, default_missing_value = "1", num_args = 0..=1)]
    no_color: Option<String>,
    /// The kind of terminal
    #[arg(long, env = "TERM", hide = true)]
    terminal: Option<String>,
}

/// Runs the demo until it is told to stop, or to the end of the show.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let colours = colours(&arguments);
    let folder = arguments.database.data_dir.clone();
    let options = Options {
        listen: arguments.listen,
        database: Database::try_from(arguments.database)?,
        folder,
        then: if arguments.once { Then::Exit } else { Then::Stay },
        colours,
        program: program(),
    };
    demo(options, stop::asked()?).await
}

fn colours(arguments: &Arguments) -> Colours {
    let is_unwanted = arguments.no_color.as_ref().is_some_and(|value| !value.is_empty());
    let is_dumb = arguments.terminal.as_deref().is_none_or(|terminal| terminal == "dumb");
    if is_unwanted || is_dumb || !std::io::stdout().is_terminal() {
        Colours::Plain
    } else {
        Colours::Shown
    }
}

/// How this program is called from the folder it was called in.
fn program() -> String {
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("amends"));
    let here = env::current_dir().unwrap_or_default();
    let below = program.strip_prefix(&here).ok().filter(|path| path.components().count() > 1);
    below.map_or(&*program, Path::new).display().to_string()
}
