//! What customers, providers, the receiver of events and the database say at the end, side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::Connection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::load::{Answer, Load};
use crate::loss::{NOTICED, said};
use crate::report::Report;
use crate::scene::{SERVERS, Scene};

/// How long customers may wait for the last answers, and orders for their end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
/// What is done for an order that is fulfilled.
const FULFILLED: [&str; 5] = ["charge", "issue", "reserve", "send", "ship"];

/// An effect, as a provider wrote it down.
#[derive(Debug, Deserialize)]
struct Effect {
    at: DateTime<Utc>,
    provider: String,
    operation: String,
    key: String,
}

/// An event, as it arrived.
#[derive(Debug, Deserialize)]
struct Arrival {
    id: String,
}

/// An instance, as it ended.
#[derive(Debug, sqlx::FromRow)]
struct Ending {
    instance_id: Uuid,
    business_key: String,
    status: String,
    events: i64,
}

/// A time of which commits were lost.
pub(crate) type Lost = Option<[DateTime<Utc>; 2]>;

/// Waits until everything has ended, and judges it.
pub(crate) async fn judge(
    scene: &Scene,
    load: &Load,
    lost: Lost,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.at_most("in the end: customers who are not served", load.end(PATIENCE).await, 0);
    report.none("in the end: orders and events that are not through", &left(scene).await?);
    let endings = endings(scene).await?;
    let accepted: Vec<_> = load.since(DateTime::UNIX_EPOCH);
    let accepted: Vec<_> = accepted.into_iter().filter(Answer::is_good).collect();
    let told = format!("{} of {}", accepted.len(), load.sent());
    report.told("in the end: orders accepted", &told);
    let (absent, gone) = missing(&accepted, &endings, lost);
    report.none("in the end: orders accepted that are not there, or another", &absent);
    if lost.is_some() {
        report.at_least("in the end: orders that went with the lost commits", gone.len(), 1);
        println!("        {}", gone.join(", "));
    }
    let ended = |it: &&Ending| it.status != "completed";
    let not_completed = endings.iter().filter(ended);
    let not_completed: Vec<_> =
        not_completed.map(|it| format!("{} is {}", it.business_key, it.status)).collect();
    report.none("in the end: orders that are not completed", &not_completed);
    let effects: Vec<Effect> = scene.witness("/ledger", "entries").await?;
    report.none(
        "in the end: effects that are not there exactly once",
        &odd(&effects, &endings, lost),
    );
    let arrivals: Vec<Arrival> = scene.witness("/events", "events").await?;
    report.none("in the end: events that never arrived", &unheard(&arrivals, &endings));
    report.none("in the end: losses noticed where nothing was lost", &false_alarms(scene, lost)?);
    let mut database = scene.database().await?;
    let broken = amends_tests::invariants::broken(&mut database).await;
    report.none("in the end: broken invariants of the database", &broken);
    let verified = scene.amends(&["verify"]).await?;
    let said = String::from_utf8_lossy(&verified.stdout).trim().to_owned();
    let wrong = if verified.status.success() { vec![] } else { vec![said.clone()] };
    report.none("in the end: `amends verify` finds something", &wrong);
    println!("        {said}");
    Ok(())
}

/// Servers that have noticed a loss before there was one.
fn false_alarms(scene: &Scene, lost: Lost) -> anyhow::Result<Vec<String>> {
    let mut alarms = Vec::new();
    for (user, how) in SERVERS {
        let at = said(&scene.log(user), NOTICED)?;
        if at.is_some_and(|at| lost.is_none_or(|[from, _]| at < from)) {
            alarms.push(format!("{how}, {at:?}"));
        }
    }
    Ok(alarms)
}

/// What has not come to its end when the time is over.
async fn left(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let begin = Instant::now();
    loop {
        let mut database = scene.database().await?;
        let left: Vec<String> = sqlx::query_scalar(
            "select business_key || ' is ' || status from amends.instance where ended_at is null
             union all select 'event ' || instance_id || '/' || seq from amends.outbox",
        )
        .fetch_all(&mut database)
        .await?;
        database.close().await?;
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return Ok(left);
        }
        sleep(POLL).await;
    }
}

async fn endings(scene: &Scene) -> anyhow::Result<Vec<Ending>> {
    let endings = sqlx::query_as(
        "select i.instance_id, i.business_key, i.status,
                sum(coalesce(json_array_length(r.events), 0))::bigint as events
         from amends.instance i join amends.record r using (instance_id)
         group by i.instance_id",
    );
    Ok(endings.fetch_all(&mut scene.database().await?).await?)
}

/// What was accepted and is not there as it was said: what may not be missing, and what went with
/// commits that were lost.
fn missing(accepted: &[Answer], endings: &[Ending], lost: Lost) -> (Vec<String>, Vec<String>) {
    let there: BTreeSet<_> = endings.iter().map(|it| it.instance_id).collect();
    let missing = accepted.iter().filter(|it| it.instance_id.is_none_or(|id| !there.contains(&id)));
    // An answer may be on its way when the primary is killed.
    let is_excused = |it: &&Answer| lost.is_some_and(|[from, to]| it.at >= from && it.sent <= to);
    let (gone, absent): (Vec<_>, Vec<_>) = missing.partition(is_excused);
    let name = |it: &Answer| format!("order {} ({:?}), kept {}", it.order, it.instance_id, it.at);
    (
        absent.into_iter().map(name).collect(),
        gone.into_iter().map(|it| it.order.to_string()).collect(),
    )
}

/// Where the ledger does not hold each effect of an order once. What was done for an order that went
/// with lost commits has no order.
fn odd(effects: &[Effect], endings: &[Ending], lost: Lost) -> Vec<String> {
    let mut odd = Vec::new();
    let mut seen = BTreeSet::new();
    let mut done: HashMap<&str, BTreeMap<&str, usize>> = HashMap::new();
    let known: BTreeSet<_> = endings.iter().map(|it| it.instance_id.to_string()).collect();
    for effect in effects {
        if !seen.insert((&effect.provider, &effect.key)) {
            odd.push(format!("twice: {effect:?}"));
        }
        let (instance_id, _) = effect.key.split_once('/').unwrap_or_default();
        let is_excused = lost.is_some_and(|[from, _]| effect.at >= from);
        if known.contains(instance_id) {
            *done.entry(instance_id).or_default().entry(&effect.operation).or_default() += 1;
        } else if !is_excused {
            odd.push(format!("without an order: {effect:?}"));
        }
    }
    let fulfilled = BTreeMap::from(FULFILLED.map(|operation| (operation, 1)));
    for ending in endings {
        let done = done.remove(&*ending.instance_id.to_string()).unwrap_or_default();
        if done != fulfilled {
            odd.push(format!("{}: {done:?}", ending.business_key));
        }
    }
    odd
}

/// Events of orders that never arrived.
fn unheard(arrivals: &[Arrival], endings: &[Ending]) -> Vec<String> {
    let arrived: BTreeSet<_> = arrivals.iter().map(|it| it.id.as_str()).collect();
    let published = endings
        .iter()
        .flat_map(|it| (1..=it.events).map(|number| format!("{}/{number}", it.instance_id)));
    published.filter(|id| !arrived.contains(id.as_str())).collect()
}
