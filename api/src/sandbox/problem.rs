//! Answers that say no, as problem details (RFC 9457) with a stable `code`.
//!
//! An injected failure reads the same whether or not the effect was applied: a caller must
//! not be able to learn from the words what a real provider could not have told it.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The media type of problem details.
pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The HTTP status; the title is its standard phrase.
    pub(super) status: StatusCode,
    /// What callers branch on.
    pub(super) code: &'static str,
    /// What a person reads.
    pub(super) detail: String,
}

impl Problem {
    /// A problem of any kind.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    /// 400: the request itself is wrong, and will be wrong again.
    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 500: nothing is said about what was done.
    pub(super) fn internal() -> Self {
        let detail = "something went wrong; whether the request was carried out is unknown";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
    }

    /// 500: the ledger could not be written, so nothing can be promised until a restart.
    pub(super) fn ledger_unavailable() -> Self {
        let detail = "the ledger cannot be written; restart the sandbox";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ledger_unavailable", detail)
    }

    /// 503: nothing was done.
    pub(super) fn unavailable() -> Self {
        let detail = "the provider is down; nothing was done";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 429: nothing was done.
    pub(super) fn rate_limited() -> Self {
        let detail = "the provider is called too often; nothing was done";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
    }

    /// 504: nothing is said about what was done.
    pub(super) fn timeout() -> Self {
        let detail = "no answer in time; whether the request was carried out is unknown";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "gateway_timeout", detail)
    }

    /// The body, as it is sent and stored.
    pub(super) fn body(&self) -> String {
        json!({
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        })
        .to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.status, [(CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        if later.contains(&self.status) {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Problem {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            _ => "body_invalid",
        };
        Problem::new(rejection.status(), code, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::invalid("query_invalid", rejection.body_text())
    }
}

/// What a handler returns when its answer is plain JSON.
pub(super) type JsonResult = Result<Json<serde_json::Value>, Problem>;
