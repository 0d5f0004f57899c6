//! `amends events`: events that cannot be delivered, and what is to become of them.

use amends_api::events::blocked::{BlockedEvent, BlockedEvents, EventCommand};
use amends_api::events::command::{EventCommandAccepted, EventCommandRequest};
use amends_api::events::discard::{EventsDropped, SubscriptionCommandRequest};
use amends_api::events::leftover::{GoneSubscription, LeftoverEvents, SubscriptionCommand};

use super::client::{self, Client};
use super::table::{self, printable, seconds, table};

/// What can be asked about events.
#[derive(clap::Subcommand)]
pub(crate) enum Subcommand {
    /// List keys whose oldest event cannot be delivered
    Blocked(List),
    /// Try an event again now
    Retry(Command),
    /// Tell the receiver in the place of an event that it is skipped, and go on behind it
    Skip(Command),
    /// List subscriptions that no server has any more and whose events wait
    Leftover(List),
    /// Drop every event that waits for a subscription that no server has any more
    Drop(Drop),
}

/// What `amends events blocked` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct List {
    #[command(flatten)]
    client: client::Arguments,
}

/// Which event, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Command {
    /// The subscription whose receiver does not take it
    subscription: String,
    /// The key that it blocks
    key: String,
    /// The event, as it is listed
    event_id: String,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Of which subscription, and why.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Drop {
    /// The subscription, as it is listed
    subscription: String,
    /// Why; it is recorded with your name
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    client: client::Arguments,
}

/// Looks or asks. A refusal is an error, in the server's words.
pub(crate) async fn run(subcommand: Subcommand) -> anyhow::Result<()> {
    match subcommand {
        Subcommand::Blocked(List { client }) => {
            let client = Client::try_new(client)?;
            let body = client.get(&["events", "blocked"], &[]).await?;
            client.tell(&body, listed)
        }
        Subcommand::Retry(command) => {
            ask(command, "retry", "accepted: it is tried again within seconds").await
        }
        Subcommand::Skip(command) => {
            ask(command, "skip", "accepted: its receiver is told within seconds that it is skipped")
                .await
        }
        Subcommand::Leftover(List { client }) => {
            let client = Client::try_new(client)?;
            let body = client.get(&["events", "leftover"], &[]).await?;
            client.tell(&body, left)
        }
        Subcommand::Drop(Drop { subscription, reason, client }) => {
            let request =
                SubscriptionCommandRequest { command: "drop".to_owned(), subscription, reason };
            let client = Client::try_new(client)?;
            let body = client.post(&["events", "leftover", "commands"], &request).await?;
            client.tell(&body, |dropped: &EventsDropped| format!("dropped: {}", dropped.events))
        }
    }
}

async fn ask(arguments: Command, command: &str, accepted: &str) -> anyhow::Result<()> {
    let request = EventCommandRequest {
        command: command.to_owned(),
        subscription: arguments.subscription,
        key: arguments.key,
        event_id: arguments.event_id,
        reason: arguments.reason,
    };
    let client = Client::try_new(arguments.client)?;
    let body = client.post(&["events", "blocked", "commands"], &request).await?;
    client.tell(&body, |_: &EventCommandAccepted| accepted.to_owned())
}

fn listed(blocked: &BlockedEvents) -> String {
    let mut parts = vec!["every event is on its way".to_owned()];
    if !blocked.items.is_empty() {
        let headings = ["SUBSCRIPTION", "KEY", "EVENT", "SINCE", "TRIED", "NEXT TRY", "ERROR"];
        let mut rows = table(Some(&headings));
        for event in &blocked.items {
            rows.add_row(row(event));
        }
        parts = vec![table::rendered(rows)];
    }
    if !blocked.commands.is_empty() {
        let mut rows = table(Some(&["COMMAND", "EVENT", "TIME", "BY", "REASON", "ANSWER"]));
        for command in &blocked.commands {
            rows.add_row(asked(command));
        }
        parts.push(table::rendered(rows));
    }
    parts.join("\n\n")
}

