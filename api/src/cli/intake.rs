//! `amends intake`: deliveries that a person has to decide about.

use amends_api::intake::cases::{Case, CasePage};
use amends_api::intake::command::{CaseCommandAccepted, CaseCommandRequest};
use uuid::Uuid;

use super::client::{self, Client};
use super::table::{self, printable, seconds, table};

/// What can be asked about what has come in.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// List deliveries that a person has to decide about, newest first
    Cases(List),
    /// Note that a case is dealt with; an order that is held because of it stays held
    Settle(Settle),
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
            let request = CaseCommandRequest { command: "settle".to_owned(), reason };
            let client = Client::try_new(client)?;
            let path = ["intake", "cases", &case.to_string(), "commands"];
            let body = client.post(&path, &request).await?;
            client.tell(&body, |_: &CaseCommandAccepted| "settled".to_owned())
        }
    }
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
    let next = page.next_cursor.as_ref();
    let next = next.map_or_else(String::new, |it| format!("\n\nmore: --cursor {}", printable(it)));
    format!("{}{next}", table::rendered(rows))
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
