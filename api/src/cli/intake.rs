//! `amends intake`: deliveries that a person has to decide about.

use std::collections::BTreeMap;

use amends_api::intake::cases::{Case, CasePage};
use amends_api::intake::command::{CaseCommandAccepted, CaseCommandRequest};
use serde_json::Value;
use uuid::Uuid;

use super::client::{self, Client};
use super::table::{self, printable, seconds, table};

/// What can be asked about what has come in.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// List deliveries that a person has to decide about, newest first
    Cases(List),
    /// Note that a case is dealt with. What could not be carried out is ignored; an order that is held
    /// because of it stays held
    #[command(alias = "ignore")]
    Settle(Settle),
    /// Have the order of a case carried out, with what is filled in, although there is doubt
    Start(Start),
}

/// What to look for. Everything given must match.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct List {
    /// Those that are settled, instead of those that are not
    #[arg(long)]
    settled: bool,
    /// With this code
    #[arg(long)]
    code: Option<String>,
    /// About this business key, such as shop/order
    #[arg(long)]
    business_key: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: client::Arguments,
}

/// Which case, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Settle {
    /// The case
    case: Uuid,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Which case, what is filled in, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Start {
    /// The case
    case: Uuid,
    /// What stands at a place of the order instead, such as /lines/0/sku=TEE-M-BLK; JSON, or text
    #[arg(long = "set", value_name = "POINTER=VALUE", value_parser = field)]
    fields: Vec<(String, Value)>,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

fn field(text: &str) -> Result<(String, Value), String> {
    let (pointer, value) = text.split_once('=').ok_or("has to be POINTER=VALUE")?;
    if !pointer.starts_with('/') {
        return Err("the place has to be a JSON pointer, such as /customer/email".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((pointer.to_owned(), value))
}

/// Looks or asks. A refusal is an error, in the server's words.
pub(crate) async fn run(subcommand: Subcommand) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::Cases(list) => {
            let given = [
                ("settled", Some(list.settled.to_string())),
                ("code", list.code),
                ("business_key", list.business_key),
                ("limit", list.limit.map(|limit| limit.to_string())),
                ("cursor", list.cursor),
            ];
            let query: Vec<_> =
                given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let client = Client::try_new(list.client)?;
            let body = client.get(&["intake", "cases"], &query).await?;
            client.tell(&body, listed)
        }
        Subcommand::Settle(Settle { case, reason, client }) => {
            let (command, fields) = ("settle".to_owned(), BTreeMap::new());
            let client = Client::try_new(client)?;
            let body = ask(&client, case, CaseCommandRequest { command, reason, fields }).await?;
            client.tell(&body, |_: &CaseCommandAccepted| "settled".to_owned())
        }
        Subcommand::Start(Start { case, fields, reason, client }) => {
            let (command, fields) = ("start".to_owned(), fields.into_iter().collect());
            let client = Client::try_new(client)?;
            let body = ask(&client, case, CaseCommandRequest { command, reason, fields }).await?;
            client.tell(&body, |accepted: &CaseCommandAccepted| match accepted.instance_id {
                Some(instance_id) => format!("started: instance {instance_id}"),
                None => "nothing was to be started; the case is settled".to_owned(),
            })
        }
    }
}

async fn ask(client: &Client, case: Uuid, request: CaseCommandRequest) -> anyhow::Result<String> {
    client.post(&["intake", "cases", &case.to_string(), "commands"], &request).await
}

fn listed(page: &CasePage) -> String {
    if page.items.is_empty() {
        return "there are no such cases".to_owned();
    }
    let mut rows =
        table(Some(&["CASE", "OPENED", "CODE", "ORDER", "INSTANCE", "STATE", "MESSAGE"]));
    for case in &page.items {
        rows.add_row(row(case));
    }
    let problems: String =
        page.items.iter().filter(|case| !case.problems.is_empty()).map(told).collect();
    let next = page.next_cursor.as_ref();
    let next = next.map_or_else(String::new, |it| format!("\n\nmore: --cursor {}", printable(it)));
    format!("{}{problems}{next}", table::rendered(rows))
}

/// What is wrong with the delivery of a case, and what may be filled in.
fn told(case: &Case) -> String {
    let mut told = format!("\n\ncase {}, delivery {}:", case.case_id, case.delivery_id);
    for problem in &case.problems {
        let (place, detail) = (printable(&problem.pointer), printable(&problem.detail));
        let place = if place.is_empty() { "the order".to_owned() } else { place };
        told.push_str(&format!("\n  {place} {detail}"));
        if let Some(field) = &problem.field {
            told.push_str(&format!(" (--set {}=..)", printable(field)));
        }
    }
    told
}

fn row(case: &Case) -> [String; 7] {
    let state = match (&case.settled_by, case.held) {
        (Some(person), _) => format!("settled by {person}"),
        (None, true) => "open; the order is held".to_owned(),
        (None, false) => "open".to_owned(),
    };
    [
        case.case_id.to_string(),
        seconds(case.opened_at),
        printable(&case.code),
        printable(case.business_key.as_deref().unwrap_or("-")),
        case.instance_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        printable(&state),
        printable(&case.message),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_case_says_what_is_held_and_who_has_settled_it() {
        let case = |settled_by: Option<&str>| {
            json!({
                "case_id": "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d11", "code": "ORDER_CONFLICT",
                "message": "it differs, in /total_minor", "source": "shopify/acme.example",
                "delivery_id": "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d12", "workflow": "fulfilment",
                "business_key": "acme.example/1", "held": true, "settled_by": settled_by,
                "opened_at": "2026-11-21T14:02:00Z",
            })
        };
        let page = json!({ "items": [case(None), case(Some("anna"))], "next_cursor": "AZCm" });
        let told = listed(&serde_json::from_value(page).expect("a page"));
        for words in ["open; the order is held", "settled by anna", "more: --cursor AZCm"] {
            assert!(told.contains(words), "{told}");
        }
        let nothing = serde_json::from_value(json!({ "items": [] })).expect("a page");
        assert_eq!(listed(&nothing), "there are no such cases");
    }
}
