//! The first version: reserve, invoice, charge, ship, notify. Instances that were started on it end
//! on it.

use amends::{Event, Halt, Imbalance, Ledger, Milestone, Money, Outcome, Saga, Steps, Workflow};

use super::issue_invoice::InvoiceRequest;
use super::notify::NoticeRequest;
use super::performers::Performers;
use super::reserve_stock::StockRequest;
use super::ship::ShipRequest;
use super::{Fulfilled, money, story};
use crate::order::Order;
use crate::ports::Ports;

/// The first version of the workflow that fulfils an [`Order`].
pub struct FulfilmentV1(Performers);

impl FulfilmentV1 {
    /// The workflow alone, with the providers its steps talk to.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self(Performers::new(ports))
    }
}

impl Workflow for FulfilmentV1 {
    const NAME: &'static str = super::NAME;
    const VERSION: u32 = 1;
    type Input = Order;
    type Output = Fulfilled;

    fn steps(&self) -> Steps {
        let Self(performers) = self;
        Steps::new()
            .step(&performers.reserve_stock)
            .step(&performers.issue_invoice)
            .step(&performers.charge)
            .step(&performers.collect)
            .step(&performers.ship)
            .step(&performers.notify)
    }

    async fn run(&self, saga: &Saga, order: Order) -> Result<Fulfilled, Halt> {
        let Self(performers) = self;
        if order.closed.is_some() {
            return Ok(Fulfilled::default());
        }
        if let Some(request) = StockRequest::of(&order) {
            saga.run(&performers.reserve_stock, &request).await?;
        }
        let invoice = saga.run(&performers.issue_invoice, &InvoiceRequest::of(&order)).await?;
        let paid = performers.collect(saga, &order).await?;
        let parcel = match ShipRequest::of(&order) {
            Some(request) => Some(saga.run(&performers.ship, &request).await?), // the pivot
            None => None,
        };
        if let Some(request) = NoticeRequest::of(&order) {
            saga.run(&performers.notify, &request).await?;
        }
        let nothing = Money { amount_minor: 0, currency: order.total().currency };
        let paid_late = performers.collect_late(saga, &order, nothing).await?;
        Ok(Fulfilled {
            invoice_number: Some(invoice.invoice_number),
            charge_id: paid.or(paid_late).map(|taken| taken.reference),
            tracking_number: parcel.map(|parcel| parcel.tracking_number),
            ..Fulfilled::default()
        })
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        story::told(milestone)
    }

    fn attributes(&self, order: &Order) -> Vec<(&'static str, String)> {
        story::attributes(order)
    }

    fn balanced(&self, outcome: Outcome, order: &Order, ledger: &Ledger) -> Result<(), Imbalance> {
        match outcome {
            Outcome::Completed => money::is_whole(order, ledger, 0),
            Outcome::Compensated | Outcome::Cancelled => money::is_even(order, ledger),
        }
    }
}
