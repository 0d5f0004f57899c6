//! What is wrong with a request is told, and nothing of it is kept.

mod webhooks;

use amends_api::auth::Role;
use amends_tests::awaiting::Packing;
use amends_tests::http::{Api, Call, stored, token};
use amends_tests::{World, orders};
use serde_json::{Value, json};
use uuid::Uuid;

/// A request that must be refused: what is wrong with it, the request, the status, the code.
type Bad = (&'static str, Call, u16, &'static str);

/// Sends every request, and tells of each that was not refused as it must be, or left a trace.
async fn refuse_all(world: &World, bad: Vec<Bad>) {
    let api = Api::of(world);
    let before = stored(world).await;
    let mut wrong = Vec::new();
    for (what, call, status, code) in bad {
        let differs = api.send(call).await.differs_from_problem(status, code);
        wrong.extend(differs.into_iter().map(|differs| format!("{what}: {differs}")));
        let after = stored(world).await;
        if after != before {
            wrong.push(format!("{what}: stored {after:?}, was {before:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn order() -> Value {
    serde_json::to_value(orders::order("1001")).unwrap()
}

/// A good order with one member replaced.
fn spoilt(pointer: &str, value: impl Into<Value>) -> Call {
    let mut order = order();
    *order.pointer_mut(pointer).unwrap() = value.into();
    Call::order("k-1", &order)
}

fn sent(body: impl Into<Vec<u8>>) -> Call {
    Call::order("k-1", &order()).bytes(body.into())
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn a_body_that_cannot_be_an_order_is_refused() {
    let world = World::new().await;
    let good = order().to_string();
    let declared = |media_type: &str| {
        Call::order("k-1", &order()).without("content-type").header("content-type", media_type)
    };
    let twice = good.replacen('{', r#"{"shop":"evil","#, 1);
    let half = good.replace("Jane", r"\ud800");
    let raw_nul = good.replace("Jane", "Ja\0ne");
    let named_nul = good.replace("Jane", "Ja\\u0000ne");
    let large = || vec![b' '; 10 * 1024 * 1024];
    let refused = vec![
        ("no body", sent(""), 400, "malformed_json"),
        ("half a body", sent(&good[..good.len() / 2]), 400, "malformed_json"),
        ("two bodies", sent(good.repeat(2)), 400, "malformed_json"),
        ("not text", sent(b"{\"shop\": \"\xff\"}"), 400, "malformed_json"),
        ("half a character", sent(half), 400, "malformed_json"),
        ("a NUL byte", sent(raw_nul), 400, "malformed_json"),
        ("a NUL character", sent(named_nul), 400, "unacceptable_json"),
        ("33 levels", sent(nested(33)), 400, "unacceptable_json"),
        ("100,000 levels", sent(nested(100_000)), 400, "unacceptable_json"),
        ("a member named twice", sent(twice), 400, "unacceptable_json"),
        ("10 MB", sent(large()), 413, "body_too_large"),
        (
            "10 MB, declared",
            sent(large()).header("content-length", "10485760"),
            413,
            "body_too_large",
        ),
        ("no media type", sent("").without("content-type"), 415, "unsupported_media_type"),
        ("a form", declared("application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
        ("text", declared("text/plain"), 415, "unsupported_media_type"),
        (
            "a compressed body",
            sent(good).header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        ("32 levels", sent(nested(32)), 422, "invalid_order"),
        ("null", sent("null"), 422, "invalid_order"),
        ("an empty object", sent("{}"), 422, "invalid_order"),
    ];
    refuse_all(&world, refused).await;
    world.finish().await;
}

#[tokio::test]
async fn an_order_that_cannot_be_carried_out_is_refused() {
    let world = World::new().await;
    let mut surprised = order();
    surprised["surprise"] = json!(1);
    let refused = [
        ("a member too many", Call::order("k-1", &surprised)),
        ("an unknown currency", spoilt("/currency", "ZZZ")),
        ("a currency without minor units", spoilt("/currency", "XAU")),
        ("a currency in small letters", spoilt("/currency", "myr")),
        ("wrong arithmetic", spoilt("/total_minor", 5991)),
        ("a total of nothing", spoilt("/total_minor", 0)),
        ("a negative total", spoilt("/total_minor", -5990)),
        ("a negative price", spoilt("/lines/0/unit_price_minor", -2995)),
        ("negative shipping", spoilt("/shipping_minor", -1)),
        ("a discount that is a charge", spoilt("/discount_minor", i64::MIN)),
        ("lines that overflow", spoilt("/lines/0/unit_price_minor", i64::MAX)),
        ("a sum that overflows", spoilt("/tax_minor", i64::MAX)),
        ("a price beyond 64 bits", spoilt("/lines/0/unit_price_minor", 1e30)),
        ("a broken price", spoilt("/lines/0/unit_price_minor", 29.95)),
        ("a price as text", spoilt("/lines/0/unit_price_minor", "2995")),
        ("no pieces", spoilt("/lines/0/quantity", 0)),
        ("a negative quantity", spoilt("/lines/0/quantity", -2)),
        ("a quantity beyond 32 bits", spoilt("/lines/0/quantity", u64::MAX)),
        ("no lines", spoilt("/lines", json!([]))),
        ("501 lines", spoilt("/lines", json!(vec![order()["lines"][0].clone(); 501]))),
        ("no shop", spoilt("/shop", "")),
        ("an order id that holds a slash", spoilt("/order_id", "1/2")),
        ("an endless order id", spoilt("/order_id", "1".repeat(201))),
        ("an address that is none", spoilt("/customer/email", "jane")),
        ("a second address in the first", spoilt("/customer/email", "jane@x\r\nBcc: all@x")),
        ("a country that is none", spoilt("/recipient/country", "Malaysia")),
    ];
    let rows = refused.map(|(what, call)| (what, call, 422, "invalid_order"));
    refuse_all(&world, rows.into()).await;
    world.finish().await;
}

#[tokio::test]
async fn an_order_without_one_good_idempotency_key_is_refused() {
    let world = World::new().await;
    let call = Call::order("k-1", &order());
    let keyed = |key: &str| call.clone().without("idempotency-key").header("idempotency-key", key);
    let refused = vec![
        ("no key", call.clone().without("idempotency-key"), 400, "missing_header"),
        ("two keys", call.clone().header("idempotency-key", "k-2"), 400, "missing_header"),
        ("one key twice", call.clone().header("idempotency-key", "k-1"), 400, "missing_header"),
        ("an empty key", keyed(""), 400, "invalid_header"),
        ("an empty quoted key", keyed("\"\""), 400, "invalid_header"),
        ("a key with a blank", keyed("k 1"), 400, "invalid_header"),
        ("half a quote", keyed("\"k-1"), 400, "invalid_header"),
        ("a key beyond ASCII", keyed("schlüssel"), 400, "invalid_header"),
        ("256 characters", keyed(&"k".repeat(256)), 400, "invalid_header"),
        ("9 KiB", keyed(&"k".repeat(9 * 1024)), 431, "headers_too_large"),
    ];
    refuse_all(&world, refused).await;
    world.finish().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_given_is_refused() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    let command = |command: &str, reason: &str| {
        Call::command(id, &json!({ "command": command, "reason": reason }))
    };
    let good = json!({ "command": "cancel", "reason": "asked for" });
    let mut surprised = good.clone();
    surprised["force"] = json!(true);
    let refused = vec![
        ("an unknown command", command("explode", "why not"), 422, "invalid_command"),
        ("a command in capitals", command("CANCEL", "why not"), 422, "invalid_command"),
        ("no command", Call::command(id, &json!({ "reason": "why" })), 422, "invalid_command"),
        ("no reason", Call::command(id, &json!({ "command": "cancel" })), 422, "invalid_command"),
        ("an empty reason", command("cancel", ""), 422, "invalid_command"),
        ("a blank reason", command("cancel", " \t "), 422, "invalid_command"),
        ("a reason of two lines", command("cancel", "a\nb"), 422, "invalid_command"),
        ("an endless reason", command("cancel", &"ü".repeat(501)), 422, "invalid_command"),
        ("a member too many", Call::command(id, &surprised), 422, "invalid_command"),
        ("a reason with NUL", command("cancel", "a\0b"), 400, "unacceptable_json"),
        ("not JSON", Call::command(id, &good).bytes("cancel"), 400, "malformed_json"),
        (
            "not declared to be JSON",
            Call::command(id, &good).without("content-type"),
            415,
            "unsupported_media_type",
        ),
        ("an unknown instance", Call::command(Uuid::nil(), &good), 404, "unknown_instance"),
        ("an id that is none", Call::command("1001", &good), 400, "invalid_path"),
    ];
    refuse_all(&world, refused).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_command_that_says_too_much_or_too_little_is_refused() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    let refund =
        json!({ "kind": "refund", "amount_minor": 5, "currency": "MYR", "reference": "re_9" });
    let found = json!({ "step": "charge", "finding": "not_applied", "evidence": "a letter" });
    let command = |name: &str, member: &str, value: &Value| {
        let mut command = json!({ "command": name, "reason": "asked for" });
        command[member] = value.clone();
        (Call::command(id, &command), 422, "invalid_command")
    };
    let resolve = |member: &str, value: Value| {
        let mut found = found.clone();
        found[member] = value;
        command("resolve", "resolution", &found)
    };
    let money = |member: &str, value: Value| {
        let mut refund = refund.clone();
        refund[member] = value;
        resolve("money", json!([refund]))
    };
    let hash = json!("0".repeat(64));
    let refused = [
        ("a resolve without a finding", command("resolve", "resolution", &Value::Null)),
        ("a cancel with a finding", command("cancel", "resolution", &found)),
        ("a resume with a plan", command("resume", "plan_hash", &hash)),
        ("a plan that is none", command("cancel", "plan_hash", &json!("0"))),
        ("a step without a finding", resolve("finding", Value::Null)),
        ("a finding without a step", resolve("step", Value::Null)),
        ("an unknown finding", resolve("finding", json!("lost"))),
        ("two findings", resolve("finding", json!({ "applied": 1, "undone": null }))),
        ("no evidence", resolve("evidence", json!(" "))),
        ("endless evidence", resolve("evidence", json!("ü".repeat(501)))),
        ("evidence of two lines", resolve("evidence", json!("a\nb"))),
        ("a member too many", resolve("surprise", json!(1))),
        ("no money", money("amount_minor", json!(0))),
        ("negative money", money("amount_minor", json!(-5))),
        ("money beyond 64 bits", money("amount_minor", json!(1e30))),
        ("broken money", money("amount_minor", json!(0.5))),
        ("money in small letters", money("currency", json!("myr"))),
        ("money that is stolen", money("kind", json!("steal"))),
        ("money without a reference", money("reference", json!(""))),
        ("money with a member too many", money("to", json!("me"))),
    ];
    let rows = refused.map(|(what, (call, status, code))| (what, call, status, code));
    refuse_all(&world, rows.into()).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_nobody_can_take_is_refused() {
    let world = World::builder().engine(|engine| engine.workflow(Packing)).build().await;
    let good = json!({ "workflow": "packing", "business_key": "order-1",
        "signal": "parcel_packed", "body": { "parcel": "p_1" }, "signal_id": "scan-1" });
    let spoilt = |member: &str, value: Value| {
        let mut signal = good.clone();
        signal[member] = value;
        (Call::signal(&signal), 422, "invalid_signal")
    };
    let bytes = |body: String, code| (Call::signal(&good).bytes(body), 400, code);
    let nested = good.to_string().replace("\"p_1\"", &nested(33));
    let refused = [
        ("an unknown workflow", spoilt("workflow", json!("returns"))),
        ("an unknown signal", spoilt("signal", json!("parcel_lost"))),
        ("a workflow that waits for nothing", spoilt("workflow", json!("fulfilment"))),
        ("a body of another form", spoilt("body", json!({ "parcel": 7 }))),
        ("no body where one is needed", spoilt("body", Value::Null)),
        ("no business key", spoilt("business_key", json!(""))),
        ("an endless business key", spoilt("business_key", json!("k".repeat(501)))),
        ("a business key of two lines", spoilt("business_key", json!("a\nb"))),
        ("an empty id", spoilt("signal_id", json!(""))),
        ("an endless id", spoilt("signal_id", json!("i".repeat(501)))),
        ("a number as an id", spoilt("signal_id", json!(7))),
        ("a member too many", spoilt("surprise", json!(1))),
        ("an empty object", (Call::signal(&json!({})), 422, "invalid_signal")),
        ("not JSON", bytes("packed".to_owned(), "malformed_json")),
        ("a body too deep", bytes(nested, "unacceptable_json")),
        ("NUL", bytes(good.to_string().replace("p_1", "\\u0000"), "unacceptable_json")),
        ("1 MB", (Call::signal(&good).bytes(vec![b' '; 1024 * 1024]), 413, "body_too_large")),
        (
            "not declared to be JSON",
            (Call::signal(&good).without("content-type"), 415, "unsupported_media_type"),
        ),
    ];
    let rows = refused.map(|(what, (call, status, code))| (what, call, status, code));
    refuse_all(&world, rows.into()).await;
    world.finish().await;
}

#[tokio::test]
async fn looking_for_what_is_not_there_finds_a_reason() {
    let world = World::new().await;
    let unknown = Uuid::nil();
    let get = |path: &str| Call::get(path);
    let refused = vec![
        ("an unknown instance", get(&format!("/instances/{unknown}")), 404, "unknown_instance"),
        ("its history", get(&format!("/instances/{unknown}/history")), 404, "unknown_instance"),
        (
            "a preview of nothing",
            get(&format!("/instances/{unknown}/preview?command=cancel")),
            404,
            "unknown_instance",
        ),
        (
            "a preview of no command",
            get(&format!("/instances/{unknown}/preview")),
            400,
            "invalid_query",
        ),
        (
            "a preview of an unknown command",
            get(&format!("/instances/{unknown}/preview?command=explode")),
            400,
            "invalid_query",
        ),
        ("an unknown order", get(&format!("/orders/{unknown}")), 404, "unknown_order"),
        ("an order of a shop", get("/orders/acme/9"), 404, "unknown_order"),
        ("an id that is none", get("/instances/1001"), 400, "invalid_path"),
        ("a history of nothing", get("/instances/%00/history"), 400, "invalid_path"),
        ("an order id that is none", get("/orders/1001"), 400, "invalid_path"),
        ("a shop with NUL", get("/orders/a%00b/1001"), 400, "invalid_path"),
        ("a path that is not text", get("/orders/%ff/1001"), 400, "invalid_path"),
        ("no such path", get("/nowhere"), 404, "not_found"),
        ("a path with a slash too many", get("/instances/"), 404, "not_found"),
        ("the wrong method", Call::new("DELETE", "/orders"), 405, "method_not_allowed"),
        ("a method of its own", Call::new("BREW", "/instances"), 405, "method_not_allowed"),
        ("a cursor that is none", get("/instances?cursor=next"), 400, "invalid_query"),
        ("an id as a cursor", get(&format!("/instances?cursor={unknown}")), 400, "invalid_query"),
        ("no limit", get("/instances?limit=0"), 400, "invalid_query"),
        ("a limit too high", get("/instances?limit=201"), 400, "invalid_query"),
        ("an unknown status", get("/instances?status=failed"), 400, "invalid_query"),
        ("an unknown filter", get("/instances?state=stuck"), 400, "invalid_query"),
        ("a filter twice", get("/instances?limit=1&limit=2"), 400, "invalid_query"),
        ("a key with NUL", get("/instances?business_key=a%00b"), 400, "invalid_query"),
        ("an attribute without a value", get("/instances?attribute=email"), 400, "invalid_query"),
        ("a time that is none", get("/instances?created_from=today"), 400, "invalid_query"),
    ];
    refuse_all(&world, refused).await;
    world.finish().await;
}

#[tokio::test]
async fn whoever_is_not_known_is_told_so_before_anything_is_looked_at() {
    let world = World::new().await;
    let call = Call::order("k-1", &json!("not even an order"));
    let with = |authorization: &str| {
        call.clone().without("authorization").header("authorization", authorization)
    };
    let token = token(Role::Operator);
    let refused = vec![
        ("no token", call.clone().without("authorization"), 401, "unauthenticated"),
        ("an empty token", with("Bearer "), 401, "unauthenticated"),
        ("a bad token", with(&format!("Bearer {}", &token[1..])), 401, "unauthenticated"),
        ("another scheme", with("Basic b3BlcmF0b3I6dG9rZW4="), 401, "unauthenticated"),
        ("a token without a scheme", with(&token), 401, "unauthenticated"),
        ("the wrong role", call.clone().role(Role::Viewer), 403, "forbidden"),
    ];
    refuse_all(&world, refused).await;
    world.finish().await;
}

#[tokio::test]
async fn ten_megabytes_over_a_connection_are_answered_before_they_are_read() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/orders", listener.local_addr().unwrap());
    let router = Api::of(&world).router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(token(Role::Operator))
        .header("idempotency-key", "k-1")
        .header("content-type", "application/json")
        .body(vec![b' '; 10 * 1024 * 1024]);
    assert_eq!(request.send().await.unwrap().status(), 413);
    world.finish().await;
}
