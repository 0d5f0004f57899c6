//! The calls to providers as they were made, against who drives an instance.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Evidence;
use super::evidence::Record;
use crate::provider::Applied;
use crate::proxy::Called;

/// Clocks of one machine: a record is timed by its writer.
const LEEWAY: TimeDelta = TimeDelta::seconds(1);

/// The instance that a call was made for, by its key.
pub(super) fn instance_of(call: &Called) -> Option<Uuid> {
    call.key.split_once('/')?.0.parse().ok()
}

/// A call is never made while the same call is under way, unless the worker that made it was lost.
pub(super) fn two_at_once(evidence: &Evidence) -> Vec<String> {
    let overlap = |earlier: &Called, later: &Called| earlier.to.is_none_or(|to| to > later.from);
    repeated(evidence, overlap)
}

/// A call that was answered with success is never made again, unless the worker was lost that had
/// the answer.
pub(super) fn again_after_done(evidence: &Evidence) -> Vec<String> {
    let is_kept = |call: &Called| !is_refused(evidence, call);
    repeated(evidence, |earlier, _| earlier.is_done && is_kept(earlier))
}

/// Calls that follow the same call, if the two are as is said and no worker was lost between.
fn repeated(evidence: &Evidence, are: impl Fn(&Called, &Called) -> bool) -> Vec<String> {
    let mut same: HashMap<&str, Vec<&Called>> = HashMap::new();
    for call in &evidence.calls {
        same.entry(Applied::parts(&call.key).0).or_default().push(call);
    }
    let mut wrong = Vec::new();
    for (key, mut calls) in same {
        calls.sort_by_key(|call| call.from);
        let pairs = calls.windows(2).filter(|pair| are(pair[0], pair[1]));
        for pair in pairs.filter(|pair| !was_lost(evidence, pair[0], pair[1].from)) {
            wrong.push(format!("{key}: one since {}, the next at {}", pair[0].from, pair[1].from));
        }
    }
    wrong
}

/// Whether the database refused a record of the instance: what that told of is not known.
fn is_refused(evidence: &Evidence, call: &Called) -> bool {
    let records = instance_of(call).and_then(|id| evidence.records.get(&id));
    records.into_iter().flatten().any(Record::is_refusal)
}

/// Whether the instance's worker was found lost after it had made the call.
fn was_lost(evidence: &Evidence, call: &Called, until: DateTime<Utc>) -> bool {
    let records = instance_of(call).and_then(|id| evidence.records.get(&id));
    let lost = records.into_iter().flatten().filter(|record| record.kind == "worker_lost");
    let span = call.from - LEEWAY..until + LEEWAY;
    lost.into_iter().any(|record| span.contains(&record.at))
}
