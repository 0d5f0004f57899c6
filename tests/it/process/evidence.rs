//! What the providers, the receiver of events and the database say afterwards, side by side.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::scene::Scene;

const TOTAL_MINOR: i64 = 5990;
const FULFILLED: [(&str, i64); 5] =
    [("charge", 1), ("issue", 1), ("reserve", 1), ("send", 1), ("ship", 1)];
/// What is done before the pivot, and what undoes it.
const UNDONE_BY: [(&str, &str); 3] =
    [("reserve", "release"), ("issue", "void"), ("charge", "refund")];

/// An effect, as a provider wrote it down.
#[derive(Debug, Deserialize)]
struct Effect {
    provider: String,
    operation: String,
    key: String,
    order_id: String,
    amount_minor: Option<i64>,
}

/// An event, as it arrived.
#[derive(Debug, Deserialize)]
struct Arrival {
    id: String,
    subject: String,
    sequence: String,
    #[serde(rename = "type")]
    kind: String,
}

/// An instance, as it ended.
#[derive(Debug, sqlx::FromRow)]
struct Ending {
    instance_id: Uuid,
    business_key: String,
    status: String,
    events: i64,
    interruptions: i64,
    pub(super) unknown: i64,
}

/// How much a run has put to the test.
#[derive(Debug, Default)]
pub(super) struct Exercised {
    pub(super) in_flight_when_killed: i64,
    pub(super) in_flight_without_database: i64,
    pub(super) taken_over: usize,
    pub(super) replayed: usize,
    pub(super) interrupted: usize,
    pub(super) unknown: i64,
    pub(super) compensated: usize,
    pub(super) completed: usize,
    pub(super) redelivered: usize,
}

impl Exercised {
    /// Panics if the run was so quiet that it proves nothing.
    pub(super) fn enough(&self) {
        let enough = self.in_flight_when_killed >= 200
            && self.in_flight_without_database >= 200
            && self.taken_over >= 1
            && self.replayed >= 1
            && self.interrupted >= 50
            && self.redelivered >= 10
            && self.unknown >= 5
            && self.compensated >= 5
            && self.completed >= 100;
        println!("{self:?}");
        assert!(enough, "too little has happened to prove anything: {self:?}");
    }
}

/// All that is known from outside of the server.
pub(super) struct Evidence {
    endings: Vec<Ending>,
    effects: Vec<Effect>,
    arrivals: Vec<Arrival>,
}

impl Evidence {
    pub(super) async fn gather(scene: &Scene) -> Self {
        let endings = sqlx::query_as(
            "select i.instance_id, i.business_key, i.status,
                    sum(coalesce(json_array_length(r.events), 0))::bigint as events,
                    count(*) filter (where r.kind = 'step_interrupted') as interruptions,
                    count(*) filter (where r.payload ->> 'outcome' = 'unknown') as unknown
             from amends.instance i join amends.record r using (instance_id)
             group by i.instance_id",
        );
        Self {
            endings: endings.fetch_all(&mut scene.database().await).await.unwrap(),
            effects: read(scene.get("/ledger").await, "entries"),
            arrivals: read(scene.get("/events").await, "events"),
        }
    }

    /// Everything that does not fit together, or to what the customers were told.
    pub(super) fn contradictions(&self, accepted: BTreeMap<String, Vec<Uuid>>) -> Vec<String> {
        let mut wrong = self.accepted_but_different(accepted);
        wrong.extend(self.applied_twice());
        let mut effects: HashMap<&str, Vec<&Effect>> = HashMap::new();
        for effect in &self.effects {
            effects.entry(&effect.order_id).or_default().push(effect);
        }
        let mut arrivals: HashMap<&str, Vec<&Arrival>> = HashMap::new();
        for arrival in &self.arrivals {
            arrivals.entry(&arrival.subject).or_default().push(arrival);
        }
        for ending in &self.endings {
            let key = ending.business_key.as_str();
            let found = effects.remove(key).unwrap_or_default();
            let told = arrivals.remove(key).unwrap_or_default();
            let wrong_here = [effects_differ(ending, &found), events_differ(ending, &told)];
            let at = |what| format!("{key} ({}): {what}", ending.status);
            wrong.extend(wrong_here.into_iter().flatten().map(at));
        }
        wrong.extend(effects.keys().map(|key| format!("{key}: effects without an order")));
        wrong.extend(arrivals.keys().map(|key| format!("{key}: events without an order")));
        wrong
    }

