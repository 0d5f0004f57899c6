//! The mail service: messages. A message that was sent cannot be called back.

use axum::routing::Router;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::call::{Forward, forward};
use super::operation::Operation;
use super::record::{Effect, Subject};

/// The routes of the mail service.
pub(super) fn routes() -> Router<Sandbox> {
    forward::<Send>("/mail/messages")
}

#[derive(Deserialize)]
struct Send {
    order_id: String,
    #[serde(rename = "to")]
    _to: String,
    #[serde(rename = "template")]
    _template: String,
}

impl Forward for Send {
    const OPERATION: Operation = Operation::Send;
    const PREFIX: &'static str = "ms";

    fn subject(self) -> Subject {
        Subject { order_id: self.order_id, amount_minor: None, currency: None }
    }

    fn answer(effect: &Effect) -> Value {
        json!({ "message_id": effect.reference })
    }
}
