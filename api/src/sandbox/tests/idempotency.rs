//! A key has one answer and at most one effect; what was undone stays undone.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Bench, charge_of};

/// Every forward call, with the body it answers with as the first effect in a ledger.
fn forwards() -> Vec<(&'static str, Value, Value)> {
    let lines = json!([{ "sku": "mug", "quantity": 2, "colour": "ignored" }]);
    let recipient =
        json!({ "name": "N", "address": "A", "city": "C", "postcode": "P", "country": "FR" });
    let reservation = json!({ "order_id": "o-1", "lines": lines });
    let shipment = json!({ "order_id": "o-1", "lines": lines, "recipient": recipient });
    let message = json!({ "order_id": "o-1", "to": "a@example.com", "template": "sent" });
    vec![
        ("/stock/reservations", reservation, json!({ "reservation_id": "rs_000001" })),
        (
            "/invoices",
            charge_of("o-1"),
            json!({ "invoice_id": "in_000001", "number": "INV-000001" }),
        ),
        ("/payments/charges", charge_of("o-1"), json!({ "charge_id": "ch_000001" })),
        (
            "/carrier/shipments",
            shipment,
            json!({ "shipment_id": "sh_000001", "tracking_number": "TRK000000001" }),
        ),
        ("/mail/messages", message, json!({ "message_id": "ms_000001" })),
    ]
}

#[tokio::test]
async fn every_provider_answers_the_same_call_again_and_does_nothing() {
    for (path, request, expected) in forwards() {
        let bench = Bench::open().await;
        let first = bench.post(path, "k", request.clone()).await;
        assert_eq!((first.outcome(), first.is_replay()), ((201, None), false), "{path}");
        assert_eq!(first.body, expected);
        let second = bench.post(path, "\"k\"", request).await;
        assert_eq!((second.outcome(), second.is_replay()), ((201, None), true), "{path}");
        assert_eq!(second.body, expected);
        assert_eq!(bench.ledger_lines(), 1);
    }
}

#[tokio::test]
async fn every_provider_finds_a_call_by_its_key() {
    for (path, request, expected) in forwards() {
        let bench = Bench::open().await;
        let missing = bench.get(&format!("{path}?key=o-1%2Fk")).await;
        assert_eq!(missing.outcome(), (404, Some("not_found")), "{path}");
        bench.post(path, "o-1/k", request).await;
        let found = bench.get(&format!("{path}?key=o-1%2Fk")).await;
        assert_eq!((found.outcome(), &found.body), ((200, None), &expected));
    }
}

#[tokio::test]
async fn a_key_with_another_body_or_operation_is_refused() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    let reused = (422, Some("idempotency_key_reused"));
    assert_eq!(bench.charge("k", "o-2").await.outcome(), reused);
    assert_eq!(bench.refund("k", "k").await.outcome(), reused);
    assert_eq!(bench.operations().await, ["charge"]);
}

#[tokio::test]
async fn providers_do_not_share_keys() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    assert_eq!(bench.post("/invoices", "k", charge_of("o-1")).await.outcome(), (201, None));
    assert_eq!(bench.operations().await, ["charge", "issue"]);
}

#[tokio::test]
async fn calls_with_one_key_at_the_same_time_have_one_effect() {
    let bench = Bench::open().await;
    let (first, second, third) =
        tokio::join!(bench.charge("k", "o-1"), bench.charge("k", "o-1"), bench.charge("k", "o-1"));
    let replays = [&first, &second, &third].iter().filter(|reply| reply.is_replay()).count();
    assert_eq!(replays, 2);
    assert_eq!(bench.operations().await, ["charge"]);
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_not_stored() {
    let bench = Bench::open().await;
    let bodies = [
        "{".to_owned(),
        json!({ "amount_minor": 1, "currency": "EUR" }).to_string(),
        json!({ "order_id": "o", "amount_minor": -1, "currency": "EUR" }).to_string(),
        json!({ "order_id": "o", "amount_minor": 1.5, "currency": "EUR" }).to_string(),
        json!({ "order_id": null, "amount_minor": 1, "currency": "EUR" }).to_string(),
    ];
    for body in bodies {
        let reply = bench.request("POST", "/payments/charges", Some("k"), body).await;
        assert_eq!(reply.outcome(), (400, Some("body_invalid")));
    }
    let lines = json!([{ "sku": "mug", "quantity": -2 }]);
    let negative = json!({ "order_id": "o", "lines": lines });
    let reply = bench.post("/stock/reservations", "k", negative).await;
    assert_eq!(reply.outcome(), (400, Some("body_invalid")));
    assert_eq!(bench.refund("k", "not a key").await.outcome(), (400, Some("body_invalid")));
    assert_eq!(bench.charge("k", "o-1").await.outcome(), (201, None));
}

#[tokio::test]
async fn a_large_body_a_missing_key_and_a_wrong_path_are_problems() {
    let bench = Bench::open().await;
    let large = format!("{{\"padding\":\"{}\"}}", "x".repeat(64 * 1024));
    let reply = bench.request("POST", "/invoices", Some("k"), large).await;
    assert_eq!(reply.outcome(), (413, Some("body_too_large")));
    let reply = bench.request("POST", "/invoices", None, charge_of("o").to_string()).await;
    assert_eq!(reply.outcome(), (400, Some("idempotency_key_missing")));
    assert_eq!(bench.get("/invoices").await.outcome(), (400, Some("query_invalid")));
    assert_eq!(bench.get("/nowhere").await.outcome(), (404, Some("not_found")));
    let reply = bench.request("DELETE", "/invoices", None, String::new()).await;
    assert_eq!(reply.outcome(), (405, Some("method_not_allowed")));
}

#[tokio::test]
async fn an_effect_is_undone_once_whatever_the_undo_keys() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    let first = bench.refund("u-1", "k").await;
    assert_eq!(
        first.body,
        json!({ "refund_id": "re_000002", "amount_minor": 1999, "currency": "EUR" })
    );
    let again = bench.refund("u-1", "k").await;
    assert_eq!((again.is_replay(), &again.body), (true, &first.body));
    let other = bench.refund("u-2", "k").await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(other.body, json!({ "refund_id": null, "amount_minor": null, "currency": null }));
    assert_eq!(bench.operations().await, ["charge", "refund"]);
    assert!(bench.charge("k", "o-1").await.is_replay());
}

