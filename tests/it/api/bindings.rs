//! A token that sends speaks for its own shops, and for no other.

use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::http::{Answer, Api, BOUND_TOKEN, Call, stored};
use serde_json::{Value, json};

use super::order;

fn order_of(shop: &str) -> Value {
    let mut order = order("1001");
    order["shop"] = json!(shop);
    order
}

fn send(order: &Value) -> Call {
    Call::order("k-1", order).bearer(BOUND_TOKEN.1)
}

fn signal(workflow: &str, business_key: &str) -> Call {
    let signal = json!({ "workflow": workflow, "business_key": business_key, "signal": "packed" });
    Call::signal(&signal).bearer(BOUND_TOKEN.1)
}

fn refused(answer: &Answer) {
    assert_eq!(answer.differs_from_problem(403, "shop_not_allowed"), Vec::<String>::new());
    assert_eq!(answer.json()["allowed_shops"], json!(["acme.myshopify.com"]));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("acme.myshopify.com"), "{detail}");
    assert!(answer.header("www-authenticate").contains("insufficient_scope"));
}

#[tokio::test]
async fn a_bound_token_starts_orders_of_its_shop_however_it_is_spelt() {
    let world = World::new().await;
    let api = Api::of(&world);
    let first = api.send(send(&order_of("ACME.myshopify.com."))).await;
    assert_eq!(first.status, 201);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_bound_token_starts_nothing_of_another_shop_and_is_told_which_are_its_own() {
    let world = World::new().await;
    let api = Api::of(&world);
    for shop in [
        "other.myshopify.com",
        "acme.myshopify.com.evil.example",
        "evil-acme.myshopify.com",
        "myshopify.com",
        "\u{430}cme.myshopify.com",
    ] {
        refused(&api.send(send(&order_of(shop))).await);
    }
    let nothing = stored(&world).await;
    assert_eq!((nothing.instances, nothing.deliveries), (0, 0));
    let metrics = api.send(Call::get("/metrics")).await;
    let counted = r#"amends_shops_refused_total{token="acme"} 5"#;
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    world.finish().await;
}

#[tokio::test]
async fn a_bound_token_is_told_that_it_may_not_before_it_is_told_what_is_wrong() {
    let world = World::new().await;
    let mut order = order_of("other.example");
    order["total_minor"] = json!(1);
    refused(&Api::of(&world).send(send(&order)).await);
    world.finish().await;
}

#[tokio::test]
async fn a_bound_token_signals_what_is_of_its_shops_and_nothing_else() {
    let world = World::new().await;
    let api = Api::of(&world);
    for call in [
        signal("fulfilment", "other.myshopify.com/1001"),
        signal("fulfilment", "OTHER.myshopify.com./1001"),
        signal("returns", "acme.myshopify.com/1001"),
    ] {
        refused(&api.send(call).await);
    }
    // It may, but nothing waits for such a signal.
    let own = api.send(signal("fulfilment", "ACME.myshopify.com/1001")).await;
    assert!(own.differs_from_problem(422, "invalid_signal").is_empty());
    assert_eq!(stored(&world).await.early_signals, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_bound_token_reads_and_commands_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    for path in ["/orders/acme.myshopify.com/1001", "/instances", "/events/blocked"] {
        let answer = api.send(Call::new("GET", path).bearer(BOUND_TOKEN.1)).await;
        assert!(answer.differs_from_problem(403, "forbidden").is_empty(), "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_token_for_every_shop_starts_orders_of_any() {
    let world = World::new().await;
    let call = Call::order("k-1", &order_of("other.example")).role(Role::Ingest);
    assert_eq!(Api::of(&world).send(call).await.status, 201);
    world.settle().await;
    world.finish().await;
}
