//! `amends book`: counts money that has moved outside.

use amends::command::Command;
use amends_api::instances::resolution::{Movement, Resolution};

use super::command;
use super::resolve::movement;

/// What `amends book` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// What has moved and is in no record, in minor units, such as refund:1250:EUR:re_9; may be
    /// given several times
    #[arg(
        long,
        value_name = "KIND:AMOUNT:CURRENCY:REFERENCE",
        value_parser = movement,
        required = true
    )]
    money: Vec<Movement>,
    /// Where it can be seen: a provider's reference, a statement, a letter
    #[arg(long)]
    evidence: String,
    #[command(flatten)]
    command: command::Arguments,
}

/// Books.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { money, evidence, command } = arguments;
    let mut request = command.request(Command::Book);
    request.resolution = Some(Resolution { step: None, finding: None, evidence, money });
    command.send(request).await
}
