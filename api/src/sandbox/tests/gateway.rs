//! What stands before a provider answers in its place; providers that are slow, or forget undos.

use serde_json::{Value, json};

use super::Bench;

/// The charges and refunds that were applied, once a rule was in force for three calls.
async fn struck(fault: &str, gateway: &str) -> (Vec<u16>, Vec<String>) {
    let bench = Bench::open().await;
    let rule = json!({ "provider": "payment", "fault": fault, "gateway": gateway, "times": 2 });
    bench.rule(rule).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let reply = bench.charge("k", "o-1").await;
        let is_problem = |value: &_| value == "application/problem+json";
        assert!(!reply.headers.get("content-type").is_some_and(is_problem));
        statuses.push(reply.status.as_u16());
    }
    (statuses, bench.operations().await)
}

#[tokio::test]
async fn a_gateway_answers_as_often_as_it_is_told_whether_the_call_was_applied_or_not() {
    for (gateway, status) in [
        ("nginx_404", 404),
        ("nginx_502", 502),
        ("nginx_503", 503),
        ("envoy_503", 503),
        ("heroku_h12", 503),
        ("cloudflare_520", 520),
        ("cloudflare_524", 524),
        ("alb_504", 504),
        ("traefik_499", 499),
    ] {
        for fault in ["gateway_before", "gateway_after"] {
            let (statuses, operations) = struck(fault, gateway).await;
            assert_eq!(statuses, [status, status, 201], "{fault} {gateway}");
            assert_eq!(operations, ["charge"], "{fault} {gateway}");
        }
    }
}

#[tokio::test]
async fn what_was_applied_behind_a_gateway_can_be_looked_up() {
    for (fault, status) in [("gateway_before", 404), ("gateway_after", 200)] {
        let bench = Bench::open().await;
        bench.rule(json!({ "provider": "payment", "fault": fault, "gateway": "nginx_502" })).await;
        bench.charge("k", "o-1").await;
        let found = bench.get("/payments/charges?key=k").await;
        assert_eq!(found.status.as_u16(), status, "{fault}");
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_exist_is_refused() {
    let bench = Bench::open().await;
    let rule = json!({ "provider": "payment", "fault": "gateway_before", "gateway": "nginx_999" });
    let reply = bench.put("/faults", json!({ "rules": [rule] })).await;
    assert_eq!(reply.outcome(), (400, Some("body_invalid")));
}

#[tokio::test]
async fn a_busy_provider_says_itself_that_nothing_was_done() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "busy", "times": 1 })).await;
    let reply = bench.charge("k", "o-1").await;
    assert_eq!(reply.outcome(), (429, Some("rate_limited")));
    assert_eq!(reply.headers["retry-after"], "1");
    assert!(bench.operations().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_applied_when_its_time_has_come_or_when_it_is_told() {
    let late = json!({
        "provider": "payment", "fault": "late", "gateway": "alb_504", "times": 1,
        "delay_ms": 2_000,
    });
    let bench = Bench::open().await;
    bench.rule(late.clone()).await;
    assert_eq!(bench.charge("k", "o-1").await.status.as_u16(), 504);
    assert!(bench.operations().await.is_empty());
    let applied = bench.request("POST", "/faults/late", None, String::new()).await;
    assert_eq!(applied.body, json!({ "applied": 1 }));
    assert_eq!(bench.operations().await, ["charge"]);
    bench.rule(late).await;
    bench.charge("l", "o-2").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let again = bench.request("POST", "/faults/late", None, String::new()).await;
    assert!(again.status.is_success());
    assert_eq!(bench.operations().await, ["charge", "charge"]);
}

#[tokio::test]
async fn a_provider_that_forgets_undos_applies_what_comes_after_them() {
    for (forgetful, expected) in
        [(json!([]), &["reserve"][..]), (json!(["payment"]), &["reserve", "charge", "refund"])]
    {
        let bench = Bench::open().await;
        bench.put("/faults", json!({ "rules": [], "forgetful": forgetful })).await;
        let order = json!({ "order_id": "o-1", "lines": [] });
        bench.post("/stock/reservations", "k", order).await;
        assert_eq!(bench.refund("u-1", "k").await.body["refund_id"], Value::Null);
        bench.charge("k", "o-1").await;
        bench.refund("u-2", "k").await;
        assert_eq!(bench.operations().await, expected, "{forgetful}");
    }
}

#[tokio::test]
async fn a_provider_without_keys_does_what_it_is_asked_for_as_often_as_it_is_asked() {
    for (keyless, expected) in [(json!(["stock"]), 1), (json!(["payment"]), 3)] {
        let bench = Bench::open().await;
        bench.put("/faults", json!({ "rules": [], "keyless": keyless })).await;
        for key in ["k", "k", "k"] {
            bench.charge(key, "o-1").await;
        }
        assert_eq!(bench.operations().await.len(), expected, "{keyless}");
    }
    let bench = Bench::open().await;
    bench.put("/faults", json!({ "rules": [], "keyless": ["payment"] })).await;
    let long = "k".repeat(255);
    bench.charge(&long, "o-1").await;
    assert!(bench.charge(&long, "o-1").await.status.is_success());
    assert_eq!(bench.operations().await.len(), 2);
}

#[tokio::test]
async fn a_charge_is_given_back_in_parts_and_never_more_than_it_was() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    let refund = async |key: &str, amount_minor: u64, currency: &str| {
        let body = json!({
            "charge_key": "k", "amount_minor": amount_minor, "currency": currency,
        });
        bench.post("/payments/refunds", key, body).await
    };
    assert_eq!(refund("u-1", 999, "EUR").await.body["amount_minor"], 999);
    let too_large = (422, Some("refund_too_large"));
    assert_eq!(refund("u-2", 1001, "EUR").await.outcome(), too_large);
    assert_eq!(refund("u-3", 1, "USD").await.outcome(), too_large);
    assert_eq!(refund("u-4", 400, "EUR").await.body["amount_minor"], 400);
    assert_eq!(bench.refund("u-5", "k").await.body["amount_minor"], 600);
    assert_eq!(refund("u-6", 1, "EUR").await.body["refund_id"], Value::Null);
    assert_eq!(bench.operations().await, ["charge", "refund", "refund", "refund"]);
}
