//! The people who look after it: they cancel and retry what customers ask them to, and in the end
//! put right what needs a person, by what they can find out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, StreamExt};
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::log::Log;
use crate::provider::Applied;
use crate::scene::Scene;
use crate::serve::OPERATOR_TOKEN;
use crate::server::Server;

const ANSWER: Duration = Duration::from_secs(3);
/// How many of them give commands side by side.
const PEOPLE: usize = 8;
const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
/// How often somebody looks who waits for something.
const LOOK: Duration = Duration::from_millis(200);
/// How often a command is given that gets no answer.
const TRIES: u32 = 20;

/// A command and its answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Commanded {
    pub(crate) instance_id: Uuid,
    pub(crate) command: String,
    /// What was answered; a refusal by its code.
    pub(crate) answer: String,
    /// When the answer was there.
    pub(crate) at: DateTime<Utc>,
    /// How often it was given before without an answer.
    pub(crate) repetitions: u32,
}

/// The people.
pub(crate) struct Operator {
    client: Client,
    servers: Vec<String>,
    told: Log<Commanded>,
}

/// What people found when they looked at everything once.
pub(crate) struct Round {
    /// What had not ended when they began.
    pub(crate) left: Vec<String>,
    /// How many instances waited for a person, and have been decided about.
    pub(crate) decisions: usize,
}

/// An instance that will not end by itself, or not soon.
#[derive(Debug, sqlx::FromRow)]
struct Case {
    instance_id: Uuid,
    business_key: String,
    status: String,
    failure_code: Option<String>,
    held: bool,
    run_at: Option<DateTime<Utc>>,
}

impl Operator {
    pub(crate) fn open(servers: &[Server], folder: &Path) -> anyhow::Result<Arc<Self>> {
        let client = Client::builder().timeout(ANSWER).no_proxy().build()?;
        let servers = servers.iter().map(Server::url).collect();
        let told = Log::create(&folder.join("operator.jsonl")).context("the log can be written")?;
        Ok(Arc::new(Self { client, servers, told }))
    }

    /// What they were told.
    pub(crate) fn told(&self) -> Vec<Commanded> {
        self.told.entries()
    }

    /// Gives a command until there is an answer, first to this server.
    pub(crate) async fn command(&self, server: usize, instance_id: Uuid, command: &str) {
        let body = json!({ "command": command, "reason": "the customer asked for it" });
        self.give(server, instance_id, command, &body).await;
    }

