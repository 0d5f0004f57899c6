//! What the exchanges mean that providers and gateways really have, one by one.

use super::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PROBLEM: &str = "application/problem+json";
const UNKNOWN: (&str, &str) = ("unknown", PROVIDER_ERROR);

#[derive(Debug, PartialEq, Deserialize)]
struct Made {
    id: String,
}

/// What an intermediary sends in the place of the provider behind it.
#[derive(Deserialize)]
struct Gateway {
    name: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

fn gateways() -> Vec<Gateway> {
    let table = include_str!("../../../../../api/src/sandbox/gateways.json");
    serde_json::from_str(table).unwrap()
}

fn judged(exchange: Exchange) -> Result<Made, StepError> {
    judge("/made", exchange, |_| PROVIDER_REFUSED)
}

fn answered(status: u16, content_type: &str, body: &[u8]) -> Exchange {
    Exchange::Answered {
        status,
        content_type: Some(content_type.to_owned()),
        retry_after: None,
        body: Some(body.to_vec()),
    }
}

fn said(status: u16, body: &Value) -> Exchange {
    answered(status, PROBLEM, body.to_string().as_bytes())
}

fn kind(error: &StepError) -> &'static str {
    match error {
        StepError::Retry { .. } => "retry",
        StepError::Fail(_) => "fail",
        StepError::Refused(_) => "refused",
        StepError::Unknown(_) => "unknown",
    }
}

fn verdict(exchange: Exchange) -> (&'static str, String) {
    let error = judged(exchange).unwrap_err();
    (kind(&error), error.failure().code.to_string())
}

#[test]
fn what_a_gateway_says_is_unknown_whatever_it_says() {
    let gateways = gateways();
    for of in ["nginx", "envoy", "haproxy", "alb", "api_gateway", "heroku", "cloudflare"] {
        assert!(gateways.iter().filter(|it| it.name.starts_with(of)).count() >= 5, "{of}");
    }
    for Gateway { name, status, headers, body } in &gateways {
        let header = |name: &str| headers.get(name).cloned();
        let exchange = |body| Exchange::Answered {
            status: *status,
            content_type: header("content-type"),
            retry_after: header("retry-after"),
            body,
        };
        let whole = body.clone().into_bytes();
        let cut = whole[..whole.len() / 2].to_vec();
        for body in [Some(whole), Some(cut), Some(Vec::new()), None] {
            let found = verdict(exchange(body));
            assert_eq!((found.0, found.1.as_str()), UNKNOWN, "{name}");
        }
    }
}

#[test]
fn every_status_without_the_mark_of_the_provider_is_unknown() {
    let codes: [&[u8]; 3] = [
        br#"{"id":1,"code":"x","detail":"y"}"#,
        br#"{"id":1,"code":"card_declined","detail":"y"}"#,
        b"<html>",
    ];
    for status in 100..=999 {
        for body in codes {
            for content_type in ["text/html", "application/json", "text/plain"] {
                let found = verdict(answered(status, content_type, body));
                assert_eq!((found.0, found.1.as_str()), UNKNOWN, "{status} {content_type}");
            }
        }
        let found = verdict(answered(status, PROBLEM, codes[0]));
        assert_eq!((found.0, found.1.as_str()), UNKNOWN, "{status} with a code of nobody's");
        let found = verdict(answered(status, PROBLEM, codes[1]));
        let expected = if status == 402 { ("refused", PROVIDER_REFUSED) } else { UNKNOWN };
        assert_eq!((found.0, found.1.as_str()), expected, "{status}");
    }
}

#[test]
fn the_providers_own_no_is_believed_as_far_as_it_goes() {
    for (status, code, expected) in [
        (429, "rate_limited", ("retry", PROVIDER_DOWN)),
        (503, "unavailable", ("retry", PROVIDER_DOWN)),
        (401, "credentials_missing", ("retry", PROVIDER_REFUSED_CREDENTIALS)),
        (403, "credentials_refused", ("retry", PROVIDER_REFUSED_CREDENTIALS)),
        (400, "body_invalid", ("fail", PROVIDER_REFUSED)),
        (422, "idempotency_key_reused", ("fail", PROVIDER_REFUSED)),
        (402, "card_declined", ("refused", PROVIDER_REFUSED)),
        (422, "out_of_stock", ("refused", PROVIDER_REFUSED)),
        (422, "shipment_refused", ("refused", PROVIDER_REFUSED)),
        (409, "already_undone", ("refused", PROVIDER_REFUSED)),
        (404, "not_found", UNKNOWN),
        (405, "method_not_allowed", UNKNOWN),
        (500, "internal_error", UNKNOWN),
        (504, "gateway_timeout", UNKNOWN),
    ] {
        let found = verdict(said(status, &json!({ "code": code })));
        assert_eq!((found.0, found.1.as_str()), expected, "{status} {code}");
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
        (Exchange::Lost { cause: cause() }, UNKNOWN, "/made: the connection broke: reset"),
    ] {
        let error = judged(exchange).unwrap_err();
        assert_eq!((kind(&error), error.failure().code.as_ref()), expected);
        assert_eq!(error.failure().message, message);
    }
}

#[test]
fn a_success_counts_if_it_can_be_read_whole() {
    let made = |status, body: &[u8]| judged(answered(status, "application/json", body));
    for status in 200..=299 {
        assert_eq!(made(status, br#"{"id":"1"}"#).unwrap().id, "1");
        assert!(made(status, br#"{"id":"1""#).is_err(), "{status}");
    }
    for body in [json!({}), json!({"id": null}), json!({"id": 1}), json!([1]), json!(1)] {
        let error = made(201, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error, StepError::unknown(PROVIDER_ERROR, "/made: 201, but unreadable"));
    }
}

#[test]
fn the_caller_sees_the_code_of_a_refusal() {
    let body = json!({"title": "no", "detail": "Sold out", "code": "out_of_stock", "more": 1});
    let error = judge::<Made>("/made", said(422, &body), |refusal| {
        assert_eq!(refusal.code, "out_of_stock");
        "MINE"
    });
    assert_eq!(error, Err(StepError::refused("MINE", "/made: 422: Sold out")));
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
        for (status, code) in [(429, "rate_limited"), (503, "unavailable")] {
            let exchange = Exchange::Answered {
                status,
                content_type: Some(PROBLEM.to_owned()),
                retry_after: retry_after.map(str::to_owned),
                body: Some(json!({ "code": code }).to_string().into_bytes()),
            };
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
    let error = judged(said(422, &body)).unwrap_err();
    let message = &error.failure().message;
    assert_eq!(message, &format!("/made: 422: a b c{}", "é".repeat(195)));
    for odd in [json!({"detail": {"secret": 1}}), json!("secret"), json!([null])] {
        assert_eq!(judged(said(400, &odd)).unwrap_err().failure().message, "/made: 400");
    }
}
