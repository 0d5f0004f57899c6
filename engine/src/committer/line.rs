//! A connection of the committer, and what it does with a batch.
//!
//! What is known to pass is waited for: a lost connection, a server that starts, a deadlock. All else
//! is the fault of one write as far as anybody can know, so the batch is halved until that one is
//! alone. It is answered, or set aside.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::aside::{Aside, Cause};
use super::{Desk, Lines, Origin, Queue, Submission};
use crate::error::{
    is_data_error, is_lock_timeout, is_race, is_rollback, is_silence, is_time_out, is_transient,
};
use crate::limits;
use crate::sabotage::Bug;
use crate::store::acknowledged::Recipient;
use crate::store::commit::{Committed, commit};
use crate::store::write::{Write, Written};
use crate::store::{Purpose, Session, locked, missed, within};

/// So often a batch runs out of time before it is halved: the first time it may be its connection
/// that was at fault.
const SLOW_MAX: u32 = 2;

/// So often a batch clashes with what others do before it is halved: there may be one in it that
/// always does.
const CLASHES_MAX: u32 = 8;

/// How often a batch did not go in.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    slow: u32,
    clashes: u32,
}

impl Tries {
    fn count(&mut self, error: &sqlx::Error) {
        self.slow += u32::from(is_time_out(error));
        self.clashes += u32::from(is_race(error) || is_rollback(error));
    }
}

pub(super) struct Line {
    lines: Lines,
    purpose: Purpose,
    connection: Option<Session>,
    recipient: Recipient,
}

/// Why a batch did not go in, other than for want of an answer.
pub(super) enum Trouble {
    /// The database refuses a value in it.
    Value(String),
    /// Somebody else has locked a row that it needs.
    Locked,
    /// It takes too long.
    Slow,
    /// Something that is not known to pass.
    Unknown(String),
}

impl Line {
    pub(super) fn new(lines: Lines, purpose: Purpose) -> Self {
        let recipient = lines.desk.store.acknowledged().line();
        Self { lines, purpose, connection: None, recipient }
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.lines.desk
    }

    /// Writes batch after batch until one has a size at which this is to end. `false`: there is
    /// nothing to write any more.
    pub(super) async fn serve_until(
        &mut self,
        waiting: &mut Queue,
        mut is_over: impl FnMut(usize) -> bool,
    ) -> bool {
        let lost = self.desk().lost.clone();
        let serve = async {
            loop {
                let mut batch = Vec::with_capacity(limits::BATCH_WRITES_MAX);
                let writes = waiting.recv_many(&mut batch, limits::BATCH_WRITES_MAX).await;
                if writes == 0 {
                    return false;
                }
                self.settle(batch).await;
                if is_over(writes) {
                    return true;
                }
            }
        };
        // Who waits for an answer sees its sender dropped, which means fenced.
        lost.run_until_cancelled(serve).await.unwrap_or(false)
    }

    /// Writes a batch, and answers or sets aside everything in it.
    async fn settle(&mut self, batch: Vec<Submission>) {
        let mut parts = in_parts(batch);
        while let Some(mut part) = parts.pop() {
            match self.send(&part).await {
                Ok(committed) => self.answer(part, &committed).await,
                Err(trouble) if part.len() == 1 => self.dismiss(part, &trouble),
                Err(Trouble::Locked) => {
                    let locked = self.locked(&part).await;
                    let (locked, mut free): (Vec<_>, Vec<_>) =
                        part.into_iter().partition(|it| locked.contains(&it.write.instance_id));
                    if locked.is_empty() {
                        parts.push(free.split_off(free.len() / 2));
                    }
                    self.dismiss(locked, &Trouble::Locked);
                    parts.push(free);
                }
                Err(_) => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
            }
            parts.retain(|part| !part.is_empty());
        }
    }

