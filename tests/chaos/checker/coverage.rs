//! How much a run has put to the test: a run in which nothing happened proves nothing.

use std::collections::HashSet;

use amends::Workflow;
use serde::Serialize;

use super::Evidence;
use super::events::{redelivered, told_skipped};
use super::evidence::{Instance, Record};
use super::orders::is_of_platform;
use super::pivots::cancelled_while_held;
use crate::dispatch::Parcelling;
use crate::load::What;
use crate::watch::Watch;

/// The orders of the run that the least counts are given for.
const ORDERS: u64 = 2_000;

/// How often something happened that a promise is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Coverage {
    pub(crate) what: &'static str,
    pub(crate) count: u64,
    /// So often it has to happen.
    pub(crate) least: u64,
}

/// The steps that take money.
const CHARGES: [&str; 2] = ["charge", "deposit"];

/// Counts everything, from outside.
pub(crate) fn coverage(evidence: &Evidence, watch: &Watch, orders: u64) -> Vec<Coverage> {
    let count = |is: &dyn Fn(&Record) -> bool| {
        evidence.records.values().flatten().filter(|record| is(record)).count() as u64
    };
    let cancels = |was_accepted: bool| {
        let cancels =
            evidence.commands.iter().filter(|it| it.command == "cancel" && !it.is_by_parent);
        cancels.filter(|it| (it.answer == "accepted") == was_accepted).count() as u64
    };
    let (put_to_people, refused): (Vec<_>, Vec<_>) = evidence
        .told
        .iter()
        .filter(|it| it.what == What::Reused)
        .partition(|it| is_of_platform(evidence, it));
    let replayed = evidence.told.iter().filter(|it| it.repetitions > 0 || it.what == What::Again);
    let charges = |is| charges(evidence, is);
    let late_cancels = evidence.late_cancels.len() as u64;
    let shop_cancels = evidence.told.iter().filter(|it| it.what == What::Cancelled).count() as u64;
    let is_doubtful_plan = |record: &Record| {
        let steps = record.payload.0["plan"].as_array();
        steps.is_some_and(|steps| steps.iter().any(|step| step["known"] == false))
    };
    let counted = [
        ("dead servers taken over", watch.sum("amends_workers_taken_over"), 25),
        ("servers that found themselves taken over", watch.sum("amends_workers_lost"), 4),
        ("commits sent again for want of an answer", watch.sum("amends_commits_resent"), 3),
        (
            "attempts interrupted by the loss of a server",
            count(&|it| it.kind == "step_interrupted"),
            30,
        ),
        (
            "attempts with an unknown outcome",
            count(&|it| it.says("outcome") == Some("unknown")),
            100,
        ),
        ("unknown charges found to be applied", charges(found_applied), 30),
        ("unknown charges found not to be applied", charges(found_not_applied), 20),
        ("late charges found by their undo", charges(found_late), 5),
        ("compensations tried again", count(&|it| it.kind == "compensation_attempt_failed"), 20),
        ("compensations of something unknown", count(&is_doubtful_plan), 10),
        ("compensated instances", ended(evidence, "compensated"), 100),
        ("children taken back with their parents", taken_back(evidence), 10),
        ("completed instances", ended(evidence, "completed"), 800),
        ("cancels that won", cancels(true), 10),
        ("cancels that came too late", cancels(false), 25),
        ("cancels of shops that won", shop_cancels - late_cancels, 10),
        ("cancels of shops that came too late", late_cancels, 5),
        ("cancels of what was held", cancelled_while_held(evidence), 10),
        ("families taken back half-way", families_taken_back(evidence), 20),
        ("instances whose workers were lost more than twice", often_lost(evidence), 5),
        ("signals before anybody waited", early_signals(evidence), 50),
        ("waits that ended without a signal", count(&|it| timed_out(it)), 20),
        ("instances put to a person", count(&|it| it.kind == "stuck"), 10),
        ("records that the database refused", count(&|it| it.is_refusal()), 1),
        ("events delivered again", redelivered(evidence), 50),
        ("keys of events that were parked", watch.sum("amends_keys_parked"), 1),
        ("events skipped by people", told_skipped(evidence), 1),
        ("requests refused because their id was reused", refused.len() as u64, 10),
        ("webhooks put to people because their id was reused", put_to_people.len() as u64, 5),
        ("requests repeated", replayed.count() as u64, 300),
    ];
    let scaled = |(what, count, least): (&'static str, u64, u64)| Coverage {
        what,
        count,
        // In little time, chance counts for more.
        least: if orders < ORDERS { least * orders / ORDERS / 2 } else { least * orders / ORDERS },
    };
    counted.into_iter().map(scaled).collect()
}

/// How many instances have a step that takes money of which this is so.
fn charges(evidence: &Evidence, is: fn(&[&Record]) -> bool) -> u64 {
    let of = |records: &[Record], step: &str| {
        let of_step = records.iter().filter(|it| it.step.as_deref() == Some(step));
        is(&of_step.collect::<Vec<_>>())
    };
    let of_any = |records: &&Vec<Record>| CHARGES.iter().any(|step| of(records, step));
    evidence.records.values().filter(of_any).count() as u64
}

/// Its outcome was in doubt, and asking found it done.
fn found_applied(charge: &[&Record]) -> bool {
    charge.windows(2).any(|pair| pair[0].is_doubt() && pair[1].kind == "step_done")
}

/// Its outcome was in doubt, asking twice found nothing, and it was tried once more.
fn found_not_applied(charge: &[&Record]) -> bool {
    charge.windows(3).any(|three| {
        let kinds = [three[0], three[1]].map(|record| record.kind.as_str());
        kinds == ["step_not_found"; 2] && three[2].kind.starts_with("step_")
    })
}

/// The first undo found nothing, and the second one found what had come late.
fn found_late(charge: &[&Record]) -> bool {
    let undone = charge.iter().filter(|record| record.kind == "step_compensated");
    let applied: Vec<_> = undone.map(|record| record.payload.0["applied"] == true).collect();
    applied == [false, true]
}

fn timed_out(record: &Record) -> bool {
    record.kind == "wait_ended" && record.payload.0["signal"].is_null()
}

fn early_signals(evidence: &Evidence) -> u64 {
    let is_early = |records: &&Vec<Record>| {
        let at = |kind: &str| records.iter().position(|record| record.kind == kind);
        matches!((at("signal"), at("wait_started")), (Some(signal), Some(wait)) if signal < wait)
    };
    evidence.records.values().filter(is_early).count() as u64
}

/// Cancelled dispatches that had parcels by then.
fn families_taken_back(evidence: &Evidence) -> u64 {
    let is_parcel = |it: &&Instance| it.workflow == Parcelling::NAME && it.status == "cancelled";
    let parcels = evidence.instances.iter().filter(is_parcel);
    parcels.map(Instance::ordered_as).collect::<HashSet<_>>().len() as u64
}

fn often_lost(evidence: &Evidence) -> u64 {
    let is_often = |records: &&Vec<Record>| {
        records.iter().filter(|record| record.kind == "worker_lost").count() > 2
    };
    evidence.records.values().filter(is_often).count() as u64
}

fn taken_back(evidence: &Evidence) -> u64 {
    let by_parents = evidence.commands.iter().filter(|it| it.is_by_parent);
    by_parents.filter(|it| it.answer == "accepted").count() as u64
}

fn ended(evidence: &Evidence, status: &str) -> u64 {
    evidence.instances.iter().filter(|instance| instance.status == status).count() as u64
}
