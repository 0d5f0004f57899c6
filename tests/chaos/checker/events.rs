//! What the receiver of events got, against what is recorded.

use std::collections::HashMap;

use super::Evidence;
use super::evidence::{Arrival, Instance};

/// Each instance's events arrive as 1, 2, 3 .., each the same however often it comes.
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
    let mut digests: HashMap<&str, &str> = HashMap::new();
    let mut first = Vec::new();
    for arrival in arrivals {
        match digests.insert(&arrival.id, &arrival.digest) {
            None => first.push(arrival.sequence.parse::<usize>().unwrap_or_default()),
            Some(digest) if digest == arrival.digest => {}
            Some(_) => return Some(format!("{} came in two forms", arrival.id)),
        }
    }
    (first != (1..=recorded).collect::<Vec<_>>())
        .then(|| format!("{recorded} are recorded, and first arrived {first:?}"))
}

/// Every event that arrived is recorded under its number, and is what is recorded.
pub(super) fn phantoms(evidence: &Evidence) -> Vec<String> {
    let mut events: HashMap<String, String> = HashMap::new();
    for instance in &evidence.instances {
        for (index, kind) in recorded(evidence, instance).into_iter().enumerate() {
            let kind = format!("com.amends.{}.{kind}", instance.workflow).to_ascii_lowercase();
            events.insert(format!("{}/{}", instance.instance_id, index + 1), kind);
        }
    }
    let arrivals = evidence.arrivals.values().flatten();
    let phantoms = arrivals.filter(|arrival| events.get(&arrival.id) != Some(&arrival.kind));
    phantoms.map(|it| format!("{} about {}: {}", it.id, it.subject, it.kind)).collect()
}

fn recorded<'a>(evidence: &'a Evidence, instance: &Instance) -> Vec<&'a str> {
    let records = evidence.records_of(instance).iter();
    records.flat_map(|record| record.events.iter().map(String::as_str)).collect()
}

/// How many events arrived more than once.
pub(super) fn redelivered(evidence: &Evidence) -> u64 {
    let arrivals = || evidence.arrivals.values().flatten();
    let different: std::collections::HashSet<_> = arrivals().map(|arrival| &arrival.id).collect();
    (arrivals().count() - different.len()) as u64
}
