//! Commands over HTTP: what each is answered, what it leads to, and what was shown before.

use std::time::Duration;

use amends::Status;
use amends_tests::World;
use amends_tests::http::{Api, Call, stored};
use amends_tests::improvised::{Stage, start};
use amends_tests::scripted::{ONCE, Script, Scripted, retry};
use futures::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;

/// An order that waits for its next attempt to charge, which fails until providers are healed.
async fn waiting(world: &World) -> Uuid {
    world.providers().fault("payment", "charge", "down", None).await;
    let instance_id = world.start_order("1001").await;
    world.settle().await;
    instance_id
}

/// An order whose refund the payment provider has refused.
async fn unrefunded(world: &World) -> Uuid {
    let rules = [("carrier", "ship", "refuse"), ("payment", "refund", "refuse")];
    world.providers().faults(&rules).await;
    let instance_id = world.start_order("1001").await;
    world.settle().await;
    world.providers().heal().await;
    instance_id
}

/// What a command is answered.
async fn answer(api: &Api, instance_id: Uuid, command: Value) -> String {
    let mut sent = json!({ "reason": "asked for" });
    sent.as_object_mut().unwrap().extend(command.as_object().unwrap().clone());
    let answer = api.send(Call::command(instance_id, &sent)).await;
    let told = answer.json()["answer"].as_str().unwrap_or("none").to_owned();
    match answer.status {
        202 => assert_eq!(told, "accepted"),
        _ => assert_eq!(answer.differs_from_problem(409, "command_refused"), [""; 0], "{sent}"),
    }
    told
}

async fn get(api: &Api, path: String) -> Value {
    api.send(Call::get(path)).await.json()
}

#[tokio::test]
async fn each_command_is_accepted_where_it_can_happen_and_refused_where_it_cannot() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    let found = json!({ "evidence": "the provider's list",
        "step": "charge", "finding": "not_applied" });
    for (command, told) in [
        ("release", "not_held"),
        ("resolve", "not_stuck"),
        ("hold", "accepted"),
        ("hold", "held"),
        ("retry", "held"),
        ("resume", "held"),
        ("release", "accepted"),
        ("retry", "accepted"),
        ("resume", "accepted"),
        ("terminate", "accepted"),
    ] {
        let mut sent = json!({ "command": command });
        if command == "resolve" {
            sent["resolution"] = found.clone();
        }
        assert_eq!(answer(&api, id, sent).await, told, "{command}");
    }
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Terminated);
    for command in ["resume", "retry", "cancel", "hold", "release", "terminate"] {
        let told = answer(&api, id, json!({ "command": command })).await;
        assert_eq!(told, "already_ended", "{command}");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_stuck_is_resumed_or_resolved_and_not_merely_retried() {
    let world = World::new().await;
    let id = unrefunded(&world).await;
    let api = Api::of(&world);
    assert_eq!(answer(&api, id, json!({ "command": "retry" })).await, "stuck");
    assert_eq!(answer(&api, id, json!({ "command": "resume" })).await, "accepted");
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    world.finish().await;
}

#[tokio::test]
async fn a_retry_makes_the_next_attempt_before_its_time() {
    let world = World::new().await;
    let id = waiting(&world).await;
    world.providers().heal().await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting, "it is not due");
    answer(&Api::of(&world), id, json!({ "command": "retry" })).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_held_order_says_so_everywhere_and_begins_nothing_until_it_is_released() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    answer(&api, id, json!({ "command": "hold" })).await;
    world.providers().heal().await;
    world.pass(Duration::from_secs(24 * 3600)).await;

    let shown = get(&api, format!("/instances/{id}")).await;
    let held = "is held: nothing more is begun until somebody releases it";
    assert_eq!((&shown["held"], &shown["waits"]), (&json!(true), &json!(held)));
    assert_eq!(get(&api, "/instances".to_owned()).await["items"][0], shown);
    let story = get(&api, format!("/orders/{id}")).await;
    let summary = story["summary"].as_str().unwrap();
    assert!(summary.ends_with(&format!("so far no money was taken. It {held}.")), "{summary}");

    answer(&api, id, json!({ "command": "release" })).await;
    world.settle().await;
    let shown = get(&api, format!("/instances/{id}")).await;
    assert_eq!((&shown["status"], &shown["held"]), (&json!("completed"), &json!(false)));
    assert_eq!(shown.get("waits"), None);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_lifts_a_hold() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    answer(&api, id, json!({ "command": "hold" })).await;
    world.settle().await;
    assert_eq!(answer(&api, id, json!({ "command": "cancel" })).await, "accepted");
    world.settle().await;
    let shown = get(&api, format!("/instances/{id}")).await;
    assert_eq!((&shown["status"], &shown["held"]), (&json!("cancelled"), &json!(false)));
    world.finish().await;
}

