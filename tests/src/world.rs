//! One test's world: its database, its clock, its providers, its engine.

use std::time::Duration;

use amends::clock::Clock;
use amends::command::{Answer, Command};
use amends::probe::Probes;
use amends::view::{InstanceView, RecordView};
use amends::{Delivery, Engine, EngineBuilder, Settings, Start, Started};
use amends_workflows::fulfilment;
use amends_workflows::order::Order;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use uuid::Uuid;

use crate::providers::Providers;
use crate::sink::Recorder;
use crate::{cluster, invariants, orders, timeline};

type Extend = Box<dyn Fn(EngineBuilder) -> EngineBuilder + Send + Sync>;
type Detour = Box<dyn Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync>;

/// Builds a [`World`].
#[derive(Default)]
pub struct WorldBuilder {
    probes: Probes,
    extend: Option<Extend>,
    detour: Option<Detour>,
}

impl WorldBuilder {
    /// Has the engine reach its database by a detour.
    #[must_use]
    pub fn detour(
        mut self,
        detour: impl Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync + 'static,
    ) -> Self {
        self.detour = Some(Box::new(detour));
        self
    }

    /// Watches, or stops, the engine at its probe points.
    #[must_use]
    pub fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// Registers more workflows, at every start of the engine.
    #[must_use]
    pub fn engine(
        mut self,
        extend: impl Fn(EngineBuilder) -> EngineBuilder + Send + Sync + 'static,
    ) -> Self {
        self.extend = Some(Box::new(extend));
        self
    }

    /// Builds it.
    pub async fn build(self) -> World {
        let options = cluster::database().await;
        let clock = Clock::manual(start_of_time());
        let providers = Providers::start().await;
        let recorder = Recorder::default();
        let Self { extend, detour, .. } = self;
        let ground = Ground { options, clock, providers, recorder, extend, detour };
        let engine = ground.engine(self.probes).await;
        World { ground, engine }
    }
}

/// What outlives a crash of the engine.
struct Ground {
    options: PgConnectOptions,
    clock: Clock,
    providers: Providers,
    recorder: Recorder,
    extend: Option<Extend>,
    detour: Option<Detour>,
}

impl Ground {
    async fn engine(&self, probes: Probes) -> Engine {
        let direct = self.options.clone();
        let options = self.detour.as_ref().map_or(direct.clone(), |detour| detour(direct));
        let mut builder = fulfilment::register(Engine::builder(options), self.providers.ports())
            .subscription("recorder", self.recorder.clone())
            .settings(Settings { linger: Duration::ZERO, ..Settings::default() })
            .clock(self.clock.clone())
            .probes(probes);
        if let Some(extend) = &self.extend {
            builder = extend(builder);
        }
        builder.open().await.expect("the engine opens")
    }
}

/// A world of its own for one test.
pub struct World {
    ground: Ground,
    engine: Engine,
}

impl World {
    /// The usual world.
    pub async fn new() -> Self {
        Self::builder().build().await
    }

    /// A world with something special about it.
    #[must_use]
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.ground.providers
    }

    /// The subscription.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.ground.recorder
    }

    /// A connection to the world's database, past the engine.
    pub async fn database(&self) -> PgConnection {
        self.ground.options.connect().await.expect("the cluster answers")
    }

    /// How to reach the world's database.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.ground.options.clone()
    }

    /// Starts an order by the delivery that has its id. Nothing has run yet when this returns.
    pub async fn start(&self, order: &Order) -> Result<Started, amends::Error> {
        self.engine.start(start_request(order)).await
    }

    /// Starts a usual order and returns its instance.
    pub async fn start_order(&self, order_id: &str) -> Uuid {
        match self.start(&orders::order(order_id)).await {
            Ok(Started::New(instance_id)) => instance_id,
            other => panic!("order {order_id} did not start: {other:?}"),
        }
    }

    /// Runs everything that is due now.
    pub async fn settle(&self) {
        self.engine.run_until_idle().await.expect("the engine runs");
    }

    /// Lets time pass, and runs what has become due.
    pub async fn pass(&self, time: Duration) {
        self.ground.clock.advance(time);
        self.settle().await;
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.ground.clock.now()
    }

    /// Sets the clock, also back, as somebody does whose clock was wrong.
    pub fn set_clock(&self, now: DateTime<Utc>) {
        self.ground.clock.set(now);
    }

    /// Lets time pass without running anything.
    pub fn advance(&self, time: Duration) {
        self.ground.clock.advance(time);
    }

    /// Gives a command as Anna of support.
    pub async fn command(&self, instance_id: Uuid, command: Command) -> Answer {
        let answer = self.engine.command(instance_id, command, "anna", "asked by the customer");
        answer.await.expect("the command is judged").expect("the instance exists")
    }

    /// The instance as it stands.
    pub async fn instance(&self, instance_id: Uuid) -> InstanceView {
        self.engine.instance(instance_id).await.expect("it can be read").expect("it exists")
    }

    /// The records of an instance.
    pub async fn history(&self, instance_id: Uuid) -> Vec<RecordView> {
        self.engine.history(instance_id).await.expect("it can be read")
    }

    /// The instance and its history as text.
    pub async fn timeline(&self, instance_id: Uuid) -> String {
        timeline::render(&self.instance(instance_id).await, &self.history(instance_id).await)
    }

    /// Loses the engine without a word, as in a crash, and starts another one beside its remains.
    pub async fn crash(&mut self) {
        self.engine.abandon();
        self.engine = self.ground.engine(Probes::default()).await;
    }

    /// Shuts the engine down in good order, and starts another one.
    pub async fn restart(&mut self) {
        self.engine.shutdown().await.expect("it leaves in time");
        self.engine = self.ground.engine(Probes::default()).await;
    }

    /// Starts another engine beside this one, which becomes a zombie once its lease has run out.
    pub async fn succeed(&mut self) -> Zombie {
        let successor = self.ground.engine(Probes::default()).await;
        Zombie(std::mem::replace(&mut self.engine, successor))
    }

    /// Waits until the lease of a lost engine has run out, and goes on.
    pub async fn outlive_lease(&self) {
        self.pass(Settings::default().lease + Duration::from_secs(1)).await;
    }

    /// Checks what must hold after every test.
    pub async fn finish(self) {
        let mut connection = self.database().await;
        invariants::check(&mut connection).await;
        let report = amends::verify::verify(self.ground.options.clone(), |_| ()).await;
        let report = report.expect("histories can be verified");
        assert!(report.broken.is_empty(), "broken chains: {:?}", report.broken);
        self.engine.abandon();
    }
}

/// An engine that has been taken over and does not know it yet.
pub struct Zombie(Engine);

impl Zombie {
    /// Lets it do whatever it still wants to do.
    pub async fn run_dry(&self) {
        self.0.quiesce().await;
        // What it wants is refused; how it takes that is its own business.
        let _ = self.0.run_until_idle().await;
    }
}

/// The request that starts an order.
#[must_use]
pub fn start_request(order: &Order) -> Start {
    let input = serde_json::to_string(order).expect("an order is JSON");
    Start {
        workflow: "fulfilment",
        business_key: order.business_key(),
        delivery: Some(Delivery {
            source: "test".to_owned(),
            external_id: order.order_id.clone(),
            body: input.clone().into_bytes(),
        }),
        priority: amends::Priority::Normal,
        input,
    }
}

fn start_of_time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).expect("a valid time")
}
