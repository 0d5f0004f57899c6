//! What Shopify never sends, and what it sends that no order can be made of.

use amends_tests::World;
use amends_tests::http::{Call, SHOP, now};
use amends_tests::shopify::signature;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{Bad, nested, refuse_all};
use crate::webhook::{but, delivery, order, signed};

/// A signed order with one member replaced.
fn spoilt(pointer: &str, value: Value) -> Call {
    let mut order = order();
    *order.pointer_mut(pointer).unwrap() = value;
    delivery(&order)
}

fn forged() -> Vec<Bad> {
    let (good, body) = (delivery(&order()), order().to_string());
    let hmac = |value: &str| but(&good, "x-shopify-hmac-sha256", value);
    let to = |shop: &str| {
        Call::new("POST", format!("/webhooks/shopify/{shop}"))
            .header("x-shopify-hmac-sha256", &signature(SHOP.1, &body))
            .bytes(body.clone())
    };
    let hex: String = signature(SHOP.1, &body).bytes().map(|it| format!("{it:02x}")).collect();
    let missing = good.clone().without("x-shopify-hmac-sha256");
    let longer = good.clone().bytes(format!("{body} "));
    vec![
        ("no signature", missing, 401, "invalid_signature"),
        ("an empty signature", hmac(""), 401, "invalid_signature"),
        ("a signature that is no base64", hmac("%%%"), 401, "invalid_signature"),
        ("a signature in hex", hmac(&hex), 401, "invalid_signature"),
        ("another secret", hmac(&signature("guess", &body)), 401, "invalid_signature"),
        ("no secret", hmac(&signature("", &body)), 401, "invalid_signature"),
        ("another body", hmac(&signature(SHOP.1, "{}")), 401, "invalid_signature"),
        ("a body that was made longer", longer, 401, "invalid_signature"),
        ("an unknown shop", to("other.myshopify.com"), 401, "invalid_signature"),
        ("a shop with NUL", to("a%00b"), 400, "invalid_path"),
        ("a shop that is not text", to("%ff"), 400, "invalid_path"),
    ]
}

fn unnamed() -> Vec<Bad> {
    let good = delivery(&order());
    let without = |header: &str| good.clone().without(header);
    let with = |header: &str, value: &str| but(&good, header, value);
    let at = |age: TimeDelta| with("x-shopify-triggered-at", &(now() - age).to_rfc3339());
    let late = TimeDelta::days(3) + TimeDelta::seconds(1);
    let long = "e".repeat(256);
    vec![
        ("no topic", without("x-shopify-topic"), 400, "missing_header"),
        ("no shop", without("x-shopify-shop-domain"), 400, "missing_header"),
        ("no webhook id", without("x-shopify-webhook-id"), 400, "missing_header"),
        ("an empty topic", with("x-shopify-topic", " "), 400, "missing_header"),
        ("an endless event id", with("x-shopify-event-id", &long), 400, "invalid_header"),
        ("an event id with a blank", with("x-shopify-event-id", "a b"), 400, "invalid_header"),
        ("another shop", with("x-shopify-shop-domain", "other.com"), 400, "shop_mismatch"),
        ("a time that is none", with("x-shopify-triggered-at", "now"), 400, "invalid_header"),
        ("too old", at(late), 400, "stale_delivery"),
        ("of the future", at(-TimeDelta::minutes(6)), 400, "stale_delivery"),
        ("of another age", at(TimeDelta::days(10_000)), 400, "stale_delivery"),
    ]
}

fn unreadable() -> Vec<Bad> {
    let good = order().to_string();
    let raw = |body: &str| signed(body.to_owned());
    let surrogate = good.replace("#1001", r"\ud800");
    let twice = good.replacen('{', r#"{"id":1,"#, 1);
    let blanks = |bytes: usize| raw(&" ".repeat(bytes));
    let compressed = raw(&good).header("content-encoding", "gzip");
    let headed = raw(&good).header("x-long", &"k".repeat(9 * 1024));
    vec![
        ("no body", raw(""), 400, "malformed_json"),
        ("half a body", raw(r#"{"id": 1"#), 400, "malformed_json"),
        ("half a character", raw(&surrogate), 400, "malformed_json"),
        ("NUL", spoilt("/name", json!("#10\0")), 400, "unacceptable_json"),
        ("33 levels", raw(&nested(33)), 400, "unacceptable_json"),
        ("a member named twice", raw(&twice), 400, "unacceptable_json"),
        ("10 MB", blanks(10 * 1024 * 1024), 413, "body_too_large"),
        ("257 KiB", blanks(257 * 1024), 413, "body_too_large"),
        ("a compressed body", compressed, 415, "unsupported_media_type"),
        ("9 KiB of headers", headed, 431, "headers_too_large"),
    ]
}

fn unfit() -> Vec<Bad> {
    let cases = [
        ("wrong arithmetic", "/total_price", json!("60.00")),
        ("a price that is a number", "/total_price", json!(59.9)),
        ("a price with an exponent", "/total_price", json!("5.99e1")),
        ("a negative price", "/line_items/0/price", json!("-29.95")),
        ("a price of half a sen", "/line_items/0/price", json!("29.955")),
        ("a price beyond 64 bits", "/line_items/0/price", json!("92233720368547758.08")),
        ("a price in other digits", "/line_items/0/price", json!("\u{661}")),
        ("an unknown currency", "/currency", json!("ZZZ")),
        ("no currency", "/currency", Value::Null),
        ("no lines", "/line_items", json!([])),
        ("a negative quantity", "/line_items/0/quantity", json!(-1)),
        ("a broken quantity", "/line_items/0/quantity", json!(1.5)),
        ("no address", "/shipping_address", Value::Null),
        ("an id that is text", "/id", json!("1")),
    ];
    cases.map(|(what, at, value)| (what, spoilt(at, value), 422, "invalid_order")).into()
}

#[tokio::test]
async fn a_delivery_that_is_not_signed_or_not_an_order_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    refuse_all(&world, [forged(), unnamed(), unreadable(), unfit()].concat()).await;
    world.finish().await;
}