#[tokio::test]
async fn a_stuck_order_that_is_stopped_by_force_says_that_the_money_is_still_taken() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = unrefunded(&world).await;
    let reason = json!({ "command": "terminate", "reason": "Settled in court." });
    assert_eq!(answer(&api, id, reason).await, "accepted");
    world.settle().await;
    let story = get(&api, format!("/orders/{id}")).await;
    assert_eq!(story["status"], "terminated");
    assert_eq!(
        story["summary"],
        "Stopped by force: settled in court. Nothing was undone; charged 59.90 MYR."
    );
    world.finish().await;
}

#[tokio::test]
async fn the_plan_that_was_shown_is_the_plan_that_is_executed() {
    let world = World::new().await;
    let api = Api::of(&world);
    world.providers().fault("carrier", "ship", "down", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let shown = get(&api, format!("/instances/{id}/preview?command=cancel")).await;
    assert_eq!(shown["answer"], "accepted");
    let steps: Vec<_> = shown["plan"]["steps"].as_array().unwrap().iter().collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["charge", "issue_invoice", "reserve_stock"]);
    assert_eq!(steps[0]["money"][0]["amount"], "59.90 MYR");

    let hash = &shown["plan"]["plan_hash"];
    let cancel = json!({ "command": "cancel", "plan_hash": hash });
    assert_eq!(answer(&api, id, cancel).await, "accepted");
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let history = get(&api, format!("/instances/{id}/history")).await;
    let records = history["items"].as_array().unwrap().iter();
    let planned: Vec<_> = records.filter(|it| it["kind"] == "compensation_planned").collect();
    assert_eq!(planned.len(), 1);
    assert_eq!(&planned[0]["payload"]["plan_hash"], hash);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_of_a_plan_that_has_changed_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    let shown = get(&api, format!("/instances/{id}/preview?command=cancel")).await;
    // Meanwhile the customer is charged.
    world.providers().heal().await;
    world.providers().fault("carrier", "ship", "down", None).await;
    world.pass(Duration::from_secs(1)).await;
    let before = (world.timeline(id).await, stored(&world).await);

    let cancel = json!({ "command": "cancel", "plan_hash": shown["plan"]["plan_hash"] });
    assert_eq!(answer(&api, id, cancel).await, "plan_changed");
    world.settle().await;
    let after = stored(&world).await;
    assert_eq!((world.timeline(id).await, after.mail), (before.0, before.1.mail));
    assert_eq!(after.commands, 1, "what was refused is kept too");
    world.providers().heal().await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_look_at_a_command_says_what_is_asked_again_and_gives_no_command() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = unrefunded(&world).await;
    let before = (world.timeline(id).await, stored(&world).await);
    let resume = get(&api, format!("/instances/{id}/preview?command=resume")).await;
    assert_eq!(
        resume["again"],
        json!([{ "step": "charge", "is_undo": true, "safety": "new_key",
            "text": "undo the charge again: it was refused, and counts as a new request" }])
    );
    let cancel = get(&api, format!("/instances/{id}/preview?command=cancel")).await;
    assert_eq!(cancel["answer"], "already_cancelling");
    assert_eq!(cancel["plan"]["steps"][0]["step"], "charge");
    world.settle().await;
    assert_eq!((world.timeline(id).await, stored(&world).await), before);
    world.finish().await;
}

