//! `POST /signals`: sends news to the instance of a business key, also before there is one.

use amends::{SendSignal, Signalled};
use amends_workflows::carries_out_orders;
use amends_workflows::order::{InvalidKey, OrderKey};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::{App, uncancelled};
use crate::auth::Sender;
use crate::body::JsonBytes;
use crate::json;
use crate::openapi::AcceptingOnce;
use crate::problem::{Code, Invalid, Problem};

/// News for the instance of a business key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// The workflow of the instance.
    #[schema(example = "fulfilment", min_length = 1, max_length = 500)]
    pub workflow: String,
    /// What the instance is about; that of an order is `shop/order_id`, however the shop is spelt.
    #[schema(example = "acme.myshopify.com/5940139491234", min_length = 1, max_length = 500)]
    pub business_key: String,
    /// Which signal; the workflow says which there are.
    #[schema(example = "parcel_packed")]
    pub signal: String,
    /// What it says, in the form that the workflow expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub body: Option<Box<RawValue>>,
    /// The sender's own id for it. Of one token and one `signal` the same id is taken once per
    /// instance, however often it is sent, and with another `body` it is refused; without one,
    /// every sending is another signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "scan-000042", min_length = 1, max_length = 500)]
    pub signal_id: Option<String>,
}

/// What became of a signal. There is no reason to send it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignalAnswer {
    /// What became of it.
    pub outcome: SignalOutcome,
    /// The instance it is for, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalOutcome {
    /// The instance will read it.
    Accepted,
    /// There is no such instance yet; it will read the signal when it is started.
    Kept,
    /// The instance had it before.
    Replayed,
    /// The instance has ended. The signal is not stored, and nothing will come of it.
    AlreadyEnded,
}

/// Sends news to an instance. What is accepted is durable, and is read when the instance waits for
/// it.
///
/// It has to be a signal that the instance's version of the workflow takes; before there is an
/// instance, the newest version.
///
/// Safe to repeat with the same `signal_id`. The header `Idempotency-Key` means nothing here: a
/// signal is known by its name, its sender and its id within its instance, and not by the request
/// that carried it.
#[utoipa::path(
    post,
    path = "/signals",
    operation_id = "send_signal",
    tag = "signals",
    request_body(content = SignalRequest, description = "The signal", example = json!({
        "workflow": "fulfilment", "business_key": "acme.myshopify.com/5940139491234",
        "signal": "parcel_packed", "body": {"parcel": "p_7"}, "signal_id": "scan-000042",
    })),
    responses(
        (status = 202, description = "It is durable, now or since it was sent before",
            body = SignalAnswer),
        (status = 200, description = "It came too late: the instance has ended, and nothing is \
            stored", body = SignalAnswer),
        AcceptingOnce,
    )
)]
pub(crate) async fn send(
    State(app): State<App>,
    sender: Sender,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<SignalAnswer>), Problem> {
    let SignalRequest { workflow, business_key, signal, body, signal_id } =
        json::parse(&bytes, Code::InvalidSignal)?;
    let body = body.as_deref().unwrap_or(RawValue::NULL).get().to_owned();
    let business_key = if carries_out_orders(&workflow) {
        let key = order_key(&business_key)?;
        sender.speaks_for(key.shop(), &app)?;
        key.to_string()
    } else {
        sender.speaks_for_every_shop(&app)?;
        business_key
    };
    let sender = sender.name().to_owned();
    let sent = SendSignal { workflow, business_key, name: signal, body, sender, signal_id };
    let engine = app.engine().clone();
    let signalled = uncancelled(async move { engine.signal(sent).await.map_err(refused) }).await?;
    let answer = SignalAnswer::from(signalled);
    Ok((answer.outcome.status(), Json(answer)))
}

impl From<Signalled> for SignalAnswer {
    fn from(signalled: Signalled) -> Self {
        let (outcome, instance_id) = match signalled {
            Signalled::Accepted(instance_id) => (SignalOutcome::Accepted, Some(instance_id)),
            Signalled::Kept => (SignalOutcome::Kept, None),
            Signalled::Replayed(instance_id) => (SignalOutcome::Replayed, Some(instance_id)),
            Signalled::AlreadyEnded(instance_id) => {
                (SignalOutcome::AlreadyEnded, Some(instance_id))
            }
        };
        Self { outcome, instance_id }
    }
}

impl SignalOutcome {
    fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Kept | Self::Replayed => StatusCode::ACCEPTED,
            // 202 would say that something is still to happen.
            Self::AlreadyEnded => StatusCode::OK,
        }
    }
}

fn order_key(business_key: &str) -> Result<OrderKey, Problem> {
    business_key.parse().map_err(|why: InvalidKey| invalid("/business_key", why.to_string()))
}

fn invalid(pointer: &str, detail: String) -> Problem {
    Problem::new(Code::InvalidSignal, "this signal is not taken; see errors")
        .with_errors(vec![Invalid { pointer: pointer.to_owned(), detail }])
}

/// What a signal is told that nobody takes: in the engine's words, which are for its sender.
fn refused(error: amends::Error) -> Problem {
    match error {
        amends::Error::UnknownWorkflow(_) => {
            invalid("/workflow", "there is no such workflow here".to_owned())
        }
        amends::Error::InvalidInput(detail) => invalid("", detail),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_is_answered_with_202() {
        let id = Uuid::nil();
        for (signalled, outcome, status) in [
            (Signalled::Accepted(id), "accepted", 202),
            (Signalled::Kept, "kept", 202),
            (Signalled::Replayed(id), "replayed", 202),
            (Signalled::AlreadyEnded(id), "already_ended", 200),
        ] {
            let answer = SignalAnswer::from(signalled);
            assert_eq!(answer.outcome.status().as_u16(), status);
            let json = serde_json::to_value(&answer).expect("JSON");
            assert_eq!(json["outcome"], outcome);
            assert_eq!(json.get("instance_id").is_some(), outcome != "kept");
        }
    }
}
