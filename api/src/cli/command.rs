//! Commands to instances: what they have in common, and all there is to those that need no more
//! than a reason.

use amends::command::Command;
use amends_api::instances::command::CommandRequest;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::client::{self, Client};

/// Which instance, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The instance
    pub(super) instance_id: Uuid,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Gives a command that needs no more than a reason.
pub(crate) async fn run(command: Command, arguments: Arguments) -> anyhow::Result<()> {
    let request = arguments.request(command);
    arguments.send(request).await
}

impl Arguments {
    /// The command with its reason.
    pub(super) fn request(&self, command: Command) -> CommandRequest {
        CommandRequest {
            command: command.to_string(),
            reason: self.reason.clone(),
            plan_hash: None,
            children: None,
            resolution: None,
        }
    }

    /// Sends the command, again if its answer is lost; it is given once. A refusal is an error, in
    /// the server's words.
    pub(super) async fn send(self, request: CommandRequest) -> anyhow::Result<()> {
        let id = self.instance_id.to_string();
        let client = Client::try_new(self.client)?;
        let body = client.post_once(&["instances", &id, "commands"], &request).await?;
        client.tell(&body, |_: &IgnoredAny| format!("accepted: {} will happen", request.command))
    }
}
