//! Deliveries of Shopify: which are believed, what names them, what becomes of them.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/shopify.json");
const SECRET: &str = "shpss_secret";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a header name");
        (name, HeaderValue::from_str(value).expect("a header value"))
    };
    pairs.iter().map(pair).collect()
}

fn verified(body: &Value, pairs: &[(&str, &str)]) -> Verified {
    let body = Bytes::from(body.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(&body);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut headers = headers(pairs);
    headers.insert("x-shopify-hmac-sha256", signature.parse().expect("a header value"));
    let received = Received { shop: "Acme.myshopify.com.".to_owned(), headers, body };
    Shopify::verify(received, &[Secret::new(SECRET)]).expect("a valid signature")
}

fn order() -> Value {
    json!({
        "id": 5_940_139_491_234_u64, "name": "#1001", "email": "jane@example.com", "test": false,
        "currency": "MYR", "total_tax": "3.59", "total_discounts": "5.00", "total_price": "68.49",
        "customer": {"id": 1, "email": "other@example.com"},
        "shipping_address": {"name": "Jane Tan", "address1": "1 Jalan Satu", "address2": "Unit 7",
            "city": "Kuala Lumpur", "zip": null, "country_code": "MY"},
        "line_items": [{"id": 1, "sku": "TEE-M-BLK", "title": "Tee", "quantity": 2,
            "price": "29.95"}],
        "shipping_lines": [{"title": "Standard", "price": "8.00"}, {"price": "2.00"}],
    })
}

fn translated(body: &Value) -> Result<Order, Problem> {
    let identity = Identity { topic: ORDER_CREATED.to_owned(), external_id: String::new() };
    Shopify::translate(&verified(body, &[]), &identity).map(|order| order.expect("an order"))
}

fn wrong(body: &Value) -> Vec<String> {
    let problem = translated(body).expect_err("refused");
    assert_eq!(problem.code(), Code::InvalidOrder);
    problem.errors().iter().map(|error| error.pointer.clone()).collect()
}

#[test]
fn the_vectors_are_believed_or_not_as_they_say() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let vectors = vectors["vectors"].as_array().expect("a list");
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let pairs = vector["headers"].as_object().expect("headers");
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("text")))
            .collect();
        let received = Received {
            shop: "acme-test.myshopify.com".to_owned(),
            headers: headers(&pairs),
            body: vector["body"].as_str().expect("text").to_owned().into(),
        };
        let secret = Secret::new(vector["secret"].as_str().expect("text"));
        let believed = Shopify::verify(received, &[secret]).is_some();
        assert_eq!(believed, vector["expect"] == "valid", "{}", vector["id"]);
    }
}

#[test]
fn a_body_changed_by_one_byte_is_not_believed() {
    let original = verified(&order(), &[]);
    let body: Vec<_> = original.body().iter().chain(b" ").copied().collect();
    let received = Received {
        shop: original.shop().to_string(),
        headers: original.headers().clone(),
        body: body.into(),
    };
    assert!(Shopify::verify(received, &[Secret::new(SECRET)]).is_none());
}

#[test]
fn a_delivery_is_named_by_topic_and_event_or_else_webhook() {
    let identify = |pairs: &[(&str, &str)]| {
        Shopify::identify(&verified(&json!({}), pairs), DateTime::UNIX_EPOCH)
            .map(|identity| identity.external_id)
            .map_err(|problem| problem.code())
    };
    let old = [
        ("X-Shopify-Topic", "orders/create"),
        ("X-Shopify-Shop-Domain", "acme.myshopify.com"),
        ("X-Shopify-Webhook-Id", "w-1"),
    ];
    assert_eq!(identify(&old), Ok("orders/create/w-1".to_owned()));
    let with_event = [&old[..], &[("X-Shopify-Event-Id", "e-1")]].concat();
    assert_eq!(identify(&with_event), Ok("orders/create/e-1".to_owned()));
    let new = [
        ("Shopify-Topic", "orders/paid"),
        ("Shopify-Shop-Domain", "ACME.myshopify.com."),
        ("Shopify-Webhook-Id", "w-2"),
    ];
    assert_eq!(identify(&new), Ok("orders/paid/w-2".to_owned()));

    for missing in 0..old.len() {
        let mut pairs = old.to_vec();
        pairs.remove(missing);
        assert_eq!(identify(&pairs), Err(Code::MissingHeader));
    }
    let other_shop = [old[0], ("X-Shopify-Shop-Domain", "evil.myshopify.com"), old[2]];
    assert_eq!(identify(&other_shop), Err(Code::ShopMismatch));
    let long = "w".repeat(ID_LENGTH_MAX);
    let long_id = [old[0], old[1], ("X-Shopify-Webhook-Id", long.as_str())];
    assert_eq!(identify(&long_id), Err(Code::InvalidHeader));
}

#[test]
fn what_was_triggered_too_long_ago_or_in_the_future_is_refused() {
    let now = DateTime::parse_from_rfc3339("2026-11-18T11:06:41Z").expect("a time").to_utc();
    let age = |triggered_at| refuse_stale(triggered_at, now).map_err(|problem| problem.code());
    assert_eq!(age("2026-11-18T11:06:41.123456789Z"), Ok(()));
    assert_eq!(age("2026-11-15T11:06:41Z"), Ok(()));
    assert_eq!(age("2026-11-15T11:06:40Z"), Err(Code::StaleDelivery));
    assert_eq!(age("2026-11-18T19:11:41+08:00"), Ok(()));
    assert_eq!(age("2026-11-18T11:11:42Z"), Err(Code::StaleDelivery));
    assert_eq!(age("yesterday"), Err(Code::InvalidHeader));
}

#[test]
fn an_order_is_translated_to_the_cent() {
    let translated = translated(&order()).expect("an order");
    assert_eq!(translated.validate(), Ok(()));
    let expected = json!({
        "shop": "acme.myshopify.com", "order_id": "5940139491234", "number": "#1001",
        "currency": "MYR",
        "lines": [{"sku": "TEE-M-BLK", "title": "Tee", "quantity": 2, "unit_price_minor": 2995}],
        "shipping_minor": 1000, "tax_minor": 359, "discount_minor": 500, "total_minor": 6849,
        "customer": {"name": "Jane Tan", "email": "jane@example.com"},
        "recipient": {"name": "Jane Tan", "address": "1 Jalan Satu\nUnit 7",
            "city": "Kuala Lumpur", "postcode": "", "country": "MY"},
    });
    assert_eq!(serde_json::to_value(translated).expect("JSON"), expected);
}

#[test]
fn tax_that_the_prices_include_is_not_added() {
    let mut body = order();
    body["taxes_included"] = json!(true);
    body["total_price"] = json!("64.90");
    let order = translated(&body).expect("an order");
    assert_eq!((order.tax_minor, order.validate()), (0, Ok(())));
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let mut body = order();
    body["customer"] = json!(null);
    body["shipping_address"] = json!(null);
    body["line_items"][0]["sku"] = json!(null);
    body["total_price"] = json!("68.499");
    assert_eq!(
        wrong(&body),
        ["/shipping_address", "/customer", "/line_items/0/sku", "/total_price"]
    );
    body["currency"] = json!("RM");
    assert_eq!(wrong(&body), ["/shipping_address", "/customer", "/currency"]);
}

#[test]
fn other_topics_start_nothing_and_need_not_even_be_json() {
    let identity = Identity { topic: "orders/paid".to_owned(), external_id: String::new() };
    assert_eq!(Shopify::translate(&verified(&json!("x"), &[]), &identity), Ok(None));
}
