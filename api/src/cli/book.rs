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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn typed(line: &[&str]) -> Result<Vec<Movement>, clap::Error> {
        let id = "0190a6f4-7b1c-7cc3-98c4-dc0c0c07398f";
        let rest = ["--evidence", "the bank's list", "--reason", "by phone"];
        let token = ["--server", "http://127.0.0.1:1"];
        let words = [&["book", id], line, &rest, &token].concat();
        Line::try_parse_from(words).map(|line| line.arguments.money)
    }

    #[test]
    fn a_booking_says_what_has_moved() {
        let money = typed(&["--money", "refund:1250:EUR:re_9"]).expect("well-formed");
        assert_eq!((money[0].amount_minor, &*money[0].reference), (1250, "re_9"));
        assert!(typed(&[]).is_err());
        assert!(typed(&["--money", "12.50 EUR"]).is_err());
    }
}
