//! The committer: the one place through which a worker's writes become durable.
//!
//! Writes gather while a batch is in flight and go out together when it is answered; there is no
//! timer and no fixed size. A batch whose answer is lost is sent again until there is one: what an
//! earlier send wrote counts as written. Nothing that depends on a write may start before its
//! answer. A write that does not go in costs itself alone: see [`line`] and [`aside`].
//!
//! While few write, the committer takes turns with them, which is the shortest way between two
//! steps. While many do, it works on a thread of its own: the database is not to wait for its next
//! batch until a hundred instances have had their turn.

mod aside;
mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::Error;
use crate::limits;
use crate::loops::{apart, vital};
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::store::write::{Write, Written};
use crate::store::{Purpose, Store};
use aside::{Aside, serve_aside};
use line::Line;

/// A handle for sending writes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Submission>,
    /// What may still wait in memory, in KiB.
    room: Arc<Semaphore>,
    sending: Arc<Sending>,
}

#[derive(Debug)]
struct Submission {
    write: Write,
    origin: Origin,
    answer: oneshot::Sender<Written>,
    _room: OwnedSemaphorePermit,
}

/// Who asks for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody outside, who asks again if there is no answer.
    Outside,
    /// Who holds an instance: what has happened must be recorded.
    Holder,
}

/// Since when the batch that is on its way has had no answer.
#[derive(Debug, Default)]
struct Sending {
    /// In milliseconds; 0 while none is on its way.
    since: AtomicI64,
}

impl Sending {
    fn set_out(&self, clock: &Clock) {
        self.since.store(clock.now().timestamp_millis().max(1), Ordering::Release);
    }

    fn arrive(&self) {
        self.since.store(0, Ordering::Release);
    }
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
        let (aside, set_aside) = mpsc::unbounded_channel();
        let sending = Arc::<Sending>::default();
        let lost = desk.lost.clone();
        let lines = Lines { desk: Arc::new(desk), sending: Arc::clone(&sending), aside };
        let serve_aside = serve_aside(lines.clone(), set_aside);
        for serve in [serve(lines, waiting).boxed(), serve_aside.boxed()] {
            let lost = lost.clone();
            tokio::spawn(async move { vital("committer", lost, serve).await });
        }
        Self { queue, room: Arc::new(Semaphore::new(limits::QUEUE_KIB_MAX)), sending }
    }

    /// A committer that writes nothing: who asks it is told to be fenced out.
    pub(crate) fn closed() -> Self {
        Self {
            queue: mpsc::channel(1).0,
            room: Arc::new(Semaphore::new(limits::QUEUE_KIB_MAX)),
            sending: Arc::default(),
        }
    }

    /// For how long the batch that is on its way has had no answer.
    pub(crate) fn unanswered_for(&self, clock: &Clock) -> Duration {
        match self.sending.since.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => {
                let waited = clock.now().timestamp_millis() - since;
                Duration::from_millis(waited.try_into().unwrap_or_default())
            }
        }
    }

    /// Whether more waits to be written than goes out in the next two statements.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.max_capacity() - self.queue.capacity() > 2 * limits::BATCH_WRITES_MAX
    }

    /// Writes what a held instance has done. Waits for room: what has happened must be recorded.
    pub(crate) async fn write(&self, write: Write) -> Written {
        let (answer, answered) = oneshot::channel();
        let room = Arc::clone(&self.room).acquire_many_owned(kib(&write));
        let Ok(room) = room.await else { return Written::Fenced };
        let submission = Submission { write, origin: Origin::Holder, answer, _room: room };
        match self.queue.send(submission).await {
            Ok(()) => answered.await.unwrap_or(Written::Fenced),
            Err(_) => Written::Fenced,
        }
    }

    /// Writes what comes in from outside. Refused at once if there is no room.
    pub(crate) async fn take_in(&self, write: Write) -> Result<Written, Error> {
        let (answer, answered) = oneshot::channel();
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&write));
        let room = room.map_err(|error| match error {
            TryAcquireError::NoPermits => Error::Overloaded,
            TryAcquireError::Closed => Error::Unavailable,
        })?;
        let submission = Submission { write, origin: Origin::Outside, answer, _room: room };
        self.queue.try_send(submission).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })?;
        answered.await.map_err(|_| Error::Unavailable)
    }
}

/// How much room a write takes. None takes more than there is.
fn kib(write: &Write) -> u32 {
    let kib = (write.bytes() / 1024 + 1).min(limits::QUEUE_KIB_MAX);
    u32::try_from(kib).unwrap_or(u32::MAX)
}

/// What the lines of a committer have in common.
#[derive(Clone)]
struct Lines {
    desk: Arc<Desk>,
    sending: Arc<Sending>,
    /// Where writes go that would keep others waiting.
    aside: mpsc::UnboundedSender<Aside>,
}

/// A batch of so many writes is one of a crowd.
const CROWD: usize = 32;
/// How many batches in a row without a crowd mean that it has gone.
const CALM: usize = 100;

type Queue = mpsc::Receiver<Submission>;

/// Serves the queue here or apart, until every handle of it is gone or the worker is lost.
async fn serve(lines: Lines, mut waiting: Queue) {
    let mut line = Line::new(lines.clone(), Purpose::Writing);
    let mut crowds = None;
    while line.serve_until(&mut waiting, |writes| writes >= CROWD).await {
        let crowds = crowds.get_or_insert_with(|| serve_crowds(lines.clone()));
        let (give_back, given_back) = oneshot::channel();
        let Ok(()) = crowds.send((waiting, give_back)).await else { return };
        let Ok(calm) = given_back.await else { return };
        waiting = calm;
    }
}

/// Starts a thread that serves the queues it is handed until they are calm, and then gives them
/// back.
fn serve_crowds(lines: Lines) -> mpsc::Sender<(Queue, oneshot::Sender<Queue>)> {
    let (crowds, mut handed) = mpsc::channel::<(Queue, oneshot::Sender<Queue>)>(1);
    let lost = lines.desk.lost.clone();
    let mut line = Line::new(lines, Purpose::Writing);
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
