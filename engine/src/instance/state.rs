//! What changes of an instance while a worker holds it, and what the next write says of it. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::{Verdict, Wait};
use crate::event::Event;
use crate::history::{History, Mark};
use crate::limits::refuse_payload;
use crate::pivots::Pivots;
use crate::quarantine::Losses;
use crate::record::{Entry, MAIL_REFUSED, MailRefused};
use crate::registry::Steps;
use crate::sabotage::Bug;
use crate::saga::UnderWay;
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
    pivots: Pivots,
    pub(crate) failure: Option<Failure>,
    /// Why its history cannot be read, if it cannot.
    pub(crate) unreadable: Option<Failure>,
    /// The row says something else than this state.
    pub(super) row_stale: bool,
    pub(super) mail_read: i32,
    /// How much mail there is, as far as is known.
    pub(super) mail_count: i32,
    /// Why this replay has stopped.
    pub(crate) halt: Option<Verdict>,
    /// The run is being replayed, and not being given up.
    pub(crate) is_replaying: bool,
    /// How often this replay has asked for each name.
    pub(crate) occurrences: HashMap<String, u32>,
    /// Steps that this replay has under way without a named occurrence.
    pub(crate) under_way: UnderWay,
    /// The calls that a lost worker kept from leaving the history.
    pub(crate) stopped_at: Vec<String>,
    /// Its worker or the one before has kept it waiting for a dependency, and no record says so yet.
    pub(crate) was_parked: bool,
    /// How long the run may take.
    pub(crate) within: Option<TimeDelta>,
    /// Workers that were lost while they held it, since there was progress.
    pub(crate) lost: Losses,
    /// How often the row has been changed by its holders.
    pub(super) revision: i32,
}

/// What a write does to the row.
pub(super) enum RowWrite {
    /// It says what has changed.
    Changes,
    /// It says how much mail has been read, though there may be more.
    Mail,
    /// It lets go of the instance.
    Closing(Box<Closing>),
}

/// How a write ends that lets go of the instance.
pub(crate) struct Closing {
    pub(crate) entry: Option<(Entry, Vec<Event>)>,
    pub(crate) transition: Transition,
    pub(crate) wait: Wait,
    pub(crate) failure: Option<Failure>,
    /// There may be mail that this worker has not read: it cannot.
    pub(crate) leaves_mail: bool,
}

impl State {
    /// The state of an instance that has just been born.
    pub(crate) fn new(history: History) -> Self {
        Self {
            history,
            pending: Vec::new(),
            status: Status::Running,
            past_pivot: false,
            pivots: Pivots::default(),
            failure: None,
            unreadable: None,
            row_stale: false,
            mail_read: 0,
            mail_count: 0,
            halt: None,
            is_replaying: false,
            occurrences: HashMap::new(),
            under_way: UnderWay::new(),
            stopped_at: Vec::new(),
            was_parked: false,
            within: None,
            lost: Losses::default(),
            revision: 0,
        }
    }

    /// Begins a replay of the run, which has to be completed within `deadline` of the start.
    pub(crate) fn begin_replay(&mut self) {
        self.history.rewind();
        self.occurrences.clear();
        self.under_way.clear();
        self.halt = None;
        self.is_replaying = true;
        self.within = None;
    }

    /// Has the run be completed within this time, from its start.
    pub(crate) fn run_within(&mut self, deadline: Option<Duration>) {
        self.within = deadline.and_then(|deadline| TimeDelta::from_std(deadline).ok());
    }

    /// When the run has to be completed, if it stands still no longer.
    pub(super) fn deadline(&self) -> Option<DateTime<Utc>> {
        self.history.deadline_from().checked_add_signed(self.within?)
    }

    pub(crate) fn append(
        &mut self,
        step: Option<&str>,
        attempt: Option<u32>,
        mut entry: Entry,
        events: &[Event],
        actor: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        if self.was_parked && !self.history.is_held() {
            entry.mark_parked();
        }
        if entry.parked_until(at).is_some() {
            self.was_parked = false;
        }
        let (money, events_count) = (entry.money().to_vec(), events.len() as u32);
        if entry.is_progress() {
            self.lost = Losses::default();
        }
        let record = self
            .history
            .draft(step, attempt, &entry, events, actor, at)
            .map_err(|error| Verdict::Unrecordable(error.to_string()))?;
        if let Some(refusal) = refuse_payload(&record.payload) {
            return Err(Verdict::Unrecordable(refusal));
        }
        self.history.take_in(&record, entry, events_count);
        self.pending.push(Arc::new(NewRecord { record, events: events_count, money }));
        Ok(())
    }

    /// Appends that a message could not be recorded, perhaps one of the child of this key.
    pub(super) fn refuse_mail(
        &mut self,
        mail_seq: i32,
        child: Option<&str>,
        why: String,
        at: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        if Bug::MailKept.is_on() {
            return Err(Verdict::Unrecordable(why));
        }
        self.append(
            child,
            None,
            Entry::MailRefused(MailRefused { mail_seq, why, parked: false }),
            &[],
            None,
            at,
        )?;
        self.has_read(mail_seq);
        Ok(())
    }

    /// Says that messages up to this one are in the history.
    pub(super) fn has_read(&mut self, mail_seq: i32) {
        self.mail_read = mail_seq;
        self.mail_count = self.mail_count.max(mail_seq);
        self.row_stale = true;
    }

    /// Puts it to a person that a message could not be recorded, if it has not been.
    pub(crate) fn refusal(&self) -> Option<Verdict> {
        let why = self.history.refusal().filter(|_| !self.history.is_refusal_told())?;
        Some(Verdict::Stick(Failure::new(MAIL_REFUSED, why)))
    }

