//! `amends instances show`: an instance, and everything that has happened to it.

use amends_api::events::blocked::BlockedEvents;
use amends_api::timeline::{Line, amount, timeline};
use amends_api::view::{History, Instance};
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::client::{self, Client};
use super::events::next_try;
use super::instances::standing;
use super::table::{self, print, printable, table};

/// What to show.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The instance
    instance_id: Uuid,
    #[command(flatten)]
    client: client::Arguments,
}

/// The answers of the server, to the byte.
#[derive(Serialize)]
struct Answers<'a> {
    instance: &'a RawValue,
    history: &'a RawValue,
    events: &'a RawValue,
}

/// Shows an instance.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::try_new(arguments.client)?;
    let id = arguments.instance_id.to_string();
    let instance = client.get(&["instances", &id], &[]).await?;
    let history = client.get(&["instances", &id, "history"], &[]).await?;
    let events = client.get(&["instances", &id, "events", "blocked"], &[]).await?;
    if client.tells_json() {
        let answers = Answers {
            instance: serde_json::from_str(&instance)?,
            history: serde_json::from_str(&history)?,
            events: serde_json::from_str(&events)?,
        };
        print(&serde_json::to_string(&answers)?);
        return Ok(());
    }
    let unreadable = "the answer cannot be read";
    let instance: Instance = serde_json::from_str(&instance).context(unreadable)?;
    let history: History = serde_json::from_str(&history).context(unreadable)?;
    let events: BlockedEvents = serde_json::from_str(&events).context(unreadable)?;
    print(&rendered(&instance, &events, &timeline(&history.items)));
    Ok(())
}

fn rendered(instance: &Instance, events: &BlockedEvents, lines: &[Line]) -> String {
    let mut facts = table(None);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    fact("instance", instance.instance_id.to_string());
    fact("workflow", format!("{} version {}", printable(&instance.workflow), instance.version));
    fact("business key", printable(&instance.business_key));
    fact("status", standing(instance));
    if let Some(waits) = &instance.waits {
        fact("", printable(waits));
    }
    if let Some(failure) = &instance.failure {
        fact("because", format!("{}: {}", printable(&failure.code), printable(&failure.message)));
    }
    for (name, value) in &instance.attributes {
        fact(&printable(name), printable(value));
    }
    for event in &events.items {
        let (of, error) = (printable(&event.subscription), printable(&event.error));
        fact("not delivered", format!("{} to {of}: {error}", printable(&event.event_id)));
        fact("", format!("tried {} times, next {}", event.attempts, next_try(event)));
    }
    for given in events.commands.iter().filter(|given| given.answer == "accepted") {
        let (command, actor) = (printable(&given.command), printable(&given.actor));
        let (event, reason) = (printable(&given.event_id), printable(&given.reason));
        fact("event", format!("{command} {event}, by {actor}: {reason}"));
    }

    let mut happened = table(Some(&["", "TIME", "WHAT HAPPENED", "ATTEMPT", "FAILURE", "AMOUNT"]));
    for line in lines {
        happened.add_row(row(line));
    }
    format!("{}\n\n{}", table::rendered(facts), table::rendered(happened))
}

fn row(line: &Line) -> [String; 6] {
    let amounts: Vec<_> = line.money.iter().map(|movement| amount(movement.money)).collect();
    [
        line.seq.to_string(),
        time(line.at),
        printable(&line.text),
        line.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        line.failure.as_ref().map(|failure| printable(&failure.code)).unwrap_or_default(),
        amounts.join(", "),
    ]
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_shown_with_its_timeline() {
        let instance: Instance = serde_json::from_value(serde_json::json!({
            "instance_id": Uuid::nil(), "workflow": "fulfilment", "version": 1,
            "business_key": "acme/1\u{1b}", "status": "stuck", "past_pivot": false,
            "failure": {"code": "LEDGER_IMBALANCE", "message": "1 sen is missing"},
            "attributes": {"email": "jane@example.com"},
            "created_at": "2026-11-18T11:06:41Z", "updated_at": "2026-11-18T11:06:41Z",
        }))
        .expect("an instance");
        let history: History = serde_json::from_value(serde_json::json!({"items": [{
            "seq": 3, "kind": "step_done", "step": "charge", "attempt": 2, "hash": "",
            "at": "2026-11-18T11:06:42.5Z",
            "payload": {"output": {}, "money": [{"kind": "capture", "amount_minor": 5990,
                "currency": "MYR", "reference": "ch_000002"}]},
        }]}))
        .expect("a history");
        let events: BlockedEvents = serde_json::from_value(serde_json::json!({
            "items": [{
                "subscription": "events", "key": "acme/1", "event_id": "0190/3",
                "instance_id": Uuid::nil(), "state": "parked", "attempts": 13,
                "since": "2026-11-18T11:07:00Z", "error": "the receiver answered 422",
            }],
            "commands": [{
                "subscription": "events", "key": "acme/1", "event_id": "0190/2",
                "command": "skip", "actor": "anna", "reason": "they have no such order",
                "answer": "accepted", "given_at": "2026-11-18T11:06:50Z",
            }],
        }))
        .expect("events");
        let shown = rendered(&instance, &events, &timeline(&history.items));
        insta::assert_snapshot!(shown, @r"
        instance       00000000-0000-0000-0000-000000000000
        workflow       fulfilment version 1
        business key   acme/1\u{1b}
        status         stuck
        because        LEDGER_IMBALANCE: 1 sen is missing
        email          jane@example.com
        not delivered  0190/3 to events: the receiver answered 422
                       tried 13 times, next when you say so
        event          skip 0190/2, by anna: they have no such order

           TIME                      WHAT HAPPENED                  ATTEMPT  FAILURE  AMOUNT
        3  2026-11-18T11:06:42.500Z  charged 59.90 MYR (ch_000002)  2                 59.90 MYR
        ");
    }
}
