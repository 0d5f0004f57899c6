//! All that can be known from outside: what people were told, what the providers did, what the
//! receiver of events got, and what the database holds.

use std::collections::{HashMap, HashSet};

use amends::Workflow;
use amends_tests::invariants;
use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::dispatch::Parcelling;
use crate::load::{Answered, Load, Plan, plans};
use crate::operator::{Commanded, Operator};
use crate::provider::{Applied, Sent};
use crate::proxy::{Called, Proxy};
use crate::scene::Scene;
use crate::schedule::Schedule;
use crate::server::Freeze;
use crate::settlement::Archiving;

/// All that is known.
pub(crate) struct Evidence {
    pub(super) plans: HashMap<String, Plan>,
    pub(super) told: Vec<Answered>,
    pub(super) commanded: Vec<Commanded>,
    pub(super) instances: Vec<Instance>,
    pub(super) records: HashMap<Uuid, Vec<Record>>,
    pub(super) commands: Vec<Command>,
    pub(super) ledger: HashMap<String, i64>,
    pub(super) bookings: HashMap<String, Bookings>,
    /// What the providers did, less what a server that stood still had sent before it was stopped,
    /// and neither the engine nor a person has found.
    pub(super) effects: HashMap<String, Vec<Effect>>,
    /// What such a server did after somebody else had taken over.
    pub(super) by_zombies: usize,
    pub(super) arrivals: HashMap<String, Vec<Arrival>>,
    /// The events that people wanted to be skipped.
    pub(super) skipped: HashSet<String>,
    /// The orders whose webhooks were put to a person.
    pub(super) cases: HashSet<String>,
    /// Those that their shops cancelled too late.
    pub(super) late_cancels: HashSet<String>,
    /// The calls to providers, by whoever made them.
    pub(super) calls: Vec<Called>,
    /// What the database itself shows to be wrong.
    pub(super) broken: Vec<String>,
}

/// An instance, as it stands.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Instance {
    pub(super) instance_id: Uuid,
    pub(super) workflow: String,
    pub(super) business_key: String,
    pub(super) status: String,
    pub(super) mail_count: i32,
    pub(super) mail_read: i32,
}

/// A record; what is large or was said by steps is left out.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Record {
    pub(super) instance_id: Uuid,
    pub(super) seq: i32,
    pub(super) kind: String,
    pub(super) step: Option<String>,
    pub(super) at: DateTime<Utc>,
    pub(super) payload: sqlx::types::Json<Value>,
    pub(super) events: Vec<String>,
}

/// A command as it is kept.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Command {
    pub(super) instance_id: Uuid,
    pub(super) command: String,
    pub(super) answer: String,
    /// Whether an instance gave it, to a child.
    pub(super) is_by_parent: bool,
}

/// What stands in the table of bookings for an order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Bookings {
    pub(super) booked: i64,
    pub(super) taken_back: i64,
}

/// Something a provider did.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Effect {
    pub(super) operation: String,
    pub(super) key: String,
    pub(super) order_id: String,
    pub(super) amount_minor: Option<i64>,
    pub(super) at: DateTime<Utc>,
    /// The key under which was done what this undoes.
    pub(super) undoes: Option<String>,
}

/// An event, as it arrived.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Arrival {
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) sequence: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) digest: String,
}

