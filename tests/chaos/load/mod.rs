//! The customers: they send every order until they are told that it is kept, and some of them
//! twice, out of turn, or under an id that was used before. What they are told goes to a log.

mod plan;
mod request;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use reqwest::Client;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::log::Log;
use crate::operator::Operator;
use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::schedule::Schedule;
use crate::server::Server;
use amends_tests::chance::Chance;
pub(crate) use plan::{Channel, Plan, Slow, plans};
use plan::{Moment, Payment};

/// No customer waits longer for an answer.
const ANSWER: Duration = Duration::from_secs(3);

/// By when an order's charge has been sent, as a rule.
const CHARGED: Duration = Duration::from_secs(10);
/// By when most dispatches have parcels, also on a slow machine.
const PARCELLED: Duration = Duration::from_secs(45);
/// How often somebody looks whether a charge has been sent.
const LOOK: Duration = Duration::from_millis(5);

/// Whoever gets no answer again and again asks less and less often: many who do not would keep
/// servers that have been slow for a while from ever catching up.
fn patience(repetitions: u32) -> u32 {
    1 << repetitions.min(4)
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// An order.
    Order,
    /// The same request once more.
    Again,
    /// Something else under the same id.
    Reused,
    /// The news that a settlement is paid, under this id.
    Signal,
    /// The news of a shop that the order is cancelled.
    Cancelled,
}

/// An answer that ends the matter, as its customer got it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Answered {
    pub(crate) number: u64,
    pub(crate) business_key: String,
    pub(crate) what: What,
    pub(crate) status: u16,
    /// Which instance it was said to be about.
    pub(crate) instance_id: Option<Uuid>,
    /// What was said to come of a signal.
    pub(crate) outcome: Option<String>,
    /// How often it was asked without an answer, or told to come back.
    pub(crate) repetitions: u32,
}

/// All customers.
pub(crate) struct Load {
    seed: u64,
    client: Client,
    servers: Vec<String>,
    told: Log<Answered>,
    operator: Arc<Operator>,
    /// What the servers say to providers goes through these.
    providers_proxies: Vec<Proxy>,
}

impl Load {
    pub(crate) fn open(
        seed: u64,
        scene: &Scene,
        operator: Arc<Operator>,
    ) -> anyhow::Result<Arc<Self>> {
        let client = Client::builder().timeout(ANSWER).no_proxy().build()?;
        let servers = scene.servers.iter().map(Server::url).collect();
        let log = scene.folder.join("load.jsonl");
        let told = Log::create(&log).context("the log can be written")?;
        let providers_proxies = scene.providers_proxies.clone();
        Ok(Arc::new(Self { seed, client, servers, told, operator, providers_proxies }))
    }

    /// Sends everything in its turn. Ends when all have been told that their order is kept.
    pub(crate) async fn send(self: &Arc<Self>, schedule: &Schedule, begin: Instant) {
        let mut customers = JoinSet::new();
        for plan in plans(schedule) {
            let load = Arc::clone(self);
            customers.spawn(async move {
                sleep_until(begin + Duration::from_millis(plan.at_milliseconds)).await;
                load.order(&plan).await;
            });
        }
        while let Some(customer) = customers.join_next().await {
            customer.unwrap_or_else(|error| panic!("a customer failed: {error}"));
        }
    }

    /// What the customers were told.
    pub(crate) fn told(&self) -> Vec<Answered> {
        self.told.entries()
    }

    async fn order(&self, plan: &Plan) {
        let chance = Chance::of(self.seed, "customer", plan.number);
        if plan.payment == Payment::Before {
            self.ask(plan, What::Signal, &chance).await;
        }
        let Some(instance_id) = self.ask(plan, What::Order, &chance).await else {
            return self.follow_up(plan, &chance).await;
        };
        tokio::join!(self.meddle(plan, instance_id), self.follow_up(plan, &chance));
    }

    /// What comes after an order was accepted.
    async fn follow_up(&self, plan: &Plan, chance: &Chance) {
        if plan.is_sent_twice {
            self.ask(plan, What::Again, chance).await;
        }
        if plan.is_reused {
            self.ask(plan, What::Reused, chance).await;
        }
        if let Some(milliseconds) = plan.cancelled_by_shop {
            sleep(Duration::from_millis(milliseconds)).await;
            self.ask(plan, What::Cancelled, chance).await;
        }
        if let Payment::After { milliseconds, times } = plan.payment {
            sleep(Duration::from_millis(milliseconds)).await;
            for _ in 0..times {
                self.ask(plan, What::Signal, chance).await;
            }
        }
    }

    /// Gives the commands that people have in mind for an order.
    async fn meddle(&self, plan: &Plan, instance_id: Uuid) {
        for (turn, meddling) in plan.meddling.iter().enumerate() {
            self.until(meddling.moment, instance_id).await;
            let server = plan.number as usize + turn;
            let ask = |person: u32| {
                self.operator.command(server + person as usize, instance_id, meddling.command)
            };
            join_all((0..meddling.people).map(ask)).await;
        }
    }

    /// Waits until the moment has come, for a charge or parcels no longer than is sensible.
    async fn until(&self, moment: Moment, instance_id: Uuid) {
        let milliseconds = match moment {
            Moment::After { milliseconds } => milliseconds,
            Moment::AfterChargeSent { milliseconds } => {
                let key = format!("{instance_id}/charge");
                let is_sent = || self.providers_proxies.iter().any(|it| it.is_calling(&key));
                let deadline = Instant::now() + CHARGED;
                while !is_sent() && Instant::now() < deadline {
                    sleep(LOOK).await;
                }
                milliseconds
            }
            Moment::AfterParcels { milliseconds } => {
                self.operator.await_children(instance_id, PARCELLED).await;
                milliseconds
            }
        };
        sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Asks, now this server and now that one, until there is an answer that ends the matter.
    async fn ask(&self, plan: &Plan, what: What, chance: &Chance) -> Option<Uuid> {
        for repetitions in 0.. {
            let server = &self.servers[chance.within(0..self.servers.len() as u64) as usize];
            let request = request::of(plan, what, &self.client, server);
            if let Some(answer) = request::send(request).await {
                let instance_id = answer.instance_id();
                self.told.add(Answered {
                    number: plan.number,
                    business_key: plan.business_key(),
                    what,
                    status: answer.status,
                    instance_id,
                    outcome: answer.outcome(),
                    repetitions,
                });
                return instance_id;
            }
            sleep(Duration::from_millis(chance.within(50..400)) * patience(repetitions)).await;
        }
        None
    }
}
