//! The second version: the stages of a retail flow, parcels that a person packs, and orders of which
//! not everything can be handed over.

use amends::{
    Event, Halt, Imbalance, Ledger, Milestone, Money, Outcome, Saga, Signals, Steps, Workflow,
};
use serde_json::json;

use super::give_back::Reduction;
use super::issue_invoice::InvoiceRequest;
use super::notify::NoticeRequest;
use super::packing::{self, Packed, Packing, PickedUp};
use super::parcel::{Parcel, ParcelRequest};
use super::performers::{Performers, Taken};
use super::reserve_stock::StockRequest;
use super::ship::ShipRequest;
use super::story::about;
use super::{Fulfilled, money, story};
use crate::order::{Item, Order, Payment};
use crate::ports::Ports;

/// The workflow that fulfils an [`Order`].
pub struct Fulfilment {
    performers: Performers,
    packing: Packing,
}

/// What has left the house, and what has not.
#[derive(Default)]
struct HandedOver {
    tracking_numbers: Vec<String>,
    missing: Vec<Item>,
    /// Nobody has been told yet.
    is_untold: bool,
}

impl Fulfilment {
    /// The workflow alone, with the providers its steps talk to.
    #[must_use]
    pub fn new(ports: Ports, packing: Packing) -> Self {
        Self { performers: Performers::new(ports), packing }
    }

    /// Gets everything to the customer that is to be handed over.
    async fn hand_over(&self, saga: &Saga, order: &Order) -> Result<HandedOver, Halt> {
        if order.items().is_empty() {
            return Ok(HandedOver { is_untold: true, ..HandedOver::default() });
        }
        let packing = saga.value("packing", || self.packing).await?;
        let packed = packing::packed(saga, order, packing).await?;
        let Some(shipment) = ShipRequest::of(order) else {
            self.notify(saga, order).await?;
            packing::picked_up(saga, order, packing).await?;
            return Ok(HandedOver { missing: packed.missing, ..HandedOver::default() });
        };
        let Packed { parcels, missing } = packed;
        if let [parcel] = parcels.as_slice() {
            let shipment = ShipRequest { items: parcel.items.clone(), ..shipment };
            let shipped = saga.run(&self.performers.ship, &shipment).await?; // the pivot
            let tracking_numbers = vec![shipped.tracking_number];
            return Ok(HandedOver { tracking_numbers, missing, is_untold: true });
        }
        let parcels = parcels.into_iter().map(|parcel| ParcelRequest {
            shipment: ShipRequest { items: parcel.items, ..shipment.clone() },
            notice: NoticeRequest::of(order),
        });
        Self::send(saga, parcels.collect(), missing).await
    }

    /// Sends several parcels, each on its own. What cannot be sent is missing, unless nothing can.
    async fn send(
        saga: &Saga,
        parcels: Vec<ParcelRequest>,
        missing: Vec<Item>,
    ) -> Result<HandedOver, Halt> {
        let mut children = Vec::new();
        for (index, parcel) in parcels.iter().enumerate() {
            let name = format!("parcel-{}", index + 1);
            children.push(saga.start_child::<Parcel>(&name, parcel).await?);
        }
        let mut sent = HandedOver { missing, ..HandedOver::default() };
        for (child, parcel) in children.iter().zip(parcels) {
            match child.ended().await? {
                Ok(shipped) => sent.tracking_numbers.push(shipped.tracking_number),
                Err(_) => sent.missing.extend(parcel.shipment.items),
            }
        }
        if let ([first, ..], []) = (children.as_slice(), sent.tracking_numbers.as_slice()) {
            // Nothing is on the road: the order is undone for the reason of its first parcel.
            first.output().await?;
        }
        Ok(sent)
    }

    async fn notify(&self, saga: &Saga, order: &Order) -> Result<(), Halt> {
        if let Some(request) = NoticeRequest::of(order) {
            saga.run(&self.performers.notify, &request).await?;
        }
        Ok(())
    }

    /// Has the customer not pay for what is missing. Returns by how much less it is, where the money
    /// has been taken.
    async fn reduce(
        &self,
        saga: &Saga,
        order: &Order,
        (taken, worth): (Option<&Taken>, Money),
    ) -> Result<i64, Halt> {
        match taken {
            Some(taken) if worth.amount_minor > 0 => {
                let reduction = Reduction { business_key: order.business_key(), amount: worth };
                let given_back = self.performers.give_back(saga, taken, reduction).await?;
                Ok(given_back.amount.amount_minor)
            }
            _ => Ok(0),
        }
    }
}

impl Workflow for Fulfilment {
    const NAME: &'static str = super::NAME;
    const VERSION: u32 = 2;
    type Input = Order;
    type Output = Fulfilled;

    fn steps(&self) -> Steps {
        let performers = &self.performers;
        Steps::new()
            .step(&performers.reserve_stock)
            .step(&performers.issue_invoice)
            .step(&performers.charge)
            .step(&performers.collect)
            .step(&performers.ship)
            .step(&performers.give_back)
            .step(&performers.give_back_at_shop)
            .step(&performers.notify)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<Packed>().signal::<PickedUp>()
    }

    async fn run(&self, saga: &Saga, order: Order) -> Result<Fulfilled, Halt> {
        let performers = &self.performers;
        if order.closed.is_some() {
            return Ok(Fulfilled::default());
        }
        if let Some(request) = StockRequest::of(&order) {
            saga.run(&performers.reserve_stock, &request).await?;
        }
        let invoice = saga.run(&performers.issue_invoice, &InvoiceRequest::of(&order)).await?;
        let taken = performers.collect(saga, &order).await?;
        saga.publish(about("ORDER_PROCESSED", &order, json!({}))).await?;
        let handed_over = self.hand_over(saga, &order).await?;
        let worth = order.worth_of(&handed_over.missing);
        let given_back_minor = self.reduce(saga, &order, (taken.as_ref(), worth)).await?;
        if handed_over.is_untold {
            self.notify(saga, &order).await?;
        }
        let taken_late = performers.collect_late(saga, &order, worth).await?;
        let is_late = matches!(order.payment, Payment::OnTerms { .. });
        let mut tracking_numbers = handed_over.tracking_numbers.into_iter();
        Ok(Fulfilled {
            invoice_number: Some(invoice.invoice_number),
            charge_id: taken.or(taken_late).map(|taken| taken.reference),
            tracking_number: tracking_numbers.next(),
            more_tracking_numbers: tracking_numbers.collect(),
            missing: handed_over.missing,
            reduced_by_minor: if is_late { worth.amount_minor } else { given_back_minor },
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
            // How much is due, the output says.
            Outcome::Completed => Ok(()),
            Outcome::Compensated | Outcome::Cancelled => money::is_even(order, ledger),
        }
    }

    fn answers_for(
        &self,
        order: &Order,
        output: &Fulfilled,
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        money::is_whole(order, ledger, output.reduced_by_minor)
    }
}