impl Evidence {
    pub(crate) async fn gather(
        scene: &Scene,
        schedule: &Schedule,
        load: &Load,
        operator: &Operator,
    ) -> anyhow::Result<Self> {
        let mut freezes = Vec::new();
        for server in &scene.servers {
            freezes.extend(server.freezes().await);
        }
        let done: Vec<Effect> = read(scene.sandbox("/ledger").await?, "entries")?;
        let mut arrivals: Vec<Arrival> = read(scene.sandbox("/events").await?, "events")?;
        let database = &mut scene.database().await?;
        let (cases, told): (HashSet<_>, HashSet<_>) = cases(database).await?.into_iter().unzip();
        // They have no history, and are counted by themselves.
        let untold = told.iter().filter(|id| !arrivals.iter().any(|it| it.id == **id));
        let untold: Vec<_> = untold.map(|id| format!("the event {id} never arrived")).collect();
        arrivals.retain(|arrival| !told.contains(&arrival.id));
        let (haunting, mut effects): (Vec<_>, Vec<_>) =
            done.into_iter().partition(|effect| effect.is_by_zombie(&freezes));
        let by_zombies = haunting.len();
        let undone: HashSet<_> = effects.iter().filter_map(|it| it.undoes.clone()).collect();
        for effect in haunting {
            // What the engine has found, or was told of, it has to deal with.
            if undone.contains(&effect.key) || is_recorded(database, &effect).await? {
                effects.push(effect);
            }
        }
        let keyed = plans(schedule).into_iter().map(|plan| (plan.business_key(), plan));
        Ok(Self {
            plans: keyed.collect(),
            told: load.told(),
            commanded: operator.told(),
            instances: instances(database).await?,
            records: grouped(records(database).await?, |record| record.instance_id),
            commands: commands(database).await?,
            ledger: ledger(database).await?,
            bookings: bookings(database).await?,
            effects: grouped(effects, |effect| effect.order_id.clone()),
            by_zombies,
            arrivals: grouped(arrivals, |arrival| arrival.subject.clone()),
            skipped: skipped(database).await?,
            cases,
            late_cancels: late_cancels(database).await?,
            calls: scene.providers_proxies.iter().flat_map(Proxy::calls).collect(),
            broken: [broken(scene, database).await?, untold].concat(),
        })
    }

    pub(crate) fn effects_by_zombies(&self) -> usize {
        self.by_zombies
    }

    pub(super) fn records_of(&self, instance: &Instance) -> &[Record] {
        self.records.get(&instance.instance_id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn effects_of(&self, instance: &Instance) -> &[Effect] {
        self.effects.get(&instance.business_key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn arrivals_of(&self, instance: &Instance) -> &[Arrival] {
        self.arrivals.get(&instance.business_key).map_or(&[], Vec::as_slice)
    }
}

impl Instance {
    /// The business key under which somebody has ordered it, or its parent.
    pub(super) fn ordered_as(&self) -> &str {
        let key = self.business_key.as_str();
        let of_parent = || key.rsplit_once('/').map(|(parent, _)| parent);
        if self.is_child() { of_parent().unwrap_or(key) } else { key }
    }

    /// Whether it was started by another instance.
    pub(super) fn is_child(&self) -> bool {
        [Archiving::NAME, Parcelling::NAME].contains(&self.workflow.as_str())
    }
}

impl Effect {
    /// Whether it was asked for by a server before it was stopped, and done after it went on:
    /// nothing but the provider could have refused it.
    fn is_by_zombie(&self, freezes: &[Freeze]) -> bool {
        // The key of an undo says who sent what it undoes.
        let (_, sent) = Applied::parts(&self.key);
        let sent = sent.filter(|_| self.undoes.is_none());
        sent.is_some_and(|Sent { process, at }| {
            // Some of its threads may go on for a moment after it was told to stop.
            freezes.iter().any(|it| it.process == process && at <= it.to && self.at >= it.to)
        })
    }
}

impl Record {
    /// A text of what it says.
    pub(super) fn says(&self, member: &str) -> Option<&str> {
        self.payload.0[member].as_str()
    }

    /// Whether it stands for one that the database refused.
    pub(super) fn is_refusal(&self) -> bool {
        self.kind == "stuck" && self.says("code") == Some("RECORD_REFUSED")
    }

    /// Whether it leaves open what became of an attempt.
    pub(super) fn is_doubt(&self) -> bool {
        self.kind == "step_interrupted" || self.says("outcome") == Some("unknown")
    }
}

fn read<T: DeserializeOwned>(mut answer: Value, member: &str) -> anyhow::Result<Vec<T>> {
    serde_json::from_value(answer[member].take()).with_context(|| format!("no {member}"))
}

fn grouped<K: std::hash::Hash + Eq, T>(all: Vec<T>, by: impl Fn(&T) -> K) -> HashMap<K, Vec<T>> {
    let mut groups: HashMap<K, Vec<T>> = HashMap::new();
    for one in all {
        groups.entry(by(&one)).or_default().push(one);
    }
    groups
}

async fn instances(database: &mut PgConnection) -> sqlx::Result<Vec<Instance>> {
    sqlx::query_as(
        "select instance_id, workflow, business_key, status, mail_count, mail_read
         from amends.instance order by instance_id",
    )
    .fetch_all(database)
    .await
}

async fn records(database: &mut PgConnection) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as(
        "select instance_id, seq, kind, step, at,
                case when kind in ('started', 'step_started', 'step_done') then '{}'::json
                     else payload end as payload,
                array(select e ->> 'type' from json_array_elements(events) with ordinality
                          as published(e, ordinal) order by ordinal) as events
         from amends.record order by instance_id, seq",
    )
    .fetch_all(database)
    .await
}

async fn commands(database: &mut PgConnection) -> sqlx::Result<Vec<Command>> {
    sqlx::query_as(
        "select instance_id, command, answer, actor like 'instance %' as is_by_parent
         from amends.command",
    )
    .fetch_all(database)
    .await
}

/// Whether a history holds an effect: as the output of a step, or as what a person has found.
async fn is_recorded(database: &mut PgConnection, effect: &Effect) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (
             select from amends.record r join amends.instance i using (instance_id)
             where i.business_key = $1 and r.kind in ('step_done', 'command')
               and position($2 in r.payload::text) > 0)",
    )
    .bind(&effect.order_id)
    .bind(&effect.key)
    .fetch_one(database)
    .await
}

async fn skipped(database: &mut PgConnection) -> sqlx::Result<HashSet<String>> {
    let skipped: Vec<String> = sqlx::query_scalar(
        "select event_id from amends.key_command where command = 'skip' and answer = 'accepted'",
    )
    .fetch_all(database)
    .await?;
    Ok(skipped.into_iter().collect())
}

/// The order of each case, and the id of the event that tells of it.
async fn cases(database: &mut PgConnection) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as("select business_key, case_id || '/1' from amends.intake_case")
        .fetch_all(database)
        .await
}

