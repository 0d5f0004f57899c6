//! What the receiver of events got, against what is recorded.

use std::collections::{HashMap, HashSet};

use amends::sink::SKIPPED;

use super::Evidence;
use super::evidence::{Arrival, Instance};

/// Each instance's events arrive as 1, 2, 3 .., each the same however often it comes. That it was
/// skipped is another kind of event, and the same each time.
pub(super) fn arrivals_differ(evidence: &Evidence) -> Vec<String> {
    let differs = |instance: &Instance| {
        let arrivals = evidence.arrivals_of(instance);
        let recorded = recorded(evidence, instance).len();
        let wrong = wrong_with(arrivals, recorded)?;
        Some(format!("{} ({}): {wrong}", instance.business_key, instance.instance_id))
    };
    evidence.instances.iter().filter_map(differs).collect()
}

fn wrong_with(arrivals: &[Arrival], recorded: usize) -> Option<String> {
    let mut digests: HashMap<[&str; 2], &str> = HashMap::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut first = Vec::new();
    for arrival in arrivals {
        if seen.insert(&arrival.id) {
            first.push(arrival.sequence.parse::<usize>().unwrap_or_default());
        }
        let before = digests.insert([&arrival.id, &arrival.kind], &arrival.digest);
        if before.is_some_and(|digest| digest != arrival.digest) {
            return Some(format!("{} came in two forms", arrival.id));
        }
    }
    (first != (1..=recorded).collect::<Vec<_>>())
        .then(|| format!("{recorded} are recorded, and first arrived {first:?}"))
}

/// Every event that arrived is recorded under its number, and is what is recorded, or says that it
/// was skipped.
pub(super) fn phantoms(evidence: &Evidence) -> Vec<String> {
    let mut events: HashMap<String, [String; 2]> = HashMap::new();
    for instance in &evidence.instances {
        for (index, kind) in recorded(evidence, instance).into_iter().enumerate() {
            let form = |kind: &str| {
                format!("com.amends.{}.{kind}", instance.workflow).to_ascii_lowercase()
            };
            let id = format!("{}/{}", instance.instance_id, index + 1);
            events.insert(id, [form(kind), form(SKIPPED)]);
        }
    }
    let arrivals = evidence.arrivals.values().flatten();
    let is_recorded = |arrival: &Arrival| {
        let Some([recorded, skipped]) = events.get(&arrival.id) else { return false };
        let may_be_skipped = evidence.skipped.contains(&arrival.id);
        arrival.kind == *recorded || may_be_skipped && arrival.kind == *skipped
    };
    let phantoms = arrivals.filter(|arrival| !is_recorded(arrival));
    phantoms.map(|it| format!("{} about {}: {}", it.id, it.subject, it.kind)).collect()
}

fn recorded<'a>(evidence: &'a Evidence, instance: &Instance) -> Vec<&'a str> {
    let records = evidence.records_of(instance).iter();
    records.flat_map(|record| record.events.iter().map(String::as_str)).collect()
}

/// How many events arrived more than once.
pub(super) fn redelivered(evidence: &Evidence) -> u64 {
    let arrivals = || evidence.arrivals.values().flatten();
    let different: HashSet<_> = arrivals().map(|arrival| &arrival.id).collect();
    (arrivals().count() - different.len()) as u64
}

/// How many arrivals told that an event was skipped.
pub(super) fn told_skipped(evidence: &Evidence) -> u64 {
    let ending = format!(".{SKIPPED}").to_ascii_lowercase();
    let arrivals = evidence.arrivals.values().flatten();
    arrivals.filter(|arrival| arrival.kind.ends_with(&ending)).count() as u64
}
