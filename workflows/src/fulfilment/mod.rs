//! Fulfils an order: reserve, invoice, charge, ship, notify, as far as the order needs it.
//!
//! What was paid at the shop is not charged again, what needs no parcel is not shipped, and an order
//! that is closed when it comes is kept and left alone.
//!
//! Until the parcel is with the carrier, whatever was done is undone when a step fails for good or
//! somebody cancels. From then on there is no way back: the customer is notified, sooner or later.

pub mod reserve_stock;

pub mod issue_invoice;

pub mod charge;

pub mod collect;

pub mod ship;

pub mod notify;

use std::time::Duration;

use amends::{
    Dependency, EngineBuilder, Event, Failure, Halt, Imbalance, Ledger, Milestone, Money, Outcome,
    RetryPolicy, Saga, Steps, Workflow,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::order::{Order, Payment};
use crate::ports::{CALL_TIMEOUT, Ports};
use charge::{Charge, ChargeRequest};
use collect::{Collect, CollectRequest};
use issue_invoice::{InvoiceRequest, IssueInvoice};
use notify::{NoticeRequest, Notify};
use reserve_stock::{ReserveStock, StockRequest};
use ship::{Ship, ShipRequest};

/// How long an attempt of any step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
// The client must give up before the step does, since only the client knows whether a request left.
const _: () = assert!(CALL_TIMEOUT.as_millis() < STEP_TIMEOUT.as_millis());
/// How a step before the pivot meets trouble that may pass: 20 attempts over about an hour. A
/// provider that is down for minutes must not cost the shop its orders; support can cancel earlier.
fn patience() -> RetryPolicy {
    RetryPolicy { delay_max: Duration::from_secs(300), attempts_max: 20, ..RetryPolicy::default() }
}

/// How long payment provider, carrier and mail provider remember a key. The shop's own systems,
/// stock and invoices, remember it for ever.
const KEY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How long the payment provider may still take money for a charge whose answer we have given up.
/// It waits for the bank of the card, and cuts that short after a minute at the latest. Sooner than
/// this, "there is no such charge" proves nothing.
const PAYMENT_SETTLES: Duration = Duration::from_secs(60);

/// The same of stock and invoices, which are the shop's own and ask nobody else. Half a minute is
/// what common servers and proxies allow a request in all.
const OWN_SYSTEMS_SETTLE: Duration = Duration::from_secs(30);

// What the steps call.
const STOCK: &str = "stock";
const INVOICES: &str = "invoices";
const PAYMENT: &str = "payment";
const CARRIER: &str = "carrier";
const MAIL: &str = "mail";
const SHOP: &str = "shop";

/// So many calls in a row without an answer are an outage: what needs that provider waits without
/// spending attempts until it is back. A single order that only it refuses to answer spends its own
/// attempts first.
const OUTAGE: u32 = 20;

/// Adds the workflow, with the providers its steps talk to, to an engine.
#[must_use]
pub fn register(engine: EngineBuilder, ports: Ports) -> EngineBuilder {
    [STOCK, INVOICES, PAYMENT, CARRIER, MAIL, SHOP]
        .into_iter()
        .map(|name| Dependency::new(name).down_after(OUTAGE))
        .fold(engine.workflow(Fulfilment::new(ports)), EngineBuilder::dependency)
}

/// The workflow that fulfils an [`Order`].
pub struct Fulfilment {
    reserve_stock: ReserveStock,
    issue_invoice: IssueInvoice,
    charge: Charge,
    collect: Collect,
    ship: Ship,
    notify: Notify,
}

/// What came of an order that was fulfilled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilled {
    /// The number printed on the invoice, unless there was nothing to be done.
    #[serde(default)]
    pub invoice_number: Option<String>,
    /// The reference of the payment, if there was one.
    #[serde(default)]
    pub charge_id: Option<String>,
    /// What the customer follows the parcel with, if there is one.
    #[serde(default)]
    pub tracking_number: Option<String>,
}

