//! Posts events to a receiver, one at a time per key.
//!
//! Any 2xx is final. Everything else is tried again: the receiver may get an event twice, and
//! tells by its id.

use std::time::Duration;

use amends::sink::{Delivered, Sink, Undelivered};
use futures::future::BoxFuture;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use super::cloud_event::{MEDIA_TYPE, cloud_event};
use super::retry_after::retry_after;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer, so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts events to one address.
pub struct HttpSink {
    client: Client,
    url: Url,
}

/// The sink cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpSinkError {
    /// The address is not one.
    #[error("the address for events is not an http or https address")]
    Address,
    /// There is no TLS, or the like.
    #[error("the HTTP client for events cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

impl HttpSink {
    /// A sink that posts to `url`. Nothing is sent yet.
    pub fn try_new(url: &str) -> Result<Self, HttpSinkError> {
        let url = http_url(url).ok_or(HttpSinkError::Address)?;
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("amends/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url })
    }

    async fn post(&self, event: &Delivered<'_>) -> Result<(), Undelivered> {
        let body = cloud_event(event).map_err(|error| undelivered(error.to_string()))?;
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
        let answer = request.body(body).send().await.map_err(|error| {
            // The address may hold a secret.
            undelivered(format!("the receiver did not answer: {}", error.without_url()))
        })?;
        let verdict = judge(&answer);
        drain(answer).await;
        verdict
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, event: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(async move { self.post(&event).await })
    }
}

/// Reads an address that a client can ask.
pub(crate) fn http_url(url: &str) -> Option<Url> {
    let url = Url::parse(url).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn judge(answer: &Response) -> Result<(), Undelivered> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let after = if waits { retry_after(answer.headers()) } else { None };
    Err(Undelivered { message: format!("the receiver answered {status}"), after })
}

async fn drain(mut answer: Response) {
    let mut read_bytes = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read_bytes += chunk.len();
        if read_bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
}

fn undelivered(message: String) -> Undelivered {
    Undelivered { message, after: None }
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::http::HeaderValue;
    use axum::http::header::{LOCATION, RETRY_AFTER};
    use axum::response::IntoResponse;
    use axum::routing::post;
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    const EVENT: Delivered<'static> = Delivered {
        id: "e-1",
        kind: "SHIPPED",
        workflow: "fulfilment",
        key: "acme/1",
        instance_id: Uuid::nil(),
        number: 1,
        at: DateTime::UNIX_EPOCH,
        data: "{}",
    };

    async fn receiver() -> String {
        let declared = |request: &Request| {
            request.headers().get(CONTENT_TYPE) == Some(&HeaderValue::from_static(MEDIA_TYPE))
        };
        let routes = axum::Router::new()
            .route(
                "/ok",
                post(move |request: Request| async move {
                    if declared(&request) {
                        StatusCode::NO_CONTENT
                    } else {
                        StatusCode::BAD_REQUEST
                    }
                }),
            )
            .route(
                "/moved",
                post(|| async {
                    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "/ok")]).into_response()
                }),
            )
            .route(
                "/busy",
                post(|| async {
                    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")]).into_response()
                }),
            )
            .route(
                "/broken",
                post(|| async {
                    (StatusCode::INTERNAL_SERVER_ERROR, [(RETRY_AFTER, "7")]).into_response()
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}")
    }

    async fn delivered(url: &str) -> Result<(), (String, Option<u64>)> {
        let sink = HttpSink::try_new(url).expect("a sink");
        sink.deliver(EVENT).await.map_err(|undelivered| {
            (undelivered.message, undelivered.after.map(|after| after.as_secs()))
        })
    }

    #[tokio::test]
    async fn only_2xx_is_delivered_and_redirects_are_not_followed() {
        let base = receiver().await;
        assert_eq!(delivered(&format!("{base}/ok")).await, Ok(()));
        let refused = |status: &str, after| Err((format!("the receiver answered {status}"), after));
        let moved = delivered(&format!("{base}/moved")).await;
        assert_eq!(moved, refused("307 Temporary Redirect", None));
        let busy = delivered(&format!("{base}/busy")).await;
        assert_eq!(busy, refused("429 Too Many Requests", Some(7)));
        let broken = delivered(&format!("{base}/broken")).await;
        assert_eq!(broken, refused("500 Internal Server Error", None));
    }

    #[tokio::test]
    async fn a_receiver_that_cannot_be_reached_is_not_named() {
        let (message, _) = delivered("http://127.0.0.1:1/token").await.expect_err("refused");
        assert!(message.starts_with("the receiver did not answer"), "{message}");
        assert!(!message.contains("token"), "{message}");
    }

    #[test]
    fn only_http_addresses_are_taken() {
        for url in ["", "events", "ftp://example.com", "file:///etc/passwd"] {
            assert!(HttpSink::try_new(url).is_err(), "{url}");
        }
    }
}
