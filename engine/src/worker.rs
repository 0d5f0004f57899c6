//! This process as a worker: what it holds, and the loops that find it more.
//!
//! A worker is one incarnation: when it loses its lease it drops everything it holds and is gone;
//! the engine then becomes another worker under another id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::{NoContext, Timestamp, Uuid};

use crate::clock::Clock;
use crate::clock_offset::ClockOffset;
use crate::committer::{Committer, Desk};
use crate::dependency::Dependencies;
use crate::drive::drive;
use crate::engine::Settings;
use crate::error::Error;
use crate::instance::{Instance, Verdict};
use crate::intake::Newborn;
use crate::lease::{Heartbeat, Lease};
use crate::limits;
use crate::lost_claims::LostClaims;
use crate::metrics::Metrics;
use crate::probe::Probes;
use crate::pulse::Pulses;
use crate::quarantine::{Quarantine, Standing};
use crate::registry::Registry;
use crate::relay::Subscriptions;
use crate::sabotage::Bug;
use crate::schedule::{Definitions, ZONES};
use crate::status::Status;
use crate::store::worker::{self as rows, NewWorker, TakeOver};
use crate::store::{Hint, Purpose, Store, leftover, mail};
use crate::trust::Trust;
use crate::turns::Turns;

/// What a process is made of, whichever worker it is.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) schedules: Arc<Definitions>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) probes: Probes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) endings: broadcast::Sender<(Uuid, Status)>,
}

/// One incarnation of this process as a worker.
pub(crate) struct Worker {
    pub(crate) worker_id: Uuid,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) probes: Probes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) endings: broadcast::Sender<(Uuid, Status)>,
    pub(crate) committer: Committer,
    pub(crate) dependencies: Dependencies,
    lease: Arc<Lease>,
    pub(crate) permits: Arc<Semaphore>,
    held: Mutex<HashMap<Uuid, Arc<Instance>>>,
    pub(crate) lost_claims: Mutex<LostClaims>,
    pub(crate) quarantine: Mutex<Quarantine>,
    /// When it began to live.
    pub(crate) since: DateTime<Utc>,
    pub(crate) tasks: TaskTracker,
    /// Nothing new is begun; what is held is let go of at the next step.
    pub(crate) drain: CancellationToken,
    /// When what is still under way then is handed over as it is.
    drain_until: OnceLock<Instant>,
    /// This worker's row is gone. It writes nothing any more.
    pub(crate) lost: CancellationToken,
    heartbeat: CancellationToken,
    /// Work may be due.
    pub(crate) due: Notify,
    /// Held instances may have mail.
    pub(crate) mail: Notify,
    /// Rung by nobody: for what only time brings.
    pub(crate) never: Notify,
    /// There is a dependency to look after.
    pub(crate) tending: Arc<Notify>,
    /// Events may wait in the outbox.
    pub(crate) published: Arc<Notify>,
    pub(crate) pulses: Pulses,
    pub(crate) turns: Mutex<Turns>,
}

impl Worker {
    /// Registers a new worker and starts its heartbeat.
    pub(crate) async fn register(parts: Parts) -> Result<Arc<Self>, Error> {
        let schedules = Arc::clone(&parts.schedules);
        let mut worker = Self::without_row(parts);
        let worker_id = worker.worker_id;
        let takes_up = worker.settings.instances_max > 0;
        let workflows = worker.registry.iter().filter(|_| takes_up);
        let workflows = workflows.map(|it| rows::version_name(it.name(), it.version()));
        let subscriptions = worker.subscriptions.names();
        let row = NewWorker {
            worker_id,
            name: &worker.settings.name,
            lease: worker.settings.lease,
            relays: !worker.subscriptions.is_empty(),
            workflows: &workflows.collect::<Vec<_>>(),
            subscriptions: &subscriptions,
            schedules: &schedules.texts(),
            zones: ZONES,
        };
        worker.store.acknowledged().hold(worker.lost.clone());
        rows::register(worker.store.pool(), row, worker.clock.pinned()).await?;
        // From here on nobody lays them aside; what was is back before anything new is delivered.
        leftover::put_back(worker.store.pool(), &subscriptions).await?;
        worker.committer = Committer::start(Desk {
            store: worker.store.clone(),
            worker_id,
            subscriptions,
            clock: worker.clock.clone(),
            probes: worker.probes.clone(),
            metrics: Arc::clone(&worker.metrics),
            lost: worker.lost.clone(),
            published: Arc::clone(&worker.published),
        });
        if !worker.clock.is_manual() {
            Heartbeat {
                store: worker.store.clone(),
                worker_id,
                lease: Arc::clone(&worker.lease),
                clock: worker.clock.clone(),
                metrics: Arc::clone(&worker.metrics),
                lost: worker.lost.clone(),
                stop: worker.heartbeat.clone(),
            }
            .start()
            .map_err(|error| Error::Database(error.into()))?;
        }
        tracing::info!(worker.id = %worker_id, "worker {worker_id} is registered");
        Ok(Arc::new(worker))
    }