/// The orders of which a person is told that their shops cancelled them too late.
async fn late_cancels(database: &mut PgConnection) -> sqlx::Result<HashSet<String>> {
    let late: Vec<String> = sqlx::query_scalar(
        "select business_key from amends.intake_case where code = 'CANCEL_TOO_LATE'",
    )
    .fetch_all(database)
    .await?;
    Ok(late.into_iter().collect())
}

/// What each order has paid in the end, by the engine's own ledger.
async fn ledger(database: &mut PgConnection) -> sqlx::Result<HashMap<String, i64>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select i.business_key,
                sum(case l.kind when 'capture' then l.amount_minor
                                when 'refund' then -l.amount_minor else 0 end)::bigint
         from amends.ledger l join amends.instance i using (instance_id)
         group by i.business_key",
    )
    .fetch_all(database)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn bookings(database: &mut PgConnection) -> sqlx::Result<HashMap<String, Bookings>> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select order_id, count(*) filter (where pieces = 1), count(*) filter (where pieces = -1)
         from chaos.booking group by order_id",
    )
    .fetch_all(database)
    .await?;
    let counted = |(order_id, booked, taken_back)| (order_id, Bookings { booked, taken_back });
    Ok(rows.into_iter().map(counted).collect())
}

/// The invariants of every test, the chain of every history, and whether records can be changed.
async fn broken(scene: &Scene, database: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let mut broken = invariants::broken(database).await;
    let verified = amends::verify::verify(scene.options(), |_| ()).await?;
    broken.extend(verified.broken.iter().map(|(id, at)| format!("the chain of {id}: {at:?}")));
    for change in ["update amends.record set attempt = 9", "delete from amends.command"] {
        if sqlx::raw_sql(change).execute(&mut *database).await.is_ok() {
            broken.push(format!("nobody has refused: {change}"));
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_before_a_server_stood_still_and_done_after_is_nobodys_fault() {
        let at = |seconds| DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap();
        let freezes = [Freeze { process: 7, to: at(5) }];
        let effect = |process: u32, sent: i64, done: i64, undoes: Option<&str>| Effect {
            operation: "charge".to_owned(),
            key: format!("0190/charge+{process}-{}", at(sent).timestamp_micros()),
            order_id: "settlement-1".to_owned(),
            amount_minor: Some(100),
            at: at(done),
            undoes: undoes.map(str::to_owned),
        };
        assert!(effect(7, 0, 6, None).is_by_zombie(&freezes));
        assert!(!effect(7, 0, 4, None).is_by_zombie(&freezes), "done before it went on");
        assert!(!effect(7, 6, 7, None).is_by_zombie(&freezes), "asked for after it went on");
        assert!(!effect(8, 0, 6, None).is_by_zombie(&freezes), "asked for by another one");
        assert!(!effect(7, 0, 6, Some("0190/charge")).is_by_zombie(&freezes), "an undo");
    }
}
