//! The engine as its users see it: open it, start instances, ask, command, shut down.

mod command;
mod health;
mod key;
mod schema;
mod settings;
mod signal;
mod start;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::dependency::{Dependency, tend};
use crate::error::Error;
use crate::intake::{self, Birth};
use crate::loops;
use crate::metrics::Metrics;
use crate::priority::Priority;
use crate::probe::Probes;
use crate::registry::Registry;
use crate::relay::{Relay, Subscriptions};
use crate::sabotage::Bug;
use crate::schedule::{self, Definitions, Firing, PrioritizedSchedule};
use crate::sink::Sink;
use crate::status::Status;
use crate::store::write::Written;
use crate::store::{Address, Store, dependency, former_key, live, read};
use crate::trust;
use crate::versions::{self, Version};
use crate::view::{DependencyView, Filter, InstanceView, RecordView};
use crate::worker::{Parts, Worker};
use crate::workflow::Workflow;

pub use command::Requester;
pub use schema::{grant, migrate, reach};
pub use settings::Settings;

/// Endings that a receiver may be behind.
const ENDINGS: usize = 16_384;

/// A request to start an instance.
#[derive(Debug, Clone)]
pub struct Start {
    /// The workflow's name; its newest registered version is started.
    pub workflow: &'static str,
    /// What the instance is about; one instance per workflow and key, for ever.
    pub business_key: String,
    /// The input as JSON.
    pub input: String,
    /// The delivery that asked for it.
    pub delivery: Option<Delivery>,
    /// How urgent it is, if it cannot begin at once.
    pub priority: Priority,
}

/// What became of a request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// A new instance, durable.
    New(Uuid),
    /// The same delivery came before, with the same body; this is what it started.
    Replayed(Uuid),
    /// Another delivery has started this instance for the same business key.
    Duplicate(Uuid),
    /// The delivery's id was used before with another body. Nothing was stored.
    Conflict,
}

/// Builds an [`Engine`]. One that could not be opened can be tried again as a clone.
#[derive(Clone)]
pub struct EngineBuilder {
    address: Address,
    registry: Registry,
    subscriptions: Subscriptions,
    schedules: Definitions,
    settings: Settings,
    clock: Clock,
    probes: Probes,
}

impl EngineBuilder {
    /// Registers a workflow. Mistakes in its declarations come out of [`EngineBuilder::open`].
    #[must_use]
    pub fn workflow<W: Workflow>(mut self, workflow: W) -> Self {
        self.registry.add(workflow);
        self
    }

    /// Declares something that steps go through, with its limits. Those of one name have to be the
    /// same in every process.
    #[must_use]
    pub fn dependency(mut self, dependency: Dependency) -> Self {
        self.registry.depend(dependency);
        self
    }

    /// Delivers every event to `sink`, under this subscription's stable `name`.
    ///
    /// A row per event waits in the outbox until the sink has it; a subscription that is renamed
    /// leaves its undelivered events behind under the old name: see [`crate::leftover`].
    #[must_use]
    pub fn subscription(mut self, name: &str, sink: impl Sink) -> Self {
        self.subscriptions.add(name, Arc::new(sink));
        self
    }

    /// Starts a `W` whenever the [`Schedule`](crate::Schedule) fires, with the input that is made of
    /// the firing.
    ///
    /// The input is made where the firing is heard, perhaps twice, so it should come of the firing
    /// alone. Mistakes come out of [`EngineBuilder::open`].
    #[must_use]
    pub fn schedule<W: Workflow>(
        mut self,
        schedule: impl Into<PrioritizedSchedule>,
        input: impl Fn(&Firing) -> W::Input + Send + Sync + 'static,
    ) -> Self {
        self.schedules.add::<W>(schedule.into(), input);
        self
    }

    /// Replaces the default settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Replaces the machine's clock. Under a manual clock no loop runs: see
    /// [`Engine::run_until_idle`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Watches, or stops, the engine at its probe points.
    #[must_use]
    pub fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Applies missing migrations, registers this process as a worker and starts its loops.
    pub async fn open(self) -> Result<Engine, Error> {
        let parts = self.parts(Store::new)?;
        // Under a manual clock this is a test, whose cluster is thrown away.
        if !parts.clock.is_manual() {
            parts.store.refuse_unfit().await?;
        }
        parts.store.migrate(parts.clock.clone()).await?;
        parts.store.keep_to_this_database().await?;
        if !parts.clock.is_manual() {
            trust::refuse_unreplicated(&parts).await?;
            parts.trust.look(&parts).await?;
        }
        let names: Vec<_> =
            parts.registry.dependencies().iter().map(|it| it.name.to_owned()).collect();
        dependency::declare(parts.store.pool(), &names, parts.clock.pinned()).await?;
        schedule::introduce(&parts).await?;
        let any_former_key = former_key::any_former_key(parts.store.pool()).await?;
        let worker = Worker::register(parts.clone()).await?;
        let closed = CancellationToken::new();
        let (worker, asked) = (Mutex::new(worker), tokio::sync::Mutex::default());
        let by_hand = tokio::sync::Mutex::default();
        let examining = tokio::sync::Mutex::default();
        let shared = Shared { parts, worker, closed, asked, examining, by_hand, any_former_key };
        let engine = Engine(Arc::new(shared));
        schedule::define(&engine).await;
        if !engine.0.parts.clock.is_manual() {
            loops::start(&engine.worker());
            tokio::spawn(succeed(engine.clone()));
            tokio::spawn(schedule::watch(engine.clone(), engine.0.closed.clone()));
            tokio::spawn(trust::watch(engine.parts().clone(), engine.0.closed.clone()));
        }
        Ok(engine)
    }

