//! The second version: the stages of a retail flow, parcels that a person packs, and orders of which
//! not everything can be handed over.

use amends::{
    Event, Halt, Imbalance, Ledger, Milestone, Money, Outcome, Saga, Signals, Steps, Workflow,
};
use serde_json::json;

use super::give_back::Reduction;
use super::issue_invoice::InvoiceRequest;
use super::notify::NoticeRequest;
use super::packing::{self, Packed, PickedUp};
use super::parcel::{Parcel, ParcelRequest};
use super::performers::{Performers, Taken};
use super::reserve_stock::StockRequest;
use super::ship::ShipRequest;
use super::story::about;
use super::{Fulfilled, Setup, StockKeeping, money, story};
use crate::order::{Item, Order, Payment};
use crate::ports::Ports;
use crate::stock::{HoldRequest, HoldStock, PutBackRequest, PutBackStock, SaleRequest, SellStock};

/// The workflow that fulfils an [`Order`].
pub struct Fulfilment {
    performers: Performers,
    setup: Setup,
}

/// What has left the house, and what has not.
#[derive(Default)]
struct HandedOver {
    tracking_numbers: Vec<String>,
    missing: Vec<Item>,
    /// What is not missing, and no carrier has taken.
    refused: Vec<Item>,
    /// Nobody has been told yet.
    is_untold: bool,
}

impl Fulfilment {
    /// The workflow alone, with the providers its steps talk to.
    #[must_use]
    pub fn new(ports: Ports, setup: Setup) -> Self {
        Self { performers: Performers::new(ports), setup }
    }

    /// Makes sure that there is what is to be handed over.
    async fn reserve(&self, saga: &Saga, order: &Order, stock: StockKeeping) -> Result<(), Halt> {
        let Some(request) = StockRequest::of(order) else { return Ok(()) };
        match stock {
            StockKeeping::Provider => {
                saga.run(&self.performers.reserve_stock, &request).await?;
            }
            StockKeeping::Database { keep_for_seconds } => {
                let StockRequest { business_key, items } = request;
                let request = HoldRequest { business_key, items, keep_for_seconds };
                saga.transaction(&HoldStock, &request).await?;
            }
        }
        Ok(())
    }

    /// Gets everything to the customer that is to be handed over.
    async fn hand_over(
        &self,
        saga: &Saga,
        order: &Order,
        Setup { packing, stock }: Setup,
    ) -> Result<HandedOver, Halt> {
        if order.items().is_empty() {
            return Ok(HandedOver { is_untold: true, ..HandedOver::default() });
        }
        let packed = packing::packed(saga, order, packing).await?;
        if matches!(stock, StockKeeping::Database { .. }) {
            let sale = SaleRequest { items: packed.items(), missing: packed.missing.clone() };
            saga.transaction(&SellStock, &sale).await?;
        }
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
            let sent = HandedOver { tracking_numbers, missing, ..HandedOver::default() };
            return Ok(HandedOver { is_untold: true, ..sent });
        }
        let parcels = parcels.into_iter().map(|parcel| ParcelRequest {
            shipment: ShipRequest { items: parcel.items, ..shipment.clone() },
            notice: NoticeRequest::of(order),
        });
        let sent = Self::send(saga, parcels.collect()).await?;
        if matches!(stock, StockKeeping::Database { .. }) && !sent.refused.is_empty() {
            let request = PutBackRequest { items: sent.refused.clone() };
            saga.transaction(&PutBackStock, &request).await?;
        }
        Ok(HandedOver { missing: [missing, sent.refused.clone()].concat(), ..sent })
    }

    /// Sends several parcels, each on its own. If none can be sent, the order is undone.
    async fn send(saga: &Saga, parcels: Vec<ParcelRequest>) -> Result<HandedOver, Halt> {
        let mut children = Vec::new();
        for (index, parcel) in parcels.iter().enumerate() {
            let name = format!("parcel-{}", index + 1);
            children.push(saga.start_child::<Parcel>(&name, parcel).await?);
        }
        let mut sent = HandedOver::default();
        for (child, parcel) in children.iter().zip(parcels) {
            match child.ended().await? {
                Ok(shipped) => sent.tracking_numbers.push(shipped.tracking_number),
                Err(_) => sent.refused.extend(parcel.shipment.items),
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
            .transaction(&HoldStock)
            .step(&performers.issue_invoice)
            .step(&performers.charge)
            .step(&performers.collect)
            .transaction(&SellStock)
            .step(&performers.ship)
            .transaction(&PutBackStock)
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
        let setup = saga.value("setup", || self.setup).await?;
        self.reserve(saga, &order, setup.stock).await?;
        let invoice = saga.run(&performers.issue_invoice, &InvoiceRequest::of(&order)).await?;
        let taken = performers.collect(saga, &order).await?;
        saga.publish(about("ORDER_PROCESSED", &order, json!({}))).await?;
        let handed_over = self.hand_over(saga, &order, setup).await?;
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
