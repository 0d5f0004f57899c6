//! The committer: the one place through which a worker's writes become durable.
//!
//! Writes gather while a batch is in flight and go out together when it is answered; there is no
//! timer and no fixed size. A batch whose answer is lost is sent again until there is one: what an
//! earlier send wrote counts as written. Nothing that depends on a write may start before its
//! answer.
//!
//! While few write, the committer takes turns with them, which is the shortest way between two
//! steps. While many do, it works on a thread of its own: the database is not to wait for its next
//! batch until a hundred instances have had their turn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, is_data_error};
use crate::limits;
use crate::loops::{apart, vital};
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::sabotage::Bug;
use crate::store::commit::{Committed, commit};
use crate::store::write::{Write, Written};
use crate::store::{Store, missed, within_timeout};

/// A handle for sending writes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Submission>,
}

#[derive(Debug)]
struct Submission {
    write: Write,
    answer: oneshot::Sender<Written>,
}

/// What the committer needs of its worker.
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) worker_id: Uuid,
    pub(crate) subscriptions: Arc<Vec<String>>,
    pub(crate) clock: Clock,
    pub(crate) probes: Probes,
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the worker is found to be none any more.
    pub(crate) lost: CancellationToken,
    /// Told after each batch that published events.
    pub(crate) published: Arc<tokio::sync::Notify>,
}

impl Committer {
    /// Starts the committer of a worker. It ends when every handle is gone or the worker is lost.
    pub(crate) fn start(desk: Desk) -> Self {
        let (queue, waiting) = mpsc::channel(limits::QUEUE_WRITES_MAX);
        let lost = desk.lost.clone();
        let desk = Arc::new(desk);
        tokio::spawn(async move { vital("committer", lost, serve(desk, waiting)).await });
        Self { queue }
    }

    /// A committer that writes nothing: whoever asks it is told that he is fenced out.
    pub(crate) fn closed() -> Self {
        Self { queue: mpsc::channel(1).0 }
    }

    /// Whether more waits to be written than goes out in the next two statements.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.max_capacity() - self.queue.capacity() > 2 * limits::BATCH_WRITES_MAX
    }

    /// Writes what a held instance has done. Waits for room: what has happened must be recorded.
    pub(crate) async fn write(&self, write: Write) -> Written {
        let (answer, answered) = oneshot::channel();
        match self.queue.send(Submission { write, answer }).await {
            Ok(()) => answered.await.unwrap_or(Written::Fenced),
            Err(_) => Written::Fenced,
        }
    }

    /// Writes what comes in from outside. Refused at once if there is no room.
    pub(crate) async fn take_in(&self, write: Write) -> Result<Written, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Submission { write, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })?;
        answered.await.map_err(|_| Error::Unavailable)
    }
}

/// A batch of so many writes is one of a crowd.
const CROWD: usize = 32;
/// How many batches in a row without a crowd mean that it has gone.
const CALM: usize = 100;

type Queue = mpsc::Receiver<Submission>;

/// Serves the queue here or apart, until every handle of it is gone or the worker is lost.
async fn serve(desk: Arc<Desk>, mut waiting: Queue) {
    let mut line = Line::new(&desk);
    let mut crowds = None;
    while line.serve_until(&mut waiting, |writes| writes >= CROWD).await {
        let crowds = crowds.get_or_insert_with(|| serve_crowds(&desk));
        let (give_back, given_back) = oneshot::channel();
        let Ok(()) = crowds.send((waiting, give_back)).await else { return };
        let Ok(calm) = given_back.await else { return };
        waiting = calm;
    }
}

/// Starts a thread that serves the queues it is handed until they are calm, and then gives them
/// back.
fn serve_crowds(desk: &Arc<Desk>) -> mpsc::Sender<(Queue, oneshot::Sender<Queue>)> {
    let (crowds, mut handed) = mpsc::channel::<(Queue, oneshot::Sender<Queue>)>(1);
    let mut line = Line::new(desk);
    let lost = desk.lost.clone();
    let serve = vital("committer", lost.clone(), async move {
        while let Some((mut waiting, give_back)) = handed.recv().await {
            let mut calm = 0;
            let is_calm = |writes| {
                calm = if writes < CROWD { calm + 1 } else { 0 };
                calm == CALM
            };
            if !line.serve_until(&mut waiting, is_calm).await {
                return;
            }
            // Nobody takes it back only if the worker is no more.
            let _ = give_back.send(waiting);
        }
    });
    if let Err(error) = apart("amends-committer", serve) {
        tracing::error!(%error, "no thread for the committer; this worker is lost");
        lost.cancel();
    }
    crowds
}

