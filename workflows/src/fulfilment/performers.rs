//! The steps of an order, with the providers that they ask, and how its money is taken.

use amends::{Halt, Money, Saga};

use super::charge::{Charge, ChargeRequest};
use super::collect::{Collect, CollectRequest};
use super::give_back::{
    AtShop, GiveBack, GiveBackAtShop, GiveBackAtShopRequest, GiveBackRequest, GivenBack, Reduction,
};
use super::issue_invoice::IssueInvoice;
use super::notify::Notify;
use super::reserve_stock::ReserveStock;
use super::ship::Ship;
use crate::order::{Order, Payment};
use crate::ports::Ports;

/// Every step that some version of the workflow runs.
pub(super) struct Performers {
    pub(super) reserve_stock: ReserveStock,
    pub(super) issue_invoice: IssueInvoice,
    pub(super) charge: Charge,
    pub(super) collect: Collect,
    pub(super) ship: Ship,
    pub(super) give_back: GiveBack,
    pub(super) give_back_at_shop: GiveBackAtShop,
    pub(super) notify: Notify,
}

/// Money that was taken.
pub(super) struct Taken {
    /// The reference of whoever has it.
    pub(super) reference: String,
    by: By,
}

enum By {
    /// The payment provider, under this key.
    Provider(Option<String>),
    Shop(AtShop),
}

impl Performers {
    pub(super) fn new(ports: Ports) -> Self {
        Self {
            reserve_stock: ReserveStock::new(ports.stock),
            issue_invoice: IssueInvoice::new(ports.invoices),
            charge: Charge::new(ports.payments.clone()),
            collect: Collect::new(ports.shop.clone()),
            ship: Ship::new(ports.carrier),
            give_back: GiveBack::new(ports.payments),
            give_back_at_shop: GiveBackAtShop::new(ports.shop),
            notify: Notify::new(ports.mail),
        }
    }

    /// Takes the money that is to be taken before the goods are handed over.
    pub(super) async fn collect(&self, saga: &Saga, order: &Order) -> Result<Option<Taken>, Halt> {
        if let Some(request) = CollectRequest::of(order) {
            let collected = saga.run(&self.collect, &request).await?;
            let reference = collected.charge_id;
            let by = match collected.capture_key {
                Some(key) => AtShop::Captured(key),
                None => AtShop::Paid(reference.clone()),
            };
            return Ok(Some(Taken { reference, by: By::Shop(by) }));
        }
        if order.payment.is_to_charge() {
            return self.charge(saga, order, order.total()).await;
        }
        Ok(None)
    }

    /// Takes the money that the customer owes after the goods are handed over, once it is due: all
    /// but `less`.
    pub(super) async fn collect_late(
        &self,
        saga: &Saga,
        order: &Order,
        less: Money,
    ) -> Result<Option<Taken>, Halt> {
        let Payment::OnTerms { due_at } = order.payment else {
            return Ok(None);
        };
        if let Some(due_at) = due_at {
            saga.sleep_until(due_at).await?;
        }
        let Money { amount_minor, currency } = order.total();
        let total = Money { amount_minor: amount_minor - less.amount_minor, currency };
        self.charge(saga, order, total).await
    }

    /// Gives back a part of what was taken.
    pub(super) async fn give_back(
        &self,
        saga: &Saga,
        taken: &Taken,
        reduction: Reduction,
    ) -> Result<GivenBack, Halt> {
        match &taken.by {
            By::Provider(key) => {
                let charge_key = key.clone().unwrap_or_default();
                let request = GiveBackRequest { reduction, charge_key };
                saga.run(&self.give_back, &request).await
            }
            By::Shop(from) => {
                let request = GiveBackAtShopRequest { reduction, from: from.clone() };
                saga.run(&self.give_back_at_shop, &request).await
            }
        }
    }

    async fn charge(
        &self,
        saga: &Saga,
        order: &Order,
        total: Money,
    ) -> Result<Option<Taken>, Halt> {
        if total.amount_minor == 0 {
            return Ok(None);
        }
        let request = ChargeRequest { total, ..ChargeRequest::of(order) };
        let charged = saga.run(&self.charge, &request).await?;
        Ok(Some(Taken { reference: charged.charge_id, by: By::Provider(charged.charge_key) }))
    }
}