#[tokio::test]
async fn stock_and_invoices_are_undone_by_the_forward_key() {
    let bench = Bench::open().await;
    bench.post("/stock/reservations", "s", json!({ "order_id": "o-1", "lines": [] })).await;
    let release = json!({ "reservation_key": "s" });
    let released = bench.post("/stock/releases", "s/undo", release).await;
    assert_eq!(released.body, json!({ "release_id": "rl_000002" }));
    bench.post("/invoices", "i", charge_of("o-1")).await;
    let voided = bench.post("/invoices/voids", "i/undo", json!({ "invoice_key": "i" })).await;
    assert_eq!(voided.body, json!({ "void_id": "vd_000004" }));
    let entries = bench.get("/ledger?order_id=o-1").await.body["entries"].clone();
    assert_eq!(entries[1]["order_id"], "o-1");
    assert_eq!(entries[3]["amount_minor"], 1999);
}

#[tokio::test]
async fn a_key_that_was_undone_before_it_was_seen_stays_undone() {
    let bench = Bench::open().await;
    let undone = bench.refund("u", "k").await;
    assert_eq!((undone.outcome(), &undone.body["refund_id"]), ((200, None), &Value::Null));
    assert_eq!(bench.charge("k", "o-1").await.outcome(), (409, Some("already_undone")));
    assert_eq!(bench.get("/payments/charges?key=k").await.status, StatusCode::NOT_FOUND);
    assert!(bench.operations().await.is_empty());
}

#[tokio::test]
async fn invoice_numbers_have_no_gaps() {
    let bench = Bench::open().await;
    bench.post("/invoices", "a", charge_of("o-1")).await;
    bench.charge("k", "o-1").await;
    bench.rule(json!({ "provider": "invoice", "fault": "refuse", "times": 1 })).await;
    assert_eq!(bench.post("/invoices", "b", charge_of("o-2")).await.outcome().0, 422);
    let next = bench.post("/invoices", "c", charge_of("o-3")).await;
    assert_eq!(next.body, json!({ "invoice_id": "in_000003", "number": "INV-000002" }));
}

#[tokio::test]
async fn the_ledger_shows_effects_in_order_and_by_order() {
    let bench = Bench::open().await;
    bench.charge("k-1", "o-1").await;
    bench.charge("k-2", "o-2").await;
    let mut entries = bench.get("/ledger?order_id=o-2").await.body["entries"].clone();
    assert!(entries[0]["at"].take().is_string());
    let expected = json!([{
        "sequence": 2, "at": null, "provider": "payment", "operation": "charge", "key": "k-2",
        "order_id": "o-2", "amount_minor": 1999, "currency": "EUR", "reference": "ch_000002",
    }]);
    assert_eq!(entries, expected);
    assert_eq!(bench.operations().await.len(), 2);
}

#[tokio::test]
async fn the_ledger_says_what_an_undo_has_undone() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    bench.refund("k/undo", "k").await;
    let entries = bench.get("/ledger").await.body["entries"].clone();
    assert_eq!([&entries[0]["undoes"], &entries[1]["undoes"]], [&Value::Null, &json!("k")]);
}

#[tokio::test]
async fn events_are_listed_as_they_arrived_duplicates_too() {
    let bench = Bench::open().await;
    for (id, subject) in [("e-2", "i-1"), ("e-1", "i-1"), ("e-9", "i-9"), ("e-1", "i-1")] {
        let event = json!({
            "specversion": "1.0", "source": "/amends", "id": id, "subject": subject,
            "type": "order.charged", "sequence": "7", "order": "o-1", "data": { "any": ["thing"] },
        });
        assert_eq!(bench.deliver(event).await.outcome(), (204, None));
    }
    let events = bench.get("/events?subject=i-1").await.body["events"].clone();
    let ids: Vec<&str> =
        events.as_array().unwrap().iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(ids, ["e-2", "e-1", "e-1"]);
    assert_eq!(events[2]["arrival"], 4);
    assert_eq!((&events[0]["sequence"], &events[0]["order"]), (&json!("7"), &json!("o-1")));
    assert_eq!(events[0]["type"], "order.charged");
    let digest = |index: usize| events[index]["digest"].as_str().unwrap();
    assert_eq!((digest(1).len(), digest(1)), (64, digest(2)));
    assert_ne!(digest(0), digest(1));
    assert_eq!(bench.deliver(json!({ "id": "e" })).await.outcome(), (400, Some("body_invalid")));
}