/// A connection of the committer, and what it does with a batch.
struct Line {
    desk: Arc<Desk>,
    connection: Option<PgConnection>,
}

impl Line {
    fn new(desk: &Arc<Desk>) -> Self {
        Self { desk: Arc::clone(desk), connection: None }
    }

    /// Writes batch after batch until one has a size at which this is to end. `false`: there is
    /// nothing to write any more.
    async fn serve_until(
        &mut self,
        waiting: &mut Queue,
        mut is_over: impl FnMut(usize) -> bool,
    ) -> bool {
        let lost = self.desk.lost.clone();
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
        // Whoever waits for an answer sees its sender dropped, which means fenced.
        lost.run_until_cancelled(serve).await.unwrap_or(false)
    }

    /// Writes a batch and answers everybody in it. A batch that the database refuses because of a
    /// value is halved until the culprit is alone.
    async fn settle(&mut self, batch: Vec<Submission>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.send(&part).await {
                Ok(committed) => self.answer(part, &committed).await,
                Err(refusal) if part.len() == 1 => {
                    for submission in part {
                        let _ = submission.answer.send(Written::Refused(refusal.clone()));
                    }
                }
                Err(_) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
            }
        }
    }

    /// Sends a batch until there is an answer. `Err`: the database refuses a value in it.
    async fn send(&mut self, batch: &[Submission]) -> Result<Committed, String> {
        let metrics = Arc::clone(&self.desk.metrics);
        let mut pause = Duration::from_millis(20);
        loop {
            self.desk.probes.reach("commit.before").await;
            let worker_id = self.desk.worker_id;
            let now = self.desk.clock.pinned();
            let result = match self.connected().await {
                Ok((connection, subscriptions)) => {
                    let writes = batch.iter().map(|submission| &submission.write);
                    let commit = commit(connection, worker_id, writes, subscriptions, now);
                    within_timeout(metrics.commit.time(commit)).await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(committed) => {
                    self.desk.probes.reach("commit.after").await;
                    self.count(batch);
                    return Ok(committed);
                }
                Err(error) if is_data_error(&error) => return Err(error.to_string()),
                Err(_) if Bug::CommitAssumed.is_on() => {
                    self.connection = None;
                    let ids = batch.iter().map(|submission| submission.write.instance_id);
                    let written: HashSet<_> = ids.collect();
                    return Ok(Committed { fenced_in: true, taken_in: written.clone(), written });
                }
                Err(error) => {
                    self.connection = None;
                    tracing::warn!(%error, writes = batch.len(), "a commit has no answer yet; sending it again");
                    self.desk.metrics.commits_resent.inc();
                    self.desk.clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn count(&self, batch: &[Submission]) {
        let records: usize = batch.iter().map(|submission| submission.write.records.len()).sum();
        self.desk.metrics.commits.inc();
        self.desk.metrics.records.inc_by(records as u64);
        self.desk.probes.committed(batch.iter().map(|submission| &submission.write));
        let published = |submission: &Submission| submission.write.publishes();
        if !self.desk.subscriptions.is_empty() && batch.iter().any(published) {
            self.desk.published.notify_one();
        }
    }

    async fn connected(&mut self) -> Result<(&mut PgConnection, &[String]), sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.desk.store.connect().await?,
        };
        Ok((self.connection.insert(connection), &self.desk.subscriptions))
    }

    async fn answer(&mut self, batch: Vec<Submission>, committed: &Committed) {
        if !committed.fenced_in {
            tracing::warn!(worker.id = %self.desk.worker_id, "this worker has been taken over");
            self.desk.lost.cancel();
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
            let judged = self.judge(&submission.write).await;
            let _ = submission.answer.send(judged);
        }
    }

    /// Finds out why a write did not go in.
    async fn judge(&mut self, write: &Write) -> Written {
        let worker_id = self.desk.worker_id;
        loop {
            let result = match self.connected().await {
                Ok((connection, _)) if write.is_intake() => {
                    within_timeout(missed::intake(connection, write)).await
                }
                Ok((connection, _)) => {
                    within_timeout(missed::held(connection, worker_id, write)).await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(written) => return written,
                Err(error) => {
                    self.connection = None;
                    tracing::warn!(%error, "a write that did not go in cannot be judged yet");
                    self.desk.clock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
