//! The feed of one subscription: it reads what waits, delivers it, and keeps what came of it.
//!
//! Nothing here is shared with other subscriptions: a receiver that hangs or refuses costs its own
//! one. A key whose head cannot be delivered blocks only itself; one that is refused while others
//! are taken waits for a person in the end. What is blocked is in the database and not in memory.
//!
//! Nothing of a key overtakes its head: while a key has a block, what is new of it is not read. Once
//! the head is taken, the block is over; a sweep that begins afterwards brings the key's rows from
//! the beginning, and the block is forgotten when the sweep has come to its end.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use tokio::sync::watch;

use super::GATHER;
use super::allotment::{Allotment, Tie};
use super::breaker::{Breaker, Permit};
use super::deliver::{Failed, Outcome, Ran, retry_at};
use super::marks::Marks;
use super::position::Position;
use super::under_way::UnderWay;
use super::unkept::{Unkept, fenced};
use crate::error::Error;
use crate::lanes::{Attempt, Failures, Known, Lanes, Source};
use crate::limits;
use crate::sabotage::Bug;
use crate::sink::Sink;
use crate::store::key_block::{self, Block, Over};
use crate::store::outbox::{self, Page, Row, Span};
use crate::worker::Worker;

/// How often the database is asked for heads that are due.
const DUE_PAUSE: TimeDelta = TimeDelta::milliseconds(500);
/// How long a shard that is to go is kept for deliveries under way.
const LET_GO_WAIT: TimeDelta = TimeDelta::seconds(5);
/// One start in so many is of something old, whatever is new.
const OLD_SHARE: usize = 8;

/// One subscription of one worker.
pub(super) struct Feed {
    worker: Arc<Worker>,
    subscription: String,
    sink: Arc<dyn Sink>,
    allotment: watch::Receiver<Allotment>,
    tie: Arc<Tie>,
    shards: Arc<Vec<i16>>,
    /// The allotment that is not followed yet, and since when.
    letting_go: Option<(u64, DateTime<Utc>)>,
    lanes: Lanes,
    under_way: UnderWay,
    breaker: Breaker,
    marks: Marks,
    /// When the receiver has taken something the last time.
    taken_at: Option<DateTime<Utc>>,
    unkept: Unkept,
    position: Position,
    /// When the database was asked for what is due, and whether there was more.
    looked_for_due: Option<(DateTime<Utc>, bool)>,
    /// How many were delivered.
    count: usize,
}

/// What a turn has brought.
struct Turn {
    /// There is more to read at once.
    has_more: bool,
    /// Deliveries have ended.
    has_finished: bool,
}

impl Feed {
    pub(super) fn new(
        worker: Arc<Worker>,
        (subscription, sink): (String, Arc<dyn Sink>),
        (allotment, tie): (watch::Receiver<Allotment>, Arc<Tie>),
    ) -> Self {
        let feed = Self {
            worker,
            subscription,
            sink,
            allotment,
            tie,
            shards: Arc::default(),
            letting_go: None,
            lanes: Lanes::default(),
            under_way: UnderWay::default(),
            breaker: Breaker::default(),
            marks: Marks::default(),
            taken_at: None,
            unkept: Unkept::default(),
            position: Position::default(),
            looked_for_due: None,
            count: 0,
        };
        feed.show();
        feed
    }

    pub(super) async fn run(mut self) {
        let worker = Arc::clone(&self.worker);
        loop {
            match self.turn().await {
                Ok(turn) => {
                    self.tie.turned();
                    if turn.has_more {
                        continue;
                    }
                }
                Err(error) => {
                    let subscription = &self.subscription;
                    tracing::warn!(%error, subscription, "the relay failed; it goes on");
                }
            }
            let pause = self.breaker.pause(worker.clock.now()).and_then(|it| it.to_std().ok());
            let pause = pause.filter(|it| !it.is_zero()).unwrap_or(worker.settings.poll);
            let ran = tokio::select! {
                () = self.tie.hint.notified() => {
                    worker.clock.sleep(GATHER).await;
                    None
                }
                Ok(()) = self.allotment.changed() => None,
                () = worker.clock.sleep(pause.min(worker.settings.poll)) => None,
                Some(ran) = self.under_way.next() => Some(ran),
            };
            if let Some(ran) = ran {
                self.finish(ran);
            }
        }
    }

