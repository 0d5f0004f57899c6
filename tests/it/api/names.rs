//! One order has one name, however its shop is spelt.

use amends_tests::World;
use amends_tests::http::{Answer, Api, Call, stored};
use amends_tests::orders;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{ONE, id, order};
use crate::webhook;

const MIGRATION: &str = include_str!("../../../migrations/0016_former_keys.sql");
const SPELLINGS: [&str; 5] = [
    "ACME.myshopify.com",
    "acme.myshopify.com.",
    " acme.MyShopify.com. ",
    "acme\u{3002}myshopify.com",
    "ａｃｍｅ.myshopify.com",
];

/// The order of the webhook, as a shop's own program sends it.
fn same_order(shop: &str) -> Value {
    let mut order = order("5940139491234");
    order["shop"] = json!(shop);
    order["number"] = json!("#1001");
    order
}

async fn look(api: &Api, path: &str) -> Answer {
    api.send(Call::get(path)).await
}

#[tokio::test]
async fn an_order_is_carried_out_once_however_its_shop_is_spelt() {
    let world = World::new().await;
    let api = Api::of(&world);
    assert_eq!(api.send(webhook::delivery(&webhook::order())).await.status, 200);
    for (index, shop) in SPELLINGS.into_iter().enumerate() {
        let answer = api.send(Call::order(&format!("k-{index}"), &same_order(shop))).await;
        assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(true)), "{shop:?}");
    }
    assert_eq!(stored(&world).await.instances, 1);
    world.settle().await;
    let applied = world.providers().counts("acme.myshopify.com/5940139491234").await;
    assert!(applied.values().all(|count| *count == 1), "{applied:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_webhook_is_of_its_shop_however_the_path_and_the_header_spell_it() {
    let world = World::new().await;
    let api = Api::of(&world);
    let body = webhook::order().to_string();
    for (path, header) in [
        ("ACME.myshopify.com", "acme.myshopify.com"),
        ("acme.myshopify.com.", "Acme.MyShopify.com"),
        ("acme.myshopify.com", "acme.myshopify.com."),
    ] {
        let call = Call::new("POST", format!("/webhooks/shopify/{path}"))
            .header(
                "x-shopify-hmac-sha256",
                &amends_tests::shopify::signature("shpss_secret", &body),
            )
            .header("x-shopify-topic", "orders/create")
            .header("x-shopify-shop-domain", header)
            .header("x-shopify-webhook-id", "w-1")
            .bytes(body.clone());
        assert_eq!(api.send(call).await.status, 200, "{path} {header}");
    }
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn an_order_is_found_however_its_shop_is_spelt() {
    let world = World::new().await;
    let api = Api::of(&world);
    let accepted = api.send(Call::order("k-1", &order("1001"))).await;
    for shop in ["acme.myshopify.com", "ACME.myshopify.com", "acme.myshopify.com."] {
        let shown = look(&api, &format!("/orders/{shop}/1001")).await;
        assert_eq!((shown.status, id(&shown)), (200, id(&accepted)), "{shop}");
        for workflow in ["", "&workflow=fulfilment"] {
            let path = format!("/instances?business_key={shop}%2F1001{workflow}");
            let found = look(&api, &path).await.json();
            assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{path}");
        }
    }
    assert_eq!(look(&api, "/orders/other.myshopify.com/1001").await.status, 404);
    assert_eq!(look(&api, "/orders/acme.myshopify.com/1001%20").await.status, 404);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn an_id_that_cannot_be_told_from_another_by_its_looks_is_refused() {
    let world = World::new().await;
    let api = Api::of(&world);
    for order_id in [
        " 1001",
        "1001 ",
        "10 01",
        "1001\t",
        "1001\u{a0}",
        "1001\u{200b}",
        "\u{feff}1001",
        "1001\u{200d}",
        "\u{202e}1001",
        "1001\u{2069}",
        "1001\u{ad}",
        "1001\u{fe0f}",
        "1001\u{3164}",
        "\u{ff11}001",
        "\u{661}",
        "e\u{301}",
    ] {
        let answer = api.send(Call::order("k-1", &order(order_id))).await;
        assert!(answer.differs_from_problem(422, "invalid_order").is_empty(), "{order_id:?}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/order_id", "{order_id:?}");
    }
    for shop in ["a b.example", "acme\u{202e}.example", "a..example", "xn--a.example", "a/b"] {
        let mut order = order("1001");
        order["shop"] = json!(shop);
        let answer = api.send(Call::order("k-1", &order)).await;
        assert!(answer.differs_from_problem(422, "invalid_order").is_empty(), "{shop:?}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/shop", "{shop:?}");
    }
    assert_eq!(stored(&world).await.instances, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_for_what_cannot_be_an_order_is_refused() {
    let world = World::new().await;
    let api = Api::of(&world);
    for business_key in ["acme.myshopify.com", "acme.myshopify.com/1 2", "a b/1"] {
        let signal = json!({ "workflow": "fulfilment", "business_key": business_key,
            "signal": "packed" });
        let answer = api.send(Call::signal(&signal)).await;
        assert!(answer.differs_from_problem(422, "invalid_signal").is_empty(), "{business_key}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/business_key", "{business_key}");
    }
    world.finish().await;
}

#[tokio::test]
async fn an_order_of_a_release_that_kept_spellings_is_found_and_not_started_again() {
    let mut world = World::new().await;
    let mut old = orders::order("1001");
    old.shop = "ACME.myshopify.com.".to_owned();
    let amends::Started::New(first) = world.start(&old).await.unwrap() else { panic!("it is new") };
    world.settle().await;
    // As the migration finds it.
    let fill = MIGRATION.split("insert into").nth(1).expect("the migration fills the table");
    let fill = AssertSqlSafe(format!("insert into {fill}"));
    sqlx::raw_sql(fill).execute(&mut world.database().await).await.unwrap();
    world.restart().await;

    let api = Api::of(&world);
    for shop in ["acme.myshopify.com", "Acme.myshopify.com", "ACME.myshopify.com."] {
        let shown = look(&api, &format!("/orders/{shop}/1001")).await;
        assert_eq!((shown.status, id(&shown)), (200, first), "{shop}");
        let listed = look(&api, &format!("/instances?business_key={shop}%2F1001")).await.json();
        assert_eq!(listed["items"][0]["instance_id"], json!(first), "{shop}");
    }
    let again = api.send(Call::order("k-1", &order("1001"))).await;
    assert_eq!((again.status, id(&again)), (200, first));
    assert_eq!(stored(&world).await.instances, 1);
    world.finish().await;
}
