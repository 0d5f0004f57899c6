//! The parcel service: shipments. A parcel on its way cannot be called back.

use axum::routing::Router;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::call::{Forward, Line, forward};
use super::fault::Codes;
use super::operation::Operation;
use super::record::{Effect, Subject};

/// The routes of the parcel service.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Ship>("/carrier/shipments")
}

#[derive(Deserialize)]
struct Ship {
    order_id: String,
    #[serde(rename = "lines")]
    _lines: Vec<Line>,
    #[serde(rename = "recipient")]
    _recipient: Recipient,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be checked; the ledger keeps no addresses")]
struct Recipient {
    name: String,
    address: String,
    city: String,
    postcode: String,
    country: String,
}

impl Forward for Ship {
    const OPERATION: Operation = Operation::Ship;
    const PREFIX: &'static str = "sh";
    const CODES: Codes = Codes { refused: "shipment_refused", ..Codes::PLAIN };

    fn subject(self) -> Subject {
        Subject { order_id: self.order_id, amount_minor: None, currency: None }
    }

    fn answer(effect: &Effect) -> Value {
        let tracking_number = format!("TRK{:09}", effect.sequence);
        json!({ "shipment_id": effect.reference, "tracking_number": tracking_number })
    }
}