    /// A worker that was lost before it began, to replay histories on: it has no row, writes
    /// nothing, and its instances stop where they would leave their histories.
    pub(crate) fn lost_at_birth(parts: Parts) -> Arc<Self> {
        let worker = Self::without_row(parts);
        worker.lost.cancel();
        Arc::new(worker)
    }

    /// A worker of which nobody knows, and which cannot write.
    fn without_row(parts: Parts) -> Self {
        let Parts { store, registry, subscriptions, settings, .. } = parts;
        let Parts { clock, probes, metrics, endings, .. } = parts;
        let since = clock.now();
        let tending = Arc::default();
        Self {
            worker_id: new_id(),
            lease: Arc::new(Lease::new(settings.lease, &clock)),
            permits: Arc::new(Semaphore::new(settings.instances_max)),
            dependencies: Dependencies::new(registry.dependencies(), since, &tending),
            store,
            registry,
            subscriptions,
            settings,
            clock,
            probes,
            metrics,
            endings,
            committer: Committer::closed(),
            held: Mutex::default(),
            lost_claims: Mutex::default(),
            quarantine: Mutex::default(),
            since,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            drain_until: OnceLock::new(),
            lost: CancellationToken::new(),
            heartbeat: CancellationToken::new(),
            due: Notify::new(),
            mail: Notify::new(),
            never: Notify::new(),
            tending,
            published: Arc::new(Notify::new()),
            pulses: Pulses::default(),
            turns: Mutex::default(),
        }
    }

    /// A permit to hold one more instance, if there is one.
    pub(crate) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.drain.is_cancelled() || self.lost.is_cancelled() {
            return None;
        }
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Begins to run an instance that has just been written, if there was a permit for it.
    pub(crate) async fn take_on(self: &Arc<Self>, newborn: Newborn) {
        self.metrics.started.inc();
        let Newborn { write, history, workflow, permit } = newborn;
        match permit {
            Some(permit) => {
                let (id, about) = (write.instance_id, write.about);
                let born = write.start.map(|it| (it.claim_id, it.priority));
                let (claim_id, priority) = born.unwrap_or_default();
                let worker = Arc::clone(self);
                let instance =
                    Instance::born(worker, workflow, id, claim_id, about, priority, history);
                self.hold(instance, permit);
            }
            None => self.store.hint(Hint::Due).await,
        }
    }

    /// Holds an instance and drives it in a task of its own. An instance that is claimed while the
    /// answer to its release is still on its way is driven once its earlier drive has ended.
    pub(crate) fn hold(self: &Arc<Self>, instance: Instance, permit: OwnedSemaphorePermit) {
        let instance = Arc::new(instance);
        let earlier = self.held().insert(instance.instance_id, Arc::clone(&instance));
        self.metrics.instances_held.inc();
        let worker = Arc::clone(self);
        self.tasks.spawn(async move {
            // Large, and moved about with the task otherwise.
            let driving = Box::pin(drive(Arc::clone(&instance)));
            let driven = async {
                if let Some(earlier) = earlier.filter(|_| !Bug::ClaimUnfenced.is_on()) {
                    earlier.drive_ended().await;
                }
                driving.await;
            };
            tokio::select! {
                biased;
                () = worker.lost.cancelled() => {}
                () = driven => {}
            }
            instance.end_drive();
            worker.let_go(&instance);
            worker.metrics.instances_held.dec();
            drop(permit);
        });
    }

