//! `amends cancel`: undoes what an instance has done, if that is still what was shown.

use amends::command::Command;

use super::command;

/// What `amends cancel` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Only if what would be undone is still what a preview has shown under this hash
    #[arg(long, value_name = "HASH")]
    plan_hash: Option<String>,
    #[command(flatten)]
    command: command::Arguments,
}

/// Cancels.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut request = arguments.command.request(Command::Cancel);
    request.plan_hash = arguments.plan_hash;
    arguments.command.send(request).await
}
