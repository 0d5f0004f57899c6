//! What Shopify never sends, and what it sends that no order can be made of.

use amends_tests::World;
use amends_tests::http::{Api, Call, SHOP, now, stored};
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

fn too_large() -> Vec<Bad> {
    let good = order().to_string();
    let blanks = |bytes: usize| signed(" ".repeat(bytes));
    let headed = signed(good).header("x-long", &"k".repeat(9 * 1024));
    vec![
        ("10 MB", blanks(10 * 1024 * 1024), 413, "body_too_large"),
        ("a byte more than 2 MiB", blanks(2 * 1024 * 1024 + 1), 413, "body_too_large"),
        ("9 KiB of headers", headed, 431, "headers_too_large"),
    ]
}

/// What a shop has signed, however odd, with the code of the case that it becomes; none where it is
/// carried out.
type Odd = (&'static str, Call, Option<&'static str>);

fn oddly_named() -> Vec<Odd> {
    let good = delivery(&order());
    let without = |header: &str| good.clone().without(header);
    let with = |header: &str, value: &str| but(&good, header, value);
    let at = |age: TimeDelta| with("x-shopify-triggered-at", &(now() - age).to_rfc3339());
    let long = "e".repeat(256);
    vec![
        ("no topic", without("x-shopify-topic"), Some("TOPIC_MISSING")),
        ("an empty topic", with("x-shopify-topic", " "), Some("TOPIC_MISSING")),
        ("another shop", with("x-shopify-shop-domain", "other.com"), Some("SHOP_MISMATCH")),
        ("no shop", without("x-shopify-shop-domain"), None),
        ("no id", without("x-shopify-event-id").without("x-shopify-webhook-id"), None),
        ("an endless event id", with("x-shopify-event-id", &long), None),
        ("an event id with a blank", with("x-shopify-event-id", "a b"), None),
        ("a time that is none", with("x-shopify-triggered-at", "now"), None),
        ("very old", at(TimeDelta::days(10_000)), None),
        ("of the future", at(-TimeDelta::days(1)), None),
        ("text", with("content-type", "text/plain"), None),
        ("no type", without("content-type"), None),
    ]
}

fn oddly_written() -> Vec<Odd> {
    let good = order().to_string();
    let raw = |body: &str| signed(body.to_owned());
    let twice = good.replacen('{', r#"{"id":1,"#, 1);
    let unread = good.replacen('{', r#"{"note":"a\u0000b","note":"b","odd":"\ud800","#, 1);
    let deep = good.replacen('{', &format!(r#"{{"deep":{},"#, nested(2_000)), 1);
    vec![
        ("no body", raw(""), Some("DELIVERY_UNREADABLE")),
        ("half a body", raw(r#"{"id": 1"#), Some("DELIVERY_UNREADABLE")),
        ("a list", raw(&nested(33)), Some("DELIVERY_UNREADABLE")),
        ("2 MiB of nothing", raw(&" ".repeat(2 * 1024 * 1024)), Some("DELIVERY_UNREADABLE")),
        ("a member that counts twice", raw(&twice), Some("ORDER_INCOMPLETE")),
        ("members that nobody reads", raw(&unread), None),
        ("2,000 levels that nobody reads", raw(&deep), None),
        ("NUL in a name", spoilt("/name", json!("#10\0")), None),
    ]
}

fn oddly_said() -> Vec<Odd> {
    let cases = [
        ("wrong arithmetic", "/total_price", json!("60.00"), Some("TOTAL_MISMATCH")),
        ("a price that is a number", "/total_price", json!(59.9), None),
        ("a price with an exponent", "/total_price", json!("5.99e1"), Some("ORDER_INCOMPLETE")),
        ("a negative price", "/line_items/0/price", json!("-29.95"), Some("ORDER_INCOMPLETE")),
        ("half a sen", "/line_items/0/price", json!("29.955"), Some("ORDER_INCOMPLETE")),
        ("other digits", "/line_items/0/price", json!("\u{661}"), Some("ORDER_INCOMPLETE")),
        ("an unknown currency", "/currency", json!("ZZZ"), Some("UNKNOWN_CURRENCY")),
        ("no currency", "/currency", Value::Null, Some("ORDER_INCOMPLETE")),
        ("no lines", "/line_items", json!([]), Some("ORDER_INCOMPLETE")),
        ("a negative quantity", "/line_items/0/quantity", json!(-1), Some("ORDER_INCOMPLETE")),
        ("a broken quantity", "/line_items/0/quantity", json!(1.5), Some("ORDER_INCOMPLETE")),
        ("no address", "/shipping_address", Value::Null, None),
        ("an id that is text", "/id", json!("1"), None),
    ];
    cases.map(|(what, at, value, code)| (what, spoilt(at, value), code)).into()
}

#[tokio::test]
async fn a_delivery_that_is_not_signed_or_too_large_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    refuse_all(&world, [forged(), too_large()].concat()).await;
    world.finish().await;
}

/// Each is sent twice, to a world of its own, since all are about one order.
#[tokio::test]
async fn whatever_a_shop_has_signed_is_kept_and_answered_and_nothing_is_silent_about_it() {
    for (what, call, code) in [oddly_named(), oddly_written(), oddly_said()].concat() {
        let world = World::new().await;
        let api = Api::of(&world);
        for _ in 0..2 {
            let answer = api.send(call.clone()).await;
            assert_eq!((answer.status, answer.text()), (200, ""), "{what}");
        }
        world.settle().await;
        let cases = api.send(Call::get("/intake/cases")).await.json()["items"].clone();
        let codes: Vec<_> = cases.as_array().unwrap().iter().map(|case| &case["code"]).collect();
        assert_eq!(codes, code.as_slice(), "{what}: {cases}");
        let kept = api.send(Call::get("/deliveries")).await.json()["items"].clone();
        assert_eq!(kept.as_array().unwrap().len(), 1, "{what}: {kept}");
        let outcome = if code.is_some() { "failed" } else { "started" };
        assert_eq!(kept[0]["outcome"], outcome, "{what}");
        let body = format!("/deliveries/{}/body", kept[0]["delivery_id"].as_str().unwrap());
        assert_eq!(api.send(Call::get(body)).await.body, call.body(), "{what}");
        assert_eq!(stored(&world).await.instances, i64::from(code.is_none()), "{what}");
        world.finish().await;
    }
}
