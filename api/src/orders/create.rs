//! `POST /orders`: accepts an order, once.

use amends::{Delivery, Priority, Start, Started, Workflow};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::{Order, ShopName};
use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body;
use crate::app::{App, uncancelled};
use crate::auth::Sender;
use crate::body::JsonBytes;
use crate::idempotency_key::IdempotencyKey;
use crate::intake::differences;
use crate::intake::signed::is_of;
use crate::json;
use crate::metrics::Conflict;
use crate::openapi::AcceptingOnce;
use crate::problem::{Code, Invalid, Problem};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Where an accepted order can be looked at.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The instance that carries out the order.
    pub instance_id: Uuid,
    /// Where to look at the order.
    #[schema(example = "/orders/0190a6f4-7b1c-7cc3-98c4-dc0c0c07398f")]
    pub status_url: String,
    /// Whether the order had been accepted before, under another key or from another source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// Accepts an order. When the answer comes, the order is durable, and nothing can lose it.
///
/// The same key with the same body may be sent again at any time and gets the same answer.
#[utoipa::path(
    post,
    path = "/orders",
    operation_id = "create_order",
    tag = "orders",
    params((
        "idempotency-key" = String, Header,
        description = "Names the request; 1 to 255 visible ASCII characters, plain or quoted",
        pattern = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#,
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324",
    )),
    request_body(
        content = body::Order, description = "The order", example = json!(body::example()),
    ),
    responses(
        (status = 201, description = "Accepted, now or by the same request before", body = Accepted,
            headers(
                ("location" = String, description = "Where to look at the order"),
                ("idempotency-replayed" = String, description = "`true` if it was accepted before"),
            )),
        (status = 200, description = "It had been accepted before, with the same content",
            body = Accepted),
        AcceptingOnce,
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    sender: Sender,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, Problem> {
    let order = json::parse::<Order>(&bytes, Code::InvalidOrder)?.with_one_name();
    if let Ok(shop) = order.shop.parse::<ShopName>() {
        sender.speaks_for(&shop, &app)?;
    }
    // A shop that is no name is refused here.
    validate(&order)?;
    let source = format!("orders/{}", sender.name());
    let delivery = Delivery { source, external_id: key, body: bytes.to_vec() };
    let started = uncancelled(start_once(app.clone(), order, delivery)).await?;
    answer(started)
}

/// Starts an order unless it is started. What says something else about it changes nothing.
async fn start_once(app: App, order: Order, delivery: Delivery) -> Result<Started, Problem> {
    let started = app.engine().start(start(&order, Some(delivery.clone()))?).await?;
    let instance_id = match started {
        Started::New(_) => return Ok(started),
        Started::Conflict => {
            app.metrics().met(Conflict::KeyReused);
            return Ok(started);
        }
        Started::Replayed(instance_id) | Started::Duplicate(instance_id) => instance_id,
    };
    let origin = app.engine().origin(instance_id).await?.ok_or_else(Problem::internal)?;
    if is_of(&origin, &delivery) || differences(&origin, &order).is_empty() {
        return Ok(started);
    }
    let (source, business_key) = (delivery.source, order.business_key());
    tracing::warn!(
        source,
        business_key,
        %instance_id,
        "refused an order that was accepted before with other content"
    );
    app.metrics().met(Conflict::OrderContradicted);
    let detail = "this shop's order was accepted before with other content; it stays as it was, and \
                  nothing of this request is carried out";
    Err(Problem::new(Code::OrderConflict, detail))
}

/// Refuses an order that cannot be carried out as it is.
fn validate(order: &Order) -> Result<(), Problem> {
    order.validate().map_err(|problems| {
        let invalid = |problem: amends_workflows::order::Problem| Invalid {
            pointer: problem.pointer,
            detail: problem.detail,
        };
        Problem::new(Code::InvalidOrder, "the order cannot be accepted as it is; see errors")
            .with_errors(problems.into_iter().map(invalid).collect())
    })
}

/// The request to carry out an order; `delivery`: what asks for it, unless that was kept before.
pub(crate) fn start(order: &Order, delivery: Option<Delivery>) -> Result<Start, Problem> {
    let input = serde_json::to_string(order).map_err(|error| {
        tracing::error!(%error, "an order cannot be written as JSON: {error}");
        Problem::internal()
    })?;
    Ok(Start {
        workflow: Fulfilment::NAME,
        business_key: order.business_key(),
        input,
        delivery,
        priority: Priority::Normal,
    })
}

fn answer(started: Started) -> Result<Response, Problem> {
    let accepted = |instance_id: Uuid, duplicate| {
        Json(Accepted { instance_id, status_url: format!("/orders/{instance_id}"), duplicate })
    };
    let created = |instance_id: Uuid| {
        let Json(body) = accepted(instance_id, false);
        let location = HeaderValue::from_str(&body.status_url).map_err(|_| Problem::internal())?;
        Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)))
    };
    match started {
        Started::New(instance_id) => created(instance_id).map(IntoResponse::into_response),
        Started::Replayed(instance_id) => {
            let replayed = [(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))];
            created(instance_id).map(|response| (replayed, response).into_response())
        }
        Started::Duplicate(instance_id) => Ok(accepted(instance_id, true).into_response()),
        Started::Conflict => Err(Problem::new(
            Code::IdempotencyKeyReused,
            "this key came before with another body; nothing is stored: use a new key",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_request_gets_the_same_answer_and_is_told_so() {
        let id = Uuid::nil();
        let new = answer(Started::New(id)).expect("an answer");
        let replayed = answer(Started::Replayed(id)).expect("an answer");
        assert_eq!(new.status(), StatusCode::CREATED);
        assert_eq!(replayed.status(), StatusCode::CREATED);
        assert_eq!(new.headers()[LOCATION], replayed.headers()[LOCATION]);
        assert!(!new.headers().contains_key(IDEMPOTENCY_REPLAYED));
        assert_eq!(replayed.headers()[IDEMPOTENCY_REPLAYED], "true");
    }

    #[test]
    fn an_order_known_already_is_a_success_and_a_reused_key_is_not() {
        let duplicate = answer(Started::Duplicate(Uuid::nil())).expect("an answer");
        assert_eq!(duplicate.status(), StatusCode::OK);
        let conflict = answer(Started::Conflict).expect_err("a problem");
        assert_eq!(conflict.code(), Code::IdempotencyKeyReused);
    }
}