#[tokio::test]
async fn what_this_build_cannot_read_is_not_looked_at_and_can_be_cancelled_all_the_same() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    let newer = sqlx::query("update amends.instance set version = 9");
    newer.execute(&mut world.database().await).await.unwrap();
    let as_shown =
        json!({ "command": "cancel", "reason": "asked for", "plan_hash": "0".repeat(64) });
    for call in
        [Call::get(format!("/instances/{id}/preview?command=cancel")), Call::command(id, &as_shown)]
    {
        let refused = api.send(call).await;
        assert_eq!(refused.differs_from_problem(409, "unreadable_here"), [""; 0]);
    }
    assert_eq!(stored(&world).await.commands, 0);
    assert_eq!(answer(&api, id, json!({ "command": "cancel" })).await, "accepted");
    world.finish().await;
}

#[tokio::test]
async fn a_command_with_a_key_may_be_sent_again_and_a_key_names_one_command() {
    let world = World::new().await;
    let api = Api::of(&world);
    let id = waiting(&world).await;
    let hold = Call::command(id, &json!({ "command": "hold", "reason": "asked for" }));
    let keyed = |call: Call, key: &str| call.header("idempotency-key", key);
    for key in ["k-1", "k-1", "\"k-1\""] {
        let answer = api.send(keyed(hold.clone(), key)).await;
        assert_eq!((answer.status, &answer.json()["answer"]), (202, &json!("accepted")));
    }
    for _ in 0..2 {
        let again = api.send(keyed(hold.clone(), "k-2")).await;
        assert!(again.differs_from_problem(409, "command_refused").is_empty());
        assert_eq!(again.json()["answer"], "held");
    }
    let cancel = Call::command(id, &json!({ "command": "cancel", "reason": "asked for" }));
    let reused = api.send(keyed(cancel.clone(), "k-1")).await;
    assert!(reused.differs_from_problem(422, "idempotency_key_reused").is_empty());
    let bad = api.send(keyed(cancel, "two words")).await;
    assert!(bad.differs_from_problem(400, "invalid_header").is_empty());
    let given = "select count(*) from amends.command where instance_id = $1";
    let given: i64 =
        sqlx::query_scalar(given).bind(id).fetch_one(&mut world.database().await).await.unwrap();
    assert_eq!(given, 2);
    world.finish().await;
}

#[tokio::test]
async fn a_terminate_asks_what_becomes_of_children_and_the_preview_names_them() {
    let stage = Stage::plain().child(&Script::new(ONCE, [retry("down")]));
    let world = stage
        .world(|saga, _| {
            async {
                let child = saga.start_child::<Scripted>("pack", &7).await?;
                Ok(child.output().await?.output.to_string())
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let api = Api::of(&world);
    let shown = async |query: &str| {
        let shown = get(&api, format!("/instances/{id}/preview?{query}")).await;
        let child = shown["children"][0].clone();
        assert_eq!(child["business_key"], "it/pack");
        [&shown["answer"], &child["status"], &child["fate"], &child["text"]]
            .map(|it| it.as_str().unwrap_or_default().to_owned())
    };
    let open = ["children_undecided", "waiting", "undecided", "is live: say what becomes of it"];
    assert_eq!(shown("command=terminate").await, open);
    let cancelled = ["accepted", "waiting", "cancel", "is cancelled at once"];
    assert_eq!(shown("command=terminate&children=cancel").await, cancelled);
    let held = ["accepted", "waiting", "hold", "is held, and begins nothing more"];
    assert_eq!(shown("command=hold").await, held);
    for query in ["command=hold&children=cancel", "command=terminate&children=spare"] {
        let refused = api.send(Call::get(format!("/instances/{id}/preview?{query}"))).await;
        assert_eq!(refused.differs_from_problem(400, "invalid_query"), [""; 0], "{query}");
    }
    let terminate = json!({ "command": "terminate" });
    assert_eq!(answer(&api, id, terminate).await, "children_undecided");
    let terminate = json!({ "command": "terminate", "children": "cancel" });
    assert_eq!(answer(&api, id, terminate).await, "accepted");
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Terminated);
    let cancelled = get(&api, "/instances?status=cancelled".to_owned()).await;
    assert_eq!(cancelled["items"][0]["business_key"], "it/pack");
    world.finish().await;
}