    /// Delivers until nothing is left that may be delivered now. Returns how many events that were.
    pub(super) async fn run_until_idle(&mut self) -> Result<usize, Error> {
        self.position.restart();
        (self.looked_for_due, self.count) = (None, 0);
        loop {
            let turn = self.turn().await?;
            // Whatever it has delivered, it can keep nothing of it.
            if self.worker.lost.is_cancelled() {
                return Ok(0);
            }
            if let Some(ran) = self.under_way.next().await {
                self.finish(ran);
            } else if !turn.has_more && !turn.has_finished {
                return Ok(self.count);
            }
        }
    }

    /// Looks for rows, delivers what may be delivered, keeps what came of it.
    async fn turn(&mut self) -> Result<Turn, Error> {
        self.unkept.look_again(&self.worker, &self.subscription).await?;
        self.keep().await?;
        self.follow();
        let mut turn = Turn { has_more: false, has_finished: false };
        if !self.shards.is_empty() {
            self.make_room().await?;
            turn.has_more |= self.look().await?;
            turn.has_more |= self.look_for_due().await?;
            turn.has_more |= self.sweep().await?;
        }
        loop {
            self.start();
            match self.under_way.next().now_or_never() {
                Some(Some(ran)) => {
                    self.finish(ran);
                    turn.has_finished = true;
                }
                Some(None) | None => break,
            }
        }
        self.keep().await?;
        self.follow();
        self.show();
        Ok(turn)
    }

    async fn keep(&mut self) -> Result<(), Error> {
        let gone = self.unkept.delete(&self.worker).await?;
        self.lanes.forget(&gone);
        if self.unkept.keep(&self.worker, &self.subscription, &mut self.marks).await? {
            self.position.want_sweep();
        }
        Ok(())
    }

    /// Delivers of those shards alone that are allotted, and says so once nothing of others is under
    /// way.
    fn follow(&mut self) {
        let now = self.worker.clock.now();
        let allotment = self.allotment.borrow_and_update().clone();
        if self.shards != allotment.shards {
            let has_gained = allotment.shards.iter().any(|it| !self.shards.contains(it));
            self.shards = allotment.shards;
            self.lanes.keep_shards(&self.shards);
            if has_gained {
                self.position.restart();
            } else {
                self.position.give_up_sweep();
            }
            self.letting_go = Some((allotment.number, now));
        }
        let Some((number, since)) = self.letting_go else { return };
        let is_over_due = now - since >= LET_GO_WAIT;
        let may_follow = is_over_due || self.unkept.is_empty();
        if may_follow && !self.under_way.any_beyond(&self.shards) {
            self.unkept.let_go(&self.shards);
            self.tie.follow(number);
            self.letting_go = None;
        } else if is_over_due {
            self.under_way.cut_beyond(&self.shards);
            self.unkept.let_go(&self.shards);
        }
    }

    /// While the receiver takes nothing, what is new has to be seen all the same: it may take that.
    /// What waits goes back into the database, all but the newest.
    async fn make_room(&mut self) -> Result<(), Error> {
        if !self.breaker.is_open() || self.lanes.len() + limits::SCAN_MAX <= limits::FEED_ROWS_MAX {
            return Ok(());
        }
        let now = self.worker.clock.now();
        for postponed in self.lanes.postpone(limits::FEED_ROWS_KEPT) {
            self.unkept.block(Block {
                key: postponed.key,
                shard: postponed.shard,
                head: None,
                error: "the receiver takes nothing".to_owned(),
                failures: Failures::default(),
                until: Some(self.marks.next(now)),
                at: now,
                tried_at: None,
                heard: 0,
            });
        }
        self.keep().await
    }

    /// Reads a page of the outbox, if there is room for it.
    async fn read(&mut self, span: Span) -> Result<Page, Error> {
        let pool = self.worker.store.relay();
        let mut page = outbox::scan(pool, &self.shards, &self.subscription, span).await?;
        page.rows.retain(|row| !self.unkept.blocks(&row.key));
        Ok(page)
    }

