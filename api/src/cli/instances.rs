//! `amends instances list` and `amends instances show`

use amends_api::view::{Instance, Page};
use chrono::SecondsFormat;

use super::client::{self, Client};
use super::show;
use super::table::{self, printable, table};

/// What to do with instances.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Find instances, newest first
    List(Arguments),
    /// Show an instance and everything that has happened to it
    Show(show::Arguments),
}

/// What to look for. Everything given must match.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Standing here, such as stuck
    #[arg(long)]
    status: Option<String>,
    /// Of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// With exactly this business key, such as shop/order
    #[arg(long)]
    business_key: Option<String>,
    /// With this attribute
    #[arg(long, value_name = "NAME:VALUE")]
    attribute: Option<String>,
    /// Accepted at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    created_from: Option<String>,
    /// Accepted before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// At most so many, 1 to 200
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: client::Arguments,
}

/// Lists or shows.
pub(crate) async fn run(subcommand: Subcommand) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::List(arguments) => list(arguments).await,
        Subcommand::Show(arguments) => show::run(arguments).await,
    }
}

async fn list(arguments: Arguments) -> anyhow::Result<()> {
    let limit = arguments.limit.map(|limit| limit.to_string());
    let query: Vec<_> = [
        ("status", arguments.status),
        ("workflow", arguments.workflow),
        ("business_key", arguments.business_key),
        ("attribute", arguments.attribute),
        ("created_from", arguments.created_from),
        ("created_before", arguments.created_before),
        ("limit", limit),
        ("cursor", arguments.cursor),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["instances"], &query).await?;
    client.tell(&body, rendered)
}

fn rendered(page: &Page) -> String {
    if page.items.is_empty() {
        return "there are none".to_owned();
    }
    let headings = ["INSTANCE", "BUSINESS KEY", "STATUS", "STEP", "FAILURE", "ACCEPTED"];
    let mut rows = table(Some(&headings));
    for instance in &page.items {
        rows.add_row(row(instance));
    }
    let rows = table::rendered(rows);
    match &page.next_cursor {
        Some(cursor) => format!("{rows}\nthere may be more: --cursor {}", printable(cursor)),
        None => rows,
    }
}

/// Where an instance stands, and whether it may move.
pub(super) fn standing(instance: &Instance) -> String {
    let held = if instance.held { ", held" } else { "" };
    format!("{}{held}", instance.status)
}

fn row(instance: &Instance) -> [String; 6] {
    let failure = instance.failure.as_ref().map(|failure| printable(&failure.code));
    [
        instance.instance_id.to_string(),
        printable(&instance.business_key),
        standing(instance),
        instance.step.as_deref().map(printable).unwrap_or_default(),
        failure.unwrap_or_default(),
        instance.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
    ]
}
