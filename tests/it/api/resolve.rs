//! What a person has found out leads to the right end, and stays in the history with his name.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Effect, Started, Status};
use amends_tests::World;
use amends_tests::http::{Api, Call};
use amends_tests::scripted::{self, ONCE, Script, Scripted, unknown};
use serde_json::{Value, json};
use uuid::Uuid;

const EVIDENCE: &str = "statement 7 of the provider";

/// An instance that is stuck on what its script says.
async fn scripted(script: &Script) -> (World, Uuid) {
    let registered = script.clone();
    let extended = World::builder().engine(move |it| it.workflow(Scripted(registered.clone())));
    let world = extended.build().await;
    let Started::New(id) = world.engine().start(scripted::start("it")).await.unwrap() else {
        panic!("it did not start");
    };
    world.settle().await;
    (world, id)
}

/// An order that is to be undone, and nobody knows whether its parcel was handed over.
async fn perhaps_shipped() -> (World, Uuid) {
    let world = World::new().await;
    world.providers().fault("carrier", "ship", "timeout_before", None).await;
    let id = world.start_order("1001").await;
    for _ in 0..30 {
        world.pass(Duration::from_secs(300)).await;
    }
    world.providers().heal().await;
    (world, id)
}

/// Resolves an instance that is stuck with this code, has it go on, and returns how it stands and
/// the record of what was found out.
async fn resolve(world: &World, id: Uuid, code: &str, found: Value) -> (Status, Value) {
    let stuck = world.instance(id).await;
    assert_eq!(stuck.failure.map(|failure| failure.code.into_owned()).as_deref(), Some(code));
    let mut resolution = json!({ "evidence": EVIDENCE });
    resolution.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
    let command =
        json!({ "command": "resolve", "reason": "asked by phone", "resolution": resolution });
    let api = Api::of(world);
    let answer = api.send(Call::command(id, &command)).await;
    assert_eq!((answer.status, answer.text()), (202, r#"{"answer":"accepted"}"#));
    world.settle().await;

    let history = api.send(Call::get(format!("/instances/{id}/history"))).await.json();
    let records = history["items"].as_array().unwrap();
    let is_resolve = |record: &&Value| record["payload"]["command"] == "resolve";
    let read = records.iter().find(is_resolve).unwrap();
    assert_eq!(read["actor"], "operator");
    assert_eq!(read["payload"]["reason"], "asked by phone");
    assert_eq!(read["payload"]["resolution"], resolution);
    (world.instance(id).await.status, read.clone())
}

#[tokio::test]
async fn a_step_of_unknown_outcome_that_was_applied_is_done() {
    let script = Script::new(Effect::AtMostOnce, [unknown()]);
    let (world, id) = scripted(&script).await;
    let found = json!({ "step": "act", "finding": { "applied": 7 } });
    let (status, _) = resolve(&world, id, "OUTCOME_UNKNOWN", found).await;
    assert_eq!((status, script.ran()), (Status::Completed, 1));
    world.finish().await;
}

#[tokio::test]
async fn a_step_of_unknown_outcome_that_was_not_applied_is_attempted_again() {
    let script = Script::new(Effect::AtMostOnce, [unknown()]);
    let (world, id) = scripted(&script).await;
    let found = json!({ "step": "act", "finding": "not_applied" });
    let (status, _) = resolve(&world, id, "OUTCOME_UNKNOWN", found).await;
    assert_eq!((status, script.ran()), (Status::Completed, 2));
    world.finish().await;
}

#[tokio::test]
async fn a_parcel_that_turns_out_to_be_shipped_completes_the_order() {
    let (world, id) = perhaps_shipped().await;
    let shipped = json!({ "shipment_id": "sh_7", "tracking_number": "TRK7" });
    let found = json!({ "step": "ship", "finding": { "applied": shipped } });
    let (status, record) = resolve(&world, id, "PIVOT_UNKNOWN", found).await;
    assert_eq!(status, Status::Completed);
    assert_eq!(record["events"][0]["type"], "SHIPPED");
    let story = Api::of(&world).send(Call::get(format!("/orders/{id}"))).await.json();
    assert_eq!(story["tracking_number"], "TRK7");
    world.finish().await;
}

#[tokio::test]
async fn a_parcel_that_turns_out_not_to_be_shipped_is_handed_over_again() {
    let (world, id) = perhaps_shipped().await;
    let found = json!({ "step": "ship", "finding": "not_applied" });
    let (status, _) = resolve(&world, id, "PIVOT_UNKNOWN", found).await;
    assert_eq!(status, Status::Completed);
    let counts = world.providers().counts("acme.myshopify.com/1001").await;
    assert_eq!((counts["ship"], counts.get("refund")), (1, None));
    world.finish().await;
}

#[tokio::test]
async fn a_parcel_that_was_not_shipped_can_be_taken_back_instead_of_sent() {
    let (world, id) = perhaps_shipped().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(world.command(id, Command::Hold).await, Answer::Accepted);
    let found = json!({ "step": "ship", "finding": "not_applied" });
    resolve(&world, id, "PIVOT_UNKNOWN", found).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let counts = world.providers().counts("acme.myshopify.com/1001").await;
    assert_eq!((counts.get("ship"), counts["refund"]), (None, 1));
    world.finish().await;
}

#[tokio::test]
async fn money_that_was_given_back_by_hand_lets_the_instance_end() {
    let script = Script::new(ONCE, []).takes_money_under("ch_1");
    let (world, id) = scripted(&script).await;
    let refund = json!({ "kind": "refund", "amount_minor": 100, "currency": "EUR",
        "reference": "re_9" });
    let (status, record) =
        resolve(&world, id, "LEDGER_IMBALANCE", json!({ "money": [refund] })).await;
    assert_eq!(status, Status::Completed);
    assert_eq!(record["payload"]["money"], json!([refund]));
    world.finish().await;
}

#[tokio::test]
async fn a_refund_that_was_made_by_hand_is_not_made_again() {
    let world = World::new().await;
    let rules = [("carrier", "ship", "refuse"), ("payment", "refund", "refuse")];
    world.providers().faults(&rules).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    world.providers().heal().await;
    let found = json!({ "step": "charge", "finding": { "undone": "re_9" } });
    let (status, record) = resolve(&world, id, "COMPENSATION_FAILED", found).await;
    assert_eq!(status, Status::Compensated);
    assert_eq!(record["payload"]["money"][0]["reference"], "re_9");
    assert_eq!(record["events"][0]["type"], "PAYMENT_REFUNDED");
    let counts = world.providers().counts("acme.myshopify.com/1001").await;
    assert_eq!((counts.get("refund"), counts["void"], counts["release"]), (None, 1, 1));
    world.finish().await;
}

#[tokio::test]
async fn what_does_not_fit_the_history_is_refused_with_the_reason_and_not_kept() {
    let world = World::new().await;
    let rules = [("carrier", "ship", "refuse"), ("payment", "refund", "refuse")];
    world.providers().faults(&rules).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let api = Api::of(&world);
    for (step, finding, why) in [
        ("bill", json!("not_applied"), "there is no step bill in the history"),
        ("notify", json!({ "undone": null }), "there is no step notify in the history"),
        ("ship", json!({ "undone": null }), "ship is not waiting to be undone"),
        (
            "charge",
            json!({ "applied": { "charge_id": "ch_7" } }),
            "everything is being undone; say whether charge is undone",
        ),
    ] {
        let resolution = json!({ "step": step, "finding": finding, "evidence": EVIDENCE });
        let command = json!({ "command": "resolve", "reason": "r", "resolution": resolution });
        let refused = api.send(Call::command(id, &command)).await;
        assert_eq!(refused.differs_from_problem(422, "invalid_command"), [""; 0]);
        let errors = json!([{ "pointer": "/resolution", "detail": why }]);
        assert_eq!(refused.json()["errors"], errors, "{step}");
    }
    assert_eq!(amends_tests::http::stored(&world).await.commands, 0);
    world.finish().await;
}
