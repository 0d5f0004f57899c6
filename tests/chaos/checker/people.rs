//! What senders of signals and operators were told, against what has happened.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Evidence;
use super::evidence::Record;
use crate::load::What;

/// Every signal that was accepted stands once in its history, and was taken or is listed as unread.
pub(super) fn signals_lost(evidence: &Evidence) -> Vec<String> {
    let accepted: HashSet<_> = evidence
        .told
        .iter()
        .filter(|told| told.what == What::Signal && told.status == 202)
        .map(|told| told.business_key.as_str())
        .collect();
    let mut wrong = Vec::new();
    for instance in &evidence.instances {
        let records = evidence.records_of(instance);
        let read: Vec<_> = records.iter().filter(|record| record.kind == "signal").collect();
        let expected = usize::from(accepted.contains(instance.business_key.as_str()));
        // One whose answer was lost may have been accepted, too.
        if read.len() < expected || read.len() > 1 {
            wrong.push(format!("{}: {} signals are recorded", instance.business_key, read.len()));
        }
        for signal in read.iter().filter(|signal| taken(signal, records) != 1) {
            wrong.push(format!(
                "{}: its signal was taken {} times",
                instance.business_key,
                taken(signal, records)
            ));
        }
    }
    wrong
}

/// How often a signal was taken by a wait or listed as unread at the end.
fn taken(signal: &Record, records: &[Record]) -> usize {
    let is_this = |value: &serde_json::Value| value.as_i64() == Some(i64::from(signal.seq));
    let by_waits =
        records.iter().filter(|it| it.kind == "wait_ended" && is_this(&it.payload.0["signal"]));
    let unread = records.iter().filter(|it| it.kind == "ended").flat_map(|it| {
        it.payload.0["unread"].as_array().into_iter().flatten().filter(|value| is_this(value))
    });
    by_waits.count() + unread.count()
}

/// A cancel that was accepted has happened, and one that was refused has not; every answer is kept.
pub(super) fn answers_untrue(evidence: &Evidence) -> Vec<String> {
    let mut kept: HashMap<(Uuid, &str, &str), usize> = HashMap::new();
    for it in &evidence.commands {
        *kept.entry((it.instance_id, &it.command, &it.answer)).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for told in &evidence.commanded {
        let (id, command, answer) = (told.instance_id, told.command.as_str(), told.answer.as_str());
        if !kept.contains_key(&(id, command, answer)) {
            wrong.push(format!("{id}: {command} was answered {answer}, and nobody knows of it"));
        }
    }
    for instance in &evidence.instances {
        let is_cancelled = kept.contains_key(&(instance.instance_id, "cancel", "accepted"));
        if is_cancelled != (instance.status == "cancelled") {
            let key = &instance.business_key;
            wrong
                .push(format!("{key}: cancel accepted: {is_cancelled}, ended {}", instance.status));
        }
        if instance.mail_count != instance.mail_read {
            wrong.push(format!("{}: has unread mail", instance.business_key));
        }
    }
    wrong
}

/// Of several people who cancel the same order at once, one is told that it will happen.
pub(super) fn cancelled_twice(evidence: &Evidence) -> Vec<String> {
    let mut accepted: HashMap<Uuid, usize> = HashMap::new();
    for told in &evidence.commands {
        if told.command == "cancel" && told.answer == "accepted" {
            *accepted.entry(told.instance_id).or_default() += 1;
        }
    }
    let twice = accepted.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|(id, times)| format!("{id}: {times} cancels were accepted")).collect()
}
