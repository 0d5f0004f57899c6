//! A failed order, told.

use serde_json::{Value, json};

use super::*;

/// A history of these (kind, step, attempt, payload), a second apart.
pub(crate) fn history(records: &[(&str, Option<&str>, Option<u32>, Value)]) -> Vec<Record> {
    let began = DateTime::parse_from_rfc3339("2026-11-18T11:06:41Z").expect("a time").to_utc();
    records
        .iter()
        .zip(0_u32..)
        .map(|((kind, step, attempt, payload), seq)| Record {
            seq,
            kind: (*kind).to_owned(),
            step: step.map(str::to_owned),
            attempt: *attempt,
            payload: serde_json::value::to_raw_value(payload).expect("JSON"),
            events: None,
            actor: matches!(*kind, "command" | "signal").then(|| "anna".to_owned()),
            at: began + TimeDelta::seconds(i64::from(seq)),
            hash: String::new(),
        })
        .collect()
}

pub(crate) fn started() -> (&'static str, Option<&'static str>, Option<u32>, Value) {
    let input = json!({
        "shop": "acme", "order_id": "1", "number": "#1001", "currency": "MYR", "total_minor": 5990,
    });
    let payload = json!({
        "workflow": "fulfilment", "version": 1, "business_key": "acme/1", "input": input,
    });
    ("started", None, None, payload)
}

pub(crate) fn charged() -> (&'static str, Option<&'static str>, Option<u32>, Value) {
    let payload = json!({
        "input": {}, "output": {"charge_id": "ch_000002"},
        "money": [{"kind": "capture", "amount_minor": 5990, "currency": "MYR",
            "reference": "ch_000002"}],
    });
    ("step_done", Some("charge"), Some(1), payload)
}

pub(crate) fn refused() -> Vec<Record> {
    history(&[
        started(),
        (
            "step_done",
            Some("reserve_stock"),
            Some(1),
            json!({"input": {}, "output": {"reservation_id": "rs_000001"}}),
        ),
        (
            "step_attempt_failed",
            Some("charge"),
            Some(1),
            json!({"input": {}, "outcome": "unknown", "code": "PROVIDER_TIMEOUT",
                "message": "no answer in time.", "retry_at": "2026-11-18T11:06:48Z"}),
        ),
        charged(),
        (
            "step_attempt_failed",
            Some("ship"),
            Some(3),
            json!({"input": {}, "outcome": "refused", "code": "SHIPMENT_ERROR",
                "message": "no delivery to this address"}),
        ),
        (
            "compensation_planned",
            None,
            None,
            json!({"reason":
                    {"kind": "failure", "code": "SHIPMENT_ERROR", "message": "no delivery"},
                "plan": [
                    {"step": "charge", "known": true}, {"step": "reserve_stock", "known": false}],
                "plan_hash": "00"}),
        ),
        (
            "compensation_attempt_failed",
            Some("charge"),
            Some(1),
            json!({"outcome": "retry", "code": "PROVIDER_DOWN", "message": "busy",
                "retry_at": "2026-11-18T12:06:47Z"}),
        ),
        (
            "step_compensated",
            Some("charge"),
            Some(2),
            json!({"applied": true, "reference": "re_000003", "money": [{"kind": "refund",
                "amount_minor": 5990, "currency": "MYR", "reference": "re_000003"}]}),
        ),
        ("step_compensated", Some("reserve_stock"), Some(1), json!({"applied": false})),
        (
            "ended",
            None,
            None,
            json!({"status": "compensated",
                "failure": {"code": "SHIPMENT_ERROR", "message": "no delivery"}}),
        ),
    ])
}

fn texts(history: &[Record]) -> Vec<String> {
    timeline(history).into_iter().map(|line| line.text).collect()
}

#[test]
fn a_refused_order_is_told_from_its_acceptance_to_its_refund() {
    assert_eq!(
        texts(&refused()),
        [
            "accepted order #1001 over 59.90 MYR",
            "reserved the stock (rs_000001)",
            "it is not known whether the charge succeeded: no answer in time; next try in 5 s",
            "charged 59.90 MYR (ch_000002)",
            "the carrier refused the parcel: no delivery to this address",
            "cannot go on; to undo: the charge, the reservation (if it succeeded)",
            "could not undo the charge: busy; next try in 60 min",
            "refunded 59.90 MYR (re_000003)",
            "found nothing to undo of the reservation",
            "ended; everything that had been done is undone",
        ]
    );
}