impl Fulfilment {
    /// The workflow alone, with the providers its steps talk to.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self {
            reserve_stock: ReserveStock::new(ports.stock),
            issue_invoice: IssueInvoice::new(ports.invoices),
            charge: Charge::new(ports.payments),
            collect: Collect::new(ports.shop),
            ship: Ship::new(ports.carrier),
            notify: Notify::new(ports.mail),
        }
    }

    /// Takes the money that is to be taken before the goods are handed over. Returns its reference.
    async fn collect(&self, saga: &Saga, order: &Order) -> Result<Option<String>, Halt> {
        if let Some(request) = CollectRequest::of(order) {
            return Ok(Some(saga.run(&self.collect, &request).await?.charge_id));
        }
        if order.payment.is_to_charge() && order.total().amount_minor > 0 {
            return self.charge(saga, order).await.map(Some);
        }
        Ok(None)
    }

    /// Takes the money that the customer owes after the goods are handed over, once it is due.
    async fn collect_late(&self, saga: &Saga, order: &Order) -> Result<Option<String>, Halt> {
        let Payment::OnTerms { due_at } = order.payment else {
            return Ok(None);
        };
        if let Some(due_at) = due_at {
            saga.sleep_until(due_at).await?;
        }
        self.charge(saga, order).await.map(Some)
    }

    async fn charge(&self, saga: &Saga, order: &Order) -> Result<String, Halt> {
        Ok(saga.run(&self.charge, &ChargeRequest::of(order)).await?.charge_id)
    }
}

impl Workflow for Fulfilment {
    const NAME: &'static str = "fulfilment";
    const VERSION: u32 = 1;
    type Input = Order;
    type Output = Fulfilled;

    fn steps(&self) -> Steps {
        Steps::new()
            .step(&self.reserve_stock)
            .step(&self.issue_invoice)
            .step(&self.charge)
            .step(&self.collect)
            .step(&self.ship)
            .step(&self.notify)
    }

    async fn run(&self, saga: &Saga, order: Order) -> Result<Fulfilled, Halt> {
        if order.closed.is_some() {
            return Ok(Fulfilled::default());
        }
        if let Some(request) = StockRequest::of(&order) {
            saga.run(&self.reserve_stock, &request).await?;
        }
        let invoice = saga.run(&self.issue_invoice, &InvoiceRequest::of(&order)).await?;
        let paid = self.collect(saga, &order).await?;
        let parcel = match ShipRequest::of(&order) {
            Some(request) => Some(saga.run(&self.ship, &request).await?), // the pivot
            None => None,
        };
        if let Some(request) = NoticeRequest::of(&order) {
            saga.run(&self.notify, &request).await?;
        }
        let paid_late = self.collect_late(saga, &order).await?;
        Ok(Fulfilled {
            invoice_number: Some(invoice.invoice_number),
            charge_id: paid.or(paid_late),
            tracking_number: parcel.map(|parcel| parcel.tracking_number),
        })
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        let event = match milestone {
            Milestone::Started { input } => {
                let created = json!({
                    "business_key": input.business_key(),
                    "number": input.number,
                    "amount_minor": input.total_minor,
                    "currency": input.currency,
                });
                Event::new("ORDER_CREATED", &created)
            }
            Milestone::Completed { input: input @ Order { closed: Some(closed), .. }, .. } => {
                let ignored = json!({
                    "business_key": input.business_key(),
                    "number": input.number,
                    "reason": closed.as_str(),
                });
                Event::new("ORDER_IGNORED", &ignored)
            }
            Milestone::Completed { input, output } => {
                let fulfilled = json!({
                    "business_key": input.business_key(),
                    "number": input.number,
                    "invoice_number": output.invoice_number,
                    "charge_id": output.charge_id,
                    "tracking_number": output.tracking_number,
                });
                Event::new("ORDER_FULFILLED", &fulfilled)
            }
            Milestone::Undone { input, outcome, failure } => {
                let cancelled = json!({
                    "business_key": input.business_key(),
                    "number": input.number,
                    "outcome": word(outcome),
                    "code": failure.code,
                });
                Event::new("ORDER_CANCELLED", &cancelled)
            }
            Milestone::Terminated { input, failure } => {
                let terminated = json!({
                    "business_key": input.business_key(),
                    "number": input.number,
                    "code": failure.code,
                });
                Event::new("ORDER_TERMINATED", &terminated)
            }
        };
        vec![event]
    }

    fn attributes(&self, order: &Order) -> Vec<(&'static str, String)> {
        let email = order.customer.email.as_ref();
        // However it is written, it is one address.
        let email = email.map(|email| ("email", email.to_lowercase()));
        let ids = [("order", order.number.clone()), ("order_id", order.order_id.clone())];
        ids.into_iter().chain(email).collect()
    }