    /// Looks for new rows. Says whether there may be more.
    async fn look(&mut self) -> Result<bool, Error> {
        let room = limits::FEED_ROWS_MAX.saturating_sub(self.lanes.len());
        // Rows in memory come first, unless their receiver takes nothing.
        if room == 0 || self.lanes.has_new() && !self.breaker.is_open() {
            return Ok(false);
        }
        let now = self.worker.clock.now();
        let (from, rows_max) = (self.position.from(), room.min(limits::SCAN_MAX));
        let page = self.read(Span { from, until: None, rows_max }).await?;
        self.position.looked(&page, now);
        self.lanes.offer(page.rows, Source::New);
        Ok(page.is_full)
    }

    /// Looks for heads that are to be tried again, and for what people ask of them. Says whether there
    /// may be more, since heads were gone.
    async fn look_for_due(&mut self) -> Result<bool, Error> {
        let now = self.worker.clock.now();
        let is_by_hand = self.worker.clock.is_manual();
        if let Some((looked, any_more)) = self.looked_for_due
            && !is_by_hand
            && now - looked < DUE_PAUSE
            && (!any_more || self.lanes.has_retry() || self.breaker.is_open())
        {
            return Ok(false);
        }
        let most = if self.breaker.is_open() { limits::DUE_PROBES_MAX } else { limits::DUE_MAX };
        let limit = most + self.under_way.old() + self.unkept.keys_waiting();
        let pool = self.worker.store.relay();
        let mut due = key_block::due(pool, &self.shards, &self.subscription, now, limit).await?;
        // Those that were not begun meanwhile may be others by now.
        self.lanes.drop_retries();
        self.looked_for_due = Some((now, due.retries.len() + due.headless.len() >= limit));
        let unkept = &self.unkept;
        self.lanes.retry(due.retries.into_iter().filter(|it| !unkept.blocks(&it.row.key)));
        let known = unkept.keys_over();
        due.headless.retain(|it| !known.contains(it.key.as_str()));
        let any_headless = !due.headless.is_empty();
        if any_headless {
            self.unkept.over(due.headless);
            self.keep().await?;
        }
        Ok(any_headless)
    }

    /// Reads a page of a sweep, if one is under way or due. Says whether there is more of it.
    async fn sweep(&mut self) -> Result<bool, Error> {
        let now = self.worker.clock.now();
        if self.breaker.is_open() {
            self.position.give_up_sweep();
            return Ok(false);
        }
        // New rows have room beside those that a sweep brings.
        let room = (limits::FEED_ROWS_MAX / 2).saturating_sub(self.lanes.len());
        let rests = !self.worker.clock.is_manual();
        if room == 0 || self.lanes.has_old() || !self.position.is_sweeping(now, rests) {
            return Ok(false);
        }
        let sweep = match self.position.sweep() {
            Some(sweep) => sweep,
            None => {
                let pool = self.worker.store.relay();
                let latest = key_block::latest_over(pool, &self.subscription).await?;
                self.position.begin_sweep(now, self.marks.next_after(now, latest))
            }
        };
        let (from, until) = (sweep.from, Some(sweep.until));
        let page = self.read(Span { from, until, rows_max: room.min(limits::SCAN_MAX) }).await?;
        let has_ended = self.position.swept(&page, now);
        self.lanes.offer(page.rows, Source::Sweep);
        if has_ended {
            self.unblock(sweep.until).await?;
        }
        Ok(!has_ended)
    }

    /// Forgets the blocks that were over when a sweep began that has come to its end.
    async fn unblock(&mut self, until: DateTime<Utc>) -> Result<(), Error> {
        let worker = &self.worker;
        let limit = limits::BLOCKS_MAX;
        loop {
            let pool = worker.store.relay();
            let (id, subscription) = (worker.worker_id, &self.subscription);
            let gone =
                key_block::unblock(pool, id, subscription, &self.shards, until, limit).await?;
            fenced(worker, gone.is_some());
            if gone.is_none_or(|gone| gone < limit) {
                self.position.unblocked();
                return Ok(());
            }
        }
    }

    fn start(&mut self) {
        let now = self.worker.clock.now();
        while let Some(attempt) = self.pick(now) {
            self.under_way.start(Arc::clone(&self.sink), attempt);
        }
    }

