//! Deliveries of Shopify: which are believed, what names them, what becomes of them.

use amends_workflows::order::{Closed, Order, Payment};
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

fn kept(body: &[u8], topic: &str, correction: &Correction) -> Translated {
    let received_at = "2026-11-30T12:00:00Z".parse().expect("a time");
    let kept = Kept { shop: "acme.myshopify.com", topic, body, received_at };
    Shopify::translate(&kept, correction)
}

fn created(body: &Value) -> Translated {
    kept(body.to_string().as_bytes(), ORDER_CREATED, &Correction::default())
}

fn translated(body: &Value) -> Order {
    match created(body) {
        Translated::Order(news) => news.order,
        other => panic!("{other:?}"),
    }
}

fn failed(body: &Value) -> Failed {
    match created(body) {
        Translated::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

/// Where something is wrong: in what was sent, or in the order that was made of it.
fn wrong(body: &Value) -> Vec<String> {
    let place = |it: amends::intake_case::CaseProblem| match (it.pointer, it.field) {
        (pointer, Some(field)) if pointer.is_empty() => field,
        (pointer, _) => pointer,
    };
    failed(body).problems.into_iter().map(place).collect()
}

/// The order of the tests with some members changed.
fn with(changes: Value) -> Value {
    let mut body = order();
    for (name, value) in changes.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
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
        let Identity { topic, id, failed } = Shopify::identify(&verified(&json!({}), pairs));
        (topic, id.unwrap_or_default(), failed.map(|failed| failed.code))
    };
    let named = |topic: &str, id: &str| (topic.to_owned(), id.to_owned(), None);
    let old = [
        ("X-Shopify-Topic", "orders/create"),
        ("X-Shopify-Shop-Domain", "acme.myshopify.com"),
        ("X-Shopify-Webhook-Id", "w-1"),
    ];
    assert_eq!(identify(&old), named("orders/create", "w-1"));
    let with_event = [&old[..], &[("X-Shopify-Event-Id", "e-1")]].concat();
    assert_eq!(identify(&with_event), named("orders/create", "e-1"));
    let new = [
        ("Shopify-Topic", "orders/paid"),
        ("Shopify-Shop-Domain", "ACME.myshopify.com."),
        ("Shopify-Webhook-Id", "w-2"),
    ];
    assert_eq!(identify(&new), named("orders/paid", "w-2"));
    let split = [("Shopify-Topic", "orders"), ("Shopify-Action", "create"), new[1], new[2]];
    assert_eq!(identify(&split), named("orders/create", "w-2"));
    // What is signed is kept, whatever its headers say.
    assert_eq!(identify(&old[..2]), named("orders/create", ""));
    let odd = "w".repeat(ID_LENGTH_MAX);
    assert_eq!(identify(&[old[0], ("X-Shopify-Webhook-Id", &odd)]), named("orders/create", ""));
    let nameless = ("unknown".to_owned(), "w-1".to_owned(), Some(TOPIC_MISSING));
    assert_eq!(identify(&old[1..]), nameless);
    let other = [old[0], ("X-Shopify-Shop-Domain", "evil.myshopify.com"), old[2]];
    assert_eq!(identify(&other).2, Some(SHOP_MISMATCH));
}

#[test]
fn an_order_is_translated_to_the_cent() {
    let expected = json!({
        "shop": "acme.myshopify.com", "order_id": "5940139491234", "number": "#1001",
        "currency": "MYR",
        "lines": [{"sku": "TEE-M-BLK", "title": "Tee", "quantity": 2, "unit_price_minor": 2995}],
        "shipping_minor": 1000, "tax_minor": 359, "discount_minor": 500, "total_minor": 6849,
        "customer": {"name": "Jane Tan", "email": "jane@example.com"},
        "recipient": {"name": "Jane Tan", "address": "1 Jalan Satu\nUnit 7",
            "city": "Kuala Lumpur", "postcode": "", "country": "MY"},
    });
    assert_eq!(serde_json::to_value(translated(&order())).expect("JSON"), expected);
}

#[test]
fn who_has_the_money_is_read() {
    let days = |days: i64| {
        let terms = json!({"payment_terms_type": "net", "due_in_days": days});
        json!({"financial_status": "pending", "payment_terms": terms})
    };
    let reference = "5940139491234".to_owned();
    let noon = |day: &str| format!("2026-{day}T12:00:00Z").parse().expect("a time");
    for (changes, payment) in [
        (json!({}), Payment::ToCharge),
        (json!({"financial_status": "pending"}), Payment::ToCharge),
        (json!({"financial_status": "paid"}), Payment::Paid { reference: reference.clone() }),
        (json!({"financial_status": "PAID"}), Payment::Paid { reference: reference.clone() }),
        (json!({"financial_status": "authorized"}), Payment::Authorised { reference }),
        (
            json!({"financial_status": "pending",
                "payment_gateway_names": ["Cash on Delivery (COD)"]}),
            Payment::OnDelivery,
        ),
        (days(31), Payment::OnTerms { due_at: Some(noon("12-31")) }),
        (
            json!({"financial_status": "pending", "payment_terms": {"due_in_days": 1},
                "created_at": "2026-11-28T12:00:00Z"}),
            Payment::OnTerms { due_at: Some(noon("11-29")) },
        ),
        (
            json!({"payment_terms": {"payment_terms_type": "fulfillment", "due_in_days": null}}),
            Payment::OnTerms { due_at: None },
        ),
        (json!({"total_price": "0.00", "total_discounts": "73.49"}), Payment::NothingDue),
    ] {
        assert_eq!(translated(&with(changes.clone())).payment, payment, "{changes}");
    }
    for (status, code) in [
        ("partially_paid", "PARTIALLY_PAID"),
        ("expired", "AUTHORISATION_EXPIRED"),
        ("settled_somehow", "PAYMENT_UNKNOWN"),
    ] {
        let failed = failed(&with(json!({"financial_status": status})));
        assert_eq!((failed.code, &*failed.problems[0].pointer), (code, "/financial_status"));
    }
    assert_eq!(failed(&with(json!({"confirmed": false}))).code, "ORDER_UNCONFIRMED");
}

#[test]
fn an_order_that_is_closed_is_kept_and_one_that_tries_something_out_is_not_started() {
    for (changes, closed) in [
        (json!({"cancelled_at": "2026-11-28T12:00:00Z"}), Closed::Cancelled),
        (json!({"financial_status": "refunded", "current_total_price": "0.00"}), Closed::Refunded),
        (json!({"financial_status": "voided"}), Closed::Voided),
        (
            json!({"fulfillment_status": "fulfilled", "source_name": "pos", "customer": null,
            "email": "", "shipping_address": null}),
            Closed::Fulfilled,
        ),
    ] {
        assert_eq!(translated(&with(changes.clone())).closed, Some(closed), "{changes}");
    }
    let business_key = Some("acme.myshopify.com/5940139491234".to_owned());
    let test = Translated::Ignored { reason: TEST_ORDER, business_key };
    assert_eq!(created(&with(json!({"test": true, "line_items": 7}))), test);
    assert!(translated(&with(json!({"fulfillment_status": "partial"}))).closed.is_none());
}

#[test]
fn every_part_of_a_total_is_counted_once() {
    let money = |amount: &str| json!({"shop_money": {"amount": amount, "currency_code": "MYR"}});
    let line = |price: &str, changes: Value| {
        let mut line = json!({"sku": null, "title": "Tip", "quantity": 1, "price": price,
            "requires_shipping": false, "product_id": null});
        line.as_object_mut()
            .expect("an object")
            .append(changes.clone().as_object_mut().expect("one"));
        line
    };
    let tee = order()["line_items"][0].clone();
    let tip = json!([tee, line("3.00", json!({}))]);
    let removed = json!([
        tee,
        line(
            "9.00",
            json!({"sku": "CAP", "current_quantity": 0,
        "requires_shipping": true})
        )
    ]);
    let included = json!({"taxes_included": true, "total_price": "64.90"});
    for (changes, extras) in [
        (json!({"total_price": "71.49", "total_tip_received": "3.00"}), vec![("tip", 300)]),
        (json!({"total_price": "71.49", "total_tip_received": "3.00", "line_items": tip}), vec![]),
        (
            json!({"total_price": "74.49", "original_total_duties_set": money("6.00")}),
            vec![("duties", 600)],
        ),
        (
            json!({"total_price": "70.49", "original_total_additional_fees_set": money("2.00")}),
            vec![("fee", 200)],
        ),
        (
            json!({"total_price": "76.49", "original_total_additional_fees_set": money("2.00"),
            "original_total_duties_set": money("3.00"), "total_tip_received": "3.00"}),
            vec![("duties", 300), ("fee", 200), ("tip", 300)],
        ),
        (
            json!({"total_price": "68.49", "current_total_price": "58.49",
                "current_shipping_price_set": money("0.00")}),
            vec![],
        ),
        (
            json!({"total_price": "68.50", "total_cash_rounding_payment_adjustment_set": money("0.01")}),
            vec![("rounding", 1)],
        ),
        (
            json!({"total_price": "68.45", "total_cash_rounding_payment_adjustment_set": money("-0.04")}),
            vec![("rounding", -4)],
        ),
        (
            json!({"total_price": "77.49", "current_total_price": "68.49", "line_items": removed}),
            vec![],
        ),
        (
            json!({"shipping_lines": [{"price": "10.00"}, {"price": "9.00", "is_removed": true}]}),
            vec![],
        ),
        (included, vec![]),
    ] {
        let order = translated(&with(changes.clone()));
        let read: Vec<_> = order.extras.iter().map(|it| (it.kind, it.amount_minor)).collect();
        let kind = |name: &str| serde_json::from_value(json!(name)).expect("a kind");
        let expected: Vec<_> =
            extras.into_iter().map(|(name, minor)| (kind(name), minor)).collect();
        assert_eq!(read, expected, "{changes}");
        assert!(order.items().iter().all(|item| item.sku == "TEE-M-BLK"), "{changes}");
    }
}

#[test]
fn what_does_not_add_up_is_for_a_person_to_let_pass() {
    let failed = failed(&with(json!({"total_price": "70.00"})));
    assert_eq!(failed.code, "TOTAL_MISMATCH");
    let anyway = Correction { anyway: true, ..Correction::default() };
    let body = with(json!({"total_price": "70.00"})).to_string();
    let Translated::Order(news) = kept(body.as_bytes(), ORDER_CREATED, &anyway) else {
        panic!("it is carried out anyway");
    };
    let order = &news.order;
    assert_eq!((order.total_minor, order.extras[0].amount_minor), (7000, 151));
}

#[test]
fn a_customer_is_charged_what_they_were_shown() {
    let set = |amount: &str| {
        json!({"shop_money": {"amount": "68.49", "currency_code": "MYR"},
            "presentment_money": {"amount": amount, "currency_code": "USD"}})
    };
    let order =
        translated(&with(json!({"presentment_currency": "USD", "total_price_set": set("15.50")})));
    assert_eq!(
        (order.total_minor, order.total().to_string()),
        (6849, "1550 USD (minor units)".to_owned())
    );
    let missing = with(json!({"presentment_currency": "USD"}));
    assert_eq!(wrong(&missing), ["/total_price_set/presentment_money/amount"]);
    assert!(translated(&with(json!({"presentment_currency": "MYR"}))).agreed_total.is_none());
}

#[test]
fn whoever_orders_is_found_and_whatever_is_not_shipped_needs_no_address() {
    let address = |changes: Value| {
        let mut address = order()["shipping_address"].clone();
        for (name, value) in changes.as_object().expect("an object") {
            address[name] = value.clone();
        }
        with(json!({"shipping_address": address}))
    };
    let guest = translated(&with(json!({"customer": null})));
    assert_eq!(
        (&*guest.customer.name, guest.customer.email.as_deref()),
        ("Jane Tan", Some("jane@example.com"))
    );
    let phone = translated(&with(
        json!({"email": "", "customer": {"first_name": "Jo", "phone": "+60355501"}}),
    ));
    assert_eq!((&*phone.customer.name, phone.customer.email), ("Jo", None));
    assert_eq!(phone.customer.phone.as_deref(), Some("+60355501"));
    let recipient = |body: &Value| translated(body).recipient.expect("a recipient");
    let names = json!({"name": "", "first_name": "Jane", "last_name": "Lim"});
    assert_eq!(recipient(&address(names)).name, "Jane Lim");
    let company = recipient(&address(json!({"name": "", "company": "Tan Ltd"})));
    assert_eq!((&*company.name, company.company), ("Tan Ltd", None));
    let both = recipient(&address(
        json!({"company": "Tan Ltd", "province": "Perak", "country_code": "my"}),
    ));
    assert_eq!(
        (both.company.as_deref(), both.province.as_deref(), &*both.country),
        (Some("Tan Ltd"), Some("Perak"), "MY")
    );
    assert_eq!(
        wrong(&address(json!({"country_code": null, "country": "Ireland"}))),
        ["/shipping_address/country_code"]
    );

    let picked_up = translated(&with(json!({"shipping_address": null})));
    assert_eq!((picked_up.recipient, picked_up.lines[0].pieces()), (None, 2));
    let mut digital = with(json!({"shipping_address": null}));
    digital["line_items"][0]["requires_shipping"] = json!(false);
    assert!(translated(&digital).items().is_empty());
    let mut sent = order();
    sent["line_items"][0]["fulfillable_quantity"] = json!(1);
    assert_eq!(translated(&sent).items()[0].quantity, 1);
}

#[test]
fn an_article_is_named_by_its_number_its_variant_or_its_product_or_a_person_is_asked() {
    for (sku, variant, product, expected) in [
        (json!(null), json!(77), json!(7), Some("variant:77")),
        (json!(""), json!(null), json!(7), Some("product:7")),
        (json!(null), json!(null), json!(null), None),
    ] {
        let mut body = order();
        body["line_items"][0]["sku"] = sku;
        body["line_items"][0]["variant_id"] = variant;
        body["line_items"][0]["product_id"] = product;
        match expected {
            Some(expected) => assert_eq!(translated(&body).lines[0].sku, expected),
            None => {
                assert_eq!(wrong(&body), ["/line_items/0/sku"]);
                let fields = [("/lines/0/sku".to_owned(), json!("TEE"))].into();
                let filled_in = Correction { fields, anyway: false };
                let body = body.to_string();
                let Translated::Order(news) = kept(body.as_bytes(), ORDER_CREATED, &filled_in)
                else {
                    panic!("what was filled in is taken");
                };
                assert_eq!(news.order.lines[0].sku, "TEE");
            }
        }
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let mut body = with(json!({"shipping_address": {"name": "Jane"}, "total_price": "68.499"}));
    body["line_items"][0]["sku"] = json!(null);
    body["line_items"][0]["quantity"] = json!(1.5);
    assert_eq!(
        wrong(&body),
        [
            "/shipping_address/address1",
            "/shipping_address/country_code",
            "/line_items/0/sku",
            "/total_price",
            "/line_items/0/quantity",
        ]
    );
    body["currency"] = json!("ANG");
    assert!(wrong(&body).contains(&"/currency".to_owned()));
}

#[test]
fn what_nobody_reads_keeps_no_order_from_being_carried_out() {
    let text = order().to_string();
    let odd = text.replacen('{', r#"{"note": "a\u0000b", "note": {"x": [[[]]]}, "#, 1);
    let odd = [b"\xef\xbb\xbf", odd.as_bytes(), b"\n"].concat();
    let latin = [&odd[..odd.len() - 2], br#", "tags": "caf"#, b"\xe9\"}"].concat();
    for body in [odd, latin] {
        let translated = kept(&body, ORDER_CREATED, &Correction::default());
        assert!(matches!(translated, Translated::Order(_)), "{translated:?}");
    }
    for body in [&b"x"[..], b"[]", b"", b"{\"id\": 1"] {
        let translated = kept(body, ORDER_CREATED, &Correction::default());
        assert!(matches!(translated, Translated::Failed(_)), "{translated:?}");
    }
}

#[test]
fn other_topics_start_nothing_and_need_not_even_be_json() {
    let unused = Translated::Ignored { reason: TOPIC_UNUSED, business_key: None };
    assert_eq!(kept(b"x", "orders/edited", &Correction::default()), unused);
}
