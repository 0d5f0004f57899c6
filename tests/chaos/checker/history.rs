//! What the histories say, against what they may say.

use std::collections::HashSet;

use super::Evidence;

/// The causes for which an instance may need a person when others break what it depends on.
const CAUSES: [&str; 5] =
    ["OUTCOME_UNKNOWN", "PIVOT_UNKNOWN", "COMPENSATION_FAILED", "POISONED", "RECORD_REFUSED"];

/// Whatever has been stuck was so for a cause that only a person can judge.
pub(super) fn stuck_for_no_cause(evidence: &Evidence) -> Vec<String> {
    let stuck = evidence.records.values().flatten().filter(|record| record.kind == "stuck");
    let unfounded =
        stuck.filter(|record| !record.says("code").is_some_and(|it| CAUSES.contains(&it)));
    unfounded.map(|record| format!("{}: {}", record.instance_id, record.payload.0)).collect()
}

/// After a step is done nothing more is attempted of it; after it is undone, neither.
pub(super) fn goes_on_after_done(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for records in evidence.records.values() {
        let (mut done, mut undone) = (HashSet::new(), HashSet::new());
        for record in records {
            let Some(step) = record.step.as_deref() else { continue };
            let is_attempt = record.kind.starts_with("step_") && record.kind != "step_compensated";
            let is_undoing =
                matches!(record.kind.as_str(), "step_compensated" | "compensation_attempt_failed");
            if (is_attempt && done.contains(step)) || (is_undoing && undone.contains(step)) {
                let (id, seq, kind) = (record.instance_id, record.seq, &record.kind);
                wrong.push(format!("{id}, record {seq}: {kind} of {step}, which was settled"));
            }
            match record.kind.as_str() {
                "step_done" => drop(done.insert(step)),
                "step_compensated" if record.payload.0["recheck_at"].is_null() => {
                    undone.insert(step);
                }
                _ => {}
            }
        }
    }
    wrong
}