#[test]
fn every_way_in_which_an_attempt_can_end_is_told() {
    for (outcome, text) in [
        ("retry", "the charge did not succeed: no"),
        ("fail", "the charge failed for good: no"),
        ("refused", "the charge failed for good: no"),
        ("unknown", "it is not known whether the charge succeeded: no"),
    ] {
        let ended = json!({"input": {}, "outcome": outcome, "code": "X", "message": "no"});
        let told = texts(&history(&[("step_attempt_failed", Some("charge"), Some(1), ended)]));
        assert_eq!(told, [text], "{outcome}");
    }
}

#[test]
fn what_people_did_is_told_with_their_names_and_reasons() {
    let history = history(&[
        ("stuck", None, None, json!({"code": "LEDGER_IMBALANCE", "message": "1 sen is missing"})),
        ("command", None, None, json!({"command": "resume", "reason": "Found it."})),
    ]);
    assert_eq!(
        texts(&history),
        ["stuck until a person decides: 1 sen is missing", "anna asked to resume: Found it"]
    );
}

#[test]
fn what_somebody_found_out_is_told_with_where_it_can_be_seen() {
    let resolve = |step: Option<&str>, finding: Value, money: Value| {
        let mut resolution = json!({"evidence": "the provider's list.", "finding": finding});
        resolution["step"] = json!(step);
        (
            "command",
            None,
            None,
            json!({"command": "resolve", "reason": "asked by phone.",
            "resolution": resolution, "money": money}),
        )
    };
    let captured = json!([{"kind": "capture", "amount_minor": 5990, "currency": "MYR",
        "reference": "ch_7"}]);
    let history = history(&[
        resolve(Some("charge"), json!({"applied": {"charge_id": "ch_7"}}), captured.clone()),
        resolve(Some("ship"), json!("not_applied"), json!([])),
        resolve(Some("charge#2"), json!({"undone": "re_9"}), json!([])),
        resolve(Some("wait:parcel_packed"), json!("dropped"), json!([])),
        resolve(None, Value::Null, captured.clone()),
        (
            "command",
            None,
            None,
            json!({"command": "book", "reason": "asked by phone.", "money": captured,
                "resolution": {"evidence": "the bank's list", "money": captured}}),
        ),
    ]);
    let lines = timeline(&history);
    let by = "evidence: the provider's list; reason: asked by phone";
    assert_eq!(
        texts(&history),
        [
            format!("anna resolved it: the charge has succeeded; charged 59.90 MYR (ch_7); {by}"),
            format!("anna resolved it: the shipment has not succeeded; {by}"),
            format!("anna resolved it: the charge (no. 2) is undone (re_9); {by}"),
            format!(
                "anna resolved it: the signal parcel_packed cannot be read and is given up; {by}"
            ),
            format!("anna resolved it: charged 59.90 MYR (ch_7); {by}"),
            "anna booked what has moved outside: charged 59.90 MYR (ch_7); evidence: the bank's list; \
             reason: asked by phone"
                .to_owned(),
        ]
    );
    assert_eq!(moved_minor(&lines, MovementKind::Capture, "MYR".parse().expect("letters")), 17_970);
}

#[test]
fn waiting_for_time_and_for_signals_is_told_until_it_ends() {
    let until = json!({"until": "2026-11-18T14:05:00Z"});
    let history = history(&[
        ("timer_started", Some("timer:sleep"), None, until.clone()),
        ("timer_fired", Some("timer:sleep"), None, json!({})),
        ("wait_started", Some("wait:parcel_packed"), None, until),
        ("signal", None, None, json!({"signal": "parcel_packed", "id": "7", "body": {}})),
        ("wait_ended", Some("wait:parcel_packed"), None, json!({"signal": 3})),
        ("mail_refused", None, None, json!({"mail_seq": 2, "why": "7 bytes are too many"})),
        ("wait_started", Some("wait:parcel_packed#2"), None, json!({})),
        ("wait_ended", Some("wait:parcel_packed#2"), None, json!({})),
        ("ended", None, None, json!({"status": "completed", "unread": [7]})),
        ("ended", None, None, json!({"status": "terminated", "unread": [7, 9]})),
    ]);
    assert_eq!(
        texts(&history),
        [
            "sleeps until 2026-11-18 14:05:00 UTC",
            "woke up",
            "waits for the signal parcel_packed, at most until 2026-11-18 14:05:00 UTC",
            "anna sent the signal parcel_packed",
            "the signal parcel_packed is here; goes on with it",
            "message 2 could not be taken: 7 bytes are too many",
            "waits for the signal parcel_packed (no. 2), for as long as it takes",
            "the signal parcel_packed (no. 2) did not come in time; goes on without it",
            "completed; a signal that had come in was not needed",
            "stopped by force; nothing was undone; 2 signals that had come in were not needed",
        ]
    );
}