    /// The records that are not durable yet, by kind and step.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<String> {
        let word = |new: &Arc<NewRecord>| match &new.record.step {
            Some(step) => format!("{} {step}", new.record.kind),
            None => new.record.kind.to_string(),
        };
        self.pending.iter().map(word).collect()
    }

    /// Halts this replay, unless it is halted for something that counts more.
    pub(crate) fn halt_for(&mut self, verdict: Verdict) {
        self.halt = Some(match self.halt.take() {
            Some(earlier) => verdict.over(earlier),
            None => verdict,
        });
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

    /// How often the row has been changed by its holders.
    pub(crate) fn revision(&self) -> i32 {
        self.revision
    }

    /// How many messages have been read.
    pub(crate) fn mail_read(&self) -> i32 {
        self.mail_read
    }

    /// Has the next write go through the row, which finds mail.
    pub(crate) fn touch_row(&mut self) {
        self.row_stale = true;
    }

    /// Says that a step is about to be tried, which matters if it is a pivot.
    pub(crate) fn announce_pivot(&mut self, key: &str, steps: &Steps) {
        self.pivots.announce(key, steps);
        self.judge_pivots(steps);
    }

    /// Says that a step is not under way any more, which matters if it is a pivot: what became of it
    /// is recorded, or it has not begun.
    pub(crate) fn settle_pivot(&mut self, key: &str, steps: &Steps) {
        self.pivots.settle(key, steps);
        self.judge_pivots(steps);
    }

    /// Says that no attempt is under way.
    pub(crate) fn settle_pivots(&mut self, steps: &Steps) {
        self.pivots.settle_all();
        self.judge_pivots(steps);
    }

    /// Takes over what the row says of pivots, at a claim.
    pub(super) fn claim_pivots(&mut self, past_pivot: bool, steps: &Steps) {
        self.past_pivot = past_pivot;
        self.pivots = match self.unreadable {
            Some(_) => Pivots::unreadable(past_pivot),
            None => Pivots::claimed(past_pivot, &self.history, steps),
        };
        self.judge_pivots(steps);
    }

    fn judge_pivots(&mut self, steps: &Steps) {
        if Bug::PivotUnannounced.is_on() {
            return;
        }
        let past_pivot = self.pivots.are_past(&self.history, steps);
        self.row_stale |= self.past_pivot != past_pivot;
        self.past_pivot = past_pivot;
    }

    /// What the next write does to the row; a closing record goes to the end of what is pending.
    pub(super) fn prepare(
        &mut self,
        row: RowWrite,
        at: DateTime<Utc>,
    ) -> Result<Option<Change>, Verdict> {
        let closing = match row {
            RowWrite::Closing(closing) => *closing,
            RowWrite::Changes | RowWrite::Mail => {
                let leaves_mail = matches!(row, RowWrite::Mail);
                let stale = std::mem::take(&mut self.row_stale);
                let change = || self.change(self.status, false, Wait::default(), at);
                return Ok(stale.then(|| Change { leaves_mail, ..change() }));
            }
        };
        let status = self.status.after(closing.transition).unwrap_or(Status::Stuck);
        if let Some((entry, events)) = closing.entry {
            self.append(None, None, entry, &events, None, at)?;
        }
        let mut change = self.change(status, true, closing.wait, at);
        change.failure = closing.failure;
        change.leaves_mail = closing.leaves_mail;
        Ok(Some(change))
    }

    fn change(&self, status: Status, released: bool, wait: Wait, at: DateTime<Utc>) -> Change {
        Change {
            revision: self.revision + 1,
            status,
            released,
            run_at: wait.until,
            parked_on: wait.parked_on,
            failure: self.failure.clone(),
            past_pivot: self.past_pivot,
            mail_read: self.mail_read,
            leaves_mail: false,
            head: self.history.head(),
            at,
        }
    }

    /// What was written is durable: the first records that were pending, and this change.
    pub(super) fn written(&mut self, records: usize, change: Option<&Change>) {
        self.pending.drain(..records);
        self.revision = change.map_or(self.revision, |change| change.revision);
    }

    /// Puts the durable history in the place of this one. Returns the steps whose last records are
    /// lost with that, with their inputs. Once everything is being undone, it is
    /// an undo whose record is lost, and there is no input.
    pub(super) fn roll_back(&mut self, durable: History) -> Vec<(String, Option<Box<RawValue>>)> {
        let lost = std::mem::replace(&mut self.history, durable);
        let keys: HashSet<_> =
            self.pending.drain(..).filter_map(|new| new.record.step.clone()).collect();
        self.mail_read = self.history.mail_read();
        self.failure = None;
        self.pivots = Pivots::default();
        let undoes = self.history.undoing().is_some();
        lost.steps()
            .filter(|step| keys.contains(&step.key))
            .map(|step| (step.key.clone(), (!undoes).then(|| step.input.clone())))
            .collect()
    }

    /// Whether nothing has happened that the next write would write.
    pub(super) fn is_durable(&self) -> bool {
        self.pending.is_empty() && !self.row_stale
    }

    /// The durable history again, under the same replay. Returns what was pending.
    pub(super) fn withdraw(&mut self, durable: History) -> Vec<Arc<NewRecord>> {
        let tentative = std::mem::replace(&mut self.history, durable);
        self.history.go_on_for(tentative);
        std::mem::take(&mut self.pending)
    }

    /// Has records that were withdrawn follow what has been appended since.
    pub(super) fn resubmit(&mut self, withdrawn: &[Arc<NewRecord>]) -> Result<(), Verdict> {
        for new in withdrawn {
            let record = self.history.adopt(&new.record).map_err(Verdict::Unrecordable)?;
            let (events, money) = (new.events, new.money.clone());
            self.pending.push(Arc::new(NewRecord { record, events, money }));
        }
        Ok(())
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
