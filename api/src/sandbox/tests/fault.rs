//! Each fault does what it says, to the calls it was meant for, and to no other.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, advance, timeout};

use super::{Bench, charge_of};

/// What a fault does to a charge, and what the same charge gets when the fault is gone.
#[derive(Debug, PartialEq)]
struct Struck {
    status: u16,
    held_seconds: u64,
    effects: usize,
    then_status: u16,
    then_replayed: bool,
}

const UNHARMED: Struck =
    Struck { status: 201, held_seconds: 0, effects: 1, then_status: 201, then_replayed: true };

async fn struck(fault: &str) -> Struck {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": fault, "times": 1 })).await;
    let begin = Instant::now();
    let status = bench.charge("k", "o-1").await.outcome().0;
    let held_seconds = begin.elapsed().as_secs();
    let effects = bench.operations().await.len();
    let again = bench.charge("k", "o-1").await;
    let (then_status, then_replayed) = (again.outcome().0, again.is_replay());
    Struck { status, held_seconds, effects, then_status, then_replayed }
}

#[tokio::test(start_paused = true)]
async fn a_decline_is_402_and_stays_402() {
    assert_eq!(
        struck("decline").await,
        Struck { status: 402, effects: 0, then_status: 402, ..UNHARMED }
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_422_and_stays_422() {
    assert_eq!(
        struck("refuse").await,
        Struck { status: 422, effects: 0, then_status: 422, ..UNHARMED }
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_before_applies_nothing_and_is_not_stored() {
    assert_eq!(
        struck("error_before").await,
        Struck { status: 500, effects: 0, then_replayed: false, ..UNHARMED }
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_after_applies_and_stores() {
    assert_eq!(struck("error_after").await, Struck { status: 500, ..UNHARMED });
}

#[tokio::test(start_paused = true)]
async fn a_timeout_before_holds_and_applies_nothing() {
    assert_eq!(
        struck("timeout_before").await,
        Struck { status: 504, held_seconds: 30, effects: 0, then_replayed: false, ..UNHARMED }
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_after_holds_and_applies() {
    assert_eq!(struck("timeout_after").await, Struck { status: 504, held_seconds: 30, ..UNHARMED });
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_applies_late_and_answers_truly() {
    assert_eq!(struck("slow").await, Struck { held_seconds: 30, ..UNHARMED });
}

#[tokio::test]
async fn a_provider_that_is_down_says_when_to_come_back() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "down" })).await;
    let reply = bench.charge("k", "o-1").await;
    assert_eq!(reply.outcome(), (503, Some("unavailable")));
    assert_eq!(reply.headers["retry-after"], "1");
    assert!(bench.operations().await.is_empty());
}

#[tokio::test]
async fn a_definite_no_has_the_code_of_its_provider() {
    let bench = Bench::open().await;
    let rules = json!({ "rules": [
        { "provider": "stock", "operation": "reserve", "fault": "refuse" },
        { "provider": "payment", "operation": "charge", "fault": "decline" },
        { "provider": "carrier", "operation": "ship", "fault": "refuse" },
    ]});
    bench.put("/faults", rules).await;
    let lines = json!({ "order_id": "o-1", "lines": [] });
    let stock = bench.post("/stock/reservations", "k", lines).await;
    assert_eq!(stock.outcome(), (422, Some("out_of_stock")));
    assert_eq!(bench.charge("k", "o-1").await.outcome(), (402, Some("card_declined")));
    let recipient =
        json!({ "name": "N", "address": "A", "city": "C", "postcode": "P", "country": "FR" });
    let shipment = json!({ "order_id": "o-1", "lines": [], "recipient": recipient });
    let carrier = bench.post("/carrier/shipments", "k", shipment).await;
    assert_eq!(carrier.outcome(), (422, Some("shipment_refused")));
}

#[tokio::test]
async fn an_error_before_and_an_error_after_read_the_same() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "error_before" })).await;
    let before = bench.charge("k-1", "o-1").await;
    bench.rule(json!({ "provider": "payment", "fault": "error_after" })).await;
    let after = bench.charge("k-2", "o-1").await;
    assert_eq!((before.body, before.headers), (after.body, after.headers));
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_applies_even_if_the_caller_hangs_up() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "slow", "times": 1 })).await;
    let patience = Duration::from_secs(1);
    assert!(timeout(patience, bench.charge("k", "o-1")).await.is_err());
    let early = bench.get("/payments/charges?key=k").await;
    assert_eq!(early.status, StatusCode::NOT_FOUND);
    advance(Duration::from_secs(30)).await;
    assert!(bench.charge("k", "o-1").await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_second_call_with_the_key_of_a_slow_one_waits_for_it() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "slow", "times": 1 })).await;
    let (first, second) = tokio::join!(bench.charge("k", "o-1"), bench.charge("k", "o-1"));
    assert_eq!((first.is_replay(), second.is_replay()), (false, true));
    assert_eq!(bench.operations().await, ["charge"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_that_was_undone_in_the_meantime_stays_undone() {
    let bench = Bench::open().await;
    let rule = json!({ "provider": "payment", "operation": "charge", "fault": "slow" });
    bench.rule(rule).await;
    let (charged, undone) = tokio::join!(bench.charge("k", "o-1"), bench.refund("u", "k"));
    assert_eq!(undone.body["refund_id"], Value::Null);
    assert_eq!(charged.outcome(), (409, Some("already_undone")));
    assert!(bench.operations().await.is_empty());
}

#[tokio::test]
async fn the_first_rule_that_fits_and_is_not_used_up_wins() {
    let bench = Bench::open().await;
    let rules = json!({ "rules": [
        { "provider": "invoice", "fault": "down" },
        { "provider": "payment", "operation": "refund", "fault": "down" },
        { "provider": "payment", "order_id": "o-2", "fault": "down" },
        {
            "provider": "payment", "operation": null, "order_id": null,
            "fault": "error_before", "times": 2,
        },
        { "provider": "payment", "fault": "decline", "times": null, "delay_ms": null },
    ]});
    let shown = bench.put("/faults", rules).await;
    assert_eq!(shown.body["rules"][3]["remaining"], 2);
    let mut outcomes = Vec::new();
    for (key, order_id) in [("a", "o-1"), ("b", "o-2"), ("c", "o-1"), ("d", "o-1"), ("e", "o-2")] {
        outcomes.push(bench.charge(key, order_id).await.outcome().0);
    }
    assert_eq!(outcomes, [500, 503, 500, 402, 503]);
    assert_eq!(bench.get("/faults").await.body["rules"][3]["remaining"], 0);
    let cleared = bench.request("DELETE", "/faults", None, String::new()).await;
    assert_eq!(cleared.outcome(), (204, None));
    assert_eq!(bench.get("/faults").await.body, json!({ "rules": [], "random": null }));
}

#[tokio::test]
async fn a_fault_before_strikes_a_decided_key_but_no_fault_changes_its_answer() {
    let bench = Bench::open().await;
    bench.charge("k", "o-1").await;
    for (fault, status) in
        [("down", 503), ("error_before", 500), ("error_after", 201), ("decline", 201)]
    {
        bench.rule(json!({ "provider": "payment", "fault": fault, "times": 1 })).await;
        assert_eq!(bench.charge("k", "o-1").await.status.as_u16(), status, "{fault}");
        let remaining = &bench.get("/faults").await.body["rules"][0]["remaining"];
        assert_eq!(remaining == 0, status >= 500, "{fault}");
    }
}

#[tokio::test]
async fn an_undo_meets_the_faults_of_the_order_it_undoes() {
    let bench = Bench::open().await;
    bench.charge("k-1", "o-1").await;
    bench.charge("k-2", "o-2").await;
    let rule = json!({
        "provider": "payment", "operation": "refund", "order_id": "o-2", "fault": "error_after",
    });
    bench.rule(rule).await;
    assert_eq!(bench.refund("u-1", "k-1").await.outcome().0, 200);
    assert_eq!(bench.refund("u-2", "k-2").await.outcome().0, 500);
    assert!(bench.refund("u-2", "k-2").await.is_replay());
    assert_eq!(bench.operations().await, ["charge", "charge", "refund", "refund"]);
}

#[tokio::test]
async fn the_event_sink_fails_on_demand() {
    let bench = Bench::open().await;
    let rules = json!({ "rules": [
        {
            "provider": "events", "operation": "deliver", "order_id": "o-1",
            "fault": "error_after", "times": 1,
        },
        { "provider": "events", "fault": "down", "times": 1 },
    ]});
    bench.put("/faults", rules).await;
    let event = json!({ "id": "e", "type": "t", "subject": "i-1", "order": "o-1" });
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(bench.deliver(event.clone()).await.outcome().0);
    }
    assert_eq!(outcomes, [500, 503, 204]);
    assert_eq!(bench.get("/events").await.body["events"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused_and_change_nothing() {
    let bench = Bench::open().await;
    bench.rule(json!({ "provider": "payment", "fault": "down" })).await;
    let foreign = json!({ "provider": "stock", "operation": "charge", "fault": "down" });
    let reply = bench.put("/faults", json!({ "rules": [foreign] })).await;
    assert_eq!(reply.outcome(), (400, Some("rule_invalid")));
    let unknown = json!({ "provider": "stock", "fault": "explode" });
    let reply = bench.put("/faults", json!({ "rules": [unknown] })).await;
    assert_eq!(reply.outcome(), (400, Some("body_invalid")));
    let mix = json!({ "seed": 1, "unknown_percent": 60, "error_percent": 41 });
    assert_eq!(bench.put("/faults/random", mix).await.outcome(), (400, Some("mix_invalid")));
    assert_eq!(bench.charge("k", "o-1").await.outcome().0, 503);
}

/// Charges forty orders under a mix, each until it is decided, and tells every status.
async fn chaos(seed: u64) -> Vec<u16> {
    let bench = Bench::open().await;
    let mix = json!({
        "seed": seed, "unknown_percent": 30, "decline_percent": 10, "refuse_percent": 5,
        "error_percent": 20, "delay_ms": 1,
    });
    assert_eq!(bench.put("/faults/random", mix).await.status, StatusCode::OK);
    let mut statuses = Vec::new();
    for order in 0..40 {
        let key = format!("o-{order}/charge");
        loop {
            let reply = bench.post("/payments/charges", &key, charge_of(&key)).await;
            statuses.push(reply.status.as_u16());
            if !reply.status.is_server_error() {
                break;
            }
        }
    }
    let declined = statuses.iter().filter(|&&status| status == 402).count();
    assert_eq!(bench.operations().await.len(), 40 - declined);
    statuses
}

#[tokio::test(start_paused = true)]
async fn a_run_with_the_same_seed_meets_the_same_faults() {
    let first = chaos(7).await;
    assert!([201, 402, 500, 503, 504].iter().all(|status| first.contains(status)));
    assert_eq!(first, chaos(7).await);
    assert_ne!(first, chaos(8).await);
}