    fn balanced(&self, outcome: Outcome, order: &Order, ledger: &Ledger) -> Result<(), Imbalance> {
        let Money { amount_minor, currency } = order.total();
        let is_ours = match order.payment {
            Payment::ToCharge
            | Payment::Authorised { .. }
            | Payment::Paid { .. }
            | Payment::OnTerms { .. } => order.closed.is_none(),
            Payment::OnDelivery | Payment::NothingDue => false,
        };
        let due_minor = match outcome {
            // What the shop has given back by itself is not owed any more.
            Outcome::Completed if is_ours => {
                amount_minor - ledger.refunded_outside(currency).unwrap_or_default()
            }
            Outcome::Completed | Outcome::Compensated | Outcome::Cancelled => 0,
        };
        match ledger.captured_net(currency) {
            Some(net_minor) if net_minor == due_minor => Ok(()),
            Some(net_minor) => Err(Imbalance(format!(
                "captured less refunded is {net_minor}, and should be {due_minor} \
                 ({currency} minor units)"
            ))),
            None => Err(Imbalance(format!(
                "money moved in another currency than {currency}, or too much of it"
            ))),
        }
    }
}

/// What the world is told of a step that failed for good: the code, and never the message, which
/// a provider wrote.
fn failed(kind: &'static str, business_key: &str, failure: &Failure) -> Event {
    Event::new(kind, &json!({ "business_key": business_key, "code": failure.code }))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Compensated => "compensated",
        Outcome::Cancelled => "cancelled",
    }
}

/// What the tests of the steps share.
#[cfg(test)]
mod testing {
    use amends::{Event, Moment, Step};
    use serde_json::Value;

    /// Kind and data of events, comparable.
    pub(super) fn read(events: &[Event]) -> Vec<(&'static str, Value)> {
        let data = |event: &Event| serde_json::from_str(event.data.get()).unwrap();
        events.iter().map(|event| (event.kind, data(event))).collect()
    }

