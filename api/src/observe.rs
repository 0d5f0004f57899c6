//! Wraps every request: its id, its span in the log, its measure, and the limits on its headers
//! and its time.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Names a request in the answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// How long a request may take, from its headers to the headers of the answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How large all headers may be together.
const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// Answers a request within the limits, and counts and names it.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(request.headers());
    let method = method_label(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        request.id = request_id.to_str().unwrap_or_default(),
        http.method = method,
        http.route = route,
    );

    let mut response = async {
        let response = answer(request, next).await;
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(
            http.status = status,
            elapsed_us = elapsed.as_micros(),
            "answered {method} {route} with {status}"
        );
        app.metrics().observe(route, method, status, elapsed);
        response
    }
    .instrument(span)
    .await;

    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answer(request: Request, next: Next) -> Response {
    if headers_bytes(request.headers()) > HEADERS_BYTES_MAX {
        let detail = format!("all headers together may have {} KiB", HEADERS_BYTES_MAX / 1024);
        return Problem::new(Code::HeadersTooLarge, detail).into_response();
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!("gave up on a request after {REQUEST_TIMEOUT:?}");
            Problem::timed_out().into_response()
        }
    }
}

/// Refuses what would be too much at once.
pub(crate) async fn shed(_error: tower::BoxError) -> Problem {
    tracing::warn!("refused a request: too many are being answered");
    Problem::new(Code::Overloaded, "too many requests at once; send the same request again")
}

/// The sender's own name for the request, if it is fit for a log line, else a new one.
#[expect(clippy::disallowed_methods, reason = "this is where requests get their ids")]
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        !bytes.is_empty() && bytes.len() <= REQUEST_ID_LENGTH_MAX && bytes.iter().all(is_plain)
    };
    headers.get(REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string())
            .unwrap_or(HeaderValue::from_static("unnamed"))
    })
}

fn headers_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// A label per method that exists, so that nobody can make up metrics.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let kept = |id: &str| {
            let value = HeaderValue::from_str(id).expect("a header value");
            request_id(&HeaderMap::from_iter([(REQUEST_ID, value.clone())])) == value
        };
        assert!(kept("0190a6f4-7b1c.retry_2:a"));
        assert!(!kept(""));
        assert!(!kept("a b"));
        assert!(!kept("<script>"));
        assert!(!kept(&"a".repeat(REQUEST_ID_LENGTH_MAX + 1)));
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }
}