fn left(leftover: &LeftoverEvents) -> String {
    let mut parts = vec!["no events wait for a subscription that no server has".to_owned()];
    if !leftover.items.is_empty() {
        let mut rows = table(Some(&["SUBSCRIPTION", "EVENTS", "OLDEST", "GONE SINCE"]));
        for GoneSubscription { subscription, events, oldest, gone_since } in &leftover.items {
            let oldest = oldest.map_or_else(|| "unknown".to_owned(), seconds);
            let events = events.to_string();
            rows.add_row([printable(subscription), events, oldest, seconds(*gone_since)]);
        }
        parts = vec![table::rendered(rows)];
    }
    if !leftover.commands.is_empty() {
        let headings = ["COMMAND", "SUBSCRIPTION", "EVENTS", "TIME", "BY", "REASON", "ANSWER"];
        let mut rows = table(Some(&headings));
        for command in &leftover.commands {
            let SubscriptionCommand { subscription, command: what, actor, reason, .. } = command;
            let [what, subscription, actor, reason, answer] =
                [what, subscription, actor, reason, &command.answer].map(|it| printable(it));
            let (events, time) = (command.events.to_string(), seconds(command.given_at));
            rows.add_row([what, subscription, events, time, actor, reason, answer]);
        }
        parts.push(table::rendered(rows));
    }
    parts.join("\n\n")
}

fn row(event: &BlockedEvent) -> [String; 7] {
    [
        printable(&event.subscription),
        printable(&event.key),
        printable(&event.event_id),
        seconds(event.since),
        event.attempts.to_string(),
        next_try(event),
        printable(&event.error),
    ]
}

/// When an event is tried again.
pub(super) fn next_try(event: &BlockedEvent) -> String {
    event.next_try_at.map_or_else(|| "when you say so".to_owned(), seconds)
}

fn asked(command: &EventCommand) -> [String; 6] {
    [
        printable(&command.command),
        printable(&command.event_id),
        seconds(command.given_at),
        printable(&command.actor),
        printable(&command.reason),
        printable(&command.answer),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_for_a_person_says_so() {
        let event = |state: &str| {
            json!({
                "subscription": "events", "key": "acme/1", "event_id": "0190/3",
                "instance_id": "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d11", "state": state,
                "attempts": 13, "since": "2026-11-21T14:02:00Z",
                "error": "the receiver answered 422 Unprocessable Entity",
            })
        };
        let mut retrying = event("retrying");
        retrying["next_try_at"] = json!("2026-11-21T14:32:00Z");
        let blocked = serde_json::from_value(json!({
            "items": [event("parked"), retrying],
            "commands": [{
                "subscription": "events", "key": "acme/2", "event_id": "0191/1",
                "command": "skip", "actor": "anna", "reason": "they have no such order",
                "answer": "accepted", "given_at": "2026-11-21T14:03:00Z",
            }],
        }));
        insta::assert_snapshot!(listed(&blocked.expect("what is blocked")));
        let leftover = serde_json::from_value(json!({
            "items": [{
                "subscription": "old-events", "events": 412, "oldest": "2026-11-20T08:00:00Z",
                "gone_since": "2026-11-21T14:02:00Z",
            }],
            "commands": [{
                "subscription": "older-events", "command": "drop", "events": 3, "actor": "anna",
                "reason": "its receiver is no more", "answer": "dropped",
                "given_at": "2026-11-21T14:03:00Z",
            }],
        }));
        insta::assert_snapshot!(left(&leftover.expect("what is left")), @r"
        SUBSCRIPTION  EVENTS  OLDEST                GONE SINCE
        old-events    412     2026-11-20T08:00:00Z  2026-11-21T14:02:00Z

        COMMAND  SUBSCRIPTION  EVENTS  TIME                  BY    REASON                   ANSWER
        drop     older-events  3       2026-11-21T14:03:00Z  anna  its receiver is no more  dropped
        ");
        let nothing = serde_json::from_value(json!({ "items": [], "commands": [] }));
        assert_eq!(listed(&nothing.expect("nothing")), "every event is on its way");
    }
}
