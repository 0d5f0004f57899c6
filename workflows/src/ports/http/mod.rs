//! The providers over HTTP: one client, one way to call, one judgement of what came back.
//!
//! A call is a POST with an `Idempotency-Key`; it never follows a redirect and never takes a proxy
//! from the environment, so it reaches whom it was meant for or nobody.

mod problem;
mod protocol;
pub(crate) mod verdict;

use std::error::Error;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use amends::StepError;
use verdict::{Exchange, Refusal};

/// How long a call may take, answer included. Below the time-out of the steps, so that it is the
/// client that gives up, and can say at which point.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why providers cannot be reached over HTTP at all.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// The base URL is none.
    #[error("the providers' base URL {0}")]
    BaseUrl(String),
    /// The client cannot be made, for want of certificates as a rule.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A client of all providers below one base URL.
pub(super) struct Http {
    client: Client,
    base_url: String,
}

impl Http {
    pub(super) fn try_new(base_url: &str) -> Result<Self, HttpSetupError> {
        let client = Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, base_url: checked(base_url)? })
    }

    /// Asks a provider to apply `body` under `key`. `code_of` names the code of a definite no.
    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
        code_of: fn(&Refusal) -> &'static str,
    ) -> Result<T, StepError> {
        verdict::judge(path, self.exchange(path, key, body).await, code_of)
    }

    async fn exchange(&self, path: &str, key: &str, body: &impl Serialize) -> Exchange {
        let request = self
            .client
            .post(format!("{}{path}", self.base_url))
            .header("Idempotency-Key", key)
            .json(body);
        match request.send().await {
            Ok(response) => answered(response).await,
            Err(error) => broken(&error),
        }
    }
}

async fn answered(mut response: Response) -> Exchange {
    let status = response.status().as_u16();
    let header = |name: HeaderName| {
        let value = response.headers().get(name);
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (content_type, retry_after) = (header(CONTENT_TYPE), header(RETRY_AFTER));
    Exchange::Answered { status, content_type, retry_after, body: read(&mut response).await }
}

/// The body, or `None` if it broke off or is longer than any answer of the protocol.
async fn read(response: &mut Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// Whether a call that got no answer can have reached the provider.
fn broken(error: &reqwest::Error) -> Exchange {
    // A connection that took too long to open counts as both; nothing was sent on it.
    if error.is_connect() || error.is_builder() {
        Exchange::NotSent { cause: innermost(error) }
    } else if error.is_timeout() {
        Exchange::TimedOut
    } else {
        Exchange::Lost { cause: innermost(error) }
    }
}

/// The cause of all causes, such as "Connection refused". The outer ones repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) { "no cause given".to_owned() } else { cause.to_string() }
}

fn checked(base_url: &str) -> Result<String, HttpSetupError> {
    let wrong = |why: &str| Err(HttpSetupError::BaseUrl(why.to_owned()));
    let Ok(url) = Url::parse(base_url) else {
        return wrong("is not a URL");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("must begin with http:// or https://");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("must have no query and no fragment");
    }
    Ok(base_url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_a_slash_at_its_end() {
        for (given, kept) in [
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000"),
            ("https://sandbox.example/", "https://sandbox.example"),
            ("https://example.com/providers/", "https://example.com/providers"),
        ] {
            assert_eq!(Http::try_new(given).unwrap().base_url, kept);
        }
    }

    #[test]
    fn what_no_path_can_be_appended_to_is_refused() {
        for base_url in ["", "sandbox", "ftp://x", "http://", "http://x/?a=b", "http://x/#a"] {
            assert!(
                matches!(Http::try_new(base_url), Err(HttpSetupError::BaseUrl(_))),
                "{base_url}"
            );
        }
    }

    #[test]
    fn a_request_that_cannot_be_built_was_not_sent() {
        let http = Http::try_new("http://127.0.0.1:1").unwrap();
        let error =
            http.client.post("http://x").header("Idempotency-Key", "\n").build().unwrap_err();
        assert!(matches!(broken(&error), Exchange::NotSent { .. }));
    }
}