    /// How much has happened, as far as can be seen from here.
    pub(super) fn exercised(&self) -> Exercised {
        let ended = |status: &str| self.endings.iter().filter(|it| it.status == status).count();
        let ids: HashSet<_> = self.arrivals.iter().map(|arrival| &arrival.id).collect();
        Exercised {
            interrupted: self.endings.iter().filter(|it| it.interruptions > 0).count(),
            unknown: self.endings.iter().map(|it| it.unknown).sum(),
            compensated: ended("compensated"),
            completed: ended("completed"),
            redelivered: self.arrivals.len() - ids.len(),
            ..Exercised::default()
        }
    }

    /// Each order has the one instance that its customer was told of, and there is no other.
    fn accepted_but_different(&self, mut accepted: BTreeMap<String, Vec<Uuid>>) -> Vec<String> {
        let mut wrong = Vec::new();
        for ending in &self.endings {
            let told = accepted.remove(&ending.business_key).unwrap_or_default();
            if told.is_empty() || told.iter().any(|id| *id != ending.instance_id) {
                let (key, id) = (&ending.business_key, ending.instance_id);
                wrong.push(format!("{key}: is {id}, but its customer was told {told:?}"));
            }
        }
        wrong.extend(accepted.keys().map(|key| format!("{key}: accepted, and lost")));
        wrong
    }

    fn applied_twice(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let effects = self.effects.iter();
        let again = effects.filter(|it| !seen.insert((it.provider.as_str(), it.key.as_str())));
        again.map(|it| format!("applied twice: {it:?}")).collect()
    }
}

/// Where the providers' ledger does not say what the ending of an instance says.
fn effects_differ(ending: &Ending, effects: &[&Effect]) -> Option<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for effect in effects {
        *counts.entry(&effect.operation).or_default() += 1;
    }
    let count = |operation: &str| counts.get(operation).copied().unwrap_or_default();
    let is_right = match ending.status.as_str() {
        "completed" => counts == BTreeMap::from(FULFILLED),
        "compensated" => {
            let undone = |(done, undo)| count(done) <= 1 && count(done) == count(undo);
            UNDONE_BY.into_iter().all(undone) && count("ship") + count("send") == 0
        }
        _ => false,
    };
    let foreign = effects.iter().filter_map(|it| it.amount_minor).any(|it| it != TOTAL_MINOR);
    (!is_right || foreign).then(|| format!("the providers have done {counts:?}"))
}

/// Where what arrived is not every event once, in order, up to the one that tells of the ending.
fn events_differ(ending: &Ending, arrivals: &[&Arrival]) -> Option<String> {
    let mut seen = HashSet::new();
    let first: Vec<_> = arrivals.iter().filter(|it| seen.insert(it.id.as_str())).collect();
    let numbers: Vec<i64> = first.iter().map(|it| it.sequence.parse().unwrap()).collect();
    let last = first.last().and_then(|it| it.kind.rsplit('.').next()).unwrap_or_default();
    let expected = if ending.status == "completed" { "order_fulfilled" } else { "order_cancelled" };
    let in_order = numbers == (1..=ending.events).collect::<Vec<_>>();
    let is_named = first
        .iter()
        .zip(&numbers)
        .all(|(it, number)| it.id == format!("{}/{number}", ending.instance_id));
    (!in_order || !is_named || last != expected)
        .then(|| format!("{} events were published, these arrived: {first:?}", ending.events))
}

fn read<T: DeserializeOwned>(mut answer: serde_json::Value, member: &str) -> Vec<T> {
    serde_json::from_value(answer[member].take()).unwrap()
}
