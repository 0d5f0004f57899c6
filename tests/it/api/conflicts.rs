//! What contradicts an order that was accepted: a signed one is never lost, and a person decides.

use amends::Status;
use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::http::{Answer, Api, BOUND_TOKEN, Call, stored};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{id, order};
use crate::webhook::{self, but, delivery};

const KEY: &str = "acme.myshopify.com/5940139491234";

/// The order of the webhook, as the shop's own program would send it.
fn same() -> Value {
    let mut order = order("5940139491234");
    order["number"] = json!("1001");
    order["lines"][0].as_object_mut().unwrap().remove("title");
    order
}

/// The same order to another address.
fn forged() -> Value {
    let mut order = same();
    order["recipient"]["address"] = json!("66 Jalan Hantu");
    order
}

/// The real order with other content, signed by its shop.
fn changed() -> Value {
    let mut order = webhook::order();
    order["shipping_address"]["address1"] = json!("2 Jalan Dua");
    order
}

async fn cases(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.send(Call::get(format!("/intake/cases?{query}"))).await;
    assert_eq!(answer.status, 200, "{query}");
    answer.json()["items"].as_array().unwrap().clone()
}

async fn send(api: &Api, key: &str, order: &Value) -> Answer {
    api.send(Call::order(key, order).bearer(BOUND_TOKEN.1)).await
}

/// Takes in an order that waits before it is charged.
async fn waiting(world: &World, api: &Api, call: Call) {
    world.providers().fault("payment", "charge", "down", None).await;
    assert!(api.send(call).await.status < 300);
    world.settle().await;
    world.providers().heal().await;
}

async fn bodies(world: &World) -> Vec<Vec<u8>> {
    sqlx::query_scalar("select body from amends.delivery order by delivery_id")
        .fetch_all(&mut world.database().await)
        .await
        .unwrap()
}

async fn kinds_of_intake(world: &World) -> Vec<String> {
    let codes = ["ORDER_CONFLICT", "ORDER_CHANGED", "DELIVERY_ID_REUSED"];
    let kinds = world.recorder().kinds(KEY).into_iter();
    kinds.filter(|kind| codes.contains(&kind.as_str())).collect()
}

fn settle(case: &Value, reason: &str) -> Call {
    let path = format!("/intake/cases/{}/commands", case["case_id"].as_str().unwrap());
    Call::new("POST", path)
        .role(Role::Operator)
        .json(&json!({ "command": "settle", "reason": reason }))
}