    /// Answers those who can do something about it, and sets aside the others.
    fn dismiss(&self, submissions: Vec<Submission>, trouble: &Trouble) {
        for submission in submissions {
            let cause = match trouble {
                Trouble::Value(error) => {
                    let _ = submission.answer.send(Written::Refused(error.clone()));
                    continue;
                }
                Trouble::Unknown(error) => {
                    tracing::error!(
                        error,
                        instance.id = %submission.write.instance_id,
                        "the database does not take a write",
                    );
                    if submission.origin == Origin::Outside {
                        // Without an answer it is asked for again.
                        continue;
                    }
                    Cause::Unknown
                }
                Trouble::Locked | Trouble::Slow => Cause::Locked,
            };
            let aside = Aside::new(submission, cause, self.desk());
            // It is served for as long as this is.
            let _ = self.lines.aside.send(aside);
        }
    }

    /// The instances of a batch whose rows somebody else has locked.
    async fn locked(&mut self, batch: &[Submission]) -> HashSet<Uuid> {
        let ids: Vec<_> = batch.iter().map(|it| it.write.instance_id).collect();
        let Some(connection) = &mut self.connection else { return HashSet::new() };
        match within(limits::BATCH_TIMEOUT, locked::locked_instances(connection, &ids)).await {
            Ok(locked) => locked.into_iter().collect(),
            Err(error) => {
                tracing::debug!(%error, "nobody knows which rows are locked");
                self.give_up(&error);
                HashSet::new()
            }
        }
    }

