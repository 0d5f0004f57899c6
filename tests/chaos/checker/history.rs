//! What the histories say, against what they may say.

use std::collections::HashSet;

use super::Evidence;
use super::evidence::Record;

/// The causes for which an instance may need a person when others break what it depends on. That it
/// kills its workers is none: no instance does.
const CAUSES: [&str; 4] =
    ["OUTCOME_UNKNOWN", "PIVOT_UNKNOWN", "COMPENSATION_FAILED", "RECORD_REFUSED"];

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

/// The later a step began, the earlier it is undone.
pub(super) fn undone_out_of_order(evidence: &Evidence) -> Vec<String> {
    let wrong = evidence.records.iter().filter(|(_, records)| !is_undone_backwards(records));
    wrong
        .map(|(id, records)| format!("{id}: {:?} are undone in this order", undone(records)))
        .collect()
}

/// What was undone, in its order. What is undone again, since it came late, comes after everything.
fn undone(records: &[Record]) -> Vec<&str> {
    let mut steps = Vec::new();
    for record in records.iter().filter(|record| record.kind == "step_compensated") {
        let step = record.step.as_deref().unwrap_or_default();
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

fn is_undone_backwards(records: &[Record]) -> bool {
    let began = |step: &str| records.iter().position(|it| it.step.as_deref() == Some(step));
    undone(records).into_iter().map(began).is_sorted_by(|later, earlier| later > earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_later_is_undone_earlier() {
        let is_right = |told: &[(&str, &str)]| {
            let record = |(kind, step): &(&str, &str)| Record {
                instance_id: uuid::Uuid::nil(),
                seq: 0,
                kind: (*kind).to_owned(),
                step: Some((*step).to_owned()),
                at: chrono::DateTime::UNIX_EPOCH,
                payload: sqlx::types::Json::default(),
                events: Vec::new(),
            };
            is_undone_backwards(&told.iter().map(record).collect::<Vec<_>>())
        };
        let (done, undone) = ("step_done", "step_compensated");
        let both = [(done, "reserve"), ("step_interrupted", "charge"), (done, "charge")];
        let then = |order: &[&'static str]| {
            let undone = order.iter().map(|step| (undone, *step));
            both.into_iter().chain(undone).collect::<Vec<_>>()
        };
        assert!(is_right(&both));
        assert!(is_right(&then(&["charge", "reserve"])));
        assert!(is_right(&then(&["charge", "reserve", "charge"])), "it came late");
        assert!(!is_right(&then(&["reserve", "charge"])));
    }
}
