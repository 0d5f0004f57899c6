//! The relay: takes events from the outbox to their subscriptions, at least once, in order per key.
//!
//! Rows are found because they are there, never by a cursor: ids are drawn before commits, so a
//! lower one may appear later. Scans start a moment behind what was seen last, since the beginning
//! of the index is full of dead rows, and from the very beginning now and then. A key whose head
//! cannot be delivered blocks only itself, until a scan from the beginning finds it in order. One
//! that is refused while others are taken waits for a person in the end.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;

use crate::attempt::panic_message;
use crate::error::Error;
use crate::lanes::{Lane, Lanes};
use crate::limits;
use crate::loops::vital;
use crate::published::Published;
use crate::retry::RetryPolicy;
use crate::sabotage::Bug;
use crate::sink::{Delivered, SKIPPED, Sink, Undelivered};
use crate::store::outbox::{self, Head, Row};
use crate::worker::Worker;

/// Scans start this far behind what was seen last. What is committed later than that is found by
/// the next scan from the beginning; nothing of its key can have overtaken it.
const BEHIND: TimeDelta = TimeDelta::milliseconds(250);
/// How long events gather before a scan: each scan and each deletion has a price of its own.
pub(crate) const GATHER: Duration = Duration::from_millis(5);
/// How often a scan starts from the beginning.
const SWEEP: TimeDelta = TimeDelta::seconds(10);
/// How often the shards are shared out anew.
const BALANCE: TimeDelta = TimeDelta::seconds(2);

/// Where events go, by the stable name of each subscription.
#[derive(Default)]
pub(crate) struct Subscriptions {
    sinks: HashMap<String, Arc<dyn Sink>>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, name: &str, sink: Arc<dyn Sink>) {
        self.sinks.insert(name.to_owned(), sink);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
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
    let mut relay = Relay::new(Arc::clone(worker));
    worker.pulses.enter(PART, worker.settings.poll, worker.clock.now());
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        tokio::select! {
            () = worker.drain.cancelled() => {}
            () = worker.lost.cancelled() => {}
            () = vital("relay", worker.lost.clone(), relay.run()) => {}
        }
    });
}

/// What came of delivering the rows of a lane.
struct Ran {
    lane: Lane,
    delivered: Vec<i64>,
    /// The rest, from the row that failed.
    left: Vec<i64>,
    failed: Option<Failed>,
}

/// A row that could not be delivered.
struct Failed {
    head: Head,
    /// The receiver's own wish for when to try again.
    after: Option<Duration>,
}

/// One worker's relay.
pub(crate) struct Relay {
    worker: Arc<Worker>,
    subscriptions: Arc<Vec<String>>,
    shards: Vec<i16>,
    balanced: Option<DateTime<Utc>>,
    lanes: Lanes,
    running: FuturesUnordered<BoxFuture<'static, Ran>>,
    /// Delivered, but still in the outbox.
    delivered: Vec<i64>,
    /// How many were delivered.
    count: usize,
    position: Position,
}

/// Where scans start.
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// The next scan starts after this row.
    pub(crate) from: i64,
    /// The last row of each scan, and when.
    seen: VecDeque<(DateTime<Utc>, i64)>,
    swept: Option<DateTime<Utc>>,
}

impl Position {
    /// Sooner if a block has run out; but sweeps have a price, and blocks may be many.
    pub(crate) fn sweep_is_due(&self, now: DateTime<Utc>, unblocking: bool) -> bool {
        if Bug::OutboxCursor.is_on() {
            return self.swept.is_none();
        }
        let pause = if unblocking { SWEEP / 10 } else { SWEEP };
        self.swept.is_none_or(|swept| now - swept >= pause)
    }

    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.from = 0;
        self.swept = Some(now);
    }

    /// A scan has ended at `last`: a full one goes on from there, else the next one starts where
    /// things stood a moment ago.
    pub(crate) fn scanned(&mut self, last: Option<i64>, full: bool, now: DateTime<Utc>) {
        if let Some(last) = last {
            self.seen.push_back((now, last));
        }
        if let (Some(last), true) = (last, full) {
            self.from = last;
            return;
        }
        while let Some((at, last)) = self.seen.front()
            && now - *at >= BEHIND
        {
            self.from = *last;
            self.seen.pop_front();
        }
    }
}

