//! `amends terminate`: ends an instance by force, once somebody has said that he means it.

use std::io::{BufRead, IsTerminal, Write};

use amends::command::{ChildPolicy, Command};
use anyhow::{Context, bail};

use super::command;

/// What `amends terminate` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Do not ask whether you mean it
    #[arg(long)]
    yes: bool,
    /// What becomes of live instances that it has started, and of those that they have started:
    /// terminate, cancel or leave
    #[arg(long, value_name = "WHAT")]
    children: Option<ChildPolicy>,
    #[command(flatten)]
    command: command::Arguments,
}

/// Terminates.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if !arguments.yes {
        confirm(&arguments)?;
    }
    let mut request = arguments.command.request(Command::Terminate);
    request.children = arguments.children.map(|policy| policy.to_string());
    arguments.command.send(request).await
}

/// Asks the person at the terminal. Where there is none, the answer is no.
fn confirm(arguments: &Arguments) -> anyhow::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nothing is undone when an instance is terminated; say --yes if that is meant");
    }
    let mut output = std::io::stderr();
    write!(
        output,
        "Nothing that instance {} has done will be undone: money stays taken, a parcel stays \
         sent.\nTerminate it? Type yes: ",
        arguments.command.instance_id,
    )?;
    output.flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer).context("there is no answer")?;
    if answer.trim() == "yes" { Ok(()) } else { bail!("it goes on: the answer was not yes") }
}