    /// Holds an instance no more. What has been freed may have been claimed once more since.
    fn let_go(&self, instance: &Arc<Instance>) {
        if let Entry::Occupied(held) = self.held().entry(instance.instance_id)
            && Arc::ptr_eq(held.get(), instance)
        {
            held.remove();
        }
    }

    /// Which of its instances are held, as they stand.
    pub(crate) fn standing(&self, instance_id: Uuid) -> Standing {
        match self.held().get(&instance_id) {
            None => Standing::Gone,
            Some(instance) if instance.state().lost.losses == 0 => Standing::Progressed,
            Some(_) => Standing::Silent,
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Instance>>> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Rings the held instances that have mail.
    pub(crate) async fn deliver_mail(&self) -> Result<(), Error> {
        for (instance_id, count) in mail::waiting(self.store.pool(), self.worker_id).await? {
            let instance = self.held().get(&instance_id).cloned();
            if let Some(instance) = instance {
                instance.ring(count);
            }
        }
        Ok(())
    }

    /// Takes over workers whose lease has lapsed. Returns how many.
    pub(crate) async fn take_over_lapsed(&self) -> Result<usize, Error> {
        let now = self.clock.pinned();
        let (which, present) = if Bug::LeaseIgnored.is_on() {
            (TakeOver::Leaving, Some(self.clock.now() + self.settings.lease))
        } else {
            (TakeOver::Lapsed, now)
        };
        let lapsed = rows::lapsed(self.store.pool(), self.worker_id, present).await?;
        let mut count = 0;
        for worker_id in lapsed {
            let mut connection = self.store.connect(Purpose::Alone).await?;
            let freed = rows::take_over(&mut connection, worker_id, which, now).await?;
            if let Some(freed) = freed {
                count += 1;
                self.metrics.workers_taken_over.inc();
                tracing::warn!(worker.id = %worker_id, freed, "worker {worker_id} had lost its lease; its {freed} instances are free");
                self.due.notify_one();
            }
        }
        Ok(count + self.free_orphans().await?)
    }

    /// Frees what is held by workers that are not there. Returns how many those were.
    async fn free_orphans(&self) -> Result<usize, Error> {
        let mut count = 0;
        for worker_id in rows::vanished(self.store.pool(), self.worker_id).await? {
            let mut connection = self.store.connect(Purpose::Alone).await?;
            let now = self.clock.pinned();
            let freed =
                rows::take_over(&mut connection, worker_id, TakeOver::Vanished, now).await?;
            if let Some(freed) = freed {
                count += 1;
                self.metrics.workers_vanished.inc();
                tracing::error!(
                    worker.id = %worker_id, freed,
                    "{freed} instances were held by worker {worker_id}, which is not there; they are free",
                );
                self.due.notify_one();
            }
        }
        Ok(count)
    }

    /// Renews the lease under a clock that a test moves; otherwise the heartbeat does.
    pub(crate) async fn renew_by_hand(&self) -> Result<(), Error> {
        let mut lent = self.store.pool().acquire().await?;
        let (worker_id, lease, now) = (self.worker_id, self.settings.lease, self.clock.pinned());
        let (session, watch) = lent.lend()?;
        let asked = self.clock.now();
        match watch.over(rows::renew(session, worker_id, lease, now)).await? {
            Some(present) => {
                let offset = ClockOffset::measured(asked, self.clock.now(), present);
                self.metrics.clock_offset.note(offset);
            }
            None => self.lost.cancel(),
        }
        Ok(())
    }

    /// Waits until the lease permits to start an effect. If it never does again, this worker is
    /// lost, and whoever waits is dropped.
    pub(crate) async fn permit_effect(&self) {
        while !self.lease.permits_effects() {
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Repeats an idempotent access until it succeeds or cannot.
    pub(crate) async fn persist<T, F>(&self, access: impl Fn() -> F) -> Result<T, Verdict>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match access().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "reading what an instance needs failed; trying again");
                    self.clock.sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    let failure = crate::step::Failure::new("RECORD_UNREADABLE", error.to_string());
                    return Err(Verdict::Stick(failure));
                }
            }
        }
    }

    /// Why this worker does not do its work, if so: it has no fresh lease, a write has no answer, or
    /// a loop does not come round.
    pub(crate) fn is_at_work(&self) -> Result<(), Error> {
        let has_left = self.lost.is_cancelled() || self.drain.is_cancelled();
        if has_left || !self.lease.permits_effects() {
            return Err(Error::Unavailable);
        }
        let unanswered = self.committer.unanswered_for(&self.clock);
        if unanswered > limits::UNANSWERED_MAX {
            return Err(Error::Stalled(format!("a write has had no answer for {unanswered:?}")));
        }
        match self.pulses.stalled(self.clock.now()).as_slice() {
            [] => Ok(()),
            stalled => Err(Error::Stalled(format!("{stalled:?} cannot do their work"))),
        }
    }

    /// Takes up nothing more, and lets attempts in flight finish. What comes in from outside is
    /// still written. Returns whether all have ended within [`limits::DRAIN_TIMEOUT`].
    pub(crate) async fn drain(&self) -> bool {
        let until = *self.drain_until.get_or_init(|| Instant::now() + limits::DRAIN_TIMEOUT);
        let draining = async {
            let begun = rows::begin_drain(self.store.pool(), self.worker_id);
            match timeout(limits::DRAIN_BEGIN_TIMEOUT, begun).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the database does not know that this worker drains")
                }
                Err(_) => {
                    tracing::warn!("the database does not answer; this worker drains all the same")
                }
            }
            self.drain.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        };
        timeout_at(until, draining).await.is_ok()
    }

    /// Drains, frees what is held, and leaves. What has not ended by then is dropped as by a crash,
    /// and freed with the rest: the worker that takes it up finds an attempt that was interrupted.
    pub(crate) async fn leave(&self) -> Result<(), Error> {
        if !self.drain().await {
            let count = self.held().len();
            tracing::warn!(
                count,
                "{count} instances have attempts under way; they are handed over as they are"
            );
            self.lost.cancel();
        }
        let left = timeout(limits::LEAVE_TIMEOUT, self.hand_over()).await;
        self.abandon();
        left.unwrap_or(Err(Error::Unavailable))
    }

    /// Frees what is held, in as many attempts as that takes: a lost connection is no reason to have
    /// others wait for the end of a lease.
    async fn hand_over(&self) -> Result<(), Error> {
        loop {
            match self.try_to_hand_over().await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "what this worker held is not handed over yet; trying again");
                    self.clock.sleep(Duration::from_millis(50)).await;
                }
                tried => return tried,
            }
        }
    }

    async fn try_to_hand_over(&self) -> Result<(), Error> {
        let mut connection = self.store.connect(Purpose::Alone).await?;
        let now = self.clock.pinned();
        rows::take_over(&mut connection, self.worker_id, TakeOver::Leaving, now).await?;
        tracing::info!(worker.id = %self.worker_id, "worker {} has left", self.worker_id);
        Ok(())
    }

    /// Stops at once, as a crash would: nothing is written, nothing is freed.
    pub(crate) fn abandon(&self) {
        self.lost.cancel();
        self.heartbeat.cancel();
    }
}

/// An id that grows with time and is never used again.
#[expect(clippy::disallowed_methods, reason = "this is where ids are drawn")]
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// A new id that comes after that of a parent, though it may have been drawn where clocks go ahead:
/// rows are locked in the order of their ids, parents first.
pub(crate) fn new_id_after(parent_id: Uuid) -> Uuid {
    let id = new_id();
    let Some(drawn_at) = parent_id.get_timestamp().filter(|_| id < parent_id) else {
        return id;
    };
    let (seconds, nanoseconds) = drawn_at.to_unix();
    let later = nanoseconds + 1_000_000;
    let (seconds, nanoseconds) =
        (seconds + u64::from(later / 1_000_000_000), later % 1_000_000_000);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_child_comes_after_that_of_its_parent_whatever_the_clocks_say() {
        for ahead in [0, 999_000_000] {
            let later = Timestamp::from_unix(NoContext, 4_000_000_000, ahead);
            let parent = Uuid::new_v7(later);
            let children = [new_id_after(parent), new_id_after(parent)];
            assert!(children.iter().all(|child| *child > parent), "{children:?} after {parent}");
            assert_ne!(children[0], children[1]);
        }
        let parent = new_id();
        assert!(new_id_after(parent) > parent);
    }
}