impl Relay {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        Self {
            subscriptions: worker.subscriptions.names(),
            worker,
            shards: Vec::new(),
            balanced: None,
            lanes: Lanes::default(),
            running: FuturesUnordered::new(),
            delivered: Vec::new(),
            count: 0,
            position: Position::default(),
        }
    }

    async fn run(&mut self) {
        loop {
            let turn = self.turn().await;
            if turn.is_ok() {
                self.worker.pulses.beat(PART, self.worker.clock.now());
            }
            match turn {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the relay failed; it goes on"),
            }
            let worker = Arc::clone(&self.worker);
            let ran = tokio::select! {
                () = worker.published.notified() => {
                    worker.clock.sleep(GATHER).await;
                    None
                }
                () = worker.clock.sleep(worker.settings.poll) => None,
                Some(ran) = self.running.next() => Some(ran),
            };
            if let Some(ran) = ran {
                self.finish(ran).await;
            }
        }
    }

    /// Delivers for this worker until nothing is left that may be delivered now. Returns how many
    /// events that were.
    pub(crate) async fn run_until_idle(&mut self, worker: &Arc<Worker>) -> Result<usize, Error> {
        if !Arc::ptr_eq(&self.worker, worker) {
            *self = Self::new(Arc::clone(worker));
        }
        (self.position, self.balanced, self.count) = (Position::default(), None, 0);
        loop {
            let more = self.turn().await?;
            if let Some(ran) = self.running.next().await {
                self.finish(ran).await;
            } else if !more && self.delivered.is_empty() {
                return Ok(self.count);
            }
        }
    }

    /// Looks for rows, delivers what may be delivered, forgets what is. Says whether there is more
    /// to do at once.
    async fn turn(&mut self) -> Result<bool, Error> {
        let now = self.worker.clock.now();
        if self.balanced.is_none_or(|balanced| now - balanced >= BALANCE) {
            self.balance(now).await?;
        }
        // Rows in memory come first: reading them once more would bring nothing new.
        let full = if self.lanes.has_ready() { false } else { self.scan(now).await? };
        loop {
            self.start();
            match self.running.next().now_or_never() {
                Some(Some(ran)) => self.finish(ran).await,
                Some(None) | None => break,
            }
        }
        self.forget().await?;
        Ok(full)
    }

    fn start(&mut self) {
        while self.running.len() < limits::DELIVERIES_MAX
            && let Some((lane, rows, skipped)) = self.lanes.start()
        {
            if let Some(sink) = self.worker.subscriptions.sinks.get(&lane.subscription) {
                self.running.push(Box::pin(deliver(Arc::clone(sink), lane, rows, skipped)));
            }
        }
    }

    /// Shares the shards out anew; with new ones come the blocks of whoever had them before. Hears
    /// what people have asked of keys.
    async fn balance(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        let pool = self.worker.store.relay();
        let shards = outbox::balance_shards(pool, self.worker.worker_id, &[]).await?;
        let mut held = shards.held;
        held.sort_unstable();
        if held.len() > shards.fair && self.running.is_empty() {
            let give_back = held.split_off(shards.fair);
            self.lanes.drop_waiting();
            outbox::balance_shards(pool, self.worker.worker_id, &give_back).await?;
        }
        if held != self.shards {
            self.lanes.recall(outbox::blocks(pool).await?);
            self.shards = held;
            self.position = Position::default();
        }
        for asked in outbox::commanded(pool).await? {
            self.lanes.obey(&asked.lane, asked.commands, asked.skipped, now);
        }
        self.balanced = Some(now);
        Ok(())
    }

    /// Looks for rows, if there is room for them. Says whether there may be more.
    async fn scan(&mut self, now: DateTime<Utc>) -> Result<bool, Error> {
        if self.lanes.len() >= limits::RELAY_ROWS_MAX || self.shards.is_empty() {
            return Ok(false);
        }
        if self.position.sweep_is_due(now, self.lanes.unblocking(now)) {
            self.position.sweep(now);
            self.lanes.sweep(now);
        }
        let rows = outbox::scan(
            self.worker.store.relay(),
            &self.shards,
            &self.subscriptions,
            self.position.from,
            limits::SCAN_MAX,
        )
        .await?;
        let full = rows.len() == limits::SCAN_MAX;
        self.position.scanned(rows.last().map(|row| row.outbox_id), full, now);
        self.lanes.offer(rows);
        Ok(full)
    }

    /// Takes delivered rows out of the outbox. If this is not done, they are delivered again.
    async fn forget(&mut self) -> Result<(), Error> {
        if self.delivered.is_empty() {
            return Ok(());
        }
        let worker = &self.worker;
        worker.probes.reach("outbox.delete.before").await;
        if !outbox::delete(worker.store.relay(), worker.worker_id, &self.delivered).await? {
            worker.lost.cancel();
        }
        self.lanes.forget(&self.delivered);
        self.delivered.clear();
        Ok(())
    }

    async fn finish(&mut self, ran: Ran) {
        let metrics = &self.worker.metrics;
        metrics.delivered.inc_by(ran.delivered.len() as u64);
        self.count += ran.delivered.len();
        self.lanes.took(&ran.lane.subscription, ran.delivered.len());
        let is_new = !ran.delivered.is_empty();
        self.delivered.extend(ran.delivered);
        let pool = self.worker.store.relay();
        let Some(failed) = ran.failed else {
            if self.lanes.done(ran.lane.clone())
                && let Err(error) = outbox::unblock(pool, &ran.lane).await
            {
                tracing::warn!(%error, "a block that is over could not be forgotten");
            }
            return;
        };
        self.block(ran.lane, &ran.left, failed, is_new).await;
    }

    /// Keeps a lane from being delivered for a while, or until a person decides.
    async fn block(&mut self, lane: Lane, left: &[i64], failed: Failed, is_new: bool) {
        let worker = Arc::clone(&self.worker);
        let failures = self.lanes.failed(&lane, is_new);
        let Failed { head, after } = failed;
        let now = worker.clock.now();
        let retry_at = retry_at(after, failures.attempts, now);
        let is_parked = failures.refusals >= worker.settings.refusals_max.max(1);
        let until = (!is_parked).then_some(retry_at);
        let blocked = self.lanes.block(lane.clone(), left, failures, until);
        let kept =
            outbox::block(worker.store.relay(), worker.worker_id, (&lane, &head), &blocked, now);
        let kept = kept.await;
        worker.metrics.undelivered.inc();
        let (subscription, key, event) = (&lane.subscription, &lane.key, &head.event_id);
        let (attempts, why) = (failures.attempts, &head.error);
        tracing::warn!(
            subscription,
            key,
            event,
            attempts,
            "an event could not be delivered: {why}"
        );
        match kept {
            Ok(()) if is_parked => {
                worker.metrics.keys_parked.inc();
                tracing::error!(
                    subscription,
                    key,
                    event,
                    "its receiver takes others: it is parked"
                );
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "a block could not be kept");
                // Nobody could find it, to decide about it.
                self.lanes.block(lane, left, failures, Some(retry_at));
            }
        }
    }
}

