//! Signals over HTTP: taken once, in any state, and read by whom they are for.

use std::time::Duration;

use amends::{Started, Status};
use amends_tests::World;
use amends_tests::awaiting::{self, Packing};
use amends_tests::http::{Api, Call, stored};
use serde_json::{Value, json};
use uuid::Uuid;

async fn world() -> World {
    World::builder().engine(|engine| engine.workflow(Packing)).build().await
}

async fn start(world: &World) -> Uuid {
    match world.engine().start(awaiting::start("order-1")).await.unwrap() {
        Started::New(id) => id,
        other => panic!("it did not start: {other:?}"),
    }
}

fn packed(parcel: &str, signal_id: Option<&str>) -> Value {
    let mut signal = json!({ "workflow": "packing", "business_key": "order-1",
        "signal": "parcel_packed", "body": { "parcel": parcel } });
    if let Some(id) = signal_id {
        signal["signal_id"] = json!(id);
    }
    signal
}

/// The status and the body of the answer to a signal.
async fn send(world: &World, signal: &Value) -> (u16, Value) {
    let answer = Api::of(world).send(Call::signal(signal)).await;
    (answer.status, answer.json())
}

async fn waits(world: &World, id: Uuid) -> Value {
    Api::of(world).send(Call::get(format!("/instances/{id}"))).await.json()["waits"].clone()
}

/// What the instance has answered.
async fn output(world: &World, id: Uuid) -> Value {
    assert_eq!(world.instance(id).await.status, Status::Completed);
    let last = world.history(id).await.pop().unwrap();
    serde_json::from_str::<Value>(last.payload.get()).unwrap()["output"].clone()
}

#[tokio::test]
async fn an_instance_says_what_it_waits_for_until_a_signal_and_time_have_come() {
    let world = world().await;
    let id = start(&world).await;
    world.settle().await;
    let until = "waits for the signal parcel_packed, at most until 2026-11-18 12:06:40 UTC";
    assert_eq!(waits(&world, id).await, until);

    let accepted = json!({ "outcome": "accepted", "instance_id": id });
    assert_eq!(send(&world, &packed("p_1", Some("scan-1"))).await, (202, accepted));
    world.settle().await;
    assert_eq!(waits(&world, id).await, "sleeps until 2026-11-18 11:16:40 UTC");
    let history = world.history(id).await;
    let signal = history.iter().find(|record| record.kind == "signal").unwrap();
    assert_eq!(signal.actor.as_deref(), Some("ingest"));

    world.pass(awaiting::REST).await;
    assert_eq!(output(&world, id).await, "p_1");
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_first_is_kept_for_the_instance() {
    let world = world().await;
    assert_eq!(send(&world, &packed("p_1", None)).await, (202, json!({ "outcome": "kept" })));
    let id = start(&world).await;
    world.settle().await;
    world.pass(awaiting::REST).await;
    assert_eq!(output(&world, id).await, "p_1");
    world.finish().await;
}

#[tokio::test]
async fn a_signal_is_taken_once_under_its_id_and_as_often_as_it_comes_without_one() {
    let world = world().await;
    let id = start(&world).await;
    let answers = [
        (Some("scan-1"), "accepted"),
        (Some("scan-1"), "replayed"),
        (Some("scan-2"), "accepted"),
        (None, "accepted"),
        (None, "accepted"),
    ];
    for (signal_id, outcome) in answers {
        let answer = json!({ "outcome": outcome, "instance_id": id });
        assert_eq!(send(&world, &packed("p_1", signal_id)).await, (202, answer));
    }
    assert_eq!(stored(&world).await.mail, 4);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_is_kept_is_taken_once_under_its_id_too() {
    let world = world().await;
    for _ in 0..2 {
        let kept = json!({ "outcome": "kept" });
        assert_eq!(send(&world, &packed("p_1", Some("scan-1"))).await, (202, kept));
    }
    assert_eq!(stored(&world).await.early_signals, 1);
    let id = start(&world).await;
    world.settle().await;
    let replayed = json!({ "outcome": "replayed", "instance_id": id });
    assert_eq!(send(&world, &packed("p_1", Some("scan-1"))).await, (202, replayed));
    world.finish().await;
}

#[tokio::test]
async fn one_id_with_another_body_is_a_conflict_before_and_after_the_start() {
    let world = world().await;
    let conflict = async || {
        let answer = Api::of(&world).send(Call::signal(&packed("p_2", Some("scan-1")))).await;
        assert_eq!(answer.differs_from_problem(409, "signal_conflict"), Vec::<String>::new());
    };
    send(&world, &packed("p_1", Some("scan-1"))).await;
    conflict().await;
    start(&world).await;
    conflict().await;
    world.settle().await;
    conflict().await;
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_too_late_is_told_so_and_need_not_be_sent_again() {
    let world = world().await;
    let id = start(&world).await;
    world.settle().await;
    world.pass(awaiting::PATIENCE + Duration::from_secs(1)).await;
    world.pass(awaiting::REST).await;
    assert_eq!(output(&world, id).await, Value::Null);
    let before = stored(&world).await;
    let late = json!({ "outcome": "already_ended", "instance_id": id });
    assert_eq!(send(&world, &packed("p_1", Some("scan-1"))).await, (200, late));
    assert_eq!(stored(&world).await, before);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_nobody_waits_for_is_refused_with_those_that_there_are() {
    let world = world().await;
    let api = Api::of(&world);
    let mut unknown = packed("p_1", None);
    unknown["signal"] = json!("parcel_lost");
    let refused = api.send(Call::signal(&unknown)).await;
    assert_eq!(refused.differs_from_problem(422, "invalid_signal"), [""; 0]);
    let why = "no signal parcel_lost is waited for; there are: parcel_packed";
    assert_eq!(refused.json()["errors"], json!([{ "pointer": "", "detail": why }]));
    world.finish().await;
}