    /// What a worker is made of, on a database that is reached through `store`.
    pub(crate) fn parts(self, store: fn(Address) -> Store) -> Result<Parts, Error> {
        let mistakes = self.schedules.mistakes(&self.registry);
        let registry = self.registry.checked(mistakes).map_err(Error::Registration)?;
        let store = store(self.address);
        let commits_lost = store.acknowledged().found().clone();
        Ok(Parts {
            store: store.feeding(self.subscriptions.count()),
            registry: Arc::new(registry),
            subscriptions: Arc::new(self.subscriptions),
            schedules: Arc::new(self.schedules),
            settings: self.settings,
            clock: self.clock,
            probes: self.probes,
            metrics: Arc::new(Metrics::counting(commits_lost)),
            trust: Arc::default(),
            endings: broadcast::Sender::new(ENDINGS),
        })
    }
}

/// Becomes another worker whenever this one is lost.
async fn succeed(engine: Engine) {
    loop {
        let lost = engine.worker().lost.clone();
        tokio::select! {
            biased;
            () = engine.0.closed.cancelled() => return,
            () = lost.cancelled() => {}
        }
        engine.0.parts.metrics.workers_lost.inc();
        let successor = loop {
            if engine.0.closed.is_cancelled() {
                return;
            }
            match Worker::register(engine.0.parts.clone()).await {
                Ok(worker) => break worker,
                Err(error) => {
                    tracing::warn!(%error, "this process cannot become a worker again yet")
                }
            }
            engine.0.parts.clock.sleep(Duration::from_millis(500)).await;
        };
        loops::start(&successor);
        *engine.0.worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = successor;
    }
}

/// A handle to the engine of this process; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    parts: Parts,
    worker: Mutex<Arc<Worker>>,
    closed: CancellationToken,
    /// When the database was last found to answer.
    asked: tokio::sync::Mutex<Option<DateTime<Utc>>>,
    /// Held by whoever examines the database.
    examining: tokio::sync::Mutex<()>,
    /// Delivers under a manual clock.
    by_hand: tokio::sync::Mutex<Option<Relay>>,
    /// Whether some instances were started under keys that are spelt otherwise by now.
    any_former_key: bool,
}

impl Engine {
    /// Begins to build an engine on the database at `address`.
    #[must_use]
    pub fn builder(address: impl Into<Address>) -> EngineBuilder {
        EngineBuilder {
            address: address.into(),
            registry: Registry::default(),
            subscriptions: Subscriptions::default(),
            schedules: Definitions::default(),
            settings: Settings::default(),
            clock: Clock::system(),
            probes: Probes::default(),
        }
    }

