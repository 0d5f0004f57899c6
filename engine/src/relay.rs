//! The relay: takes events from the outbox to their subscriptions, at least once, in order per key.
//!
//! Each subscription has a feed of its own, below. What they have in common is here: which shards
//! this worker delivers, and that there is something to look for.

mod allotment;
mod breaker;
mod deliver;
mod feed;
mod locked;
mod marks;
mod position;
mod under_way;
mod unkept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;

use crate::error::Error;
use crate::loops::vital;
use crate::sink::Sink;
use crate::store::outbox;
use crate::worker::Worker;
use allotment::Allotter;
use feed::Feed;
pub(crate) use position::Position;

/// How long events gather before a scan: each scan and each deletion has a price of its own.
pub(crate) const GATHER: Duration = Duration::from_millis(5);
/// How often the shards are shared out anew.
const BALANCE: TimeDelta = TimeDelta::seconds(2);
/// How often to look whether the feeds have let go of a shard.
const LET_GO_POLL: Duration = Duration::from_millis(50);

/// Where events go, by the stable name of each subscription.
#[derive(Clone, Default)]
pub(crate) struct Subscriptions {
    sinks: BTreeMap<String, Arc<dyn Sink>>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, name: &str, sink: Arc<dyn Sink>) {
        self.sinks.insert(name.to_owned(), sink);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.sinks.len()
    }

    pub(crate) fn names(&self) -> Arc<Vec<String>> {
        Arc::new(self.sinks.keys().cloned().collect())
    }
}

/// What it is called among the parts of a worker.
const PART: &str = "relay";

/// Starts the relay of a worker. It ends when the worker drains or is lost.
pub(crate) fn start(worker: &Arc<Worker>) {
    if worker.subscriptions.is_empty() {
        return;
    }
    worker.pulses.enter(PART, worker.settings.poll, worker.clock.now());
    let mut relay = Relay::new(Arc::clone(worker));
    for feed in std::mem::take(&mut relay.feeds) {
        spawn(worker, feed.run());
    }
    spawn(worker, async move { relay.run().await });
}

fn spawn(worker: &Arc<Worker>, part: impl Future<Output = ()> + Send + 'static) {
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        tokio::select! {
            () = worker.drain.cancelled() => {}
            () = worker.lost.cancelled() => {}
            () = vital("relay", worker.lost.clone(), part) => {}
        }
    });
}

/// One worker's relay.
pub(crate) struct Relay {
    worker: Arc<Worker>,
    allotter: Allotter,
    /// Shards that are to go, once every feed has let go of them.
    leaving: Vec<i16>,
    /// Until they have tasks of their own.
    feeds: Vec<Feed>,
}

impl Relay {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        let mut allotter = Allotter::new();
        let sinks = worker.subscriptions.sinks.iter();
        let feeds = sinks.map(|(name, sink)| {
            let receiver = (name.clone(), Arc::clone(sink));
            Feed::new(Arc::clone(&worker), receiver, allotter.tie())
        });
        let feeds = feeds.collect();
        Self { worker, allotter, leaving: Vec::new(), feeds }
    }

    async fn run(&mut self) {
        let worker = Arc::clone(&self.worker);
        let mut next: Option<DateTime<Utc>> = None;
        loop {
            let now = worker.clock.now();
            let may_give = !self.leaving.is_empty() && self.allotter.is_followed();
            if may_give || next.is_none_or(|next| next <= now) {
                match self.balance().await {
                    Ok(()) => next = Some(now + BALANCE),
                    Err(error) => {
                        tracing::warn!(%error, "shards could not be shared out; that goes on");
                        worker.clock.sleep(worker.settings.poll).await;
                    }
                }
            }
            if next.is_some_and(|next| next > now) && self.allotter.all_turned() {
                worker.pulses.beat(PART, now);
            }
            let is_idle = self.leaving.is_empty();
            let pause = if is_idle { worker.settings.poll } else { LET_GO_POLL };
            tokio::select! {
                () = worker.published.notified() => self.allotter.hint(),
                () = worker.clock.sleep(pause) => {}
            }
        }
    }

    /// Delivers for this worker until nothing is left that may be delivered now. Returns how many
    /// events that were.
    pub(crate) async fn run_until_idle(&mut self, worker: &Arc<Worker>) -> Result<usize, Error> {
        if !Arc::ptr_eq(&self.worker, worker) {
            *self = Self::new(Arc::clone(worker));
        }
        self.balance().await?;
        // Each to its end, whatever becomes of the others.
        let counts = join_all(self.feeds.iter_mut().map(Feed::run_until_idle)).await;
        let counts = counts.into_iter().collect::<Result<Vec<_>, _>>()?;
        if !self.leaving.is_empty() {
            self.balance().await?;
        }
        Ok(counts.iter().sum())
    }

    /// Shares the shards out anew. One that is to go is given back once every feed has let go of it.
    async fn balance(&mut self) -> Result<(), Error> {
        let may_give = self.allotter.is_followed();
        let give_back = if may_give { std::mem::take(&mut self.leaving) } else { Vec::new() };
        let (pool, worker_id) = (self.worker.store.relay(), self.worker.worker_id);
        let shards = outbox::balance_shards(pool, worker_id, &give_back).await?;
        let mut held = shards.held;
        held.sort_unstable();
        self.leaving = held.split_off(shards.fair.min(held.len()));
        self.allotter.allot(&held);
        Ok(())
    }
}
