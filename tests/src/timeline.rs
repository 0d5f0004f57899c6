//! An instance as a short text, for snapshots. What differs from run to run is left out here, so
//! that readers need not look past it.

use std::fmt::Write;

use amends::view::{InstanceView, RecordView};
use serde_json::Value;

/// Renders an instance and its history.
#[must_use]
pub fn render(instance: &InstanceView, history: &[RecordView]) -> String {
    let mut text = format!("{}", instance.status);
    if let Some(failure) = &instance.failure {
        let _ = write!(text, " ({})", failure.code);
    }
    text.push('\n');
    for record in history {
        let _ = writeln!(text, "{}", line(record));
    }
    text
}

/// The kinds and steps of a history, without what a crash may add to it.
#[must_use]
pub fn outline(history: &[RecordView]) -> Vec<String> {
    let added = ["worker_lost", "step_interrupted", "step_not_found"];
    history.iter().filter(|record| !added.contains(&record.kind.as_str())).map(bare).collect()
}

fn bare(record: &RecordView) -> String {
    let mut text = record.kind.clone();
    if let Some(step) = &record.step {
        let _ = write!(text, " {step}");
    }
    let payload: Value = serde_json::from_str(record.payload.get()).unwrap_or_default();
    if let Some(code) = payload["code"].as_str().or_else(|| payload["status"].as_str()) {
        let _ = write!(text, " {code}");
    }
    for event in events(record) {
        let _ = write!(text, " +{event}");
    }
    text
}

fn line(record: &RecordView) -> String {
    let mut text = format!("{:>2} {}", record.seq, bare(record));
    let payload: Value = serde_json::from_str(record.payload.get()).unwrap_or_default();
    if let Some(attempt) = record.attempt.filter(|attempt| *attempt > 1) {
        let _ = write!(text, " attempt {attempt}");
    }
    if let Some(outcome) = payload["outcome"].as_str() {
        let _ = write!(text, " [{outcome}]");
    }
    for planned in payload["plan"].as_array().into_iter().flatten() {
        let known = if planned["known"] == true { "" } else { "?" };
        let _ = write!(text, " <{}{known}", planned["step"].as_str().unwrap_or_default());
    }
    if payload["applied"] == false {
        text.push_str(" (nothing to undo)");
    }
    for movement in payload["money"].as_array().into_iter().flatten() {
        let _ = write!(
            text,
            " {} {} {}",
            movement["kind"].as_str().unwrap_or_default(),
            movement["amount_minor"],
            movement["currency"].as_str().unwrap_or_default(),
        );
    }
    if let Some(actor) = &record.actor {
        // A parent is named by its id, which differs from run to run.
        let actor = if actor.starts_with("instance ") { "its parent" } else { actor };
        let what = payload["command"].as_str().or_else(|| payload["signal"].as_str());
        let _ = write!(text, " {} by {actor}", what.unwrap_or_default());
    }
    text
}

fn events(record: &RecordView) -> Vec<String> {
    let events: Value = record
        .events
        .as_ref()
        .and_then(|events| serde_json::from_str(events.get()).ok())
        .unwrap_or_default();
    let kinds = events.as_array().into_iter().flatten();
    kinds.filter_map(|event| event["type"].as_str().map(str::to_owned)).collect()
}