    pub(crate) fn worker(&self) -> Arc<Worker> {
        Arc::clone(&self.0.worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn store(&self) -> &Store {
        &self.parts().store
    }

    /// Starts an instance; it is durable when this returns.
    ///
    /// Safe to repeat: with the same delivery, or about the same business key, nothing starts
    /// twice. If this process has room, it runs the instance at once; else some worker will.
    pub async fn start(&self, start: Start) -> Result<Started, Error> {
        let engine = self.clone();
        // An instance that is born claimed must be driven, even if whoever asked has gone away.
        let started = tokio::spawn(async move { engine.give_birth(start, Birth::new()).await });
        started.await.unwrap_or(Err(Error::Unavailable))
    }

    /// Starts an instance that has its id already.
    pub(crate) async fn give_birth(
        &self,
        mut start: Start,
        birth: Birth,
    ) -> Result<Started, Error> {
        self.permit_intake()?;
        start.business_key = self.stored_key(start.workflow, start.business_key).await?;
        let worker = self.worker();
        let newborn = intake::prepare(&worker, start, worker.permit(), birth)?;
        worker.probes.reach("start.before").await;
        if Bug::AnsweredEarly.is_on() {
            let instance_id = newborn.write.instance_id;
            tokio::spawn(async move {
                if let Ok(Written::Yes) = worker.committer.take_in(newborn.write.clone()).await {
                    worker.take_on(newborn).await;
                }
            });
            return Ok(Started::New(instance_id));
        }
        let written = worker.committer.take_in(newborn.write.clone()).await?;
        worker.probes.reach("start.after").await;
        match written {
            Written::Yes => {
                let instance_id = newborn.write.instance_id;
                worker.take_on(newborn).await;
                Ok(Started::New(instance_id))
            }
            Written::Replayed(instance_id) => Ok(Started::Replayed(instance_id)),
            Written::Duplicate(instance_id) => Ok(Started::Duplicate(instance_id)),
            Written::Conflict => Ok(Started::Conflict),
            Written::Refused(error) => Err(Error::InvalidInput(error)),
            Written::Fenced | Written::UnreadMail => Err(Error::Unavailable),
        }
    }

    /// One instance as it stands.
    pub async fn instance(&self, instance_id: Uuid) -> Result<Option<InstanceView>, Error> {
        read::instance(self.store().reading(), instance_id).await
    }

    /// Instances that match `filter`, newest first.
    pub async fn instances(&self, filter: &Filter) -> Result<Vec<InstanceView>, Error> {
        let found = read::instances(self.store().reading(), filter).await?;
        match self.under_stored_key(filter).await? {
            Some(filter) if found.is_empty() => {
                read::instances(self.store().reading(), &filter).await
            }
            _ => Ok(found),
        }
    }

    /// The records of an instance, in order; empty if there is no such instance.
    pub async fn history(&self, instance_id: Uuid) -> Result<Vec<RecordView>, Error> {
        read::history(self.store().reading(), instance_id).await
    }

    /// What steps go through, how it does, and how many instances wait for it.
    pub async fn dependencies(&self) -> Result<Vec<DependencyView>, Error> {
        Ok(dependency::show(self.store().reading()).await?)
    }

    /// Every version of a workflow that has live instances or is part of this build.
    pub async fn versions(&self) -> Result<Vec<Version>, Error> {
        let counted = live::live_versions(self.store().reading()).await?;
        Ok(versions::report(&self.0.parts.registry, counted))
    }

    /// Tells, from now on, which instances end in this process, and how. A receiver that is too
    /// slow misses some: it is a hint, not a record.
    #[must_use]
    pub fn endings(&self) -> broadcast::Receiver<(Uuid, Status)> {
        self.0.parts.endings.subscribe()
    }

    /// Adds the engine's metrics to `registry`, with the prefix `amends_`.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.parts.metrics.register(registry);
    }

    /// Takes up nothing more, and lets attempts in flight finish, for six seconds at most. What is
    /// sent meanwhile is still written; [`Engine::shutdown`] ends that. Waits for no more than what
    /// is left of these seconds if it is called again.
    pub async fn drain(&self) {
        self.0.closed.cancel();
        self.worker().drain().await;
    }

    /// Drains, frees what this process holds, and leaves. Other workers, or the next start of this
    /// one, go on from there. An attempt that has not ended by then is left as by a crash: its
    /// outcome counts as unknown. Takes eight seconds at most.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.0.closed.cancel();
        self.worker().leave().await
    }

    /// Under a manual clock: runs everything that is due, and delivers every event, until nothing
    /// is left to do at this time.
    pub async fn run_until_idle(&self) -> Result<(), Error> {
        let worker = self.worker();
        worker.renew_by_hand().await?;
        loop {
            let taken_over = worker.take_over_lapsed().await?;
            let released = tend(&worker).await? as usize;
            self.quiesce().await;
            let claimed = worker.claim().await? + worker.try_suspects().await?;
            self.quiesce().await;
            let told = worker.tell_parents().await?;
            let fired = schedule::run_due(self).await?;
            worker.lay_aside_leftovers().await?;
            let mut by_hand = self.0.by_hand.lock().await;
            let relay = by_hand.get_or_insert_with(|| Relay::new(Arc::clone(&worker)));
            let delivered = relay.run_until_idle(&worker).await?;
            drop(by_hand);
            if taken_over + released + claimed + told + fired + delivered == 0 {
                return Ok(());
            }
        }
    }

    /// Takes up what is due, without waiting for what is under way, and returns how much that was.
    /// For tests: under a clock that is not moved by hand, a loop does it.
    pub async fn claim(&self) -> Result<usize, Error> {
        self.worker().claim().await
    }

    /// Clears suspects and takes up others, as a loop does where no test moves the clock.
    pub async fn try_suspects(&self) -> Result<(), Error> {
        self.worker().try_suspects().await.map(drop)
    }

    /// Waits until this process drives no instance.
    pub async fn quiesce(&self) {
        let worker = self.worker();
        worker.tasks.close();
        worker.tasks.wait().await;
        worker.tasks.reopen();
    }

    /// Stops as a crash would: nothing more is written, and nothing is freed.
    pub fn abandon(&self) {
        self.0.closed.cancel();
        self.worker().abandon();
    }
}
