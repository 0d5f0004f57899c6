//! What the ledger file holds, one record per line, and how it is shown.
//!
//! A record is never changed. The body of an answer is kept as text, so that a replay is the
//! same bytes. Of the request only the digest is kept: names and addresses stay out of the file.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::events::Arrival;
use super::key::Key;
use super::operation::{Operation, Provider};
use super::problem::PROBLEM_JSON;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One line of the ledger file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// A call was decided for good.
    Call(Decision),
    /// An event arrived.
    Event(Arrival),
}

/// What an effect is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// The order it was done for.
    pub(super) order_id: String,
    /// The money it moved, in minor units.
    pub(super) amount_minor: Option<u64>,
    /// The currency of the money.
    pub(super) currency: Option<String>,
}

/// Something that was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Effect {
    /// Its place among all effects, from 1, without gaps.
    pub(super) sequence: u64,
    /// Its place among the effects of the same operation, from 1, without gaps.
    pub(super) ordinal: u64,
    /// The provider's name for it.
    pub(super) reference: String,
    /// What it is about.
    #[serde(flatten)]
    pub(super) subject: Subject,
}

/// A decided call: what was answered, and what was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Decision {
    /// What was asked for.
    pub(super) operation: Operation,
    /// With which key.
    pub(super) key: Key,
    /// SHA-256 of the body bytes of the request.
    pub(super) digest: String,
    /// When it was decided.
    pub(super) at: DateTime<Utc>,
    /// The status of the answer.
    pub(super) status: u16,
    /// The body of the answer.
    pub(super) body: String,
    /// The forward key that may never have an effect from now on.
    pub(super) undoes: Option<Key>,
    /// What was done; nothing for a refusal, and for an undo that found nothing.
    pub(super) effect: Option<Effect>,
}

/// A stored answer, as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: u16,
    body: String,
    replayed: bool,
}

/// One applied effect, as `GET /ledger` shows it.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    sequence: u64,
    at: DateTime<Utc>,
    provider: Provider,
    operation: Operation,
    key: &'a Key,
    /// The order it was done for.
    pub(super) order_id: &'a str,
    amount_minor: Option<u64>,
    currency: Option<&'a str>,
    reference: &'a str,
    /// The key under which was done what this undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<&'a Key>,
}

impl Record {
    /// The answer that may leave once the record is durable.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Record::Call(decision) => decision.answer(),
            Record::Event(_) => Answer { status: 204, body: String::new(), replayed: false },
        }
    }
}

impl Decision {
    /// The answer of the call itself.
    pub(super) fn answer(&self) -> Answer {
        Answer { status: self.status, body: self.body.clone(), replayed: false }
    }

    /// The answer to the same call made again.
    pub(super) fn replay(&self) -> Answer {
        Answer { replayed: true, ..self.answer() }
    }

    /// The answer to a look-up by key: the same body, found rather than created.
    pub(super) fn found(&self) -> Answer {
        Answer { status: StatusCode::OK.as_u16(), ..self.answer() }
    }

    /// The line of `GET /ledger`, if something was done.
    pub(super) fn entry(&self) -> Option<Entry<'_>> {
        let effect = self.effect.as_ref()?;
        Some(Entry {
            sequence: effect.sequence,
            at: self.at,
            provider: self.operation.provider(),
            operation: self.operation,
            key: &self.key,
            order_id: &effect.subject.order_id,
            amount_minor: effect.subject.amount_minor,
            currency: effect.subject.currency.as_deref(),
            reference: &effect.reference,
            undoes: self.undoes.as_ref(),
        })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        // A status in the file was a status when it was written.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.body).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_TYPE);
        } else {
            headers.insert(CONTENT_TYPE, if status.is_success() { JSON } else { PROBLEM_JSON });
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