    /// Looks, now at this server and now at that one, until the instance has started children, for no
    /// longer than this. A preview names them.
    pub(crate) async fn await_children(&self, instance_id: Uuid, patience: Duration) {
        let deadline = Instant::now() + patience;
        for server in self.servers.iter().cycle() {
            let url = format!("{server}/instances/{instance_id}/preview?command=cancel");
            let looking = self.client.get(url).bearer_auth(OPERATOR_TOKEN).send();
            if let Ok(answer) = looking.await
                && let Ok(preview) = answer.json::<Value>().await
                && preview["children"].as_array().is_some_and(|children| !children.is_empty())
            {
                return;
            }
            if Instant::now() >= deadline {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Puts right what needs a person, and has everybody go on at once who waits to try again.
    pub(crate) async fn put_right(&self, scene: &Scene) -> anyhow::Result<Round> {
        let open = sqlx::query_as::<_, Case>(
            "select instance_id, business_key, status, failure_code, held, run_at from amends.instance
             where ended_at is null order by instance_id",
        );
        let open = open.fetch_all(&mut scene.database().await?).await?;
        let soon = Utc::now() + TimeDelta::seconds(2);
        let is_unknown = |case: &Case| case.failure_code.as_deref() == Some(OUTCOME_UNKNOWN);
        let labels = if open.iter().any(is_unknown) {
            // What was asked for may still be on its way to the printer.
            sleep(scene.pace.quiet()).await;
            labels(scene).await?
        } else {
            HashMap::new()
        };
        let handle = async |(number, case): (usize, &Case)| {
            let id = case.instance_id;
            if case.held {
                self.command(number, id, "release").await;
            }
            match case.status.as_str() {
                "stuck" if is_unknown(case) => {
                    self.find_out(number, case, labels.get(&case.business_key)).await;
                }
                "stuck" => self.command(number, id, "resume").await,
                "waiting" | "compensating" if case.run_at.is_some_and(|at| at > soon) => {
                    self.command(number, id, "retry").await;
                }
                _ => {}
            }
        };
        stream::iter(open.iter().enumerate()).for_each_concurrent(PEOPLE, handle).await;
        self.decide_about_events(soon).await;
        let left = |case: &Case| {
            let Case { business_key, status, failure_code, .. } = case;
            format!("{business_key} is {status} ({})", failure_code.as_deref().unwrap_or("-"))
        };
        let decisions = open.iter().filter(|case| case.status == "stuck").count();
        Ok(Round { left: open.iter().map(left).collect(), decisions })
    }

    /// Has events that wait for a person skipped or tried again, in turns, and those that wait for
    /// long tried again.
    async fn decide_about_events(&self, soon: DateTime<Utc>) {
        let Some(server) = self.servers.first() else { return };
        let listing = self.client.get(format!("{server}/events/blocked"));
        let Ok(listed) = listing.bearer_auth(OPERATOR_TOKEN).send().await else { return };
        let Ok(listed) = listed.json::<Value>().await else { return };
        let mut decisions = ["skip", "retry"].into_iter().cycle();
        for event in listed["items"].as_array().into_iter().flatten() {
            let next_try = event["next_try_at"].as_str().map(str::parse::<DateTime<Utc>>);
            let command = match next_try {
                Some(Ok(at)) if at <= soon => continue,
                Some(_) => "retry",
                None => decisions.next().unwrap_or("retry"),
            };
            let body = json!({
                "command": command, "reason": "the receiver is put right",
                "subscription": event["subscription"], "key": event["key"],
                "event_id": event["event_id"],
            });
            let asking = self.client.post(format!("{server}/events/blocked/commands")).json(&body);
            // Whoever gets no answer finds it in the next list.
            let _ = asking.bearer_auth(OPERATOR_TOKEN).send().await;
        }
    }

    /// Tells an instance whether the printer of labels has one for it.
    async fn find_out(&self, server: usize, case: &Case, label: Option<&Applied>) {
        let finding = label.map_or(json!("not_applied"), |label| json!({ "applied": label }));
        let body = json!({
            "command": "resolve",
            "reason": "somebody has looked at the printer",
            "resolution": { "step": "label", "finding": finding, "evidence": "the printer's list" },
        });
        self.give(server, case.instance_id, "resolve", &body).await;
    }

    async fn give(&self, server: usize, instance_id: Uuid, command: &str, body: &Value) {
        // Whoever asks again asks for the same thing.
        let request_id = Uuid::now_v7().to_string();
        for repetitions in 0..TRIES {
            let server = &self.servers
                [(server % self.servers.len() + repetitions as usize) % self.servers.len()];
            let url = format!("{server}/instances/{instance_id}/commands");
            let request = self.client.post(url).bearer_auth(OPERATOR_TOKEN).json(body);
            let request = request.header("Idempotency-Key", &request_id);
            if let Ok(answer) = request.send().await
                && answer.status().as_u16() < 500
                && let Ok(body) = answer.json::<Value>().await
            {
                let answer = body["answer"].as_str().or(body["code"].as_str()).unwrap_or("none");
                let (command, answer) = (command.to_owned(), answer.to_owned());
                let at = Utc::now();
                self.told.add(Commanded { instance_id, command, answer, at, repetitions });
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Looks at the printer of labels: the first one of each order.
async fn labels(scene: &Scene) -> anyhow::Result<HashMap<String, Applied>> {
    let ledger = scene.sandbox("/ledger").await?;
    let entries = ledger["entries"].as_array().context("a ledger has entries")?;
    let mut labels = HashMap::new();
    for entry in entries.iter().filter(|entry| entry["operation"] == "issue") {
        let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
        let label = Applied { key: text("key"), reference: text("reference") };
        labels.entry(text("order_id")).or_insert(label);
    }
    Ok(labels)
}
