//! The loops of a worker. Each waits for a hint or for its poll, and does one thing.
//!
//! Hints are lost when connections are; every loop is sufficient without them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::attempt::panic_message;
use crate::error::Error;
use crate::limits;
use crate::store::Hint;
use crate::worker::Worker;

/// The channel on which processes tell each other that something may be due.
pub(crate) const CHANNEL: &str = "amends";

/// Starts the loops. They end when the worker drains or is lost.
pub(crate) fn start(worker: &Arc<Worker>) {
    let poll = worker.settings.poll;
    repeat(
        worker,
        "claim",
        poll,
        |worker| &worker.due,
        |worker| async move {
            // There may be more; what comes in from outside is not to stand in line behind it.
            while worker.claim().await? > 0 {
                worker.pulses.beat("claim", worker.clock.now());
                while worker.committer.is_behind() && !worker.lost.is_cancelled() {
                    worker.clock.sleep(Duration::from_millis(2)).await;
                }
            }
            Ok(())
        },
    );
    repeat(
        worker,
        "mail",
        poll,
        |worker| &worker.mail,
        |worker| async move { worker.deliver_mail().await },
    );
    repeat(
        worker,
        "children",
        poll,
        |worker| &worker.never,
        |worker| async move { worker.tell_parents().await.map(drop) },
    );
    repeat(
        worker,
        "suspects",
        poll,
        |worker| &worker.never,
        |worker| async move { worker.try_suspects().await.map(drop) },
    );
    let watch = worker.settings.lease / 6;
    repeat(
        worker,
        "take-over",
        watch,
        |worker| &worker.never,
        |worker| async move { worker.take_over_lapsed().await.map(drop) },
    );
    repeat(
        worker,
        "dependency",
        poll,
        |worker| &*worker.tending,
        |worker| async move { crate::dependency::tend(&worker).await.map(drop) },
    );
    repeat(
        worker,
        "leftovers",
        limits::LEFTOVER_PAUSE,
        |worker| &worker.never,
        |worker| async move { worker.lay_aside_leftovers().await.map(drop) },
    );
    tokio::spawn(listen(Arc::clone(worker)));
    crate::relay::start(worker);
}

/// Does `act` at every hint and at every poll, until the worker leaves.
fn repeat<F>(
    worker: &Arc<Worker>,
    what: &'static str,
    poll: Duration,
    hint: fn(&Worker) -> &Notify,
    act: fn(Arc<Worker>) -> F,
) where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let worker = Arc::clone(worker);
    worker.pulses.enter(what, poll, worker.clock.now());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = worker.drain.cancelled() => return,
                () = worker.lost.cancelled() => return,
                () = hint(&worker).notified() => {}
                () = worker.clock.sleep(poll) => {}
            }
            match AssertUnwindSafe(act(Arc::clone(&worker))).catch_unwind().await {
                Ok(Ok(())) => worker.pulses.beat(what, worker.clock.now()),
                Ok(Err(error)) => tracing::warn!(%error, "the {what} loop failed; it goes on"),
                Err(panic) => {
                    let message = panic_message(&*panic);
                    tracing::error!(message, "the {what} loop panicked; it goes on");
                }
            }
        }
    });
}

/// Runs a part of a worker on a thread and a runtime of its own, so that it does not take turns
/// with instances.
pub(crate) fn apart(
    name: &str,
    part: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || runtime.block_on(part))?;
    Ok(())
}

/// Runs what a worker cannot be without. If it panics, the worker is lost: whoever takes it over
/// begins with what is durable, and this process becomes another worker.
pub(crate) async fn vital(what: &str, lost: CancellationToken, part: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(part).catch_unwind().await {
        let message = panic_message(&*panic);
        tracing::error!(message, "the {what} panicked; this worker is lost");
        lost.cancel();
    }
}

/// Passes on hints from other processes.
async fn listen(worker: Arc<Worker>) {
    loop {
        let heard = tokio::select! {
            () = worker.lost.cancelled() => return,
            heard = hear(&worker) => heard,
        };
        if let Err(error) = heard {
            tracing::debug!(%error, "the listener lost its connection; polling goes on");
        }
        worker.clock.sleep(Duration::from_secs(1)).await;
    }
}

async fn hear(worker: &Worker) -> Result<(), sqlx::Error> {
    let mut listener = worker.store.listener().await?;
    listener.listen(CHANNEL).await?;
    // What came before the listener did is found by looking.
    worker.due.notify_one();
    worker.mail.notify_one();
    loop {
        if listener.recv().await?.payload() == Hint::Slots.as_str() {
            worker.tending.notify_one();
        } else {
            worker.due.notify_one();
            worker.mail.notify_one();
        }
    }
}