#[tokio::test]
async fn a_forged_order_is_held_as_soon_as_its_shop_tells_of_the_real_one() {
    let world = World::new().await;
    let api = Api::of(&world);
    waiting(&world, &api, Call::order("k-1", &forged()).bearer(BOUND_TOKEN.1)).await;
    for _ in 0..3 {
        assert_eq!(api.send(delivery(&webhook::order())).await.status, 200);
        world.settle().await;
    }
    world.pass(std::time::Duration::from_secs(3600)).await;

    let found = cases(&api, "settled=false").await;
    assert_eq!(found.len(), 1);
    let case = &found[0];
    let words = [&case["code"], &case["source"], &case["shop"], &case["business_key"]];
    let expected = ["ORDER_CONFLICT", "shopify/acme.myshopify.com", "acme.myshopify.com", KEY];
    assert_eq!(words, expected.map(|it| json!(it)).each_ref());
    let message = case["message"].as_str().unwrap();
    let expected = "orders/acme has started something else: /recipient: has changed";
    assert_eq!(message, expected);
    assert_eq!(case["held"], true);
    assert_eq!(bodies(&world).await.last(), Some(&webhook::order().to_string().into_bytes()));
    assert_eq!(kinds_of_intake(&world).await, ["ORDER_CONFLICT"]);
    let metrics = api.send(Call::get("/metrics")).await;
    let counted = r#"amends_intake_cases_total{code="ORDER_CONFLICT"} 1"#;
    assert!(metrics.text().contains(counted), "{}", metrics.text());

    let instance_id: Uuid = case["instance_id"].as_str().unwrap().parse().unwrap();
    assert!(world.instance(instance_id).await.held);
    let applied = world.providers().counts(KEY).await;
    assert!(!applied.keys().any(|it| it.contains("ship") || it.contains("charge")), "{applied:?}");

    // A person finds out, undoes the forged one, and says so.
    let cancel = json!({ "command": "cancel", "reason": "forged" });
    assert_eq!(api.send(Call::command(instance_id, &cancel)).await.status, 202);
    assert_eq!(api.send(settle(case, "forged; cancelled")).await.status, 200);
    world.settle().await;
    assert_eq!(world.instance(instance_id).await.status, Status::Cancelled);
    assert_eq!(cases(&api, "settled=false").await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_forged_time_keeps_its_shop_from_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let mut ahead = forged();
    ahead["changed_at"] = json!("2999-01-01T00:00:00Z");
    waiting(&world, &api, Call::order("k-1", &ahead).bearer(BOUND_TOKEN.1)).await;
    let mut real = webhook::order();
    real["updated_at"] = json!("2026-11-30T10:00:00Z");
    assert_eq!(api.send(delivery(&real)).await.status, 200);
    let found = cases(&api, "settled=false").await;
    assert_eq!((&found[0]["code"], &found[0]["held"]), (&json!("ORDER_CONFLICT"), &json!(true)));
    world.finish().await;
}

#[tokio::test]
async fn what_a_person_has_released_is_not_held_again_by_a_repetition() {
    let world = World::new().await;
    let api = Api::of(&world);
    waiting(&world, &api, Call::order("k-1", &forged()).bearer(BOUND_TOKEN.1)).await;
    let call = delivery(&webhook::order());
    assert_eq!(api.send(call.clone()).await.status, 200);
    let found = cases(&api, "").await;
    let instance_id: Uuid = found[0]["instance_id"].as_str().unwrap().parse().unwrap();
    let release = json!({ "command": "release", "reason": "the address was changed by phone" });
    assert_eq!(api.send(Call::command(instance_id, &release)).await.status, 202);
    for again in [call.clone(), but(&call, "x-shopify-event-id", "e-2")] {
        assert_eq!(api.send(again).await.status, 200);
    }
    assert_eq!(cases(&api, "").await.len(), 1);
    world.pass(std::time::Duration::from_secs(3600)).await;
    assert_eq!(world.instance(instance_id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn an_order_that_is_shipped_already_is_a_case_all_the_same() {
    let world = World::new().await;
    let api = Api::of(&world);
    let accepted = send(&api, "k-1", &forged()).await;
    world.settle().await;
    assert_eq!(api.send(delivery(&webhook::order())).await.status, 200);
    world.settle().await;
    let found = cases(&api, "code=ORDER_CONFLICT").await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["held"], &found[0]["instance_id"]),
        (&json!(false), &json!(id(&accepted)))
    );
    assert_eq!(kinds_of_intake(&world).await, ["ORDER_CONFLICT"]);
    assert_eq!(world.instance(id(&accepted)).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn the_same_order_through_both_doors_is_an_ordinary_duplicate() {
    for signed_first in [false, true] {
        let world = World::new().await;
        let api = Api::of(&world);
        let signed = delivery(&webhook::order());
        let calls = [Call::order("k-1", &same()).bearer(BOUND_TOKEN.1), signed];
        let order = if signed_first { [1, 0, 1, 0] } else { [0, 1, 0, 1] };
        for index in order {
            let status = api.send(calls[index].clone()).await.status;
            assert!((200..300).contains(&status), "{status}");
        }
        world.settle().await;
        assert_eq!(cases(&api, "").await, Vec::<Value>::new());
        assert_eq!(kinds_of_intake(&world).await, Vec::<String>::new());
        assert_eq!(stored(&world).await.instances, 1);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_token_that_contradicts_what_was_accepted_is_told_so_and_changes_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    waiting(&world, &api, delivery(&webhook::order())).await;
    for key in ["k-1", "k-1", "k-2"] {
        let refused = send(&api, key, &forged()).await;
        assert_eq!(refused.differs_from_problem(409, "order_conflict"), Vec::<String>::new());
        assert!(!refused.text().contains("Jalan"), "{}", refused.text());
    }
    assert_eq!(cases(&api, "").await, Vec::<Value>::new());
    let found = stored(&world).await;
    assert_eq!((found.instances, found.commands, found.mail), (1, 0, 0));
    world.pass(std::time::Duration::from_secs(3600)).await;
    let kinds = world.recorder().kinds(KEY);
    assert_eq!(kinds.last().map(String::as_str), Some("ORDER_FULFILLED"));
    world.finish().await;
}

#[tokio::test]
async fn two_orders_under_one_event_id_are_both_carried_out() {
    let world = World::new().await;
    let api = Api::of(&world);
    let calls = [7001, 7002].map(|id| delivery(&amends_tests::shopify::order(id)));
    for _ in 0..3 {
        for call in &calls {
            assert_eq!(api.send(call.clone()).await.status, 200);
        }
    }
    let found = stored(&world).await;
    assert_eq!((found.instances, found.deliveries), (2, 2));
    let sent = [7001, 7002].map(|id| amends_tests::shopify::order(id).to_string().into_bytes());
    assert_eq!(bodies(&world).await, sent);
    world.settle().await;
    for id in [7001, 7002] {
        let kinds = world.recorder().kinds(&format!("acme.myshopify.com/{id}"));
        assert_eq!(kinds.last().map(String::as_str), Some("ORDER_FULFILLED"), "{id}");
    }
    assert_eq!(cases(&api, "").await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn another_content_under_one_event_id_is_kept_and_put_to_a_person() {
    let world = World::new().await;
    let api = Api::of(&world);
    let calls = [webhook::order(), changed()].map(|order| delivery(&order));
    waiting(&world, &api, calls[0].clone()).await;
    for _ in 0..3 {
        for call in &calls {
            assert_eq!(api.send(call.clone()).await.status, 200);
        }
    }
    let found = stored(&world).await;
    assert_eq!((found.instances, found.deliveries, found.commands), (1, 2, 1));
    assert_eq!(bodies(&world).await[1], changed().to_string().into_bytes());
    let found = cases(&api, &format!("business_key={}", KEY.replace('/', "%2F"))).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["code"], &found[0]["held"]),
        (&json!("DELIVERY_ID_REUSED"), &json!(true))
    );
    world.settle().await;
    assert_eq!(kinds_of_intake(&world).await, ["DELIVERY_ID_REUSED"]);
    world.finish().await;
}

#[tokio::test]
async fn another_content_under_one_event_id_is_put_to_a_person_when_the_order_is_undone_too() {
    let world = World::new().await;
    let api = Api::of(&world);
    world.providers().fault("carrier", "ship", "refuse", None).await;
    assert_eq!(api.send(delivery(&webhook::order())).await.status, 200);
    world.settle().await;
    assert_eq!(api.send(delivery(&changed())).await.status, 200);
    let found = cases(&api, "").await;
    let codes: Vec<_> = found.iter().map(|case| (&case["code"], &case["held"])).collect();
    assert_eq!(codes, [(&json!("DELIVERY_ID_REUSED"), &json!(false))]);
    world.finish().await;
}

#[tokio::test]
async fn another_content_under_another_event_id_is_put_to_a_person_too() {
    let world = World::new().await;
    let api = Api::of(&world);
    assert_eq!(api.send(delivery(&webhook::order())).await.status, 200);
    let other = but(&delivery(&changed()), "x-shopify-event-id", "e-2");
    assert_eq!(api.send(other).await.status, 200);
    let found = cases(&api, "").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["code"], "ORDER_CHANGED");
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn no_signed_body_is_lost_behind_an_id_that_is_not_signed() {
    let world = World::new().await;
    let api = Api::of(&world);
    let paid = |total: &str| {
        let mut body = webhook::order();
        body["total_price"] = json!(total);
        but(&delivery(&body), "x-shopify-topic", "orders/edited")
    };
    for total in ["1.00", "2.00", "3.00", "2.00", "1.00"] {
        assert_eq!(api.send(paid(total)).await.status, 200);
    }
    assert_eq!(bodies(&world).await.len(), 3);
    assert_eq!(stored(&world).await.instances, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_case_is_settled_once_with_who_and_why() {
    let world = World::new().await;
    let api = Api::of(&world);
    for (event, order) in [
        ("e-1", webhook::order()),
        ("e-2", changed()),
        ("e-3", {
            let mut order = webhook::order();
            order["shipping_address"]["city"] = json!("Ipoh");
            order
        }),
    ] {
        let call = but(&delivery(&order), "x-shopify-event-id", event);
        assert_eq!(api.send(call).await.status, 200);
    }
    let first = api.send(Call::get("/intake/cases?limit=1")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = cases(&api, &format!("limit=1&cursor={cursor}")).await;
    assert!(second[0]["case_id"].as_str() < first["items"][0]["case_id"].as_str());

    let answers =
        [api.send(settle(&second[0], "why")).await, api.send(settle(&second[0], "again")).await];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 409]);
    assert_eq!(answers[1].json()["answer"], "already_settled");
    let settled = cases(&api, "settled=true").await;
    assert_eq!(settled.len(), 1);
    assert_eq!(
        (&settled[0]["settled_by"], &settled[0]["settled_reason"]),
        (&json!("operator"), &json!("why"))
    );
    let kept: Vec<(String, String, String)> = sqlx::query_as(
        "select actor, reason, answer from amends.intake_case_command order by command_id",
    )
    .fetch_all(&mut world.database().await)
    .await
    .unwrap();
    let row =
        |reason: &str, answer: &str| ("operator".to_owned(), reason.to_owned(), answer.to_owned());
    assert_eq!(kept, [row("why", "accepted"), row("again", "already_settled")]);

    let unknown = settle(&json!({ "case_id": Uuid::nil().to_string() }), "why");
    assert!(api.send(unknown).await.differs_from_problem(404, "unknown_case").is_empty());
    world.settle().await;
    world.finish().await;
}
