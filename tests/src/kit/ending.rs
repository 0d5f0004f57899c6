//! What the world looks like when a test is over, as far as a crash must not change it.

use std::fmt;
use std::sync::Mutex;

use amends::view::{Filter, RecordView};
use serde_json::Value;

use super::Kit;
use crate::timeline;

/// More instances than a scenario should have.
const INSTANCES_MAX: u32 = 200;

/// Every instance with its status, its records and its events, in an order of their own: branches
/// may come to their ends in any order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ending(Vec<String>);

impl Ending {
    pub(super) async fn of(kit: &Kit) -> Self {
        let filter = Filter { limit: INSTANCES_MAX, ..Filter::default() };
        let instances = kit.engine().instances(&filter).await.expect("they can be read");
        let mut lines = Vec::new();
        for instance in instances {
            let about = format!("{} {}", instance.workflow, instance.business_key);
            lines.push(format!("{about}: {}", instance.status));
            let mut history = kit.history(instance.instance_id).await;
            history.retain(|record| !is_by_chance(record));
            let records = timeline::outline(&history).into_iter();
            lines.extend(records.map(|record| format!("{about}: {record}")));
            // Delivered at least once: repetitions do not count.
            let mut kinds = kit.recorder().kinds(&instance.business_key);
            kinds.sort();
            kinds.dedup();
            lines.extend(kinds.into_iter().map(|kind| format!("{about}: delivered {kind}")));
        }
        lines.sort();
        Self(lines)
    }

    /// What only one of the two has.
    pub(super) fn difference<'a>(&'a self, other: &'a Self) -> Difference<'a> {
        Difference { missing: without(&self.0, &other.0), added: without(&other.0, &self.0) }
    }
}

/// An attempt whose answer was lost, which a crash may have cut off just as well; one that a lost
/// connection has cut off; and the news that a child is undone, which its parent may have seen by
/// itself.
fn is_by_chance(record: &RecordView) -> bool {
    let payload: Value = serde_json::from_str(record.payload.get()).unwrap_or_default();
    match record.kind.as_str() {
        "step_attempt_failed" | "compensation_attempt_failed" => {
            payload["outcome"] == "unknown" || payload["code"] == "SQL_INTERRUPTED"
        }
        "child_ended" => payload["status"] == "cancelled",
        _ => false,
    }
}

fn without<'a>(these: &'a [String], those: &[String]) -> Vec<&'a str> {
    let mut those: Vec<_> = those.iter().collect();
    let mut left = Vec::new();
    for line in these {
        match those.iter().position(|other| *other == line) {
            Some(index) => drop(those.swap_remove(index)),
            None => left.push(line.as_str()),
        }
    }
    left
}

/// How an ending differs from the one that was expected.
pub(super) struct Difference<'a> {
    missing: Vec<&'a str>,
    added: Vec<&'a str>,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.missing {
            writeln!(formatter, "- {line}")?;
        }
        for line in &self.added {
            writeln!(formatter, "+ {line}")?;
        }
        Ok(())
    }
}

/// The endings of the kits of one scenario.
#[derive(Default)]
pub(super) struct Endings(Mutex<Vec<Ending>>);

impl Endings {
    pub(super) fn add(&self, ending: Ending) {
        self.0.lock().expect("no test panics while it holds this").push(ending);
    }

    /// The one ending of a scenario that has one kit and finishes it.
    pub(super) fn take(&self) -> Ending {
        let mut endings = self.0.lock().expect("no test panics while it holds this");
        assert_eq!(endings.len(), 1, "a scenario builds one kit and ends with its finish()");
        endings.pop().expect("there is one")
    }
}
