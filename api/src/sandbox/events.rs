//! Events: a sink for CloudEvents in structured mode.
//!
//! Every arrival is kept, duplicates too: the sink is the evidence of what was delivered, how
//! often and in which order. It wants no Idempotency-Key; the event's own id is its identity.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, post};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Sandbox;
use super::book::Change;
use super::call::{digest, finish, read_json};
use super::fault::{Aim, Codes, Refusal, Stage, perform};
use super::operation::Operation;
use super::problem::{JsonResult, Problem};

/// What is kept of an event: who it is, never what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    id: String,
    /// What it is about.
    pub(super) subject: Option<String>,
    #[serde(default)]
    sequence: Value,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    order: Value,
    /// SHA-256 of the body as it came, in hex, by which two arrivals are told apart.
    #[serde(default)]
    digest: String,
}

/// An event that arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Arrival {
    /// Its place among all arrivals, from 1, without gaps.
    pub(super) arrival: u64,
    /// When it arrived.
    pub(super) at: DateTime<Utc>,
    /// The event.
    #[serde(flatten)]
    pub(super) event: Event,
}

/// The routes of the sink.
pub(super) fn routes() -> Router<Sandbox> {
    Router::new().route("/events", post(deliver).get(list))
}

async fn deliver(
    State(sandbox): State<Sandbox>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body?;
    let event = Event { digest: digest(&body), ..read_json(&body)? };
    let strike = sandbox.faults().choose(&Aim {
        operation: Operation::Deliver,
        key: None,
        order_ids: [event.order.as_str(), event.subject.as_deref()],
        stage: Stage::Open,
    });
    let receiver = sandbox.clone();
    let apply = move |refusal: Option<Refusal>| async move {
        match refusal {
            None => receiver.ledger().submit(Change::Event(event)).await.into_response(),
            Some(refusal) => Codes::PLAIN.problem(refusal).into_response(),
        }
    };
    Ok(finish(async move { perform(strike, sandbox.late(), apply).await }).await)
}

#[derive(Deserialize)]
struct BySubject {
    subject: Option<String>,
}

async fn list(
    State(sandbox): State<Sandbox>,
    query: Result<Query<BySubject>, QueryRejection>,
) -> JsonResult {
    let Query(BySubject { subject }) = query?;
    let book = sandbox.ledger().read().await?;
    Ok(Json(json!({ "events": book.arrivals(subject.as_deref()) })))
}
