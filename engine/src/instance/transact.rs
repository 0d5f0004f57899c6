//! One attempt at a transaction step: the author's SQL and its record are one commit.
//!
//! The fence comes first, then the author's statements, then the write path's own statement with
//! the one record. That record is in the history, tentatively, from just before the commit on, and
//! no other write of the instance leaves before it is settled. If it has not become durable,
//! another one takes its place, which says so.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::MutexGuard;

use super::{Flushed, Instance, State, Verdict};
use crate::attempt::judge;
use crate::dependency::Pass;
use crate::error::is_data_error;
use crate::event::Event;
use crate::history::History;
use crate::limits::refuse_payload;
use crate::record::{Entry, Record};
use crate::step::{Failure, StepError};
use crate::store::acknowledged::Recipient;
use crate::store::transaction::{self, Begin, Open, StepSession};
use crate::store::write::{NewRecord, Write};
use crate::store::{claim, commit, within_timeout};
use crate::transaction_step::PgConnection;
use crate::worker::new_id;

/// An attempt that is made together with its record.
pub(crate) trait Transaction: Sync {
    /// What it brings.
    type Output: Send;

    fn terms(&self) -> Terms<'_>;
    /// The author's SQL.
    fn perform(
        &self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;
    /// What is recorded with it.
    fn done(&self, output: &Self::Output) -> Result<(Entry, Vec<Event>), Verdict>;
    /// What is recorded in its place if it has not happened.
    fn failed(&self, state: &mut State, error: &StepError) -> Result<(Entry, Vec<Event>), Verdict>;
}

/// What is to be known of such an attempt.
pub(crate) struct Terms<'a> {
    pub(crate) key: &'a str,
    pub(crate) attempt: u32,
    pub(crate) timeout: Duration,
    pub(crate) pass: &'a Pass,
}

/// A record that is in the history, but not durable yet. No other write leaves meanwhile.
struct Tentative<'a> {
    _turn: MutexGuard<'a, ()>,
    new: Arc<NewRecord>,
}

impl Instance {
    /// Makes one attempt. `None`: it has not happened; look at the history again.
    ///
    /// May be dropped at any point by a worker that is lost: the connection is closed then.
    pub(crate) async fn transact<T: Transaction>(
        self: &Arc<Self>,
        work: &T,
    ) -> Result<Option<T::Output>, Verdict> {
        let mail_read = self.state().mail_read();
        let ticket = new_id().as_u64_pair().1.cast_signed();
        let begin = Begin {
            worker_id: self.worker.worker_id,
            instance_id: self.instance_id,
            claim_id: self.claim_id,
            ticket,
            timeout: work.terms().timeout,
        };
        let mut session = self.session().await?;
        let mut open = match transaction::begin(&mut session, begin).await {
            Ok(Some(open)) => open,
            Ok(None) => return Err(Verdict::Lost),
            Err(error) => return self.append_failed(work, error.into()).map(|()| None),
        };
        let output = match self.perform(&mut open, work).await? {
            Ok(output) => output,
            Err(error) => {
                // A connection on which something may be under way is closed.
                let is_at_rest = !matches!(error, StepError::Unknown(_));
                if is_at_rest && within_timeout(open.rollback()).await.is_ok() {
                    session.give_back();
                }
                return self.append_failed(work, error).map(|()| None);
            }
        };
        let Some(tentative) = self.append_tentatively(work, &output, mail_read).await? else {
            return Ok(None);
        };
        let record = &tentative.new.record;
        match self.commit(open, &tentative.new).await {
            Ok(()) => session.give_back(),
            Err(ended) => {
                drop(session);
                if let Some(durable) = self.look_up(ticket, record).await? {
                    self.exchange(work, durable, record.seq, &ended.clone().into())?;
                    return match ended {
                        Uncommitted::Refused(error) => Err(Verdict::Unrecordable(error)),
                        Uncommitted::Failed(_) => Ok(None),
                    };
                }
            }
        }
        self.state().pending.retain(|new| !Arc::ptr_eq(new, &tentative.new));
        self.worker.metrics.commits.inc();
        self.worker.metrics.records.inc();
        if tentative.new.events > 0 {
            self.worker.published.notify_one();
        }
        Ok(Some(output))
    }

