//! The platform on which orders are placed and paid: captures of what is authorised there, refunds
//! of those, and refunds of what was paid there.

use axum::routing::Router;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::book::Part;
use super::call::{Forward, Undo, Undoing, forward, undo};
use super::fault::Codes;
use super::key::Key;
use super::operation::Operation;
use super::record::{Effect, Subject};

/// The routes of the platform.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Capture>("/shop/captures")
        .merge(undo::<RefundCapture>("/shop/captures/refunds"))
        .merge(forward::<RefundPayment>("/shop/refunds"))
}

/// So much of the money of a payment.
#[derive(Deserialize)]
struct Payment {
    order_id: String,
    #[serde(rename = "payment_reference")]
    _payment_reference: String,
    amount_minor: u64,
    currency: String,
}

impl Payment {
    fn subject(self) -> Subject {
        Subject {
            order_id: self.order_id,
            amount_minor: Some(self.amount_minor),
            currency: Some(self.currency),
        }
    }
}

#[derive(Deserialize)]
struct Capture(Payment);

impl Forward for Capture {
    const OPERATION: Operation = Operation::Capture;
    const PREFIX: &'static str = "ca";
    const CODES: Codes = Codes { declined: "declined", ..Codes::PLAIN };

    fn subject(self) -> Subject {
        self.0.subject()
    }

    fn answer(effect: &Effect) -> Value {
        json!({ "capture_id": effect.reference })
    }
}

#[derive(Deserialize)]
struct RefundCapture {
    capture_key: Key,
    /// All that is left, if it is not said.
    amount_minor: Option<u64>,
    currency: Option<String>,
}

impl Undo for RefundCapture {
    const OPERATION: Operation = Operation::RefundCapture;
    const PREFIX: &'static str = "re";
    type Forward = Capture;

    fn undoing(self) -> Undoing {
        let currency = self.currency;
        let part = self.amount_minor.map(|amount_minor| Part { amount_minor, currency });
        Undoing { forward_key: self.capture_key, part }
    }

    fn answer(effect: Option<&Effect>) -> Value {
        refund(effect)
    }
}

#[derive(Deserialize)]
struct RefundPayment(Payment);

impl Forward for RefundPayment {
    const OPERATION: Operation = Operation::RefundPayment;
    const PREFIX: &'static str = "re";

    fn subject(self) -> Subject {
        self.0.subject()
    }

    fn answer(effect: &Effect) -> Value {
        refund(Some(effect))
    }
}

fn refund(effect: Option<&Effect>) -> Value {
    json!({
        "refund_id": effect.map(|effect| &effect.reference),
        "amount_minor": effect.and_then(|effect| effect.subject.amount_minor),
        "currency": effect.and_then(|effect| effect.subject.currency.as_deref()),
    })
}
