//! What customers were told of their orders, against the instances there are.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Evidence;
use crate::load::{Answered, Channel, What};

/// Each order has the one instance that its customer was told of.
pub(super) fn accepted_but_different(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut instances: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for instance in &evidence.instances {
        if !evidence.plans.contains_key(instance.ordered_as()) {
            wrong.push(format!("{}: nobody has ordered it", instance.business_key));
        }
        instances.entry(&instance.business_key).or_default().push(instance.instance_id);
    }
    for told in &evidence.told {
        let is_accepted = (200..300).contains(&told.status) && told.what != What::Signal;
        let found = instances.get(told.business_key.as_str()).map_or(&[][..], Vec::as_slice);
        let is_right = found.len() == 1 && told.instance_id.is_none_or(|id| found == [id]);
        if is_accepted && !is_right {
            wrong.push(format!(
                "{}: told {:?}, there is {found:?}",
                told.business_key, told.instance_id
            ));
        }
    }
    wrong
}

/// Customers go on asking, so in the end everybody has an answer.
pub(super) fn never_accepted(evidence: &Evidence) -> Vec<String> {
    let accepted: HashSet<_> = evidence
        .told
        .iter()
        .filter(|told| told.what == What::Order && (200..300).contains(&told.status))
        .map(|told| told.business_key.as_str())
        .collect();
    let missing = evidence.plans.keys().filter(|key| !accepted.contains(key.as_str()));
    missing.map(|key| format!("{key}: never accepted")).collect()
}

/// What a shop has cancelled is undone, or a person is told that it was too late.
pub(super) fn cancels_unheard(evidence: &Evidence) -> Vec<String> {
    let statuses: HashMap<_, _> =
        evidence.instances.iter().map(|it| (&it.business_key, it.status.as_str())).collect();
    let cancelled = evidence.told.iter().filter(|told| told.what == What::Cancelled);
    let is_heard = |told: &&Answered| match statuses.get(&told.business_key) {
        Some(&("cancelled" | "compensated")) => true,
        Some(_) => evidence.late_cancels.contains(&told.business_key),
        None => false,
    };
    let unheard = cancelled.filter(|told| !is_heard(told));
    unheard.map(|told| format!("{}: {:?}", told.business_key, told.status)).collect()
}

/// Whether a platform was told this.
pub(super) fn is_of_platform(evidence: &Evidence, told: &Answered) -> bool {
    let plan = evidence.plans.get(&told.business_key);
    plan.is_some_and(|plan| plan.channel == Channel::Shopify)
}

/// A repetition is answered as the request was; another request under its id is refused, unless a
/// platform has sent it: that is put to a person.
pub(super) fn answers_differ(evidence: &Evidence) -> Vec<String> {
    let is_wrong = |told: &&Answered| match told.what {
        What::Reused if !is_of_platform(evidence, told) => told.status != 422,
        What::Reused => told.status != 200 || !evidence.cases.contains(&told.business_key),
        _ => !(200..300).contains(&told.status),
    };
    let wrong = evidence.told.iter().filter(is_wrong);
    wrong
        .map(|told| format!("{}: {:?} got {}", told.business_key, told.what, told.status))
        .collect()
}
