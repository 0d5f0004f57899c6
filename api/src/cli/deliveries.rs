//! `amends deliveries`: what came in, what became of it, and having it carried out after all.

use amends_api::deliveries::command::{DeliveryAnswer, DeliveryCommandRequest};
use amends_api::deliveries::list::{Delivery, DeliveryPage};
use anyhow::bail;
use uuid::Uuid;

use super::client::{self, Client};
use super::table::{self, printable, seconds, table};

/// How many deliveries are asked for at a time.
const PAGE: &str = "200";

/// What can be asked about what has come in.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// List what came in, newest first
    List(List),
    /// Show one delivery
    Show(Show),
    /// Have deliveries that could not be carried out translated again
    Retry(Retry),
}

/// What to look for. Everything given must match.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct List {
    /// To which this happened: signalled, ignored, stale, failed
    #[arg(long)]
    outcome: Option<String>,
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

/// Which delivery.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Show {
    /// The delivery
    delivery: Uuid,
    #[command(flatten)]
    client: client::Arguments,
}

/// Which deliveries, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Retry {
    /// The deliveries
    #[arg(required_unless_present = "all")]
    deliveries: Vec<Uuid>,
    /// All that have failed
    #[arg(long, conflicts_with = "deliveries")]
    all: bool,
    /// With --all: those that have failed for this reason
    #[arg(long, requires = "all")]
    code: Option<String>,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Looks or asks. A refusal is an error, in the server's words.
pub(crate) async fn run(subcommand: Subcommand) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::List(list) => {
            let given = [
                ("outcome", list.outcome),
                ("business_key", list.business_key),
                ("limit", list.limit.map(|limit| limit.to_string())),
                ("cursor", list.cursor),
            ];
            let query: Vec<_> =
                given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let client = Client::try_new(list.client)?;
            let body = client.get(&["deliveries"], &query).await?;
            client.tell(&body, listed)
        }
        Subcommand::Show(Show { delivery, client }) => {
            let client = Client::try_new(client)?;
            let body = client.get(&["deliveries", &delivery.to_string()], &[]).await?;
            client.tell(&body, shown)
        }
        Subcommand::Retry(retry) => {
            let client = Client::try_new(retry.client)?;
            let deliveries = match retry.all {
                true => failed(&client, retry.code.as_deref()).await?,
                false => retry.deliveries,
            };
            again(&client, &deliveries, &retry.reason).await
        }
    }
}

/// Every delivery that has failed, for this reason if one is given, oldest first.
async fn failed(client: &Client, code: Option<&str>) -> anyhow::Result<Vec<Uuid>> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = vec![("outcome", "failed".to_owned()), ("limit", PAGE.to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: DeliveryPage = serde_json::from_str(&client.get(&["deliveries"], &query).await?)?;
        let items = page.items.into_iter();
        let wanted = items.filter(|it| code.is_none_or(|code| it.reason.as_deref() == Some(code)));
        found.extend(wanted.map(|it| it.delivery_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            found.reverse();
            return Ok(found);
        }
    }
}

/// Asks for each of them, and says what became of it.
async fn again(client: &Client, deliveries: &[Uuid], reason: &str) -> anyhow::Result<()> {
    let mut still = 0;
    for delivery in deliveries {
        let request =
            DeliveryCommandRequest { command: "retry".to_owned(), reason: reason.to_owned() };
        let path = ["deliveries", &delivery.to_string(), "commands"];
        match client.post(&path, &request).await {
            Ok(body) => {
                let answer: DeliveryAnswer = serde_json::from_str(&body)?;
                println!("{delivery}: {}", became(&answer));
            }
            Err(error) => {
                still += 1;
                println!("{delivery}: {error:#}");
            }
        }
    }
    if still > 0 {
        bail!("{still} of {} could not be carried out", deliveries.len());
    }
    Ok(())
}

fn became(answer: &DeliveryAnswer) -> String {
    let outcome = printable(&answer.outcome);
    answer.instance_id.map_or(outcome.clone(), |id| format!("{outcome}: instance {id}"))
}

fn listed(page: &DeliveryPage) -> String {
    if page.items.is_empty() {
        return "there are no such deliveries".to_owned();
    }
    let mut rows =
        table(Some(&["DELIVERY", "RECEIVED", "SOURCE", "ID", "OUTCOME", "ORDER", "INSTANCE"]));
    for delivery in &page.items {
        rows.add_row(row(delivery));
    }
    let next = page.next_cursor.as_ref();
    let next = next.map_or_else(String::new, |it| format!("\n\nmore: --cursor {}", printable(it)));
    format!("{}{next}", table::rendered(rows))
}

fn row(delivery: &Delivery) -> [String; 7] {
    let reason = delivery.reason.as_ref().map(|reason| format!(" ({reason})"));
    [
        delivery.delivery_id.to_string(),
        seconds(delivery.received_at),
        printable(&delivery.source),
        printable(&delivery.external_id),
        printable(&format!("{}{}", delivery.outcome, reason.unwrap_or_default())),
        printable(delivery.business_key.as_deref().unwrap_or("-")),
        delivery.instance_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
    ]
}

fn shown(delivery: &Delivery) -> String {
    let [id, received, source, external_id, outcome, order, instance] = row(delivery);
    let decided = match (&delivery.decided_by, &delivery.note) {
        (Some(person), Some(note)) => format!("{}: {}", printable(person), printable(note)),
        _ => "-".to_owned(),
    };
    let mut rows = table(None);
    for (name, value) in [
        ("delivery", id),
        ("received", received),
        ("source", source),
        ("id", external_id),
        ("outcome", outcome),
        ("order", order),
        ("instance", instance),
        ("decided", decided),
        ("body", format!("{} bytes", delivery.body_bytes)),
    ] {
        rows.add_row([name.to_owned(), value]);
    }
    table::rendered(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_delivery_says_what_became_of_it_and_who_decided() {
        let delivery = json!({
            "delivery_id": "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d12", "source": "shopify/acme.example",
            "external_id": "orders/create/1", "outcome": "ignored", "reason": "BY_A_PERSON",
            "received_at": "2026-11-21T14:02:00Z", "body_bytes": 1024, "decided_by": "anna",
            "note": "it was a test",
        });
        let page = json!({ "items": [delivery], "next_cursor": "AZCm" });
        let told = listed(&serde_json::from_value(page).expect("a page"));
        for words in ["ignored (BY_A_PERSON)", "orders/create/1", "more: --cursor AZCm"] {
            assert!(told.contains(words), "{told}");
        }
        let told = shown(&serde_json::from_value(delivery).expect("a delivery"));
        assert!(told.contains("anna: it was a test") && told.contains("1024 bytes"), "{told}");
        let nothing = serde_json::from_value(json!({ "items": [] })).expect("a page");
        assert_eq!(listed(&nothing), "there are no such deliveries");
    }
}
