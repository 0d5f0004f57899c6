//! `amends resolve`: tells a stuck instance what has been found out, and has it go on.

use amends::command::Command;
use amends_api::instances::resolution::{Finding, Movement, Resolution};
use anyhow::Context;
use serde_json::{Value, json};

use super::command;

/// What `amends resolve` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The step, by its name in the history, such as charge or charge#2, or a wait, such as
    /// wait:parcel_packed, or a child, such as child:parcel
    #[arg(long, requires = "finding")]
    step: Option<String>,
    #[command(flatten)]
    found: Found,
    /// Where it can be seen: a provider's reference, a statement, a letter
    #[arg(long)]
    evidence: String,
    /// Money that has moved outside and is in no record, in minor units, such as
    /// capture:1250:EUR:ch_7; may be given several times
    #[arg(long, value_name = "KIND:AMOUNT:CURRENCY:REFERENCE", value_parser = movement)]
    money: Vec<Movement>,
    #[command(flatten)]
    command: command::Arguments,
}

/// What became of the step.
#[derive(clap::Args)]
#[group(id = "finding", multiple = false)]
struct Found {
    /// It was applied, and this is its output, as it would stand in the history
    #[arg(long, value_name = "JSON", requires = "step", value_parser = json)]
    applied: Option<Value>,
    /// It was not applied, and is not on its way: it is attempted again
    #[arg(long, requires = "step")]
    not_applied: bool,
    /// It is certainly not applied any more; the reference of what took it back, if there is one
    #[arg(long, value_name = "REFERENCE", requires = "step", num_args = 0..=1)]
    undone: Option<Option<String>>,
    /// Of a wait: the signal that has ended it cannot be read, and is given up
    #[arg(long, requires = "step")]
    dropped: bool,
    /// Of a child that has ended with nothing left of it: what kept it from completing is put right,
    /// and another one is started in its place
    #[arg(long, requires = "step")]
    again: bool,
}

/// Resolves.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { step, found, evidence, money, command } = arguments;
    let mut request = command.request(Command::Resolve);
    request.resolution = Some(Resolution { step, finding: found.finding(), evidence, money });
    command.send(request).await
}

impl Found {
    fn finding(self) -> Option<Finding> {
        match self {
            Self { applied: Some(output), .. } => Some(Finding::Applied(output)),
            Self { undone: Some(reference), .. } => Some(Finding::Undone(reference)),
            Self { not_applied: true, .. } => Some(Finding::NotApplied),
            Self { dropped: true, .. } => Some(Finding::Dropped),
            Self { again: true, .. } => Some(Finding::Again),
            Self { not_applied: false, dropped: false, again: false, .. } => None,
        }
    }
}

fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Reads `capture:1250:EUR:ch_7`. A reference may hold colons.
pub(super) fn movement(text: &str) -> anyhow::Result<Movement> {
    let parts: Vec<_> = text.splitn(4, ':').collect();
    let &[kind, amount, currency, reference] = parts.as_slice() else {
        anyhow::bail!("has four parts, such as capture:1250:EUR:ch_7");
    };
    let amount_minor: i64 = amount.parse().context("the amount is in minor units")?;
    let kind = serde_json::from_value(json!(kind))
        .context("there are authorise, capture, refund and void")?;
    let reference = reference.to_owned();
    Ok(Movement { kind, amount_minor, currency: currency.parse()?, reference })
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

    fn found(arguments: &[&str]) -> Option<(Option<Finding>, Vec<Movement>)> {
        let id = uuid::Uuid::nil().to_string();
        let common = ["amends", &id, "--reason", "r", "--evidence", "e"];
        let line = Line::try_parse_from(common.iter().chain(arguments)).ok()?;
        Some((line.arguments.found.finding(), line.arguments.money))
    }

    #[test]
    fn a_step_has_one_finding_and_money_needs_none() {
        let step = |rest: &[&str]| found(&[&["--step", "charge"], rest].concat());
        let finding = |rest: &[&str]| step(rest).and_then(|(finding, _)| finding);
        let output = r#"{"charge_id":"ch_7"}"#;
        assert_eq!(
            finding(&["--applied", output]),
            Some(Finding::Applied(json!({"charge_id": "ch_7"})))
        );
        assert_eq!(finding(&["--not-applied"]), Some(Finding::NotApplied));
        assert_eq!(finding(&["--undone"]), Some(Finding::Undone(None)));
        assert_eq!(finding(&["--undone", "re_9"]), Some(Finding::Undone(Some("re_9".to_owned()))));
        assert_eq!(finding(&["--dropped"]), Some(Finding::Dropped));
        assert_eq!(finding(&["--again"]), Some(Finding::Again));
        let money = found(&["--money", "refund:990:MYR:re:9", "--money", "void:1:JPY:v"]);
        assert_eq!(money.map(|(finding, money)| (finding, money.len())), Some((None, 2)));
        for wrong in [
            &["--step", "charge"][..],
            &["--not-applied"],
            &["--dropped"],
            &["--again"],
            &["--step", "charge", "--not-applied", "--undone"],
            &["--step", "charge", "--applied", "{charge_id: 7}"],
            &["--money", "refund:9.90:MYR:re_9"],
            &["--money", "refund:990:MYR"],
            &["--money", "refund:990:myr:re_9"],
            &["--money", "steal:990:MYR:re_9"],
        ] {
            assert!(found(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reference_may_hold_colons() {
        let movement = movement("refund:990:MYR:re:9").expect("a movement");
        assert_eq!((movement.amount_minor, movement.reference.as_str()), (990, "re:9"));
    }
}
