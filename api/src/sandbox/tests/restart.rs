//! What was answered is there after a restart; a file that cannot be trusted is not opened.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::{Error, Sandbox};
use super::{Bench, charge_of};

#[tokio::test]
async fn a_restart_changes_no_answer() {
    let bench = Bench::open().await;
    bench.charge("k-1", "o-1").await;
    bench.refund("u-1", "k-1").await;
    bench.refund("u-2", "k-2").await;
    bench.rule(json!({ "provider": "payment", "fault": "decline" })).await;
    let declined = bench.charge("k-3", "o-3").await;
    bench.deliver(json!({ "id": "e", "type": "t", "subject": "i-1", "sequence": 1 })).await;
    let before = (bench.get("/ledger").await.body, bench.get("/events").await.body);

    let bench = bench.restart(|_| ()).await.unwrap();
    assert_eq!((bench.get("/ledger").await.body, bench.get("/events").await.body), before);
    let charged = bench.charge("k-1", "o-1").await;
    assert_eq!((charged.is_replay(), charged.body), (true, json!({ "charge_id": "ch_000001" })));
    let again = bench.charge("k-3", "o-3").await;
    assert_eq!((again.is_replay(), again.outcome()), (true, declined.outcome()));
    assert_eq!(again.body, declined.body);
    assert_eq!(bench.charge("k-2", "o-2").await.outcome(), (409, Some("already_undone")));
    assert_eq!(bench.refund("u-3", "k-1").await.body["refund_id"], Value::Null);
    assert_eq!(bench.charge("k-1", "o-9").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let next = bench.charge("k-4", "o-4").await;
    assert_eq!(next.body, json!({ "charge_id": "ch_000003" }));
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_its_call_can_be_made_again() {
    let bench = Bench::open().await;
    bench.charge("k-1", "o-1").await;
    bench.charge("k-2", "o-2").await;
    let bench = bench.restart(|content| content.truncate(content.len() - 1)).await.unwrap();
    assert_eq!(bench.ledger_lines(), 1);
    let again = bench.charge("k-2", "o-2").await;
    assert_eq!((again.is_replay(), again.body), (false, json!({ "charge_id": "ch_000002" })));
    let bench = bench.restart(|_| ()).await.unwrap();
    assert_eq!(bench.operations().await.len(), 2);
}

#[tokio::test]
async fn a_damaged_or_missing_line_keeps_the_ledger_shut() {
    let damage: [fn(&mut Vec<u8>); 3] = [
        |content| content[0] = b'#',
        |content| drop(content.drain(..=content.iter().position(|&b| b == b'\n').unwrap())),
        |content| content.extend_from_within(..),
    ];
    for (edit, line) in damage.into_iter().zip([1, 1, 3]) {
        let bench = Bench::open().await;
        bench.charge("k-1", "o-1").await;
        bench.charge("k-2", "o-2").await;
        let error = bench.restart(edit).await.err().unwrap();
        assert!(matches!(error, Error::Corrupt { line: found, .. } if found == line), "{error}");
    }
}

#[tokio::test]
async fn two_sandboxes_cannot_share_a_ledger() {
    let bench = Bench::open().await;
    let second = Sandbox::open(&bench.folder.path().join("ledger.jsonl")).await;
    assert!(matches!(second.err(), Some(Error::InUse { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_under_load_is_in_the_file() {
    let bench = std::sync::Arc::new(Bench::open().await);
    let mut calls = JoinSet::new();
    for order in 0..300 {
        let bench = bench.clone();
        // Every third call repeats the one before it.
        let key = format!("k-{}", order - order % 3 / 2);
        calls.spawn(async move {
            let reply = bench.post("/payments/charges", &key, charge_of(&key)).await;
            let charge_id = reply.body["charge_id"].as_str().unwrap().to_owned();
            assert_eq!(reply.status, StatusCode::CREATED);
            (key, charge_id)
        });
    }
    let answered = calls.join_all().await;
    let bench = std::sync::Arc::into_inner(bench).unwrap().restart(|_| ()).await.unwrap();
    assert_eq!(bench.operations().await.len(), 200);
    for (key, charge_id) in answered {
        let found = bench.get(&format!("/payments/charges?key={key}")).await;
        assert_eq!(found.body["charge_id"], charge_id.as_str());
    }
}
