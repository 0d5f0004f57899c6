//! What an HTTP exchange says about the effect it asked for: applied, not applied, or unknown.
//!
//! Pure. "Not applied" is believed of the provider alone, by the mark that its protocol defines
//! ([`super::problem`]), and of a connection that was never made. Every other answer may be that
//! of a gateway, which does not know what the provider has done: it is unknown, and the engine
//! asks again under the same key.

use std::time::Duration;

use amends::sabotage::Bug;
use amends::{Failure, StepError};
use serde::de::DeserializeOwned;

use super::problem::{Problem, Proof};
use crate::failure::{
    PROVIDER_DOWN, PROVIDER_ERROR, PROVIDER_REFUSED, PROVIDER_REFUSED_CREDENTIALS, PROVIDER_TIMEOUT,
};

const DETAIL_CHARACTERS_MAX: usize = 200;
const RETRY_AFTER_SECONDS_MAX: u64 = 24 * 3600;

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// No connection, so the request never left.
    NotSent { cause: String },
    /// No answer in time.
    TimedOut,
    /// The connection broke after the request may have left.
    Lost { cause: String },
    /// An answer; without its body if that could not be read to its end.
    Answered {
        status: u16,
        content_type: Option<String>,
        retry_after: Option<String>,
        body: Option<Vec<u8>>,
    },
}

/// A definite no of the provider.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The provider's own code.
    pub(super) code: &'static str,
}

/// Judges an exchange on `path`; `code_of` gives a definite no its stable code.
pub(crate) fn judge<T: DeserializeOwned>(
    path: &str,
    exchange: Exchange,
    code_of: impl Fn(&Refusal) -> &'static str,
) -> Result<T, StepError> {
    let (status, content_type, retry_after, body) = match exchange {
        Exchange::NotSent { cause } => {
            return Err(StepError::retry(PROVIDER_DOWN, message(path, "not reached", &cause)));
        }
        Exchange::TimedOut => {
            return Err(StepError::unknown(PROVIDER_TIMEOUT, format!("{path}: no answer in time")));
        }
        Exchange::Lost { cause } => {
            return Err(StepError::unknown(
                PROVIDER_ERROR,
                message(path, "the connection broke", &cause),
            ));
        }
        Exchange::Answered { status, content_type, retry_after, body } => {
            (status, content_type, retry_after, body)
        }
    };
    if (200..300).contains(&status) {
        return body.and_then(|body| serde_json::from_slice(&body).ok()).ok_or_else(|| {
            StepError::unknown(PROVIDER_ERROR, format!("{path}: {status}, but unreadable"))
        });
    }
    let problem = Problem::read(content_type.as_deref(), body.as_deref());
    let message = message(path, &status.to_string(), problem.detail());
    let after = retry_after.as_deref().and_then(seconds);
    Err(match problem.said_by_provider(status) {
        Some((Proof::NotNow, _)) => {
            StepError::Retry { failure: Failure::new(PROVIDER_DOWN, message), after }
        }
        Some((Proof::NotAllowed, _)) => StepError::retry(PROVIDER_REFUSED_CREDENTIALS, message),
        Some((Proof::NotThis, refusal)) => StepError::fail(code_of(&refusal), message),
        Some((Proof::Never, refusal)) => StepError::refused(code_of(&refusal), message),
        None if Bug::GatewayBelieved.is_on() => believed(status, message),
        None => StepError::unknown(PROVIDER_ERROR, message),
    })
}

/// What a status would say if nobody but the provider could send it. A bug on purpose.
fn believed(status: u16, message: String) -> StepError {
    match status {
        429 | 503 => StepError::retry(PROVIDER_DOWN, message),
        408 | 409 | 424 | 425 => StepError::unknown(PROVIDER_ERROR, message),
        400..500 => StepError::refused(PROVIDER_REFUSED, message),
        _ => StepError::unknown(PROVIDER_ERROR, message),
    }
}

/// A `Retry-After` in seconds. The date form is not understood: the retry policy does without.
fn seconds(retry_after: &str) -> Option<Duration> {
    let seconds: u64 = retry_after.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX)))
}

/// One line for a person. Control characters of the provider's go, since messages are stored.
fn message(path: &str, what: &str, detail: &str) -> String {
    let detail: String = detail
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(DETAIL_CHARACTERS_MAX)
        .collect();
    match detail.trim() {
        "" => format!("{path}: {what}"),
        detail => format!("{path}: {what}: {detail}"),
    }
}

#[cfg(test)]
mod tests;
