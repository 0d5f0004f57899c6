//! The card processor: charges, and refunds of a charge or a part of it.

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

/// The routes of the card processor.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Charge>("/payments/charges").merge(undo::<Refund>("/payments/refunds"))
}

#[derive(Deserialize)]
struct Charge {
    order_id: String,
    amount_minor: u64,
    currency: String,
}

impl Forward for Charge {
    const OPERATION: Operation = Operation::Charge;
    const PREFIX: &'static str = "ch";
    const CODES: Codes = Codes { declined: "card_declined", ..Codes::PLAIN };

    fn subject(self) -> Subject {
        Subject {
            order_id: self.order_id,
            amount_minor: Some(self.amount_minor),
            currency: Some(self.currency),
        }
    }

    fn answer(effect: &Effect) -> Value {
        json!({ "charge_id": effect.reference })
    }
}

#[derive(Deserialize)]
struct Refund {
    charge_key: Key,
    /// All that is left, if it is not said.
    amount_minor: Option<u64>,
    currency: Option<String>,
}

impl Undo for Refund {
    const OPERATION: Operation = Operation::Refund;
    const PREFIX: &'static str = "re";
    type Forward = Charge;

    fn undoing(self) -> Undoing {
        let currency = self.currency;
        let part = self.amount_minor.map(|amount_minor| Part { amount_minor, currency });
        Undoing { forward_key: self.charge_key, part }
    }

    fn answer(effect: Option<&Effect>) -> Value {
        json!({
            "refund_id": effect.map(|effect| &effect.reference),
            "amount_minor": effect.and_then(|effect| effect.subject.amount_minor),
            "currency": effect.and_then(|effect| effect.subject.currency.as_deref()),
        })
    }
}