    /// A connection. As long as there is none, nothing is lost by waiting.
    async fn session(&self) -> Result<StepSession, Verdict> {
        loop {
            match self.worker.store.session().await {
                Ok(session) => return Ok(session),
                Err(_) if self.worker.drain.is_cancelled() => return Err(Verdict::Release),
                Err(error) => {
                    tracing::warn!(%error, "a transaction step waits for a connection");
                    self.worker.clock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Has the author's SQL done. Whatever it fails with, nothing has happened.
    async fn perform<T: Transaction>(
        &self,
        open: &mut Open<'_>,
        work: &T,
    ) -> Result<Result<T::Output, StepError>, Verdict> {
        let terms = work.terms();
        let performed = AssertUnwindSafe(work.perform(open)).catch_unwind();
        let result = judge(tokio::time::timeout(terms.timeout, performed).await);
        terms.pass.report(&result);
        let output = match result {
            Ok(output) => output,
            Err(error) => return Ok(Err(error)),
        };
        match within_timeout(transaction::seal(open)).await {
            Ok(true) => Ok(Ok(output)),
            Ok(false) => {
                let message = format!("{} has ended the transaction of its step", terms.key);
                let failure = Failure::new("TRANSACTION_ENDED", message);
                let error = StepError::Retry { failure: failure.clone(), after: None };
                self.append_failed(work, error)?;
                Err(Verdict::Stick(failure))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// Appends the record of what has been done to a history that is durable up to there. `None`:
    /// mail has been read since `mail_read`, by whichever branch, that keeps it from happening.
    async fn append_tentatively<T: Transaction>(
        self: &Arc<Self>,
        work: &T,
        output: &T::Output,
        mail_read: i32,
    ) -> Result<Option<Tentative<'_>>, Verdict> {
        let (entry, events) = work.done(output)?;
        let payload = entry.payload().map_err(|error| Verdict::Unrecordable(error.to_string()))?;
        refuse_payload(&payload).map_or(Ok(()), |why| Err(Verdict::Unrecordable(why)))?;
        let Terms { key, attempt, .. } = work.terms();
        loop {
            if self.has_mail() {
                self.read_mail().await?;
            } else if let Flushed::Refused(verdict) = self.flush().await {
                return Err(verdict);
            }
            if self.state().mail_read() != mail_read && self.obstacle().is_some() {
                return Ok(None);
            }
            let turn = self.writing.lock().await;
            let at = self.worker.clock.now();
            let mut state = self.state();
            if !state.is_durable() {
                // Another branch has appended something in between.
                continue;
            }
            state.append(Some(key), Some(attempt), entry, &events, None, at)?;
            state.failure = None;
            let new = state.pending.last().map(Arc::clone);
            return Ok(new.map(|new| Tentative { _turn: turn, new }));
        }
    }

    /// Writes the record by the statement that writes all records, and commits.
    async fn commit(&self, mut open: Open<'_>, new: &Arc<NewRecord>) -> Result<(), Uncommitted> {
        let worker = &self.worker;
        let write = Write {
            instance_id: self.instance_id,
            claim_id: self.claim_id,
            about: Arc::clone(&self.about),
            delivery: None,
            start: None,
            change: None,
            records: vec![Arc::clone(new)],
        };
        let (id, names, now) =
            (worker.worker_id, worker.subscriptions.names(), worker.clock.pinned());
        let written = commit::commit(&mut open, id, std::iter::once(&write), &names, now);
        match within_timeout(written).await {
            Ok(committed) if committed.written.contains(&self.instance_id) => {}
            // Its place is taken: somebody else goes on with the instance.
            Ok(_) => {
                return Err(Uncommitted::Failed(StepError::retry("SQL_FAILED", "not written")));
            }
            Err(error) if is_data_error(&error) => {
                return Err(Uncommitted::Refused(error.to_string()));
            }
            Err(error) => return Err(Uncommitted::Failed(error.into())),
        }
        worker.probes.reach("transaction.before_commit").await;
        let committed = within_timeout(open.commit()).await;
        worker.probes.reach("transaction.after_commit").await;
        committed.map_err(|error| Uncommitted::Failed(error.into()))?;
        if let Some(trace) = write.trace() {
            worker.store.acknowledged().remember(Recipient::Step, trace);
        }
        Ok(())
    }

    /// Finds out whether a record whose commit was not confirmed is durable. If it is not, and
    /// never will be, the records that are.
    async fn look_up(&self, ticket: i64, record: &Record) -> Result<Option<Vec<Record>>, Verdict> {
        let (worker, ids) = (&self.worker, [self.instance_id]);
        worker.persist(|| transaction::ended(worker.store.pool(), ticket)).await?;
        let mut loaded = worker.persist(|| claim::histories(worker.store.pool(), &ids)).await?;
        let durable = loaded.remove(&self.instance_id).unwrap_or_default();
        match durable.get(record.seq as usize) {
            Some(written) if written.hash == record.hash => Ok(None),
            None if durable.len() == record.seq as usize => Ok(Some(durable)),
            _ => Err(Verdict::Lost),
        }
    }

    /// Puts the record of a failed attempt in the place of a tentative one. What other branches
    /// have appended since stays, under its numbers.
    fn exchange<T: Transaction>(
        &self,
        work: &T,
        durable: Vec<Record>,
        seq: u32,
        error: &StepError,
    ) -> Result<(), Verdict> {
        let durable = History::load(self.instance_id, &durable)
            .map_err(|error| Verdict::Stick(Failure::new("RECORD_UNREADABLE", error)))?;
        let Terms { key, attempt, .. } = work.terms();
        let at = self.worker.clock.now();
        let mut state = self.state();
        let mut withdrawn = state.withdraw(durable);
        withdrawn.retain(|new| new.record.seq != seq);
        let (entry, events) = work.failed(&mut state, error)?;
        state.append(Some(key), Some(attempt), entry, &events, None, at)?;
        state.resubmit(&withdrawn)
    }

    fn append_failed<T: Transaction>(&self, work: &T, error: StepError) -> Result<(), Verdict> {
        let Terms { key, attempt, .. } = work.terms();
        let at = self.worker.clock.now();
        let mut state = self.state();
        let (entry, events) = work.failed(&mut state, &not_happened(error))?;
        state.append(Some(key), Some(attempt), entry, &events, None, at)
    }
}

/// Why a commit was not confirmed.
#[derive(Debug, Clone)]
enum Uncommitted {
    /// The database refuses a value of the record.
    Refused(String),
    /// Anything else; it may have been committed all the same.
    Failed(StepError),
}

impl From<Uncommitted> for StepError {
    fn from(uncommitted: Uncommitted) -> Self {
        match uncommitted {
            Uncommitted::Refused(error) => Self::retry("RECORD_REFUSED", error),
            Uncommitted::Failed(error) => not_happened(error),
        }
    }
}

/// What was not committed has not happened, whatever is unknown of it.
fn not_happened(error: StepError) -> StepError {
    match error {
        StepError::Unknown(failure) => StepError::Retry { failure, after: None },
        known => known,
    }
}