    /// What is delivered next: what is new before what is old, but one in so many; to a receiver that
    /// takes nothing the newest and what is due, in turns.
    fn pick(&mut self, now: DateTime<Utc>) -> Option<Attempt> {
        let (lanes, started) = (&mut self.lanes, self.under_way.started());
        match self.breaker.permit(self.under_way.len(), now) {
            Permit::None => None,
            permit @ (Permit::Any | Permit::Newest) => {
                let may_be_old = self.under_way.old() < limits::OLD_DELIVERIES_MAX;
                let is_old_first = may_be_old && started % OLD_SHARE == OLD_SHARE - 1;
                let old = if is_old_first { lanes.start_old() } else { None };
                let new = old.or_else(|| match permit {
                    Permit::Newest => lanes.start_newest(),
                    _ => lanes.start_new(),
                });
                new.or_else(|| if may_be_old { lanes.start_old() } else { None })
            }
            Permit::Probe => {
                let first = if started.is_multiple_of(2) { lanes.start_newest() } else { None };
                let second = first.or_else(|| lanes.start_old());
                let probe = second.or_else(|| lanes.start_newest())?;
                self.breaker.probed(now);
                Some(probe)
            }
        }
    }

    fn finish(&mut self, Ran { attempt, outcome }: Ran) {
        self.under_way.ended(&attempt);
        match outcome {
            Outcome::Cut => self.lanes.drop_lane(&attempt.row),
            Outcome::Failed(failed) if !Bug::OutboxForgets.is_on() => self.failed(attempt, failed),
            Outcome::Failed(_) | Outcome::Delivered => self.delivered(attempt),
        }
    }

    fn delivered(&mut self, attempt: Attempt) {
        self.worker.metrics.delivered.inc();
        self.count += 1;
        self.taken_at = Some(self.marks.next(self.worker.clock.now()));
        if self.breaker.succeeded() {
            let subscription = &self.subscription;
            tracing::info!(subscription, "the receiver of {subscription} takes events again");
            self.position.want_sweep();
        }
        let Row { outbox_id, key, .. } = attempt.row;
        self.unkept.delivered(outbox_id);
        match attempt.retry {
            None => self.lanes.delivered(&key),
            Some(Known { commands, .. }) => {
                self.unkept.over([Over { key, head: Some(outbox_id), commands }]);
            }
        }
    }

    /// Keeps a lane from being delivered for a while, or until a person decides.
    fn failed(&mut self, mut attempt: Attempt, failed: Failed) {
        if Bug::OutboxOvertakes.is_on() && attempt.retry.is_none() {
            match self.lanes.overtake(attempt.row) {
                Ok(()) => return,
                Err(row) => attempt.row = row,
            }
        }
        let now = self.worker.clock.now();
        let Attempt { row, retry, .. } = attempt;
        let failures = self.failures(retry);
        let is_parked = failures.refusals >= self.worker.settings.refusals_max.max(1);
        self.lanes.drop_lane(&row);
        self.worker.metrics.undelivered.inc();
        let (subscription, key, event) = (&self.subscription, &row.key, &failed.head.event_id);
        let (attempts, why) = (failures.attempts, &failed.error);
        tracing::warn!(
            subscription,
            key,
            event,
            attempts,
            "an event could not be delivered: {why}"
        );
        if self.breaker.failed(now) {
            tracing::warn!(
                subscription,
                "the receiver of {subscription} takes nothing; it is asked little until it does"
            );
        }
        self.unkept.block(Block {
            shard: row.shard,
            head: Some(failed.head),
            error: failed.error,
            failures,
            until: (!is_parked).then(|| retry_at(failed.after, failures.attempts, now)),
            at: now,
            tried_at: Some(self.marks.next(now)),
            heard: retry.map_or(0, |known| known.commands),
            key: row.key,
        });
    }

    /// How often a head has failed that has failed once more. It was refused if others have been
    /// taken since the time before.
    fn failures(&self, retry: Option<Known>) -> Failures {
        let Some(Known { failures, tried_at, .. }) = retry else {
            return Failures { attempts: 1, refusals: 0 };
        };
        let has_taken = tried_at.is_some_and(|at| self.taken_at.is_some_and(|taken| taken > at));
        Failures {
            attempts: failures.attempts.saturating_add(1),
            refusals: failures.refusals.saturating_add(u32::from(has_taken)),
        }
    }

    fn show(&self) {
        let metrics = &self.worker.metrics;
        metrics.show_feed(&self.subscription, self.under_way.len(), self.breaker.is_open());
    }
}
