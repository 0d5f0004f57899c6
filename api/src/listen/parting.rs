//! When a connection is closed at the end, although its client has not gone.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a connection lives on that is idle, sends slowly, or does not read.
pub(super) const PARTING: Duration = Duration::from_secs(2);
/// How long a request that is being answered may take. What writes answers sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer that came after [`PARTING`] may take to be read.
const READING: Duration = Duration::from_secs(1);

/// Whether a request of a connection is being answered.
#[derive(Default)]
pub(super) struct Activity(watch::Sender<bool>);

/// One is, until this is dropped.
pub(super) struct ActivityGuard(watch::Sender<bool>);

impl Activity {
    pub(super) fn start(&self) -> ActivityGuard {
        self.0.send_replace(true);
        ActivityGuard(self.0.clone())
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Completes when a connection is not waited for any longer, with whether a request was being
/// answered.
#[expect(clippy::disallowed_methods, reason = "it waits for clients")]
pub(super) async fn patience(
    closing: CancellationToken,
    mut under_way: watch::Receiver<bool>,
) -> bool {
    closing.cancelled().await;
    let begun = Instant::now();
    sleep_until(begun + PARTING).await;
    if !*under_way.borrow() {
        return false;
    }
    // An error says that the connection has gone, and then nobody waits for this any more.
    let answered = timeout_at(begun + PATIENCE, under_way.wait_for(|is_under_way| !is_under_way));
    if answered.await.is_err() {
        return true;
    }
    sleep(READING).await;
    false
}
