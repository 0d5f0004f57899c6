//! A workflow that has one of everything: branches side by side, a transaction step, a provider
//! that can only be asked, one that cannot even be asked, a child, a sleep, a signal that may not
//! come.
//!
//! Nothing but the engine keeps its providers from doing something twice: each request that
//! reaches them is applied, and stands in their ledger.

mod archive;
mod book;
mod charge;
mod label;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use amends::{
    EngineBuilder, Event, Halt, Imbalance, Ledger, Milestone, Money, Outcome, Saga, Signal,
    Signals, Steps, Workflow,
};
use amends_workflows::fulfilment::notify::{NoticeRequest, Notify};
use amends_workflows::fulfilment::reserve_stock::{ReserveStock, StockRequest};
use amends_workflows::order::Item;
use amends_workflows::ports::Ports;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::money;
use crate::pace::Pace;
use crate::provider::Provider;
pub(crate) use archive::Archiving;
use archive::CHILD;
use book::Book;
pub(crate) use book::TABLE;
use charge::Charge;
use label::Label;
use settle::Settle;

/// How long a settlement waits for its payment.
const PATIENCE: Duration = Duration::from_secs(8);
/// The sleep before its charge is shorter than this.
const REST_MILLISECONDS_MAX: u64 = 500;

/// What is to be settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) order_id: String,
    pub(crate) total: Money,
}

/// The news that the money has arrived.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PaymentSettled {
    pub(crate) reference: String,
}

impl Signal for PaymentSettled {
    const NAME: &'static str = "payment.settled";
}

/// The workflow.
pub(crate) struct Settling {
    reserve: ReserveStock,
    book: Book,
    charge: Charge,
    label: Label,
    notify: Notify,
    settle: Settle,
}

/// Adds the workflow to an engine that has the dependencies of fulfilment.
pub(crate) fn register(
    engine: EngineBuilder,
    ports: Ports,
    providers_url: &str,
    pace: Pace,
) -> anyhow::Result<EngineBuilder> {
    let provider = Arc::new(Provider::try_new(providers_url)?);
    let engine = engine.workflow(Archiving::new(ports.clone()));
    Ok(engine.workflow(Settling {
        reserve: ReserveStock::new(ports.stock),
        book: Book,
        charge: Charge { provider: Arc::clone(&provider), quiet: pace.quiet() },
        label: Label { provider, settles: pace.quiet() },
        notify: Notify::new(ports.mail),
        settle: Settle,
    }))
}

impl Workflow for Settling {
    const NAME: &'static str = "settling";
    const VERSION: u32 = 1;
    type Input = Settlement;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
            .step(&self.reserve)
            .transaction(&self.book)
            .step(&self.charge)
            .step(&self.label)
            .step(&self.notify)
            .step(&self.settle)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<PaymentSettled>()
    }

    async fn run(&self, saga: &Saga, order: Settlement) -> Result<String, Halt> {
        let items = vec![Item { sku: "TEE-M-BLK".to_owned(), quantity: 1 }];
        let stock = StockRequest { business_key: order.order_id.clone(), items };
        let booking = async { saga.transaction(&self.book, &order.order_id).await };
        let reserving = async { saga.run(&self.reserve, &stock).await };
        tokio::try_join!(reserving, booking)?;
        // What comes due has a call behind it that must not be made twice.
        saga.sleep(Duration::from_millis(saga.random() % REST_MILLISECONDS_MAX)).await?;
        saga.run(&self.charge, &order).await?;
        saga.run(&self.label, &order).await?;
        let archive = saga.start_child::<Archiving>(CHILD, &order.order_id).await?;
        let notice = NoticeRequest {
            business_key: order.order_id,
            to: "jane@example.com".to_owned(),
            template: "payment_due".to_owned(),
        };
        saga.run(&self.notify, &notice).await?;
        archive.output().await?;
        let settled = saga.wait::<PaymentSettled>(PATIENCE).await?;
        saga.run(&self.settle, &settled.map(|settled| settled.reference)).await
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        let kind = match milestone {
            Milestone::Started { .. } => "SETTLING_STARTED",
            Milestone::Completed { .. } => "SETTLING_COMPLETED",
            Milestone::Undone { .. } => "SETTLING_UNDONE",
            Milestone::Terminated { .. } => "SETTLING_TERMINATED",
        };
        vec![Event::new(kind, &json!({}))]
    }

    fn balanced(
        &self,
        outcome: Outcome,
        order: &Settlement,
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        money::balanced(outcome, order.total, ledger)
    }
}
