//! The demo: a shop whose orders end in different ways, live, on the real server.
//!
//! Everything is real but the providers: the webhooks are signed and go over HTTP, and what is
//! shown is what the server answers. At the end it is checked, not claimed, that every order has
//! ended as it should, in the providers' own books too.

mod case;
mod check;
mod client;
mod guide;
mod shop;
mod stage;
mod teller;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use amends::{Address, Clock, Status};
use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::Shared;
use tokio::time::interval;
use uuid::Uuid;

use crate::config;
use crate::database;
use crate::timeline::timeline;
use crate::view::Instance;
use case::{Case, REFUNDED};
use check::Finding;
use client::{Arrived, Client};
use shop::{CURRENCY, Order, Orders, Webhook};
use stage::{Doors, Stage};
pub use teller::Colours;
use teller::Teller;

/// How the demo is run.
#[derive(Debug)]
pub struct Options {
    /// Where the server listens; `None`: on the usual port, or on a free one if that is taken.
    pub listen: Option<SocketAddr>,
    /// Where instances are kept.
    pub database: config::Database,
    /// The folder of the providers' books.
    pub folder: PathBuf,
    /// What happens after the show.
    pub then: Then,
    /// Whether colours are wanted.
    pub colours: Colours,
    /// How this program is called in the commands to try.
    pub program: String,
}

/// What happens after the show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Everything stays up until it is told to stop.
    Stay,
    /// Everything is stopped.
    Exit,
}

/// How often the server is asked what is new.
const LOOK: Duration = Duration::from_millis(50);
/// How long an order may take, and all that an earlier run left behind together.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long events may take to arrive after their order has ended.
const EVENTS_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demo until `shutdown` completes, or to the end of the show.
///
/// Fails if an order did not end as it should, and then has said which.
pub async fn demo(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let shutdown = shutdown.boxed().shared();
    // Listened to from the first moment on, also while nobody waits for it yet.
    tokio::spawn(shutdown.clone());
    let doors = Doors::open(options.listen).await?;
    let teller = Teller::new(options.colours);
    teller.opening(&options.database);
    let play = |database| on_database(&options, doors, database, &teller, shutdown.clone());
    database::with(&options.database, play).await
}

async fn on_database(
    options: &Options,
    doors: Doors,
    database: Address,
    teller: &Teller,
    shutdown: Shared<impl Future<Output = ()>>,
) -> anyhow::Result<()> {
    let stage = Stage::set(options, doors, database.clone()).await?;
    teller.ready(&stage);
    let show = Show { client: stage.client()?, teller, clock: Clock::system() };
    let shown = tokio::select! {
        shown = show.play(database) => Some(shown),
        () = shutdown.clone() => None,
    };
    if let (Then::Stay, Some(Ok(Shown { orders, instances, .. }))) = (options.then, &shown) {
        teller.guide(&guide::guide(options, &stage, orders, instances));
        shutdown.await;
    }
    teller.closing();
    stage.strike().await?;
    match shown {
        Some(shown) => shown?.verdict(),
        None if options.then == Then::Stay => Ok(()),
        None => bail!("stopped before the end"),
    }
}

/// What the show has come to.
struct Shown {
    orders: Orders,
    instances: Vec<Uuid>,
    findings: Vec<Finding>,
}

impl Shown {
    fn verdict(self) -> anyhow::Result<()> {
        match self.findings.iter().filter(|finding| finding.is_err()).count() {
            0 => Ok(()),
            1 => bail!("1 thing is not as it should be"),
            wrong => bail!("{wrong} things are not as they should be"),
        }
    }
}

/// The show itself.
struct Show<'a> {
    client: Client,
    teller: &'a Teller,
    clock: Clock,
}

/// What an order has left behind: how many of each there are.
#[derive(PartialEq, Eq)]
struct Evidence {
    instances: usize,
    records: usize,
    effects: usize,
}

