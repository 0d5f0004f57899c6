//! What the providers did, against how the instances have ended.

use std::collections::{BTreeMap, HashMap, HashSet};

use amends::Workflow;
use amends_workflows::fulfilment::Fulfilment;

use super::Evidence;
use super::evidence::{Bookings, Effect, Instance};
use crate::dispatch::{Dispatching, Parcelling};
use crate::provider::Applied;
use crate::settlement::{Archiving, Settling};

/// What is done for an order that is completed.
const FULFILLED: [(&str, i64); 5] =
    [("charge", 1), ("issue", 1), ("reserve", 1), ("send", 1), ("ship", 1)];
const SETTLED: [(&str, i64); 4] = [("charge", 1), ("issue", 1), ("reserve", 1), ("send", 1)];
/// What undoes what.
const UNDONE_BY: [(&str, &str); 3] =
    [("reserve", "release"), ("issue", "void"), ("charge", "refund")];

/// Completed is everything once; anything else is nothing in the end.
pub(super) fn neither_done_nor_undone(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for instance in &evidence.instances {
        let counts = counts(evidence.effects_of(instance));
        let bookings = evidence.bookings.get(&instance.business_key).copied().unwrap_or_default();
        if !is_right(instance, &counts, bookings) {
            let (key, status) = (&instance.business_key, &instance.status);
            wrong.push(format!("{key} ({status}): the providers did {counts:?}, {bookings:?}"));
        }
    }
    let known: HashSet<_> = evidence.instances.iter().map(|it| it.business_key.as_str()).collect();
    let strays = evidence.effects.keys().filter(|key| !known.contains(key.as_str()));
    wrong.extend(orphans(evidence));
    wrong.extend(strays.map(|key| format!("{key}: effects without an instance")));
    wrong
}

/// Children that have not ended as their parents have.
fn orphans(evidence: &Evidence) -> Vec<String> {
    let ended = |it: &Instance| (it.business_key.clone(), it.status.clone());
    let endings: HashMap<String, String> = evidence.instances.iter().map(ended).collect();
    let is_completed = |key: &str| endings.get(key).is_some_and(|status| status == "completed");
    let children = evidence.instances.iter().filter(|it| it.is_child());
    let differs = |it: &&Instance| is_completed(&it.business_key) != is_completed(it.ordered_as());
    let orphans = children.filter(differs);
    orphans.map(|it| format!("{} is {}, unlike its parent", it.business_key, it.status)).collect()
}

fn is_right(instance: &Instance, counts: &BTreeMap<&str, i64>, bookings: Bookings) -> bool {
    let count = |operation: &str| counts.get(operation).copied().unwrap_or_default();
    let is_settling = instance.workflow == Settling::NAME;
    let Bookings { booked, taken_back } = bookings;
    match instance.status.as_str() {
        "completed" if is_settling => {
            *counts == BTreeMap::from(SETTLED) && (booked, taken_back) == (1, 0)
        }
        "completed" => match instance.workflow.as_str() {
            Fulfilment::NAME => *counts == BTreeMap::from(FULFILLED),
            Archiving::NAME => *counts == BTreeMap::from([("reserve", 1)]),
            Dispatching::NAME => *counts == BTreeMap::from([("charge", 1)]),
            Parcelling::NAME => *counts == BTreeMap::from([("reserve", 1), ("send", 1)]),
            _ => false,
        },
        "compensated" | "cancelled" => {
            let undone = |(done, undo)| count(done) <= 1 && count(done) == count(undo);
            // The notice of a settlement comes before what may fail, and stays sent.
            let sent_max = i64::from(is_settling);
            UNDONE_BY.into_iter().all(undone)
                && count("ship") == 0
                && count("send") <= sent_max
                && booked <= 1
                && booked == taken_back
        }
        _ => false,
    }
}

fn counts(effects: &[Effect]) -> BTreeMap<&str, i64> {
    let mut counts = BTreeMap::new();
    for effect in effects {
        *counts.entry(effect.operation.as_str()).or_default() += 1;
    }
    counts
}

/// What the engine asks for under one key is done once, also where the provider does as often as
/// it is asked.
pub(super) fn applied_twice(evidence: &Evidence) -> Vec<String> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for effect in evidence.effects.values().flatten() {
        let (asked, _) = Applied::parts(&effect.key);
        *seen.entry((effect.operation.as_str(), asked)).or_default() += 1;
    }
    let twice = seen.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|((what, key), times)| format!("{what} under {key}: {times} times")).collect()
}

/// What an order has paid at the provider is what it costs if it is completed, and nothing if not;
/// and the engine's own ledger says the same.
pub(super) fn money_differs(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for instance in &evidence.instances {
        let Some(plan) = evidence.plans.get(&instance.business_key) else { continue };
        let due = if instance.status == "completed" { plan.total_minor() } else { 0 };
        let moved = |effect: &Effect| match effect.operation.as_str() {
            "charge" => effect.amount_minor.unwrap_or_default(),
            "refund" => -effect.amount_minor.unwrap_or_default(),
            _ => 0,
        };
        let paid: i64 = evidence.effects_of(instance).iter().map(moved).sum();
        let recorded = evidence.ledger.get(&instance.business_key).copied().unwrap_or_default();
        if (paid, recorded) != (due, due) {
            let key = &instance.business_key;
            wrong.push(format!("{key}: due are {due}, paid {paid}, and recorded {recorded}"));
        }
    }
    wrong
}
