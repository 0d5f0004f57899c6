//! What a shop has sent: carried out as the order is, or mended by a person and carried out once.

use std::collections::BTreeMap;
use std::time::Duration;

use amends::delivery::DeliveryOutcome;
use amends::{Delivery, Recorded, Start, Started, Status, Verdict};
use amends_api::auth::Role;
use amends_tests::gates::Gates;
use amends_tests::http::{Answer, Api, Call, stored};
use amends_tests::{World, orders, start_request};
use futures::StreamExt;
use futures::future::{join, join_all};
use futures::stream;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::webhook::{but, delivery, order, signed};

const KEY: &str = "acme.myshopify.com/5940139491234";

/// The order of the webhook with some members changed.
fn with(changes: &Value) -> Value {
    let mut order = order();
    for (name, value) in changes.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}

/// Sends an order and has everything done that can be done now. Returns what the providers did.
async fn carried_out(world: &World, order: &Value) -> BTreeMap<String, usize> {
    sent(world, &Api::of(world), order).await
}

async fn sent(world: &World, api: &Api, order: &Value) -> BTreeMap<String, usize> {
    let answer = api.send(delivery(order)).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    world.settle().await;
    world.providers().counts(KEY).await
}

fn done(operations: &[&str]) -> BTreeMap<String, usize> {
    operations.iter().map(|operation| ((*operation).to_owned(), 1)).collect()
}

