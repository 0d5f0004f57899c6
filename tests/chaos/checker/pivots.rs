//! What people were told of the point of no return, against what was tried.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Evidence;
use super::calls::instance_of;
use super::evidence::Instance;
use crate::operator::Commanded;

/// The steps from which there is no way back, as they stand in keys.
const PIVOTS: [&str; 2] = ["/ship", "/hand_over"];
/// How long a server may take until it has seen a hold, and has taken back that it was about to
/// pass the point of no return.
const WITHDRAWAL: TimeDelta = TimeDelta::seconds(3);

/// While an order is held nothing is begun, so whoever is told that it is too late to cancel it is
/// told the truth only if the pivot had been tried before.
pub(super) fn refused_without_cause(evidence: &Evidence) -> Vec<String> {
    let refused = evidence.commanded.iter().filter(|told| {
        told.command == "cancel" && ["past_pivot", "child_past_pivot"].contains(&&*told.answer)
    });
    let wrong = refused.filter(|told| is_held(evidence, told) && !was_tried(evidence, told));
    wrong.map(|told| format!("{}: {} at {}", told.instance_id, told.answer, told.at)).collect()
}

/// How many cancels came while their order was held, and were accepted.
pub(super) fn cancelled_while_held(evidence: &Evidence) -> u64 {
    let accepted = evidence.commanded.iter().filter(|told| {
        told.command == "cancel" && told.answer == "accepted" && is_held(evidence, told)
    });
    accepted.count() as u64
}

/// Whether a hold has been in force for a while.
fn is_held(evidence: &Evidence, cancel: &Commanded) -> bool {
    let before = evidence.commanded.iter().filter(|told| {
        told.instance_id == cancel.instance_id && told.at < cancel.at && told.answer == "accepted"
    });
    let last = before.max_by_key(|told| told.at);
    last.is_some_and(|told| told.command == "hold" && told.at + WITHDRAWAL < cancel.at)
}

/// Whether a pivot of the order's family had been tried, or a server was lost that may have been
/// about to.
fn was_tried(evidence: &Evidence, cancel: &Commanded) -> bool {
    let instances = || evidence.instances.iter();
    let Some(order) = instances().find(|it| it.instance_id == cancel.instance_id) else {
        return false;
    };
    let is_family = |it: &&Instance| it.ordered_as() == order.ordered_as();
    instances().filter(is_family).any(|it| {
        was_called(evidence, it.instance_id, cancel.at)
            || evidence.records_of(it).iter().any(|record| record.kind == "worker_lost")
    })
}

fn was_called(evidence: &Evidence, instance_id: Uuid, until: DateTime<Utc>) -> bool {
    let is_pivot = |key: &str| PIVOTS.iter().any(|step| key.contains(step));
    evidence.calls.iter().any(|call| {
        call.from <= until && is_pivot(&call.key) && instance_of(call) == Some(instance_id)
    })
}