#[test]
fn what_a_run_has_noted_is_told() {
    let history = history(&[
        ("noted", Some("value:now"), None, json!({"value": "2026-11-18T11:06:41Z"})),
        ("noted", Some("value:lot"), None, json!({"value": 7})),
        ("noted", Some("event:PARCEL_LATE"), None, json!({"value": null})),
        ("noted", Some("patched:gift_wrap"), None, json!({"value": true})),
    ]);
    assert_eq!(
        texts(&history),
        [
            "noted the time: 2026-11-18T11:06:41Z",
            "noted lot: 7",
            "published the event PARCEL_LATE",
            "goes on by the change gift_wrap of the workflow",
        ]
    );
}

#[test]
fn an_undo_that_looks_once_more_says_when() {
    let payload = json!({"applied": false, "recheck_at": "2026-11-18T11:08:41Z"});
    let undone = history(&[("step_compensated", Some("ship"), Some(1), payload)]);
    assert_eq!(texts(&undone), ["found nothing to undo of the shipment; looks once more in 2 min"]);
}

#[test]
fn a_provider_is_quoted_without_path_and_status() {
    for (message, said) in [
        ("/carrier/shipments: 422: no delivery: too far.", "no delivery: too far"),
        ("/payments/charges: no answer in time", "no answer in time"),
        ("/payments/charges: not reached: Connection refused", "not reached: Connection refused"),
        ("/payments/charges: 402", "402"),
        ("1 sen is missing: look at /ledger", "1 sen is missing: look at /ledger"),
    ] {
        assert_eq!(sentence(message), said);
    }
}

#[test]
fn a_step_that_was_cut_off_says_that_its_outcome_is_not_known() {
    let payload = json!({"input": {}, "retry_at": "2026-11-18T11:06:46Z"});
    let cut_off = history(&[("step_interrupted", Some("charge"), Some(1), payload)]);
    let text = "the charge was interrupted: it is not known whether it succeeded; next try in 5 s";
    assert_eq!(texts(&cut_off), [text]);
}

#[test]
fn a_record_that_nobody_knows_still_has_its_line() {
    let history = history(&[
        ("parcel_lost", Some("ship"), None, json!({})),
        ("step_done", Some("gift_wrap#2"), Some(1), json!({"output": null})),
        ("ended", None, None, json!({"status": "lost"})),
    ]);
    let told = ["parcel lost: ship", "did the step gift_wrap (no. 2)", "ended"];
    assert_eq!(texts(&history), told);
}

#[test]
fn money_and_tracking_are_found_in_the_history() {
    let lines = timeline(&refused());
    let currency = "MYR".parse().expect("a currency");
    assert_eq!(moved_minor(&lines, MovementKind::Capture, currency), 5990);
    assert_eq!(moved_minor(&lines, MovementKind::Refund, currency), 5990);
    assert_eq!(tracking_number(&refused()), None);
    let output = json!({"shipment_id": "sh_1", "tracking_number": "TRK7"});
    let payload = json!({"output": output});
    let shipped = history(&[("step_done", Some("ship"), Some(1), payload)]);
    assert_eq!(tracking_number(&shipped), Some("TRK7".to_owned()));
    assert_eq!(texts(&shipped), ["handed the parcel to the carrier, tracking number TRK7"]);
    let resolution = json!({"step": "ship", "finding": {"applied": output}, "evidence": "e"});
    let payload = json!({"command": "resolve", "reason": "r", "resolution": resolution});
    let found_out = history(&[("command", Some("ship"), None, payload)]);
    assert_eq!(tracking_number(&found_out), Some("TRK7".to_owned()));
}
