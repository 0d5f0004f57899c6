//! A client of providers, as the author of a step would write it.
//!
//! Some of them have no idempotency: whatever reaches them is applied, once more. The stand-ins
//! apply a key once, so every request to such a provider has a key of its own: the engine's, and
//! behind it which process sent it and when. So their ledger shows each application, and whose it
//! was.

use std::time::Duration;

use amends::{Call, RetryPolicy, StepError, Undone};
use amends_workflows::failure::{
    PROVIDER_DOWN, PROVIDER_ERROR, PROVIDER_REFUSED, PROVIDER_TIMEOUT,
};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_millis(1_000);
/// What stands between the engine's key and the request's own part.
const SEPARATOR: char = '+';

/// Many attempts in little time: a run has no hours to wait.
pub(crate) fn impatience() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(300),
        delay_max: Duration::from_secs(2),
        attempts_max: 10,
        ..RetryPolicy::default()
    }
}

/// A provider.
pub(crate) struct Provider {
    client: Client,
    base_url: String,
}

/// Something that was done, by the key of the request that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) key: String,
    pub(crate) reference: String,
}

/// The name of what was done, as the provider gave it; none if there was nothing to do.
pub(crate) struct Reference(Option<String>);

/// A request's own part of its key: who sent it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) process: u32,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Entry {
    operation: String,
    key: String,
    reference: String,
    at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

impl Applied {
    /// The engine's part of a key, and the request's own one, if it has one.
    pub(crate) fn parts(key: &str) -> (&str, Option<Sent>) {
        let Some((asked, own)) = key.split_once(SEPARATOR) else { return (key, None) };
        let sent = own.split_once('-').and_then(|(process, at)| {
            let at = DateTime::from_timestamp_micros(at.parse().ok()?)?;
            Some(Sent { process: process.parse().ok()?, at })
        });
        (asked, sent)
    }
}

impl Reference {
    /// Of something that was done for certain.
    pub(crate) fn reference(self) -> Result<String, StepError> {
        self.0.ok_or_else(|| lost("no reference"))
    }

    /// Of an undo.
    pub(crate) fn undone(self) -> Undone {
        self.0.map_or_else(Undone::nothing, Undone::by)
    }
}

impl Provider {
    pub(crate) fn try_new(base_url: &str) -> anyhow::Result<Self> {
        // Whoever follows a redirect and does not get there takes that for a request never sent.
        let builder = Client::builder().timeout(TIMEOUT).no_proxy();
        let client = builder.redirect(Policy::none()).build()?;
        Ok(Self { client, base_url: base_url.to_owned() })
    }

    /// Has something done as often as this is called. `reference` is the member of the answer that
    /// names it.
    pub(crate) async fn apply(
        &self,
        path: &str,
        call: &Call,
        body: &Value,
        reference: &str,
    ) -> Result<Applied, StepError> {
        let sent_at = Utc::now().timestamp_micros();
        let key = format!("{}{SEPARATOR}{}-{sent_at}", call.key(), std::process::id());
        let reference = self.ask(path, &key, body, reference).await?.reference()?;
        Ok(Applied { key, reference })
    }

    /// What the provider's list, which is behind by `lag`, says was done under the engine's key.
    pub(crate) async fn seen(
        &self,
        call: &Call,
        (operation, order_id): (&str, &str),
        lag: TimeDelta,
    ) -> Result<Vec<Applied>, StepError> {
        let url = format!("{}/ledger?order_id={order_id}", self.base_url);
        let unreachable =
            |error: reqwest::Error| StepError::retry(PROVIDER_DOWN, error.to_string());
        let answer = self.client.get(url).send().await.map_err(unreachable)?;
        let Entries { entries } = answer.json().await.map_err(unreachable)?;
        let is_ours = |entry: &Entry| {
            entry.operation == operation
                && Applied::parts(&entry.key).0 == call.forward_key()
                && entry.at + lag <= Utc::now()
        };
        let ours = entries.into_iter().filter(is_ours);
        Ok(ours.map(|Entry { key, reference, .. }| Applied { key, reference }).collect())
    }

    /// Takes back what was done. `member` is what the request calls it by, `reference` is the
    /// member of the answer that names the undoing.
    pub(crate) async fn take_back(
        &self,
        path: &str,
        call: &Call,
        (member, reference): (&str, &str),
        applied: &[Applied],
    ) -> Result<Undone, StepError> {
        let mut undone = Undone::nothing();
        for Applied { key, .. } in applied {
            let own = key.split_once(SEPARATOR).map_or("", |(_, own)| own);
            let undo_key = format!("{}{SEPARATOR}{own}", call.key());
            let answer = self.ask(path, &undo_key, &json!({ member: key }), reference).await?;
            if let Some(reference) = answer.0 {
                undone = Undone::by(reference);
            }
        }
        Ok(undone)
    }

    /// Asks for something under a key. `reference` is the member of the answer that names what was
    /// done; it is there in every answer, and null where there was nothing to do.
    pub(crate) async fn ask(
        &self,
        path: &str,
        key: &str,
        body: &Value,
        reference: &str,
    ) -> Result<Reference, StepError> {
        let request = self.client.post(format!("{}{path}", self.base_url)).json(body);
        let answer = request.header("Idempotency-Key", key).send().await;
        let answer = judge(answer.map_err(|error| broken(&error))?).await?;
        let named = answer.get(reference).ok_or_else(|| lost("an answer to something else"))?;
        Ok(Reference(named.as_str().map(str::to_owned)))
    }
}

fn broken(error: &reqwest::Error) -> StepError {
    if error.is_connect() {
        StepError::retry(PROVIDER_DOWN, "not reached")
    } else if error.is_timeout() {
        StepError::unknown(PROVIDER_TIMEOUT, "no answer in time")
    } else {
        lost("the connection broke")
    }
}

/// What an answer proves. That nothing was done, only the provider itself can say; it does so in a
/// problem document with a code, which no gateway sends.
async fn judge(answer: Response) -> Result<Value, StepError> {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_problem = kind.is_some_and(|kind| kind.starts_with("application/problem+json"));
    let body: Value = answer.json().await.map_err(|_| lost("an answer that cannot be read"))?;
    match body["code"].as_str().filter(|_| is_problem) {
        None if status.is_success() => Ok(body),
        Some("unavailable" | "rate_limited") => Err(StepError::retry(PROVIDER_DOWN, "busy")),
        Some(code) if matches!(status.as_u16(), 402 | 422) => {
            Err(StepError::refused(PROVIDER_REFUSED, format!("refused: {code}")))
        }
        _ => Err(lost("an answer that says nothing")),
    }
}

fn lost(why: &str) -> StepError {
    StepError::unknown(PROVIDER_ERROR, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_who_sent_the_request_and_when() {
        let at = DateTime::from_timestamp_micros(1_795_000_000_000_007).unwrap();
        let (asked, sent) = Applied::parts("0190/charge~2+4711-1795000000000007");
        assert_eq!((asked, sent), ("0190/charge~2", Some(Sent { process: 4711, at })));
        assert_eq!(Applied::parts("0190/ship"), ("0190/ship", None));
    }
}