impl Show<'_> {
    async fn play(&self, database: Address) -> anyhow::Result<Shown> {
        let left_behind = self.client.under_way().await?;
        let orders = Orders::new(self.clock.now(), self.client.newest_number().await?);
        self.client.set_faults(&orders.faults()).await?;

        let (mut instances, mut findings, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for (case, order) in orders.cases() {
            self.teller.scene(case.title());
            let instance = self.order(case, order).await?;
            let books = self.client.books(&order.business_key()).await?;
            let story = self.client.story(&order.business_key()).await?;
            findings.push(check::order(order, case, &story, &books));
            let arrived = self.arrived(order, case.events().len()).await?;
            events.push(check::events(order, case, &arrived));
            instances.push(instance.instance_id);
        }
        if let Some((_, first)) = orders.cases().next() {
            self.teller.scene("The first order again, as Shopify sends it when it is not sure");
            findings.push(self.again(first).await?);
        }
        findings.extend(self.go_on(left_behind).await?);
        findings.push(check::all_events(events));
        findings.push(check::histories(database).await?);
        self.teller.findings(&findings);
        Ok(Shown { orders, instances, findings })
    }

    /// Sends an order, and shows what happens to it; the instance as it stands then.
    async fn order(&self, case: Case, order: &Order) -> anyhow::Result<Instance> {
        let took = self.deliver(order, &order.webhook).await?.num_milliseconds();
        let number = &order.number;
        self.teller.remark(&format!(
            "Shopify sends order {number}; {took} ms later it is stored, and Shopify has its answer"
        ));
        if case == Case::Mended {
            self.mend(order).await?;
        }
        let found = self.client.instances_of(&order.business_key()).await?.into_iter().next();
        let instance = found.context("an order was accepted, and is not there")?;
        let news = self.tell_news(case, order, instance.instance_id);
        let watching = self.watch(instance, self.clock.now() + PATIENCE);
        let (instance, ()) = tokio::try_join!(watching, news)?;
        Ok(instance)
    }

    /// Fills in what an order does not say, as somebody who has asked the shop.
    async fn mend(&self, order: &Order) -> anyhow::Result<()> {
        let (field, article) = shop::FORGOTTEN;
        self.teller.remark(&format!(
            "one article has no number, so nothing is begun, and a person is asked; she asks the \
             shop, and fills in {article}"
        ));
        let (key, reason) = (order.business_key(), "the shop was asked");
        self.client.fill_in(&key, (field, article), reason).await
    }

    /// Sends what becomes of an order in the shop, if something does, once the carrier was tried.
    async fn tell_news(&self, case: Case, order: &Order, id: Uuid) -> anyhow::Result<()> {
        let Some(news) = &order.news else { return Ok(()) };
        let until = self.clock.now() + PATIENCE;
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let history = self.client.history(id).await?.items;
            if history.iter().any(|record| record.kind == "step_attempt_failed") {
                break;
            }
            if self.clock.now() > until {
                return Ok(());
            }
        }
        let number = &order.number;
        self.deliver(order, news).await?;
        self.teller.remark(&match case {
            Case::Cancelled => format!("Shopify says that order {number} is cancelled"),
            _ => format!(
                "Shopify says that {REFUNDED} {CURRENCY} of order {number} was given back there"
            ),
        });
        Ok(())
    }

    /// Sends an order that was sent before.
    async fn again(&self, order: &Order) -> anyhow::Result<Finding> {
        let before = self.evidence(order).await?;
        let took = self.deliver(order, &order.webhook).await?.num_milliseconds();
        let number = &order.number;
        let after = self.evidence(order).await?;
        self.teller.remark(&format!(
            "Shopify sends order {number} once more, byte for byte, and has its answer after {took} ms"
        ));
        if before != after {
            return Ok(Err(format!("{number} sent again: something was done")));
        }
        let Evidence { records, .. } = after;
        self.teller.remark(&format!(
            "nothing started: there is one order {number}, and its {records} records are as before"
        ));
        Ok(Ok(format!("{number} sent again: nothing was done twice")))
    }

    async fn evidence(&self, order: &Order) -> anyhow::Result<Evidence> {
        let instances = self.client.instances_of(&order.business_key()).await?;
        let mut records = 0;
        for instance in &instances {
            records += self.client.history(instance.instance_id).await?.items.len();
        }
        let effects = self.client.books(&order.business_key()).await?.len();
        Ok(Evidence { instances: instances.len(), records, effects })
    }

    /// Sends what Shopify says of an order; how long the server took to answer that it is durable.
    async fn deliver(&self, order: &Order, webhook: &Webhook) -> anyhow::Result<TimeDelta> {
        let sent_at = self.clock.now();
        let status = self.client.deliver(webhook).await?;
        if !status.is_success() {
            bail!("the server answered {status} to a webhook of order {}", order.number);
        }
        Ok(self.clock.now() - sent_at)
    }

    /// Shows what an earlier run left under way, until it has ended.
    async fn go_on(&self, left_behind: Vec<Instance>) -> anyhow::Result<Vec<Finding>> {
        if left_behind.is_empty() {
            return Ok(Vec::new());
        }
        self.teller.scene("What an earlier run left unfinished goes on by itself");
        let until = self.clock.now() + PATIENCE;
        let mut findings = Vec::new();
        for instance in left_behind {
            let number = shop::number(&instance);
            self.teller.remark(&format!("order {number}"));
            let instance = self.watch(instance, until).await?;
            let books = self.client.books(&instance.business_key).await?;
            let story = self.client.story(&instance.business_key).await?;
            findings.push(check::left_behind(&number, &story, &books));
        }
        Ok(findings)
    }

    /// Shows what happens to an instance until it has ended, needs a person, or takes too long.
    async fn watch(&self, instance: Instance, until: DateTime<Utc>) -> anyhow::Result<Instance> {
        let id = instance.instance_id;
        let mut looks = interval(LOOK);
        let mut shown = 0;
        loop {
            looks.tick().await;
            // Asked first, so that the history of one that has ended is whole.
            let instance = self.client.instance(id).await?;
            let history = self.client.history(id).await?.items;
            let lines = timeline(&history);
            for (record, line) in history.iter().zip(&lines).skip(shown) {
                self.teller.happened(instance.created_at, record, line);
            }
            shown = lines.len();
            let has_settled = instance.status.is_terminal() || instance.status == Status::Stuck;
            if has_settled || self.clock.now() > until {
                return Ok(instance);
            }
        }
    }

    /// The events of an order that have arrived, once there are as many as there should be.
    async fn arrived(&self, order: &Order, count: usize) -> anyhow::Result<Vec<Arrived>> {
        let until = self.clock.now() + EVENTS_PATIENCE;
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let arrived = self.client.arrived(&order.business_key()).await?;
            if arrived.len() >= count || self.clock.now() > until {
                return Ok(arrived);
            }
        }
    }
}
