//! What changes of an instance while a worker holds it, and what the next write says of it. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Verdict;
use crate::event::Event;
use crate::history::{History, Mark};
use crate::limits::refuse_payload;
use crate::record::Entry;
use crate::status::{Status, Transition};
use crate::step::Failure;
use crate::store::write::{Change, NewRecord};

/// What changes while an instance is held.
pub(crate) struct State {
    pub(crate) history: History,
    /// Records that are not durable yet.
    pub(super) pending: Vec<Arc<NewRecord>>,
    pub(crate) status: Status,
    pub(crate) past_pivot: bool,
    pub(crate) failure: Option<Failure>,
    /// Its last worker was lost, perhaps in the middle of an attempt that left no record.
    pub(crate) interrupted: bool,
    /// Steps that may have been under way when the last worker was lost, as far as found.
    pub(super) suspected: HashSet<String>,
    /// The row says something else than this state.
    pub(super) row_stale: bool,
    pub(super) mail_read: i32,
    /// How much mail there is, as far as is known.
    pub(super) mail_count: i32,
    /// Why this replay has stopped.
    pub(crate) halt: Option<Verdict>,
    /// How often this replay has asked for each step.
    pub(crate) occurrences: HashMap<&'static str, u32>,
}

/// How a write ends that lets go of the instance.
pub(crate) struct Closing {
    pub(crate) entry: Option<(Entry, Vec<Event>)>,
    pub(crate) transition: Transition,
    pub(crate) run_at: Option<DateTime<Utc>>,
    pub(crate) failure: Option<Failure>,
}

impl State {
    /// The state of an instance that has just been born.
    pub(super) fn new(history: History) -> Self {
        Self {
            history,
            pending: Vec::new(),
            status: Status::Running,
            past_pivot: false,
            failure: None,
            interrupted: false,
            suspected: HashSet::new(),
            row_stale: false,
            mail_read: 0,
            mail_count: 0,
            halt: None,
            occurrences: HashMap::new(),
        }
    }

    pub(crate) fn append(
        &mut self,
        step: Option<&str>,
        attempt: Option<u32>,
        entry: Entry,
        events: &[Event],
        actor: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        let money = entry.money().to_vec();
        let record = self
            .history
            .append(step, attempt, entry, events, actor, at)
            .map_err(|error| Verdict::Unrecordable(error.to_string()))?;
        if let Some(refusal) = refuse_payload(&record.payload) {
            return Err(Verdict::Unrecordable(refusal));
        }
        self.pending.push(Arc::new(NewRecord { record, events: events.len() as u32, money }));
        Ok(())
    }

    /// Whether a step is suspected for the first time.
    pub(crate) fn suspect(&mut self, key: &str) -> bool {
        self.suspected.insert(key.to_owned())
    }

    /// Moves to another status; the next write makes the row say so.
    pub(crate) fn transit(&mut self, transition: Transition) {
        if let Some(status) = self.status.after(transition) {
            self.row_stale |= status != self.status;
            self.status = status;
        } else {
            tracing::error!(status = %self.status, ?transition, "a transition that does not exist");
        }
    }

    /// Says that a pivot is done or under way, or that it certainly is not.
    pub(crate) fn set_past_pivot(&mut self, past_pivot: bool) {
        self.row_stale |= self.past_pivot != past_pivot;
        self.past_pivot = past_pivot;
    }

    /// What the next write does to the row; a closing record goes to the end of what is pending.
    pub(super) fn prepare(
        &mut self,
        closing: Option<Closing>,
        at: DateTime<Utc>,
    ) -> Result<Option<Change>, Verdict> {
        let Some(closing) = closing else {
            return Ok(self.row_stale.then(|| self.change(self.status, false, None, at)));
        };
        let status = self.status.after(closing.transition).unwrap_or(Status::Stuck);
        if let Some((entry, events)) = closing.entry {
            self.append(None, None, entry, &events, None, at)?;
        }
        let mut change = self.change(status, true, closing.run_at, at);
        change.failure = closing.failure;
        Ok(Some(change))
    }

    fn change(
        &self,
        status: Status,
        released: bool,
        run_at: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> Change {
        Change {
            status,
            released,
            run_at,
            step: self.history.steps().next_back().map(|step| step.key.clone()),
            failure: self.failure.clone(),
            past_pivot: self.past_pivot,
            mail_read: self.mail_read,
            head: self.history.head(),
            at,
        }
    }

    /// Takes a closing record off that was not written.
    pub(super) fn take_off(&mut self, closed: bool, mark: &Mark) {
        if closed {
            let excess = (self.history.head().0 + 1).saturating_sub(mark.length());
            self.pending.truncate(self.pending.len().saturating_sub(excess as usize));
            self.history.revert(mark);
        }
    }
}
