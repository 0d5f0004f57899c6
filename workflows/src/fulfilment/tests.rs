//! What holds for the workflow as a whole: names, events, money, and nothing personal in events.

use amends::{
    Event, Failure, Ledger, Milestone, Moment, Money, Movement, MovementKind, Outcome, Step,
    Undone, Workflow,
};
use serde_json::{Value, json};

use super::charge::{Charge, ChargeRequest};
use super::collect::Collect;
use super::issue_invoice::{InvoiceRequest, IssueInvoice};
use super::notify::{NoticeRequest, Notify};
use super::performers::Performers;
use super::reserve_stock::{ReserveStock, StockRequest};
use super::ship::{Ship, ShipRequest};
use super::testing::read;
use super::*;
use crate::failure::OUT_OF_STOCK;
use crate::order::sample;

fn fulfilment() -> Fulfilment {
    Fulfilment::new(Ports::instant(), Setup::default())
}

fn fulfilled() -> Fulfilled {
    Fulfilled {
        invoice_number: Some("2026-7".into()),
        charge_id: Some("ch_1".into()),
        tracking_number: Some("TR1".into()),
        ..Fulfilled::default()
    }
}

fn told(milestone: Milestone<'_, Fulfilment>) -> Vec<(&'static str, Value)> {
    read(&fulfilment().events(milestone))
}

#[test]
fn steps_have_names_of_their_own_that_fit_into_a_key() {
    let names = [ReserveStock::NAME, IssueInvoice::NAME, Charge::NAME, Ship::NAME, Notify::NAME];
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
        let first = FulfilmentV1::new(Ports::instant()).balanced(outcome, &order, &ledger);
        let mut second = fulfilment().balanced(outcome, &order, &ledger);
        if outcome == Outcome::Completed {
            second = second.and(fulfilment().answers_for(&order, &fulfilled(), &ledger));
        }
        assert_eq!(first, second);
        first.is_ok()
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
    let performers = Performers::new(Ports::instant());
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
        &performers.reserve_stock,
        &StockRequest::of(order).unwrap(),
        &reserve_stock::Reserved { reservation_id: id() },
    ));
    events.extend(all_told(
        &performers.issue_invoice,
        &InvoiceRequest::of(order),
        &issue_invoice::Invoiced { invoice_id: id(), invoice_number: id() },
    ));
    events.extend(all_told(
        &performers.charge,
        &ChargeRequest::of(order),
        &charge::Charged { charge_id: id(), charge_key: None },
    ));
    events.extend(all_told(
        &performers.ship,
        &ShipRequest::of(order).unwrap(),
        &ship::Shipped { shipment_id: id(), tracking_number: id() },
    ));
    events.extend(all_told(
        &performers.notify,
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
