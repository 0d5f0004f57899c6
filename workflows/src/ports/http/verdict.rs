//! What an HTTP exchange says about the effect it asked for: applied, not applied, or unknown.
//!
//! Pure. "Not applied" is claimed only where it is certain; every doubt is unknown, which the
//! engine resolves by asking again under the same key.

use std::time::Duration;

use amends::{Failure, StepError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::{
    PROVIDER_DOWN, PROVIDER_ERROR, PROVIDER_REFUSED_CREDENTIALS, PROVIDER_TIMEOUT,
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
    Answered { status: u16, retry_after: Option<String>, body: Option<Vec<u8>> },
}

/// A definite no of the provider.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) status: u16,
    /// The provider's own code.
    pub(super) code: Option<String>,
}

/// The problem details that providers answer errors with (RFC 9457).
#[derive(Debug, Default, Deserialize)]
struct ProblemDetails {
    detail: Option<String>,
    code: Option<String>,
}

/// Judges an exchange on `path`; `code_of` gives a definite no its stable code.
pub(crate) fn judge<T: DeserializeOwned>(
    path: &str,
    exchange: Exchange,
    code_of: impl Fn(&Refusal) -> &'static str,
) -> Result<T, StepError> {
    let (status, retry_after, body) = match exchange {
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
        Exchange::Answered { status, retry_after, body } => (status, retry_after, body),
    };
    if (200..300).contains(&status) {
        return body.and_then(|body| serde_json::from_slice(&body).ok()).ok_or_else(|| {
            StepError::unknown(PROVIDER_ERROR, format!("{path}: {status}, but unreadable"))
        });
    }
    let problem: ProblemDetails =
        body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let detail = problem.detail.unwrap_or_default();
    let message = message(path, &status.to_string(), &detail);
    let refusal = Refusal { status, code: problem.code };
    Err(match status {
        429 | 503 => StepError::Retry {
            failure: Failure::new(PROVIDER_DOWN, message),
            after: retry_after.as_deref().and_then(seconds),
        },
        401 | 403 => StepError::retry(PROVIDER_REFUSED_CREDENTIALS, message),
        // Too early: the server wants the request again, and has not looked at this one.
        425 => StepError::retry(PROVIDER_DOWN, message),
        // The key was undone before it could be applied, and will never be applied.
        409 if refusal.code.as_deref() == Some("already_undone") => {
            StepError::fail(code_of(&refusal), message)
        }
        // An earlier request with this key is still at work and may yet be applied. The other two
        // are what gateways answer when the provider behind them did not.
        408 | 409 | 424 => StepError::unknown(PROVIDER_ERROR, message),
        400..500 => StepError::fail(code_of(&refusal), message),
        _ => StepError::unknown(PROVIDER_ERROR, message),
    })
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
mod tests {
    use super::*;
    use crate::failure::PROVIDER_REFUSED;
    use serde_json::{Value, json};

    #[derive(Debug, PartialEq, Deserialize)]
    struct Made {
        id: String,
    }

    fn judged(exchange: Exchange) -> Result<Made, StepError> {
        judge("/made", exchange, |_| PROVIDER_REFUSED)
    }

    fn answered(status: u16, body: &Value) -> Exchange {
        let body = Some(body.to_string().into_bytes());
        Exchange::Answered { status, retry_after: None, body }
    }

    fn kind(error: &StepError) -> &'static str {
        match error {
            StepError::Retry { .. } => "retry",
            StepError::Fail(_) => "fail",
            StepError::Refused(_) => "refused",
            StepError::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn only_a_request_that_never_left_is_retried_without_an_answer() {
        let cause = || "reset".to_owned();
        for (exchange, expected, message) in [
            (
                Exchange::NotSent { cause: cause() },
                ("retry", PROVIDER_DOWN),
                "/made: not reached: reset",
            ),
            (Exchange::TimedOut, ("unknown", PROVIDER_TIMEOUT), "/made: no answer in time"),
            (
                Exchange::Lost { cause: cause() },
                ("unknown", PROVIDER_ERROR),
                "/made: the connection broke: reset",
            ),
        ] {
            let error = judged(exchange).unwrap_err();
            assert_eq!((kind(&error), error.failure().code.as_ref()), expected);
            assert_eq!(error.failure().message, message);
        }
    }

    #[test]
    fn every_status_has_its_verdict() {
        for status in 100..=999 {
            let expected = match status {
                200..=299 => None,
                429 | 503 | 425 => Some(("retry", PROVIDER_DOWN)),
                401 | 403 => Some(("retry", PROVIDER_REFUSED_CREDENTIALS)),
                408 | 409 | 424 => Some(("unknown", PROVIDER_ERROR)),
                400..=499 => Some(("fail", PROVIDER_REFUSED)),
                _ => Some(("unknown", PROVIDER_ERROR)),
            };
            for body in [
                Some(br#"{"id":"1","code":"x","detail":"y"}"#.to_vec()),
                Some(b"<html>".to_vec()),
                Some(Vec::new()),
                None,
            ] {
                let unreadable = body.as_ref().is_none_or(|body| !body.starts_with(b"{"));
                let exchange = Exchange::Answered { status, retry_after: None, body };
                match (judged(exchange), expected) {
                    (Ok(made), None) => assert_eq!(made.id, "1", "{status}"),
                    (Err(error), None) => {
                        assert!(unreadable, "{status}");
                        assert_eq!(
                            (kind(&error), &*error.failure().code),
                            ("unknown", PROVIDER_ERROR)
                        );
                    }
                    (Err(error), Some(expected)) => {
                        assert_eq!((kind(&error), &*error.failure().code), expected, "{status}");
                    }
                    (Ok(_), Some(_)) => panic!("{status} is no success"),
                }
            }
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_unknown_and_not_repeated() {
        for body in [json!({}), json!({"id": null}), json!({"id": 1}), json!([1]), json!(1)] {
            let error = judged(answered(201, &body)).unwrap_err();
            assert_eq!(error, StepError::unknown(PROVIDER_ERROR, "/made: 201, but unreadable"));
        }
    }

    #[test]
    fn what_was_undone_before_it_was_applied_fails_for_good() {
        let error = judged(answered(409, &json!({"code": "already_undone"}))).unwrap_err();
        assert_eq!(error, StepError::fail(PROVIDER_REFUSED, "/made: 409"));
    }

    #[test]
    fn the_caller_sees_status_and_code_of_a_refusal() {
        let body = json!({"title": "no", "detail": "Sold out", "code": "out_of_stock", "more": 1});
        let error = judge::<Made>("/made", answered(422, &body), |refusal| {
            assert_eq!((refusal.status, refusal.code.as_deref()), (422, Some("out_of_stock")));
            "MINE"
        });
        assert_eq!(error, Err(StepError::fail("MINE", "/made: 422: Sold out")));
    }

    #[test]
    fn a_wish_for_later_is_passed_on_in_seconds_up_to_a_day() {
        for (retry_after, after) in [
            (Some("7"), Some(7)),
            (Some(" 7 "), Some(7)),
            (Some("0"), Some(0)),
            (Some("18446744073709551615"), Some(86_400)),
            (Some("99999999999999999999"), None),
            (Some("-1"), None),
            (Some("1.5"), None),
            (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (None, None),
        ] {
            for status in [429, 503] {
                let retry_after = retry_after.map(str::to_owned);
                let exchange = Exchange::Answered { status, retry_after, body: None };
                let Err(StepError::Retry { after: found, .. }) = judged(exchange) else {
                    panic!("{status} is retried");
                };
                assert_eq!(found, after.map(Duration::from_secs));
            }
        }
    }

    #[test]
    fn a_message_holds_one_line_of_200_characters_of_detail_and_nothing_else_of_the_body() {
        let detail = format!("a\0b\nc{}", "é".repeat(300));
        let body = json!({"detail": detail, "title": "secret", "payload": "secret"});
        let error = judged(answered(422, &body)).unwrap_err();
        let message = &error.failure().message;
        assert_eq!(message, &format!("/made: 422: a b c{}", "é".repeat(195)));
        for odd in [json!({"detail": {"secret": 1}}), json!("secret"), json!([null])] {
            assert_eq!(judged(answered(400, &odd)).unwrap_err().failure().message, "/made: 400");
        }
    }
}
