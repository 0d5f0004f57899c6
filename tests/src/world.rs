//! A world of orders: a kit with the workflow of orders, and providers that keep a ledger of their
//! own.

use std::ops::{Deref, DerefMut};

use amends::probe::Probes;
use amends::{Delivery, EngineBuilder, Start, Started};
use amends_workflows::fulfilment::{self, Setup};
use amends_workflows::order::Order;
use uuid::Uuid;

use crate::detour::Detour;
use crate::kit::{Kit, KitBuilder};
use crate::orders;
use crate::providers::Providers;

type Extend = Box<dyn Fn(EngineBuilder) -> EngineBuilder + Send + Sync>;

/// Builds a [`World`].
#[derive(Default)]
pub struct WorldBuilder {
    kit: KitBuilder,
    extend: Option<Extend>,
    setup: Setup,
}

impl WorldBuilder {
    /// Builds it upon this kit.
    #[must_use]
    pub fn kit(mut self, kit: KitBuilder) -> Self {
        self.kit = kit;
        self
    }

    /// Watches, or stops, the engine at its probe points.
    #[must_use]
    pub fn probes(mut self, probes: Probes) -> Self {
        self.kit = self.kit.probes(probes);
        self
    }

    /// Has the engine reach its database by a detour.
    #[must_use]
    pub fn detour(mut self, detour: &Detour) -> Self {
        self.kit = self.kit.detour(detour);
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

    /// Has orders carried out like this.
    #[must_use]
    pub fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    /// Builds it.
    pub async fn build(self) -> World {
        let providers = Providers::start().await;
        let (ports, extend) = (providers.ports(), self.extend);
        let setup = self.setup;
        let kit = self.kit.build(move |engine| {
            let engine = fulfilment::register(engine, ports.clone(), setup);
            extend.iter().fold(engine, |engine, extend| extend(engine))
        });
        World { kit: kit.await, providers }
    }
}

/// A world of its own for one test. Whatever is not about orders is its kit's.
pub struct World {
    kit: Kit,
    providers: Providers,
}

impl Deref for World {
    type Target = Kit;

    fn deref(&self) -> &Kit {
        &self.kit
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Kit {
        &mut self.kit
    }
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

    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Starts an order by the delivery that has its id. Nothing has run yet when this returns.
    pub async fn start(&self, order: &Order) -> Result<Started, amends::Error> {
        self.kit.request(start_request(order)).await
    }

    /// Starts a usual order and returns its instance.
    pub async fn start_order(&self, order_id: &str) -> Uuid {
        self.kit.begin(start_request(&orders::order(order_id))).await
    }

    /// Checks what must hold after every test. Many are about instances that are stuck.
    pub async fn finish(self) {
        self.kit.finish_unbalanced().await;
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
