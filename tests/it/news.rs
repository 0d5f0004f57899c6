//! What a shop says of an order after it was started: heard in any order, and acted upon once.

use std::time::Duration;

use amends::Status;
use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::http::{Answer, Api, Call, stored};
use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::webhook::{but, delivery, order};

const KEY: &str = "acme.myshopify.com/5940139491234";
const SHOP: &str = "shopify/acme.myshopify.com";
const HOUR: Duration = Duration::from_secs(3600);

/// A time of the shop's clock, on the day on which the order was placed.
fn at(time: &str) -> String {
    format!("2026-11-30T{time}Z")
}

/// The order as the shop had it at a time, with some members changed.
fn as_of(time: &str, changes: &Value) -> Value {
    let mut order = order();
    order["updated_at"] = json!(at(time));
    for (name, value) in changes.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}

/// News of a topic, under an id that other news does not have.
fn news(topic: &str, body: &Value) -> Call {
    let call = but(&delivery(body), "x-shopify-topic", topic);
    let named = format!("{topic} {body}");
    but(
        &call,
        "x-shopify-event-id",
        &Uuid::new_v5(&Uuid::NAMESPACE_URL, named.as_bytes()).to_string(),
    )
}

async fn hear(api: &Api, call: Call) {
    let answer = api.send(call).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
}

async fn items(api: &Api, path: &str) -> Vec<Value> {
    let answer = api.send(Call::get(path)).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()["items"].as_array().unwrap().clone()
}

/// What became of each delivery, oldest first, and why.
async fn outcomes(api: &Api) -> Vec<(String, Value)> {
    let kept = items(api, "/deliveries?limit=200").await.into_iter().rev();
    kept.map(|it| (it["outcome"].as_str().unwrap().to_owned(), it["reason"].clone())).collect()
}

fn became(outcome: &str, reason: &str) -> (String, Value) {
    let reason = if reason.is_empty() { Value::Null } else { json!(reason) };
    (outcome.to_owned(), reason)
}

/// The code of each case, what it says, and whether it holds its order, oldest first.
async fn cases(api: &Api) -> Vec<(String, String, bool)> {
    let found = items(api, "/intake/cases?settled=false").await.into_iter().rev();
    let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    found.map(|it| (text(&it, "code"), text(&it, "message"), it["held"] == true)).collect()
}

async fn command(api: &Api, path: String, command: Value) -> Answer {
    api.send(Call::new("POST", path).role(Role::Operator).json(&command)).await
}

/// A world in which an order waits for this provider, which is down, and the order.
async fn waiting(provider: &str, operation: &str, order: &Value) -> (World, Api, Uuid) {
    let world = World::new().await;
    let api = Api::of(&world);
    world.providers().fault(provider, operation, "down", None).await;
    hear(&api, delivery(order)).await;
    world.settle().await;
    world.providers().heal().await;
    let kept = items(&api, "/deliveries").await;
    let id = kept[0]["instance_id"].as_str().unwrap().parse().unwrap();
    (world, api, id)
}

/// An order that was paid at the shop for 59.90, and waits for the carrier.
async fn paid() -> (World, Api, Uuid) {
    waiting("carrier", "ship", &as_of("10:00:00", &json!({"financial_status": "paid"}))).await
}

fn refund(id: u64, amount: &str, time: &str) -> Value {
    json!({"id": id, "order_id": 5_940_139_491_234_u64, "created_at": at(time), "transactions": [
        {"id": 100 + id, "kind": "refund", "status": "success", "amount": amount,
         "currency": "MYR", "processed_at": at(time)},
    ]})
}

/// What the ledger says was taken less what was given back.
async fn net(world: &World, id: Uuid) -> Option<i64> {
    world.ledger(id).await.captured_net("MYR".parse().unwrap())
}