    /// Sends a batch until there is an answer.
    async fn send(&mut self, batch: &[Submission]) -> Result<Committed, Trouble> {
        let mut pause = Duration::from_millis(20);
        let mut tries = Tries::default();
        self.lines.sending.set_out(&self.desk().clock);
        let sent = loop {
            let deadline = if tries.slow < SLOW_MAX {
                limits::BATCH_TIMEOUT
            } else {
                limits::STATEMENT_TIMEOUT
            };
            match self.attempt(batch, deadline).await {
                Ok(committed) => break Ok(committed),
                Err(error) if Bug::CommitAssumed.is_on() && !is_data_error(&error) => {
                    self.connection = None;
                    let ids = batch.iter().map(|submission| submission.write.instance_id);
                    let written: HashSet<_> = ids.collect();
                    break Ok(Committed { fenced_in: true, taken_in: written.clone(), written });
                }
                Err(error) => {
                    tries.count(&error);
                    if let Some(trouble) = self.trouble(&error, batch.len(), tries).await {
                        break Err(trouble);
                    }
                    self.give_up(&error);
                    tracing::warn!(%error, writes = batch.len(), "a commit has no answer yet; sending it again");
                    self.desk().metrics.commits_resent.inc();
                    self.desk().clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        };
        self.lines.sending.arrive();
        sent
    }

    /// What an error says of the writes in a batch. `None`: nothing.
    async fn trouble(
        &mut self,
        error: &sqlx::Error,
        writes: usize,
        tries: Tries,
    ) -> Option<Trouble> {
        if is_data_error(error) {
            return Some(Trouble::Value(error.to_string()));
        }
        if is_lock_timeout(error) {
            return (!self.is_worker_locked().await).then_some(Trouble::Locked);
        }
        if tries.slow >= SLOW_MAX && writes > 1 || tries.clashes >= CLASHES_MAX {
            return Some(Trouble::Slow);
        }
        let passes = is_transient(error) || is_race(error);
        (!passes).then(|| Trouble::Unknown(error.to_string()))
    }

    /// Whether it is the row of this worker that is locked, which every write needs.
    async fn is_worker_locked(&mut self) -> bool {
        let worker_id = self.desk().worker_id;
        let Some(connection) = &mut self.connection else { return true };
        let asked = locked::is_worker_locked(connection, worker_id);
        within(limits::BATCH_TIMEOUT, asked).await.unwrap_or(true)
    }

    /// Sends a batch once. A connection that has not answered, or whose server will not do any more,
    /// is given up.
    pub(super) async fn attempt(
        &mut self,
        batch: &[Submission],
        deadline: Duration,
    ) -> Result<Committed, sqlx::Error> {
        let desk = Arc::clone(&self.lines.desk);
        desk.probes.reach("commit.before").await;
        let connection = self.connected().await?;
        let writes = batch.iter().map(|submission| &submission.write);
        let now = desk.clock.pinned();
        let commit = commit(connection, desk.worker_id, writes, &desk.subscriptions, now);
        let committed = within(deadline, desk.metrics.commit.time(commit)).await;
        let committed = committed.inspect_err(|error| {
            let has_answered = matches!(error, sqlx::Error::Database(_));
            if !has_answered || (is_transient(error) && !is_lock_timeout(error)) {
                self.give_up(error);
            }
        })?;
        desk.probes.reach("commit.after").await;
        self.remember(batch, &committed);
        self.count(batch);
        Ok(committed)
    }

    /// Gives up the connection. Its server may still be at what it has not answered.
    fn give_up(&mut self, error: &sqlx::Error) {
        if let Some(session) = self.connection.take()
            && is_silence(error)
        {
            self.desk().store.give_up(session);
        }
    }

    /// Remembers something of a batch that went in: it went in as a whole.
    fn remember(&self, batch: &[Submission], committed: &Committed) {
        let mut went_in =
            batch.iter().rev().map(|it| &it.write).filter(|it| committed.includes(it));
        if let Some(trace) = went_in.find_map(Write::trace) {
            self.desk().store.acknowledged().remember(self.recipient, trace);
        }
    }

    fn count(&self, batch: &[Submission]) {
        let records: usize = batch.iter().map(|submission| submission.write.records.len()).sum();
        let desk = self.desk();
        desk.metrics.commits.inc();
        desk.metrics.records.inc_by(records as u64);
        desk.probes.committed(batch.iter().map(|submission| &submission.write));
        let published = |submission: &Submission| submission.write.publishes();
        if !desk.subscriptions.is_empty() && batch.iter().any(published) {
            desk.published.notify_one();
        }
    }

    async fn connected(&mut self) -> Result<&mut Session, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.desk().store.connect(self.purpose).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Tells everybody in a batch what has become of it.
    pub(super) async fn answer(&mut self, batch: Vec<Submission>, committed: &Committed) {
        if !committed.fenced_in {
            let worker_id = self.desk().worker_id;
            tracing::warn!(worker.id = %worker_id, "this worker has been taken over");
            self.desk().lost.cancel();
            return;
        }
        let mut missed = Vec::new();
        for submission in batch {
            if committed.includes(&submission.write) {
                let _ = submission.answer.send(Written::Yes);
            } else {
                missed.push(submission);
            }
        }
        for submission in missed {
            match self.judge(&submission.write).await {
                Ok(judged) => {
                    if let (Written::Yes, Some(trace)) = (&judged, submission.write.trace()) {
                        self.desk().store.acknowledged().remember(self.recipient, trace);
                    }
                    let _ = submission.answer.send(judged);
                }
                Err(trouble) => self.dismiss(vec![submission], &trouble),
            }
        }
    }

    /// Finds out why a write did not go in.
    async fn judge(&mut self, write: &Write) -> Result<Written, Trouble> {
        let worker_id = self.desk().worker_id;
        loop {
            let result = match self.connected().await {
                Ok(connection) if write.is_intake() => {
                    within(limits::BATCH_TIMEOUT, missed::intake(connection, write)).await
                }
                Ok(connection) => {
                    within(limits::BATCH_TIMEOUT, missed::held(connection, worker_id, write)).await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(written) => return Ok(written),
                Err(error) if is_lock_timeout(&error) => return Err(Trouble::Locked),
                Err(error) if !is_transient(&error) => {
                    return Err(Trouble::Unknown(error.to_string()));
                }
                Err(error) => {
                    self.give_up(&error);
                    tracing::warn!(%error, "a write that did not go in cannot be judged yet");
                    self.desk().clock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A batch in parts that are small enough for one statement, and of which none starts an instance
/// twice: what went in is told by its id. The last comes first.
fn in_parts(batch: Vec<Submission>) -> Vec<Vec<Submission>> {
    let mut parts = vec![Vec::new()];
    let (mut bytes, mut started) = (0, HashSet::new());
    for submission in batch {
        let Write { instance_id, start, .. } = &submission.write;
        let more = submission.write.bytes();
        let is_full = bytes > 0 && bytes + more > limits::BATCH_BYTES_MAX;
        if is_full || start.is_some() && started.contains(instance_id) {
            parts.push(Vec::new());
            (bytes, started) = (0, HashSet::new());
        }
        if start.is_some() {
            started.insert(*instance_id);
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push(submission);
        }
    }
    parts.reverse();
    parts
}