async fn items(api: &Api, path: &str) -> Vec<Value> {
    let answer = api.send(Call::get(path)).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()["items"].as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn command(api: &Api, path: String, command: Value) -> Answer {
    api.send(Call::new("POST", path).role(Role::Operator).json(&command)).await
}

async fn start(api: &Api, case: &Value, fields: Value) -> Answer {
    let path = format!("/intake/cases/{}/commands", text(&case["case_id"]));
    let asked = json!({"command": "start", "reason": "the shop was asked", "fields": fields});
    command(api, path, asked).await
}

async fn retry(api: &Api, delivery: &Value) -> Answer {
    let path = format!("/deliveries/{}/commands", text(&delivery["delivery_id"]));
    command(api, path, json!({"command": "retry", "reason": "mended"})).await
}

#[tokio::test]
async fn an_order_is_charged_and_shipped_as_far_as_it_is_to_be() {
    let mut digital = with(&json!({"shipping_address": null}));
    digital["line_items"][0]["requires_shipping"] = json!(false);
    let all = ["reserve", "issue", "charge", "ship", "send"];
    let paid = ["reserve", "issue", "ship", "send"];
    for (what, order, operations) in [
        ("to be charged", order(), &all[..]),
        ("paid at the shop", with(&json!({"financial_status": "paid"})), &paid),
        (
            "authorised at the shop",
            with(&json!({"financial_status": "authorized"})),
            &["reserve", "issue", "capture", "ship", "send"],
        ),
        ("free", with(&json!({"total_price": "0.00", "total_discounts": "59.90"})), &paid),
        (
            "picked up",
            with(&json!({"shipping_address": null})),
            &["reserve", "issue", "charge", "send"],
        ),
        ("digital", digital, &["issue", "charge", "send"]),
        ("without an address for mail", with(&json!({"email": "", "customer": null})), &all[..4]),
        ("cancelled", with(&json!({"cancelled_at": "2026-11-30T12:00:00Z"})), &[]),
        ("given back", with(&json!({"financial_status": "refunded"})), &[]),
        ("called off", with(&json!({"financial_status": "voided"})), &[]),
        ("handed over", with(&json!({"fulfillment_status": "fulfilled"})), &[]),
        ("a test", with(&json!({"test": true})), &[]),
    ] {
        let world = World::new().await;
        assert_eq!(carried_out(&world, &order).await, done(operations), "{what}");
        let is_test = what == "a test";
        assert_eq!(stored(&world).await.instances, i64::from(!is_test), "{what}");
        let kept = items(&Api::of(&world), "/deliveries").await;
        let (outcome, reason) =
            if is_test { ("ignored", json!("TEST_ORDER")) } else { ("started", Value::Null) };
        assert_eq!((&kept[0]["outcome"], &kept[0]["reason"]), (&json!(outcome), &reason), "{what}");
        world.finish().await;
    }
}

#[tokio::test]
async fn support_is_told_where_the_money_is_and_why_nothing_is_done() {
    for (changes, refused, summary) in [
        (json!({"financial_status": "paid"}), false, "Done: 59.90 MYR was paid at the shop; "),
        (
            json!({"financial_status": "authorized"}),
            true,
            "It could not be carried out: the carrier refused the parcel for good; nothing was \
             shipped. Everything is undone; 59.90 MYR was paid at the shop and given back there.",
        ),
        (
            json!({"cancelled_at": "2026-11-30T12:00:00Z"}),
            false,
            "Nothing was to be done: the shop had cancelled it before it came here.",
        ),
    ] {
        let world = World::new().await;
        if refused {
            world.providers().fault("carrier", "ship", "refuse", None).await;
        }
        let api = Api::of(&world);
        sent(&world, &api, &with(&changes)).await;
        let story = api.send(Call::get(format!("/orders/{KEY}"))).await.json();
        assert!(text(&story["summary"]).starts_with(summary), "{}", story["summary"]);
        let happened = story["happened"].to_string();
        let is_paid = changes.get("financial_status").is_some();
        assert_eq!(happened.contains("59.90 MYR was paid at the shop ("), is_paid, "{happened}");
        world.finish().await;
    }
}

#[tokio::test]
async fn what_the_shop_has_is_given_back_there_when_the_carrier_refuses() {
    for (status, taken) in [("paid", None), ("authorized", Some("capture"))] {
        let world = World::new().await;
        world.providers().fault("carrier", "ship", "refuse", None).await;
        let order = with(&json!({"financial_status": status}));
        let counts = carried_out(&world, &order).await;
        let back = if taken.is_some() { "refund_capture" } else { "refund_payment" };
        let undone = ["reserve", "issue", "void", "release", back];
        let undone: Vec<_> = undone.into_iter().chain(taken).collect();
        assert_eq!(counts, done(&undone), "{status}");
        let moved: Vec<(String, i64)> =
            sqlx::query_as("select kind, amount_minor from amends.ledger order by seq")
                .fetch_all(&mut world.database().await)
                .await
                .unwrap();
        assert_eq!(moved, [("capture".to_owned(), 5990), ("refund".to_owned(), 5990)]);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_is_owed_is_charged_when_it_is_due() {
    let world = World::new().await;
    let terms = json!({"due_in_days": 30, "payment_terms_type": "net"});
    let order = with(&json!({"financial_status": "pending", "payment_terms": terms}));
    let shipped = done(&["reserve", "issue", "ship", "send"]);
    assert_eq!(carried_out(&world, &order).await, shipped);
    world.pass(Duration::from_secs(29 * 24 * 3600)).await;
    assert_eq!(world.providers().counts(KEY).await, shipped);
    world.pass(Duration::from_secs(2 * 24 * 3600)).await;
    assert_eq!(world.providers().counts(KEY).await["charge"], 1);
    world.finish().await;
}

#[tokio::test]
async fn what_many_ask_for_at_once_is_begun_once_and_without_trying_again() {
    let gates = Gates::default();
    let world = World::builder().probes(gates.probes()).build().await;
    let api = Api::of(&world);
    let kept = Delivery { source: "test".into(), external_id: "1".into(), body: b"{".into() };
    let verdict = Verdict { outcome: DeliveryOutcome::Failed, ..Verdict::ignored("UNREADABLE") };
    let recorded = world.engine().record_delivery(kept, verdict).await.unwrap();
    let Recorded::New(delivery_id) = recorded else { panic!("{recorded:?}") };
    let start = Start { delivery: None, ..start_request(&orders::order("1001")) };
    let engine = world.engine();
    let asked = (0..50).map(|_| engine.start_kept(delivery_id, start.clone()));
    let all_at_once = async {
        gates.reached_by("start.before", 50).await;
        gates.shut(&[]);
    };
    gates.shut(&["start.before"]);
    let (started, ()) = join(join_all(asked), all_at_once).await;
    let mut started: Vec<_> = started.into_iter().map(Result::unwrap).collect();
    started.retain(|it| *it != Started::Replayed(delivery_id));
    assert_eq!(started, [Started::New(delivery_id)]);
    let metrics = api.send(Call::get("/metrics")).await;
    assert!(metrics.text().contains("\namends_commits_resent_total 0\n"));
    world.settle().await;
    assert_eq!(world.status(delivery_id).await, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn what_is_missing_is_filled_in_by_a_person_and_carried_out_once() {
    let world = World::new().await;
    let api = Api::of(&world);
    let mut order = order();
    order["line_items"][0]["sku"] = json!(null);
    assert_eq!(sent(&world, &api, &order).await, done(&[]));

    let cases = items(&api, "/intake/cases?settled=false").await;
    let case = &cases[0];
    assert_eq!((&case["code"], &case["business_key"]), (&json!("ORDER_INCOMPLETE"), &json!(KEY)));
    let problem = json!({"pointer": "/line_items/0/sku", "field": "/lines/0/sku",
        "detail": "is needed for what is shipped, and missing"});
    assert_eq!(case["problems"], json!([problem]));
    let counted = r#"amends_intake_cases_total{code="ORDER_INCOMPLETE"} 1"#;
    assert!(api.send(Call::get("/metrics")).await.text().contains(counted));

    // Half an answer is none.
    let refused = start(&api, case, json!({"/lines/0/title": "Tee"})).await;
    assert_eq!(refused.differs_from_problem(422, "delivery_failed"), [""; 0]);
    assert_eq!(refused.json()["errors"][0]["pointer"], "/lines/0/sku");
    assert_eq!(stored(&world).await.instances, 0);

    let answers = join_all((0..5).map(|_| start(&api, case, json!({"/lines/0/sku": "TEE"})))).await;
    assert!(answers.iter().all(|it| matches!(it.status, 200 | 409)), "{answers:?}");
    world.settle().await;
    let all = done(&["reserve", "issue", "charge", "ship", "send"]);
    assert_eq!(world.providers().counts(KEY).await, all);
    let kept = items(&api, &format!("/deliveries?business_key={KEY}")).await;
    assert_eq!((kept.len(), &kept[0]["outcome"]), (1, &json!("started")));
    assert_eq!(
        (&kept[0]["decided_by"], &kept[0]["note"]),
        (&json!("operator"), &json!("the shop was asked"))
    );
    assert_eq!(items(&api, "/intake/cases?settled=false").await, Vec::<Value>::new());

    // The sender does not know, and sends it again.
    assert_eq!(carried_out(&world, &order).await, all);
    assert_eq!(items(&api, "/intake/cases?settled=false").await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn what_a_person_lets_be_is_ignored_and_what_they_doubt_is_started_anyway() {
    let world = World::new().await;
    let api = Api::of(&world);
    carried_out(&world, &with(&json!({"financial_status": "partially_paid"}))).await;
    let other = with(&json!({"id": 7, "total_price": "60.00"}));
    let other = but(&delivery(&other), "x-shopify-event-id", "e-2");
    assert_eq!(api.send(other).await.status, 200);
    let cases = items(&api, "/intake/cases?settled=false").await;
    let codes: Vec<_> = cases.iter().map(|case| text(&case["code"])).collect();
    assert_eq!(codes, ["TOTAL_MISMATCH", "PARTIALLY_PAID"]);

    let started = start(&api, &cases[0], json!({})).await;
    let instance_id: Uuid = text(&started.json()["instance_id"]).parse().unwrap();
    let path = format!("/intake/cases/{}/commands", text(&cases[1]["case_id"]));
    let settled = json!({"command": "settle", "reason": "paid by hand, sent by hand"});
    assert_eq!(command(&api, path, settled).await.status, 200);
    world.settle().await;
    assert_eq!(world.instance(instance_id).await.status, Status::Completed);
    let ignored = items(&api, "/deliveries?outcome=ignored").await;
    assert_eq!((ignored.len(), &ignored[0]["reason"]), (1, &json!("BY_A_PERSON")));
    assert_eq!(world.providers().counts(KEY).await, done(&[]));

    let again = retry(&api, &ignored[0]).await;
    assert_eq!((again.status, &again.json()["outcome"]), (200, &json!("ignored")));
    let again = start(&api, &cases[1], json!({})).await;
    assert_eq!(again.differs_from_problem(409, "command_refused"), [""; 0]);
    world.finish().await;
}

/// As a build that could not read them has left them.
#[tokio::test]
async fn what_an_earlier_build_could_not_read_is_translated_again_each_once() {
    const MANY: usize = 30;
    let world = World::new().await;
    let api = Api::of(&world);
    for number in 0..MANY {
        let broken = signed(format!(r#"{{"id": {number}"#));
        let broken = but(&broken, "x-shopify-event-id", &format!("e-{number}"));
        assert_eq!(api.send(broken).await.status, 200);
    }
    let failed = items(&api, "/deliveries?outcome=failed&limit=200").await;
    assert_eq!(failed.len(), MANY);
    let still = retry(&api, &failed[0]).await;
    assert_eq!(still.differs_from_problem(422, "delivery_failed"), [""; 0]);

    let mut database = world.database().await;
    sqlx::raw_sql("alter table amends.delivery disable trigger delivery_is_append_only")
        .execute(&mut database)
        .await
        .unwrap();
    for (number, delivery) in failed.iter().enumerate() {
        let order = with(&json!({"id": number + 1})).to_string().into_bytes();
        sqlx::query("update amends.delivery set body = $2 where delivery_id = $1")
            .bind(text(&delivery["delivery_id"]).parse::<Uuid>().unwrap())
            .bind(order)
            .execute(&mut database)
            .await
            .unwrap();
    }
    let calls = failed.iter().chain(&failed).map(|delivery| retry(&api, delivery));
    let statuses = stream::iter(calls).buffer_unordered(6).map(|answer| answer.status);
    assert!(statuses.all(async |status| status == 200).await);
    world.settle().await;
    assert_eq!(stored(&world).await.instances, MANY as i64);
    for number in 1..=MANY {
        let counts = world.providers().counts(&format!("acme.myshopify.com/{number}")).await;
        assert_eq!(counts["charge"], 1, "{number}");
    }
    assert_eq!(items(&api, "/deliveries?outcome=failed").await, Vec::<Value>::new());
    let all = items(&api, "/deliveries?limit=200").await;
    assert!(all.len() == MANY && all.iter().all(|it| it["outcome"] == "started"), "{all:?}");
    assert_eq!(items(&api, "/intake/cases?settled=false").await, Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn an_order_of_500_lines_as_large_as_a_shop_sends_it_is_carried_out() {
    let world = World::new().await;
    let line = |number: usize| {
        json!({"id": number, "sku": format!("SKU-{number}"), "title": "Tee", "quantity": 1,
            "price": "1.00", "requires_shipping": true, "properties": ["x".repeat(1700)]})
    };
    let lines: Vec<_> = (0..500).map(line).collect();
    let order = with(&json!({"line_items": lines, "total_price": "500.00"}));
    assert!(order.to_string().len() > 850_000);
    let all = done(&["reserve", "issue", "charge", "ship", "send"]);
    assert_eq!(carried_out(&world, &order).await, all);
    world.finish().await;
}
