//! `amends resume` and `amends cancel`

use amends::command::Command;
use amends_api::instances::command::CommandRequest;
use uuid::Uuid;

use super::client::{self, Client};
use super::table::print;

/// Which instance, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The instance
    instance_id: Uuid,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: client::Arguments,
}

/// Sends the command. A refusal is an error, in the server's words.
pub(crate) async fn run(command: Command, arguments: Arguments) -> anyhow::Result<()> {
    let request = CommandRequest { command: command.to_string(), reason: arguments.reason };
    let id = arguments.instance_id.to_string();
    let client = Client::try_new(arguments.client)?;
    let body = client.post(&["instances", &id, "commands"], &request).await?;
    if arguments.json {
        print(&body);
    } else {
        print(&format!("accepted: {command} will happen"));
    }
    Ok(())
}