/// Delivers rows of one lane, one after the other, until one fails. In the place of the one that is
/// to be skipped, it says so.
async fn deliver(
    sink: Arc<dyn Sink>,
    lane: Lane,
    rows: VecDeque<Row>,
    skipped: Option<i64>,
) -> Ran {
    let mut ran =
        Ran { lane, delivered: Vec::with_capacity(rows.len()), left: Vec::new(), failed: None };
    for row in rows {
        if ran.failed.is_none() || Bug::OutboxOvertakes.is_on() {
            ran.failed = deliver_row(&*sink, &row, skipped == Some(row.outbox_id)).await.err();
        }
        if Bug::OutboxForgets.is_on() {
            ran.failed = None;
        }
        if ran.failed.is_none() {
            ran.delivered.push(row.outbox_id);
        } else {
            ran.left.push(row.outbox_id);
        }
    }
    ran
}

async fn deliver_row(sink: &dyn Sink, row: &Row, is_skipped: bool) -> Result<(), Failed> {
    let failed = |number: &dyn fmt::Display, undelivered: Undelivered| Failed {
        head: Head {
            outbox_id: row.outbox_id,
            event_id: format!("{}/{number}", row.instance_id),
            instance_id: row.instance_id,
            // What cannot be kept could not be shown.
            error: undelivered.message.replace('\0', "\u{fffd}"),
        },
        after: undelivered.after,
    };
    let event = match published(row) {
        Ok(event) => event,
        // Nobody can be told what it was, and whoever skips it has seen that.
        Err(_) if is_skipped => return Ok(()),
        Err(unreadable) => return Err(failed(&"?", unreadable)),
    };
    let id = format!("{}/{}", row.instance_id, event.number);
    let skipped = is_skipped.then(|| json!({ "skipped": event.kind }).to_string());
    let delivery = sink.deliver(Delivered {
        id: &id,
        kind: if is_skipped { SKIPPED } else { &event.kind },
        workflow: &row.workflow,
        key: &row.key,
        instance_id: row.instance_id,
        number: event.number,
        at: row.at,
        data: skipped.as_deref().unwrap_or(event.data.get()),
    });
    let delivery = AssertUnwindSafe(delivery).catch_unwind();
    let delivered = match tokio::time::timeout(limits::DELIVERY_TIMEOUT, delivery).await {
        Ok(Ok(delivered)) => delivered,
        Ok(Err(panic)) => Err(undelivered(&panic_message(&*panic))),
        Err(_) => Err(undelivered("no answer in time")),
    };
    delivered.map_err(|undelivered| failed(&event.number, undelivered))
}

/// The event of a row, as its record has it.
fn published(row: &Row) -> Result<Published<'_>, Undelivered> {
    let unreadable =
        |why: &dyn fmt::Display| undelivered(&format!("the record's events cannot be read: {why}"));
    let events: Vec<Published<'_>> =
        serde_json::from_str(&row.events).map_err(|error| unreadable(&error))?;
    let ordinal = usize::try_from(row.ordinal).ok();
    let event = ordinal.and_then(|ordinal| events.into_iter().nth(ordinal));
    event.ok_or_else(|| unreadable(&"there are fewer of them"))
}

fn undelivered(message: &str) -> Undelivered {
    Undelivered { message: message.to_owned(), after: None }
}

/// When a failed delivery is tried again: a second to five minutes later.
fn retry_at(after: Option<Duration>, attempts: u32, now: DateTime<Utc>) -> DateTime<Utc> {
    let policy = RetryPolicy {
        initial: Duration::from_secs(1),
        delay_max: Duration::from_secs(300),
        attempts_max: u32::MAX,
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    let delay = policy.delay_after(attempts, 0.0).unwrap_or(policy.delay_max);
    let delay = delay.max(after.unwrap_or_default());
    now + TimeDelta::from_std(delay).unwrap_or(TimeDelta::seconds(300))
}
