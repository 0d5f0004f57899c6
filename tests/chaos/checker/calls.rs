//! The calls to providers as they were made, against who drives an instance.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Evidence;
use super::evidence::Record;
use amends_workflows::failure::PROVIDER_TIMEOUT;

use crate::provider::Applied;
use crate::proxy::Called;

/// Clocks of one machine: a record is timed by its writer.
const LEEWAY: TimeDelta = TimeDelta::seconds(1);

/// How much later than its caller the proxy may notice that a call was given up.
const NOTICED: TimeDelta = TimeDelta::milliseconds(250);

/// How much later than its caller a starved proxy may notice that a call was made.
const ACCEPTED: TimeDelta = TimeDelta::seconds(2);

/// When which instance was found to have lost its worker.
type Losses = HashMap<Uuid, Vec<DateTime<Utc>>>;

/// The instance that a call was made for, by its key.
pub(super) fn instance_of(call: &Called) -> Option<Uuid> {
    call.key.split_once('/')?.0.parse().ok()
}

/// A call is never made while the same call is under way, unless the worker that made it was lost,
/// or its caller has written down that it gave it up.
pub(super) fn two_at_once(evidence: &Evidence) -> Vec<String> {
    let is_given_up =
        |earlier: &Called, later: &Called| !earlier.is_done && timed_out(evidence, earlier, later);
    repeated(&evidence.calls, &losses(evidence), |earlier, later| {
        overlap(earlier, later) && !is_given_up(earlier, later)
    })
}

/// A call that was answered with success is never made again, unless the worker was lost that had
/// the answer, or heard it too late: a server that stood still finds its time-out over first.
pub(super) fn again_after_done(evidence: &Evidence) -> Vec<String> {
    let is_kept = |call: &Called| !is_refused(evidence, call);
    let again = |earlier: &Called, later: &Called| {
        earlier.is_done && is_kept(earlier) && !timed_out(evidence, earlier, later)
    };
    repeated(&evidence.calls, &losses(evidence), again)
}

fn losses(evidence: &Evidence) -> Losses {
    let lost = |records: &Vec<Record>| {
        let lost = records.iter().filter(|record| record.kind == "worker_lost");
        lost.map(|record| record.at).collect()
    };
    evidence.records.iter().map(|(id, records)| (*id, lost(records))).collect()
}

/// Whether the database refused a record of the instance: what that told of is not known.
fn is_refused(evidence: &Evidence, call: &Called) -> bool {
    let records = instance_of(call).and_then(|id| evidence.records.get(&id));
    records.into_iter().flatten().any(Record::is_refusal)
}

/// Whether the caller has written down between the two that it had no answer in time.
fn timed_out(evidence: &Evidence, earlier: &Called, later: &Called) -> bool {
    let records = instance_of(earlier).and_then(|id| evidence.records.get(&id));
    let span = earlier.from - ACCEPTED..later.from;
    let between = |record: &&Record| span.contains(&record.at);
    records
        .into_iter()
        .flatten()
        .filter(between)
        .any(|record| record.payload.get("code").is_some_and(|code| code == PROVIDER_TIMEOUT))
}

fn overlap(earlier: &Called, later: &Called) -> bool {
    let noticed = if earlier.is_done { TimeDelta::zero() } else { NOTICED };
    earlier.to.is_none_or(|to| to > later.from + noticed)
}

/// Calls that follow the same call, if the two are as is said and no worker was lost between.
fn repeated(
    calls: &[Called],
    losses: &Losses,
    are: impl Fn(&Called, &Called) -> bool,
) -> Vec<String> {
    let mut same: HashMap<&str, Vec<&Called>> = HashMap::new();
    for call in calls {
        same.entry(Applied::parts(&call.key).0).or_default().push(call);
    }
    let mut wrong = Vec::new();
    for (key, mut calls) in same {
        calls.sort_by_key(|call| call.from);
        let pairs = calls.windows(2).filter(|pair| are(pair[0], pair[1]));
        for pair in pairs.filter(|pair| !was_lost(losses, pair[0], pair[1].from)) {
            wrong.push(format!("{key}: one since {}, the next at {}", pair[0].from, pair[1].from));
        }
    }
    wrong
}

/// Whether the instance's worker was found lost after it had made the call.
fn was_lost(losses: &Losses, call: &Called, until: DateTime<Utc>) -> bool {
    let lost = instance_of(call).and_then(|id| losses.get(&id));
    let span = call.from - LEEWAY..until + LEEWAY;
    lost.into_iter().flatten().any(|at| span.contains(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn call(step: &str, from: i64, to: Option<i64>) -> Called {
        let key = format!("{}/{step}", Uuid::nil());
        Called { key, from: at(from), to: to.map(at), is_done: false }
    }

    #[test]
    fn a_call_beside_the_same_call_is_found_unless_a_worker_was_lost() {
        let two = [call("charge+7-1", 10, Some(20)), call("charge+8-2", 15, Some(25))];
        let found = |calls: &[Called], lost: i64| {
            let losses = HashMap::from([(Uuid::nil(), vec![at(lost)])]);
            repeated(calls, &losses, overlap).len()
        };
        assert_eq!(found(&two, 0), 1);
        assert_eq!(found(&two, 14), 0, "its worker was lost");
        assert_eq!(found(&two, 30), 1, "that came later");
        assert_eq!(found(&[call("charge", 10, None), call("charge", 60, Some(61))], 0), 1);
        assert_eq!(found(&[call("charge", 10, Some(20)), call("charge", 21, None)], 0), 0);
        assert_eq!(found(&[call("charge", 10, Some(20)), call("charge/undo", 15, None)], 0), 0);
    }

    #[test]
    fn a_call_after_it_was_done_is_found_whenever_it_comes() {
        let done = Called { is_done: true, ..call("ship", 10, Some(11)) };
        let again =
            |calls: &[Called]| repeated(calls, &Losses::new(), |earlier, _| earlier.is_done).len();
        assert_eq!(again(&[done.clone(), call("ship", 90, Some(91))]), 1);
        assert_eq!(again(&[call("ship", 5, Some(6)), done]), 0);
    }
}
