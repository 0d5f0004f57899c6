//! The book-keeper: invoices with numbers that have no gaps, and voids.
//!
//! A voided invoice keeps its number.

use axum::routing::Router;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::call::{Forward, Undo, Undoing, forward, undo};
use super::key::Key;
use super::operation::Operation;
use super::record::{Effect, Subject};

/// The routes of the book-keeper.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Issue>("/invoices").merge(undo::<Void>("/invoices/voids"))
}

#[derive(Deserialize)]
struct Issue {
    order_id: String,
    amount_minor: u64,
    currency: String,
}

impl Forward for Issue {
    const OPERATION: Operation = Operation::Issue;
    const PREFIX: &'static str = "in";

    fn subject(self) -> Subject {
        Subject {
            order_id: self.order_id,
            amount_minor: Some(self.amount_minor),
            currency: Some(self.currency),
        }
    }

    fn answer(effect: &Effect) -> Value {
        let number = format!("INV-{:06}", effect.ordinal);
        json!({ "invoice_id": effect.reference, "number": number })
    }
}

#[derive(Deserialize)]
struct Void {
    invoice_key: Key,
}

impl Undo for Void {
    const OPERATION: Operation = Operation::Void;
    const PREFIX: &'static str = "vd";
    type Forward = Issue;

    fn undoing(self) -> Undoing {
        self.invoice_key.into()
    }

    fn answer(effect: Option<&Effect>) -> Value {
        json!({ "void_id": effect.map(|effect| &effect.reference) })
    }
}
