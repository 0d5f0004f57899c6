//! What the database has acknowledged last, to each who was waiting for an answer. Every new session
//! has to have it.
//!
//! A commit that is there implies all that came before it, since a copy of a database lacks what came
//! last and nothing else. So the last one of each is enough.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::worker::new_id;

/// How many answers are remembered. Workers come and go, and have three of their own each.
const REMEMBERED_MAX: usize = 12;

/// Who was waiting for an answer. Each waits for one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recipient {
    /// A line of a committer, by a number of its own.
    Line(u64),
    /// The person who has given a command.
    Person,
    /// A transaction step.
    Step,
}

/// What a commit leaves behind for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trace {
    /// A record of an instance.
    Record { instance_id: Uuid, seq: u32, hash: [u8; 32] },
    /// A delivery that starts nothing.
    Delivery(Uuid),
    /// A command.
    Command(Uuid),
}

/// A commit that was acknowledged and is missing.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    pub(crate) loss_id: Uuid,
    pub(crate) trace: Trace,
}

/// What is remembered. It outlives the workers of a process.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    lines: AtomicU64,
    last: Mutex<BTreeMap<Recipient, Trace>>,
    /// What was found missing and is not written down yet.
    missing: Mutex<Vec<Missing>>,
    /// How much was ever found missing.
    found: Counter,
    /// Ends the worker that holds instances in memory.
    holder: Mutex<CancellationToken>,
    /// Told when something is found missing.
    pub(crate) noticed: Notify,
}

impl Acknowledged {
    /// Somebody who waits for answers, one at a time.
    pub(crate) fn line(&self) -> Recipient {
        Recipient::Line(self.lines.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on this ends the worker that holds instances in memory.
    pub(crate) fn hold(&self, lost: CancellationToken) {
        *locked(&self.holder) = lost;
    }

    /// The database has acknowledged what has left this trace.
    pub(crate) fn remember(&self, recipient: Recipient, trace: Trace) {
        let mut last = locked(&self.last);
        last.insert(recipient, trace);
        if last.len() > REMEMBERED_MAX {
            // The oldest line: its worker is gone.
            last.pop_first();
        }
    }

    /// What a new session has to have.
    pub(super) fn traces(&self) -> Vec<Trace> {
        locked(&self.last).values().cloned().collect()
    }

    /// The database does not have this any more. The worker is ended before any
    /// session is opened again.
    pub(super) fn lost(&self, mut missing: Vec<Trace>) {
        locked(&self.holder).cancel();
        let last = std::mem::take(&mut *locked(&self.last));
        // Somebody else may have told of it already.
        missing.retain(|trace| last.values().any(|known| known == trace));
        self.found.inc_by(missing.len() as u64);
        for trace in missing {
            tracing::error!(
                "THE DATABASE HAS LOST COMMITS that it had acknowledged: {trace} is not there. \
                 What is held in memory is dropped; see the runbook"
            );
            locked(&self.missing).push(Missing { loss_id: new_id(), trace });
        }
        self.noticed.notify_one();
    }

    /// How much was ever found missing.
    pub(crate) fn found(&self) -> &Counter {
        &self.found
    }

    /// What is to be written down.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        locked(&self.missing).clone()
    }

    /// This is written down.
    pub(crate) fn written_down(&self, loss_id: Uuid) {
        locked(&self.missing).retain(|missing| missing.loss_id != loss_id);
    }
}

impl Trace {
    /// A condition that holds where the commit is.
    pub(super) fn condition(&self) -> String {
        match self {
            Self::Record { instance_id, seq, hash } => {
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!(
                    "exists (select from amends.record where instance_id = '{instance_id}' \
                     and seq = {seq} and hash = decode('{hash}', 'hex'))"
                )
            }
            Self::Delivery(id) => {
                format!("exists (select from amends.delivery where delivery_id = '{id}')")
            }
            Self::Command(id) => {
                format!("exists (select from amends.command where command_id = '{id}')")
            }
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { instance_id, seq, .. } => {
                write!(formatter, "record {seq} of instance {instance_id}")
            }
            Self::Delivery(id) => write!(formatter, "delivery {id}"),
            Self::Command(id) => write!(formatter, "command {id}"),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_of_each_is_remembered_until_something_is_lost() {
        let (acknowledged, held) = (Acknowledged::default(), CancellationToken::new());
        acknowledged.hold(held.clone());
        let (one, other) = (acknowledged.line(), acknowledged.line());
        let [first, second, third] = [1, 2, 3].map(|id| Trace::Delivery(Uuid::from_u128(id)));
        for (line, trace) in [(one, &first), (other, &second), (one, &third)] {
            acknowledged.remember(line, trace.clone());
        }
        assert_eq!(acknowledged.traces(), [third.clone(), second]);
        assert!(!held.is_cancelled());
        acknowledged.lost(vec![third.clone()]);
        assert!(held.is_cancelled());
        assert!(acknowledged.traces().is_empty());
        let missing = acknowledged.missing();
        assert_eq!((missing.len(), &missing[0].trace), (1, &third));
        acknowledged.written_down(missing[0].loss_id);
        assert!(acknowledged.missing().is_empty());
        assert_eq!(acknowledged.found().get(), 1);
    }

    #[test]
    fn what_people_were_told_is_remembered_whatever_workers_come_and_go() {
        let acknowledged = Acknowledged::default();
        let command = Trace::Command(Uuid::from_u128(1));
        acknowledged.remember(Recipient::Person, command.clone());
        for id in 0..100 {
            let line = acknowledged.line();
            acknowledged.remember(line, Trace::Delivery(Uuid::from_u128(id)));
        }
        let traces = acknowledged.traces();
        assert_eq!(traces.len(), REMEMBERED_MAX);
        assert!(traces.contains(&command));
        assert!(traces.contains(&Trace::Delivery(Uuid::from_u128(99))));
    }
}