#[tokio::test]
async fn whichever_news_comes_first_starts_the_order_and_the_rest_changes_nothing() {
    let topics = ["orders/updated", "orders/paid", "orders/create"];
    for first in 0..topics.len() {
        let world = World::new().await;
        let api = Api::of(&world);
        let mut heard = Vec::new();
        for (turn, topic) in topics.iter().cycle().skip(first).take(3).enumerate() {
            let call = news(topic, &as_of("10:00:00", &json!({})));
            hear(&api, call.clone()).await;
            hear(&api, call).await;
            world.settle().await;
            heard.push(became(if turn == 0 { "started" } else { "duplicate" }, ""));
        }
        assert_eq!(outcomes(&api).await, heard, "{}", topics[first]);
        assert_eq!((stored(&world).await.instances, stored(&world).await.commands), (1, 0));
        assert_eq!(cases(&api).await, []);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_was_placed_before_anybody_listened_is_not_started_by_news_of_it() {
    let world = World::new().await;
    let api = Api::of(&world);
    let old = as_of("10:00:00", &json!({"created_at": "2019-01-01T00:00:00Z"}));
    hear(&api, news("orders/updated", &old)).await;
    hear(&api, news("refunds/create", &refund(1, "10.00", "11:00:00"))).await;
    world.settle().await;
    let unknown = became("ignored", "ORDER_UNKNOWN");
    assert_eq!(outcomes(&api).await, [unknown.clone(), unknown]);
    assert_eq!(stored(&world).await.instances, 0);
    let about = format!("/deliveries?business_key={}", KEY.replace('/', "%2F"));
    assert_eq!(items(&api, &about).await.len(), 2);
    // It is carried out when it is new, however old it is.
    hear(&api, news("orders/create", &old)).await;
    world.settle().await;
    assert_eq!(stored(&world).await.instances, 1);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_of_the_shop_undoes_the_order_once_however_often_it_is_told() {
    let (world, api, id) = paid().await;
    let cancelled = as_of("11:00:00", &json!({"cancelled_at": at("11:00:00")}));
    let call = news("orders/cancelled", &cancelled);
    join_all((0..10).map(|_| hear(&api, call.clone()))).await;
    hear(&api, news("orders/updated", &cancelled)).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let history = world.history(id).await;
    let cancels: Vec<_> = history.iter().filter(|it| it.kind == "command").collect();
    assert_eq!(cancels.iter().map(|it| it.actor.as_deref()).collect::<Vec<_>>(), [Some(SHOP)]);
    assert!(cancels[0].payload.get().contains("the shop has cancelled the order"));
    assert_eq!(net(&world, id).await, Some(0));
    let counts = world.providers().counts(KEY).await;
    assert_eq!((counts.get("ship"), counts.get("refund_payment")), (None, Some(&1)), "{counts:?}");
    let expected =
        [became("started", ""), became("signalled", "CANCELLED"), became("duplicate", "")];
    assert_eq!(outcomes(&api).await, expected);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_order_leaves_it_alone() {
    let world = World::new().await;
    let api = Api::of(&world);
    let cancelled = as_of("11:00:00", &json!({"cancelled_at": at("11:00:00")}));
    hear(&api, news("orders/cancelled", &cancelled)).await;
    hear(&api, news("orders/create", &as_of("10:00:00", &json!({})))).await;
    world.settle().await;
    assert_eq!(world.providers().counts(KEY).await, [].into());
    assert_eq!(outcomes(&api).await, [became("started", ""), became("stale", "OLDER_NEWS")]);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_that_comes_too_late_is_said_to_a_person() {
    let world = World::new().await;
    let api = Api::of(&world);
    hear(&api, delivery(&as_of("10:00:00", &json!({})))).await;
    world.settle().await;
    let cancelled = as_of("11:00:00", &json!({"cancelled_at": at("11:00:00")}));
    for topic in ["orders/cancelled", "orders/updated"] {
        hear(&api, news(topic, &cancelled)).await;
    }
    let message = "/closed: is cancelled, and what was done for it cannot be undone any more";
    assert_eq!(cases(&api).await, [("CANCEL_TOO_LATE".into(), message.into(), false)]);
    let expected =
        [became("started", ""), became("failed", "CANCEL_TOO_LATE"), became("duplicate", "")];
    assert_eq!(outcomes(&api).await, expected);
    let case = items(&api, "/intake/cases").await.remove(0);
    let path = format!("/intake/cases/{}/commands", case["case_id"].as_str().unwrap());
    let settle = json!({"command": "settle", "reason": "the customer sends it back"});
    assert_eq!(command(&api, path, settle).await.status, 200);
    assert_eq!(outcomes(&api).await[1], became("ignored", "BY_A_PERSON"));
    world.finish().await;
}

#[tokio::test]
async fn an_edit_holds_the_order_with_what_has_changed_until_a_person_has_seen_it() {
    let (world, api, id) = paid().await;
    let edit = |time: &str, quantity: u32| {
        let mut order = as_of(time, &json!({"financial_status": "paid"}));
        order["line_items"][0]["current_quantity"] = json!(quantity);
        order["current_total_price"] = json!(if quantity == 1 { "29.95" } else { "59.90" });
        order
    };
    hear(&api, news("orders/updated", &edit("11:00:00", 1))).await;
    let message = "/lines: TEE-M-BLK: 2 became 1; /total_minor: 5990 became 2995";
    assert_eq!(cases(&api).await, [("ORDER_CHANGED".into(), message.into(), true)]);
    assert!(world.instance(id).await.held);
    // The same once more, and what the shop said before.
    hear(&api, news("orders/paid", &edit("11:30:00", 1))).await;
    hear(&api, news("orders/updated", &edit("10:30:00", 2))).await;
    assert_eq!(cases(&api).await.len(), 1);
    // The edit is taken back.
    hear(&api, news("orders/updated", &edit("12:00:00", 2))).await;
    let messages: Vec<_> = cases(&api).await.into_iter().map(|(_, message, _)| message).collect();
    let back = "/lines: TEE-M-BLK: 1 became 2; /total_minor: 2995 became 5990";
    assert_eq!(messages, [message, back]);
    let expected = [
        became("started", ""),
        became("failed", "ORDER_CHANGED"),
        became("duplicate", ""),
        became("stale", "OLDER_NEWS"),
        became("failed", "ORDER_CHANGED"),
    ];
    assert_eq!(outcomes(&api).await, expected);
    world.pass(HOUR).await;
    assert_eq!(world.providers().counts(KEY).await.get("ship"), None);
    let release = json!({"command": "release", "reason": "it is as it was"});
    assert_eq!(api.send(Call::command(id, &release)).await.status, 202);
    world.pass(HOUR).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn an_edit_of_hundreds_of_lines_is_put_to_a_person_like_any_other() {
    let lines = |quantity: u32| {
        let line = |number: u32| {
            json!({"sku": format!("ARTICLE-OF-A-LONG-NAME-{number:04}"), "quantity": quantity,
                "price": "1.00"})
        };
        (0..500).map(line).collect::<Value>()
    };
    let order = json!({"line_items": lines(1), "total_price": "500.00",
        "financial_status": "paid"});
    let (world, api, id) = waiting("carrier", "ship", &as_of("10:00:00", &order)).await;
    let edited = json!({"line_items": lines(2), "total_price": "1000.00",
        "financial_status": "paid"});
    hear(&api, news("orders/updated", &as_of("11:00:00", &edited))).await;
    let found = cases(&api).await;
    assert_eq!((&*found[0].0, found[0].2), ("ORDER_CHANGED", true));
    assert!(found[0].1.starts_with("/lines: ARTICLE-OF-A-LONG-NAME-0000: 1 became 2, "));
    let whole = items(&api, "/intake/cases").await[0]["problems"].to_string();
    assert!(whole.contains("ARTICLE-OF-A-LONG-NAME-0499: 1 became 2"));
    let cancel = json!({"command": "cancel", "reason": "the shop was asked"});
    assert_eq!(api.send(Call::command(id, &cancel)).await.status, 202);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn what_only_follows_from_what_was_done_here_is_no_news() {
    let authorised = as_of("10:00:00", &json!({"financial_status": "authorized"}));
    let (world, api, id) = waiting("carrier", "ship", &authorised).await;
    let paid = json!({"financial_status": "paid"});
    hear(&api, news("orders/paid", &as_of("11:00:00", &paid))).await;
    world.pass(HOUR).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    let mut half = as_of("12:00:00", &paid);
    half["line_items"][0]["fulfillable_quantity"] = json!(1);
    hear(&api, news("orders/partially_fulfilled", &half)).await;
    let all = json!({"financial_status": "paid", "fulfillment_status": "fulfilled"});
    hear(&api, news("orders/fulfilled", &as_of("13:00:00", &all))).await;
    assert_eq!(cases(&api).await, []);
    let ended = became("ignored", "ORDER_ENDED");
    let nothing = became("duplicate", "");
    assert_eq!(outcomes(&api).await, [became("started", ""), nothing.clone(), ended, nothing]);
    world.finish().await;
}

#[tokio::test]
async fn what_somebody_else_has_handed_over_or_given_back_is_not_shipped() {
    for (status, code) in [
        (json!({"fulfillment_status": "fulfilled"}), "FULFILLED_ELSEWHERE"),
        (json!({"financial_status": "refunded"}), "ORDER_CHANGED"),
        (json!({"financial_status": "voided"}), "ORDER_CHANGED"),
    ] {
        let (world, api, id) = paid().await;
        hear(&api, news("orders/updated", &as_of("11:00:00", &status))).await;
        world.pass(HOUR).await;
        let found = cases(&api).await;
        assert_eq!((&*found[0].0, found[0].2, found.len()), (code, true, 1), "{status}");
        assert_eq!(world.providers().counts(KEY).await.get("ship"), None, "{status}");
        let cancel = json!({"command": "cancel", "reason": "the shop was asked"});
        assert_eq!(api.send(Call::command(id, &cancel)).await.status, 202);
        world.settle().await;
        world.finish().await;
    }
}

#[tokio::test]
async fn what_a_person_has_filled_in_once_is_not_asked_for_again() {
    let without = |time: &str, changes: &Value| {
        let mut order = as_of(time, changes);
        order["line_items"][0]["sku"] = Value::Null;
        order
    };
    let world = World::new().await;
    let api = Api::of(&world);
    world.providers().fault("payment", "charge", "down", None).await;
    hear(&api, news("orders/create", &without("10:00:00", &json!({})))).await;
    let case = items(&api, "/intake/cases").await.remove(0);
    let path = format!("/intake/cases/{}/commands", case["case_id"].as_str().unwrap());
    let start = json!({"command": "start", "reason": "the shop was asked",
        "fields": {"/lines/0/sku": "TEE-M-BLK"}});
    assert_eq!(command(&api, path, start).await.status, 200);
    hear(&api, news("orders/updated", &without("11:00:00", &json!({"note": "by Friday"})))).await;
    assert_eq!(cases(&api).await, []);
    let address = json!({"name": "Jane Tan", "address1": "2 Jalan Dua", "city": "Kuala Lumpur",
        "zip": "50000", "country_code": "MY"});
    let moved = json!({"shipping_address": address});
    hear(&api, news("orders/updated", &without("12:00:00", &moved))).await;
    let message = "/recipient: has changed";
    assert_eq!(cases(&api).await, [("ORDER_CHANGED".into(), message.into(), true)]);
    // Of what was placed before anybody listened nobody is asked.
    let mut old = without("12:00:00", &json!({"created_at": "2019-01-01T00:00:00Z"}));
    old["id"] = json!(7);
    hear(&api, news("orders/updated", &old)).await;
    assert_eq!(outcomes(&api).await.pop(), Some(became("ignored", "ORDER_UNKNOWN")));
    world.finish().await;
}

#[tokio::test]
async fn what_the_shop_has_given_back_is_counted_once_and_a_cancel_gives_back_the_rest() {
    let (world, api, id) = paid().await;
    let given_back = refund(1, "20.00", "11:00:00");
    let call = news("refunds/create", &given_back);
    hear(&api, call.clone()).await;
    hear(&api, call).await;
    let told = json!({"financial_status": "partially_refunded", "refunds": [given_back]});
    hear(&api, news("orders/updated", &as_of("11:00:00", &told))).await;
    world.settle().await;
    assert_eq!(net(&world, id).await, Some(3_990));
    let expected =
        [became("started", ""), became("signalled", "REFUNDED"), became("duplicate", "")];
    assert_eq!(outcomes(&api).await, expected);

    // With the cancel comes news of one more.
    let refunds = json!([refund(1, "20.00", "11:00:00"), refund(2, "9.90", "12:00:00")]);
    let cancelled = json!({"cancelled_at": at("12:00:00"), "refunds": refunds});
    hear(&api, news("orders/cancelled", &as_of("12:00:00", &cancelled))).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(net(&world, id).await, Some(0));
    let applied = world.providers().applied(KEY).await;
    let refunds: Vec<_> = applied.iter().filter(|it| it.operation == "refund_payment").collect();
    assert_eq!(refunds.iter().map(|it| it.amount_minor).collect::<Vec<_>>(), [Some(3_000)]);
    let story = api.send(Call::get(format!("/orders/{KEY}"))).await.json();
    let happened = story["happened"].to_string();
    assert!(
        happened.contains("booked what has moved outside: refunded 20.00 MYR (101)"),
        "{happened}"
    );
    world.finish().await;
}

#[tokio::test]
async fn an_order_of_which_some_was_given_back_completes() {
    let (world, api, id) = paid().await;
    hear(&api, news("refunds/create", &refund(1, "20.00", "11:00:00"))).await;
    world.pass(HOUR).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(net(&world, id).await, Some(3_990));
    let story = api.send(Call::get(format!("/orders/{KEY}"))).await.json();
    let summary = story["summary"].as_str().unwrap();
    assert!(summary.starts_with("Done: 59.90 MYR was paid at the shop, 20.00 MYR given back; "));
    // By now there is nothing left to be given back here.
    hear(&api, news("refunds/create", &refund(2, "5.00", "13:00:00"))).await;
    let odd = json!({"order_id": 5_940_139_491_234_u64, "transactions": [
        {"id": 8, "kind": "refund", "status": "success", "amount": "0.00", "currency": "MYR"},
        {"id": 9, "kind": "refund", "status": "success", "amount": "much".repeat(2_000),
            "currency": "MYR"}]});
    hear(&api, news("refunds/create", &odd)).await;
    let told = as_of("14:00:00", &json!({"financial_status": "paid", "refunds": [odd]}));
    hear(&api, news("orders/updated", &told)).await;
    let codes: Vec<_> = cases(&api).await.into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, ["REFUND_UNREADABLE"; 2]);
    let expected = [
        became("started", ""),
        became("signalled", "REFUNDED"),
        became("ignored", "ORDER_ENDED"),
        became("failed", "REFUND_UNREADABLE"),
        became("failed", "REFUND_UNREADABLE"),
    ];
    assert_eq!(outcomes(&api).await, expected);
    world.finish().await;
}

#[tokio::test]
async fn a_person_books_what_was_given_back_by_hand() {
    let (world, api, id) = paid().await;
    let money = json!([{"kind": "refund", "amount_minor": 990, "currency": "MYR",
        "reference": "letter of May"}]);
    let book = json!({"command": "book", "reason": "the parcel comes late",
        "resolution": {"money": money, "evidence": "the bank's list"}});
    let key = |call: Call| call.header("idempotency-key", "book-1");
    for _ in 0..2 {
        assert_eq!(api.send(key(Call::command(id, &book))).await.status, 202);
    }
    world.settle().await;
    assert_eq!(net(&world, id).await, Some(5_000));
    let cancel = json!({"command": "cancel", "reason": "the customer asked for it"});
    assert_eq!(api.send(Call::command(id, &cancel)).await.status, 202);
    world.settle().await;
    assert_eq!(net(&world, id).await, Some(0));
    let told = api.send(Call::command(id, &book)).await;
    assert_eq!(told.json()["answer"], "already_ended");
    world.finish().await;
}
