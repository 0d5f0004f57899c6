//! Answers that say no: problem details (RFC 9457) with a stable `code`.
//!
//! Every error that leaves this server is made here. A detail says what the caller can do about
//! it, and never anything about the inside. Nothing that was sent is repeated, save where a known
//! sender has to be told which of his words does not fit an instance.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What programs branch on. Codes are added, never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is not JSON.
    MalformedJson,
    /// The body nests too deeply, holds a NUL character, or names a member twice.
    UnacceptableJson,
    /// A header that is needed is not there, or there twice.
    MissingHeader,
    /// A header does not have the form it must have.
    InvalidHeader,
    /// A query parameter is unknown or does not have the form it must have.
    InvalidQuery,
    /// The path does not hold what it must hold.
    InvalidPath,
    /// No token, or one that is not known.
    Unauthenticated,
    /// The webhook's signature does not fit, or the shop is not known.
    InvalidSignature,
    /// The token's role does not allow it.
    Forbidden,
    /// The token may not send for this shop; `allowed_shops` names those that it may send for.
    ShopNotAllowed,
    /// There is nothing at this address.
    NotFound,
    /// There is no such instance.
    UnknownInstance,
    /// There is no such order.
    UnknownOrder,
    /// There is no such schedule.
    UnknownSchedule,
    /// No such event waits to be delivered again.
    UnknownEvent,
    /// There is no such case.
    UnknownCase,
    /// There is no such delivery.
    UnknownDelivery,
    /// The delivery still cannot be carried out; `errors` says what is wrong.
    DeliveryFailed,
    /// The address does not take this method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The command is refused; `answer` says why.
    CommandRefused,
    /// The order was accepted before with other content, and stays as it was.
    OrderConflict,
    /// The id of the signal came before with other content; this one is not stored.
    SignalConflict,
    /// This server's build cannot read the instance.
    UnreadableHere,
    /// The body is too large.
    BodyTooLarge,
    /// The body is not declared to be JSON, or is compressed.
    UnsupportedMediaType,
    /// The body is JSON, but not an order.
    InvalidOrder,
    /// The body is JSON, but not a command, or a resolve does not fit its instance.
    InvalidCommand,
    /// The body is JSON, but not a signal that is taken.
    InvalidSignal,
    /// The body is understood, but cannot be stored.
    InvalidInput,
    /// The idempotency key came before with another body.
    IdempotencyKeyReused,
    /// The headers are too large.
    HeadersTooLarge,
    /// The address has as many connections as one may have; close some.
    TooManyConnections,
    /// Something is wrong here.
    InternalError,
    /// Too much is waiting; come back a little later.
    Overloaded,
    /// The database does not answer, or this process is stopping; come back a little later.
    Unavailable,
    /// No answer in time; the same request may be sent again.
    TimedOut,
    /// The database has lost what it had acknowledged; nothing is taken in until a person knows.
    CommitsLost,
    /// Orders are not on as many machines as they have to be.
    NotReplicated,
}

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::UnacceptableJson
            | Self::MissingHeader
            | Self::InvalidHeader
            | Self::InvalidQuery
            | Self::InvalidPath => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::InvalidSignature => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ShopNotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound
            | Self::UnknownInstance
            | Self::UnknownOrder
            | Self::UnknownSchedule
            | Self::UnknownEvent
            | Self::UnknownCase
            | Self::UnknownDelivery => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::CommandRefused
            | Self::OrderConflict
            | Self::SignalConflict
            | Self::UnreadableHere => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidOrder
            | Self::InvalidCommand
            | Self::InvalidSignal
            | Self::InvalidInput
            | Self::DeliveryFailed
            | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded
            | Self::Unavailable
            | Self::TimedOut
            | Self::CommitsLost
            | Self::NotReplicated => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// After how long the same request is worth sending again.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overloaded | Self::TimedOut | Self::TooManyConnections => {
                Some(Duration::from_secs(1))
            }
            Self::Unavailable => Some(Duration::from_secs(2)),
            Self::CommitsLost | Self::NotReplicated => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    /// The header that tells a client how to authenticate, if that is what is missing.
    fn challenge(self) -> Option<HeaderValue> {
        match self {
            Self::Unauthenticated => Some(HeaderValue::from_static("Bearer realm=\"amends\"")),
            Self::InvalidSignature => Some(HeaderValue::from_static("Signature realm=\"amends\"")),
            Self::Forbidden | Self::ShopNotAllowed => Some(HeaderValue::from_static(
                "Bearer realm=\"amends\", error=\"insufficient_scope\"",
            )),
            _ => None,
        }
    }
}

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invalid {
    /// Where, as a JSON pointer (RFC 6901); empty: the whole body.
    #[schema(example = "/lines/0/quantity")]
    pub pointer: String,
    /// What is wrong there.
    #[schema(example = "must be at least 1")]
    pub detail: String,
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Invalid>,
    answer: Option<&'static str>,
    allowed_shops: Vec<String>,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`; branch on `code`.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The phrase of the HTTP status.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What branches are made on.
    code: Code,
    /// What a person reads.
    #[schema(example = "the order cannot be accepted as it is; see errors")]
    detail: &'a str,
    /// Everything that is wrong with the body, if that is the problem.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Invalid],
    /// Why a command is refused, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "past_pivot")]
    answer: Option<&'a str>,
    /// The shops that the token may send for, if it may not send for this one.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_shops: &'a [String],
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (errors, allowed_shops) = (Vec::new(), Vec::new());
        Self { code, detail: detail.into(), errors, answer: None, allowed_shops }
    }

    /// Says what exactly is wrong with the body.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Invalid>) -> Self {
        self.errors = errors;
        self
    }

    /// Says why a command is refused.
    #[must_use]
    pub fn with_answer(mut self, answer: &'static str) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Says which shops the token may send for.
    #[must_use]
    pub fn with_allowed_shops(mut self, shops: Vec<String>) -> Self {
        self.allowed_shops = shops;
        self
    }

    /// 500. What went wrong is in the log, found by the request id.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "something went wrong here; the request id finds it in the log";
        Self::new(Code::InternalError, detail)
    }

    /// 503. It may have been done, or may still be.
    #[must_use]
    pub fn timed_out() -> Self {
        let detail = "no answer in time; it may have been done: send the same request again";
        Self::new(Code::TimedOut, detail)
    }

    /// The code of the problem.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The list of what is wrong with the body.
    #[must_use]
    pub fn errors(&self) -> &[Invalid] {
        &self.errors
    }

    /// The body, as JSON.
    pub(crate) fn body(&self) -> String {
        let status = self.code.status();
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
            answer: self.answer,
            allowed_shops: &self.allowed_shops,
        };
        serde_json::to_string(&body).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(after) = self.code.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if let Some(challenge) = self.code.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What the engine could not do. Logged here, because here it is handled.
impl From<amends::Error> for Problem {
    fn from(error: amends::Error) -> Self {
        match error {
            amends::Error::Overloaded => {
                tracing::warn!("refused a request: the write queue is full");
                let detail = "too much is waiting to be written; send the same request again";
                Self::new(Code::Overloaded, detail)
            }
            amends::Error::InvalidInput(reason) => {
                tracing::warn!("refused what cannot be stored: {reason}");
                let detail = "a part of it is too long, or holds what cannot be stored";
                Self::new(Code::InvalidInput, detail)
            }
            amends::Error::RequestIdReused => {
                let detail = "this key came before with another request; nothing is done: use a \
                              new key";
                Self::new(Code::IdempotencyKeyReused, detail)
            }
            amends::Error::SignalIdReused => {
                let detail = "this id came before from this sender, for a signal of this name that \
                              said something else; this one is not stored";
                Self::new(Code::SignalConflict, detail)
            }
            amends::Error::CommitsLost => {
                tracing::warn!("refused a request: lost commits are not acknowledged");
                let detail = "nothing is taken in until a person has looked at what the database \
                              has lost; send the same request again later";
                Self::new(Code::CommitsLost, detail)
            }
            amends::Error::NotReplicated(why) => {
                tracing::warn!("not ready: not replicated: {why}");
                let detail = "orders are not on as many machines as they have to be";
                Self::new(Code::NotReplicated, detail)
            }
            error if error.is_transient() => {
                tracing::warn!(%error, "refused a request for now: {error}");
                let detail = "it cannot be done at the moment; send the same request again";
                Self::new(Code::Unavailable, detail)
            }
            error => {
                tracing::error!(%error, "failed to answer a request: {error}");
                Self::internal()
            }
        }
    }
}

/// Answers what no route answers.
pub(crate) async fn not_found() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is nothing at this address; see /openapi.json, with a token",
    )
}

/// Answers a known address with the wrong method.
pub(crate) async fn method_not_allowed() -> Problem {
    let detail = "this address does not take this method; see the header Allow";
    Problem::new(Code::MethodNotAllowed, detail)
}

/// Answers for a handler that has panicked. The panic hook has logged it.
pub(crate) fn panicked(_panic: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler has panicked");
    Problem::internal().into_response()
}

/// A header that must be there once, as text.
pub(crate) fn required_header<'a>(
    headers: &'a axum::http::HeaderMap,
    name: &HeaderName,
) -> Result<&'a str, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| {
            Problem::new(Code::InvalidHeader, format!("the header {name} is not ASCII text"))
        }),
        _ => {
            let detail = format!("the header {name} is needed, once");
            Err(Problem::new(Code::MissingHeader, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_the_standard_and_a_code() {
        let problem = Problem::new(Code::InvalidOrder, "see errors").with_errors(vec![Invalid {
            pointer: "/lines/0".to_owned(),
            detail: "wrong".to_owned(),
        }]);
        assert_eq!(
            problem.body(),
            concat!(
                r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"#,
                r#""code":"invalid_order","detail":"see errors","#,
                r#""errors":[{"pointer":"/lines/0","detail":"wrong"}]}"#,
            )
        );
    }

    #[test]
    fn what_may_succeed_later_says_when_to_come_back() {
        let response = Problem::from(amends::Error::Overloaded).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(RETRY_AFTER));
        let response = Problem::from(amends::Error::Unavailable).into_response();
        assert!(response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn what_goes_wrong_inside_is_not_told() {
        let problem = Problem::from(amends::Error::Stored("row 7 of jane@example.com".to_owned()));
        assert_eq!(problem, Problem::internal());
    }
}
