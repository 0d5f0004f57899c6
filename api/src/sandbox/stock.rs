//! The warehouse: goods are set aside for an order, and released.

use axum::routing::Router;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::call::{Forward, Line, Undo, Undoing, forward, undo};
use super::fault::Codes;
use super::key::Key;
use super::operation::Operation;
use super::record::{Effect, Subject};

/// The routes of the warehouse.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Reserve>("/stock/reservations").merge(undo::<Release>("/stock/releases"))
}

#[derive(Deserialize)]
struct Reserve {
    order_id: String,
    #[serde(rename = "lines")]
    _lines: Vec<Line>,
}

impl Forward for Reserve {
    const OPERATION: Operation = Operation::Reserve;
    const PREFIX: &'static str = "rs";
    const CODES: Codes = Codes { refused: "out_of_stock", ..Codes::PLAIN };

    fn subject(self) -> Subject {
        Subject { order_id: self.order_id, amount_minor: None, currency: None }
    }

    fn answer(effect: &Effect) -> Value {
        json!({ "reservation_id": effect.reference })
    }
}

#[derive(Deserialize)]
struct Release {
    reservation_key: Key,
}

impl Undo for Release {
    const OPERATION: Operation = Operation::Release;
    const PREFIX: &'static str = "rl";
    type Forward = Reserve;

    fn undoing(self) -> Undoing {
        self.reservation_key.into()
    }

    fn answer(effect: Option<&Effect>) -> Value {
        json!({ "release_id": effect.map(|effect| &effect.reference) })
    }
}
