//! What Shopify sends: believed only if signed, answered only if kept, acted on once.

use amends_tests::World;
use amends_tests::http::{Answer, Api, Call, SHOP, Stored, now, stored};
use amends_tests::shopify::{self, signature};
use futures::future::join_all;
use serde_json::Value;

const NOTHING: Stored =
    Stored { instances: 0, deliveries: 0, commands: 0, mail: 0, early_signals: 0 };
const ONE: Stored = Stored { instances: 1, deliveries: 1, ..NOTHING };

pub(super) fn order() -> Value {
    shopify::order(5_940_139_491_234)
}

/// A delivery of a new order, signed with the shop's secret.
pub(super) fn delivery(body: &Value) -> Call {
    signed(body.to_string())
}

pub(super) fn signed(body: String) -> Call {
    sent_to(&format!("/webhooks/shopify/{}", SHOP.0), body)
}

fn sent_to(address: &str, body: String) -> Call {
    Call::new("POST", address)
        .header("x-shopify-hmac-sha256", &signature(SHOP.1, &body))
        .header("x-shopify-topic", "orders/create")
        .header("x-shopify-shop-domain", SHOP.0)
        .header("x-shopify-webhook-id", "w-1")
        .header("x-shopify-event-id", "e-1")
        .header("x-shopify-triggered-at", &now().to_rfc3339())
        .bytes(body)
}

/// The same delivery with one header replaced.
pub(super) fn but(call: &Call, header: &str, value: &str) -> Call {
    call.clone().without(header).header(header, value)
}

/// Sends a delivery that must be refused, and checks that nothing of it is kept.
async fn refused(call: Call, status: u16, code: &str) -> Answer {
    let world = World::new().await;
    let answer = Api::of(&world).send(call).await;
    assert_eq!(answer.differs_from_problem(status, code), Vec::<String>::new());
    assert_eq!(stored(&world).await, NOTHING);
    world.finish().await;
    answer
}

fn accepted(answer: &Answer) {
    assert_eq!((answer.status, answer.text()), (200, ""));
}

#[tokio::test]
async fn a_signed_order_is_answered_with_nothing_and_carried_out() {
    let world = World::new().await;
    accepted(&Api::of(&world).send(delivery(&order())).await);
    world.settle().await;
    assert_eq!(stored(&world).await, ONE);
    let kinds = world.recorder().kinds("acme.myshopify.com/5940139491234");
    assert_eq!(kinds.last().map(String::as_str), Some("ORDER_FULFILLED"));
    world.finish().await;
}

#[tokio::test]
async fn an_address_that_was_entered_with_a_slash_at_its_end_is_the_same_one() {
    let world = World::new().await;
    let address = format!("/webhooks/shopify/{}/", SHOP.0);
    accepted(&Api::of(&world).send(sent_to(&address, order().to_string())).await);
    accepted(&Api::of(&world).send(delivery(&order())).await);
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn what_was_received_is_kept_to_the_byte() {
    let world = World::new().await;
    accepted(&Api::of(&world).send(delivery(&order())).await);
    let kept: Vec<(String, String, Vec<u8>)> =
        sqlx::query_as("select source, external_id, body from amends.delivery")
            .fetch_all(&mut world.database().await)
            .await
            .unwrap();
    let source = "shopify/acme.myshopify.com".to_owned();
    assert_eq!(kept, [(source, "orders/create/e-1".to_owned(), order().to_string().into_bytes())]);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_for_a_shop_that_is_not_known_is_not_told_from_a_forged_one() {
    let body = order().to_string();
    let forged = but(&delivery(&order()), "x-shopify-hmac-sha256", &signature("guessed", &body));
    let unknown = Call::new("POST", "/webhooks/shopify/evil.myshopify.com")
        .header("x-shopify-hmac-sha256", &signature(SHOP.1, &body))
        .bytes(body);
    let forged = refused(forged, 401, "invalid_signature").await;
    let unknown = refused(unknown, 401, "invalid_signature").await;
    assert_eq!(forged.body, unknown.body);
}

#[tokio::test]
async fn a_topic_that_nobody_acts_on_is_kept_and_starts_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = but(&delivery(&order()), "x-shopify-topic", "orders/edited");
    for _ in 0..2 {
        accepted(&api.send(call.clone()).await);
    }
    assert_eq!(stored(&world).await, Stored { deliveries: 1, ..NOTHING });
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_sent_again_to_the_byte_starts_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = delivery(&order());
    accepted(&api.send(call.clone()).await);
    accepted(&api.send(call.clone()).await);
    world.settle().await;
    accepted(&api.send(call).await);
    assert_eq!(stored(&world).await, ONE);
    world.finish().await;
}

#[tokio::test]
async fn the_same_event_under_another_webhook_id_starts_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = delivery(&order());
    accepted(&api.send(call.clone()).await);
    accepted(&api.send(but(&call, "x-shopify-webhook-id", "w-2")).await);
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn another_event_about_the_same_order_starts_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = delivery(&order());
    accepted(&api.send(call.clone()).await);
    accepted(&api.send(but(&call, "x-shopify-event-id", "e-2")).await);
    assert_eq!(stored(&world).await, Stored { deliveries: 2, ..ONE });
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_hundred_redeliveries_at_once_start_one_instance() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = delivery(&order());
    let answers = join_all((0..100).map(|_| api.send(call.clone()))).await;
    answers.iter().for_each(accepted);
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    let applied = world.providers().counts("acme.myshopify.com/5940139491234").await;
    assert!(applied.values().all(|count| *count == 1), "{applied:?}");
    world.finish().await;
}