    /// What a step publishes at a moment.
    pub(super) fn told<S: Step>(step: &S, moment: Moment<'_, S>) -> Vec<(&'static str, Value)> {
        read(&step.events(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::read;
    use super::*;
    use crate::failure::OUT_OF_STOCK;
    use crate::order::sample;
    use amends::{Moment, Movement, MovementKind, Step, Undone};
    use serde_json::Value;

    fn fulfilment() -> Fulfilment {
        Fulfilment::new(Ports::instant())
    }

    fn fulfilled() -> Fulfilled {
        Fulfilled {
            invoice_number: Some("2026-7".into()),
            charge_id: Some("ch_1".into()),
            tracking_number: Some("TR1".into()),
        }
    }

    fn told(milestone: Milestone<'_, Fulfilment>) -> Vec<(&'static str, Value)> {
        read(&fulfilment().events(milestone))
    }

    #[test]
    fn steps_have_names_of_their_own_that_fit_into_a_key() {
        let names =
            [ReserveStock::NAME, IssueInvoice::NAME, Charge::NAME, Ship::NAME, Notify::NAME];
        assert_eq!(names, ["reserve_stock", "issue_invoice", "charge", "ship", "notify"]);
        assert_eq!(Collect::NAME, "collect");
        fulfilment().steps();
    }

    #[test]
    fn an_order_is_told_when_it_starts_and_however_it_ends() {
        let input = &sample();
        let key = "acme/5940139491234";
        assert_eq!(
            told(Milestone::Started { input }),
            [(
                "ORDER_CREATED",
                json!({
                    "business_key": key,
                    "number": "#1001",
                    "amount_minor": 7490,
                    "currency": "MYR",
                })
            )]
        );
        assert_eq!(
            told(Milestone::Completed { input, output: &fulfilled() }),
            [(
                "ORDER_FULFILLED",
                json!({
                    "business_key": key,
                    "number": "#1001",
                    "invoice_number": "2026-7",
                    "charge_id": "ch_1",
                    "tracking_number": "TR1",
                })
            )]
        );
        let failure = &Failure::new(OUT_OF_STOCK, "no tees");
        for (outcome, word) in
            [(Outcome::Compensated, "compensated"), (Outcome::Cancelled, "cancelled")]
        {
            let code = "OUT_OF_STOCK";
            assert_eq!(
                told(Milestone::Undone { input, outcome, failure }),
                [(
                    "ORDER_CANCELLED",
                    json!({
                        "business_key": key, "number": "#1001", "outcome": word, "code": code,
                    })
                )]
            );
        }
    }

    #[test]
    fn an_order_is_found_by_shop_number_id_and_address() {
        assert_eq!(
            fulfilment().attributes(&sample()),
            [
                ("order", "#1001".to_owned()),
                ("order_id", "5940139491234".to_owned()),
                ("email", "jane@example.com".to_owned()),
            ]
        );
    }

    #[test]
    fn money_must_add_up_to_the_total_or_to_nothing() {
        use MovementKind::{Capture, Refund};
        let order = sample();
        let balanced = |outcome, movements: &[(MovementKind, i64, &str)]| {
            let movement = |&(kind, amount_minor, currency): &(MovementKind, i64, &str)| Movement {
                kind,
                money: Money { amount_minor, currency: currency.parse().unwrap() },
                reference: String::new(),
            };
            let ledger = Ledger::of(movements.iter().map(movement).collect());
            fulfilment().balanced(outcome, &order, &ledger).is_ok()
        };
        let total = order.total_minor;
        let paid = &[(Capture, total, "MYR")][..];
        let refunded = &[(Capture, total, "MYR"), (Refund, total, "MYR")][..];
        let in_part = &[(Capture, total, "MYR"), (Refund, total - 1, "MYR")][..];
        let foreign = &[(Capture, total, "SGD")][..];
        for (movements, completed, undone) in [
            (&[][..], false, true),
            (paid, true, false),
            (refunded, false, true),
            (in_part, false, false),
            (foreign, false, false),
        ] {
            assert_eq!(balanced(Outcome::Completed, movements), completed, "{movements:?}");
            assert_eq!(balanced(Outcome::Compensated, movements), undone, "{movements:?}");
            assert_eq!(balanced(Outcome::Cancelled, movements), undone, "{movements:?}");
        }
    }

    /// All that a step can publish.
    fn all_told<S: Step>(step: &S, input: &S::Input, output: &S::Output) -> Vec<Event> {
        let failure = &Failure::new("CODE", "Jane Tan did not pay");
        let undone = &Undone::by("un_1");
        let moments = [
            Moment::Done { input, output },
            Moment::Failed { input, failure },
            Moment::Undone { input, output: Some(output), undone },
            Moment::Undone { input, output: None, undone },
        ];
        moments.into_iter().flat_map(|moment| step.events(moment)).collect()
    }

    #[test]
    fn no_event_tells_who_the_customer_is() {
        let order = &sample();
        let fulfilment = fulfilment();
        let failure = &Failure::new("CODE", "Jane Tan did not pay");
        let outcome = Outcome::Cancelled;
        let mut events = [
            Milestone::Started { input: order },
            Milestone::Completed { input: order, output: &fulfilled() },
            Milestone::Undone { input: order, outcome, failure },
        ]
        .into_iter()
        .flat_map(|milestone| fulfilment.events(milestone))
        .collect::<Vec<_>>();
        let id = || "id".to_owned();
        events.extend(all_told(
            &fulfilment.reserve_stock,
            &StockRequest::of(order).unwrap(),
            &reserve_stock::Reserved { reservation_id: id() },
        ));
        events.extend(all_told(
            &fulfilment.issue_invoice,
            &InvoiceRequest::of(order),
            &issue_invoice::Invoiced { invoice_id: id(), invoice_number: id() },
        ));
        events.extend(all_told(
            &fulfilment.charge,
            &ChargeRequest::of(order),
            &charge::Charged { charge_id: id() },
        ));
        events.extend(all_told(
            &fulfilment.ship,
            &ShipRequest::of(order).unwrap(),
            &ship::Shipped { shipment_id: id(), tracking_number: id() },
        ));
        events.extend(all_told(
            &fulfilment.notify,
            &NoticeRequest::of(order).unwrap(),
            &notify::Notified { message_id: id() },
        ));
        assert_eq!(events.len(), 14);
        let (customer, recipient) = (&order.customer, order.recipient.as_ref().unwrap());
        for personal in [
            &customer.name,
            customer.email.as_ref().unwrap(),
            &recipient.name,
            &recipient.address,
            &recipient.city,
            &recipient.postcode,
        ] {
            for event in &events {
                assert!(!event.data.get().contains(personal.as_str()), "{}", event.kind);
            }
        }
    }
}
