//! What people and shops get from the API: one answer per order, lists, histories, commands.

mod bindings;
mod commands;
mod conflicts;
mod names;
mod resolve;
mod signals;

use std::time::Duration;

use amends::Status;
use amends_api::auth::Role;
use amends_api::view::{History, Instance, Page};
use amends_tests::http::{Answer, Api, Call, Stored, stored};
use amends_tests::{World, orders};
use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

fn order(order_id: &str) -> Value {
    serde_json::to_value(orders::order(order_id)).unwrap()
}

fn id(answer: &Answer) -> Uuid {
    answer.json()["instance_id"].as_str().unwrap().parse().unwrap()
}

/// What one accepted order leaves behind.
const ONE: Stored = Stored { instances: 1, deliveries: 1, commands: 0, mail: 0, early_signals: 0 };

#[tokio::test]
async fn an_accepted_order_can_be_looked_at_where_the_answer_says() {
    let world = World::new().await;
    let api = Api::of(&world);
    let accepted = api.send(Call::order("k-1", &order("1001"))).await;
    assert_eq!(accepted.status, 201);
    assert_eq!(accepted.header("location"), format!("/orders/{}", id(&accepted)));
    world.settle().await;
    let by_id = api.send(Call::get(accepted.header("location"))).await;
    let by_name = api.send(Call::get("/orders/acme.myshopify.com/1001")).await;
    assert_eq!((by_id.status, by_id.body), (200, by_name.body));
    world.finish().await;
}

#[tokio::test]
async fn the_same_request_sent_again_gets_the_same_answer() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = Call::order("k-1", &order("1001"));
    let first = api.send(call.clone()).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    let at_once = api.send(call.clone()).await;
    world.settle().await;
    let later = api.send(call.without("idempotency-key").header("idempotency-key", "\"k-1\""));
    for again in [at_once, later.await] {
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    assert_eq!(stored(&world).await, ONE);
    world.finish().await;
}

#[tokio::test]
async fn a_hundred_of_the_same_request_at_once_start_one_instance() {
    let world = World::new().await;
    let api = Api::of(&world);
    let call = Call::order("k-1", &order("1001"));
    let answers = join_all((0..100).map(|_| api.send(call.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_came_with_another_body_is_refused() {
    let world = World::new().await;
    let api = Api::of(&world);
    api.send(Call::order("k-1", &order("1001"))).await;
    let other = api.send(Call::order("k-1", &order("1002"))).await;
    assert!(other.differs_from_problem(422, "idempotency_key_reused").is_empty());
    assert_eq!(stored(&world).await, ONE);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn another_key_about_the_same_order_finds_the_first() {
    let world = World::new().await;
    let api = Api::of(&world);
    let first = api.send(Call::order("k-1", &order("1001"))).await;
    let second = api.send(Call::order("k-2", &order("1001"))).await;
    assert_eq!((second.status, id(&second)), (200, id(&first)));
    assert_eq!(second.json()["duplicate"], true);
    assert_eq!(stored(&world).await.instances, 1);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_key_belongs_to_whoever_sends_it() {
    let world = World::new().await;
    let api = Api::of(&world);
    let first = api.send(Call::order("k-1", &order("1001")).role(Role::Ingest)).await;
    let other = api.send(Call::order("k-1", &order("1002")).role(Role::Admin)).await;
    assert_eq!((first.status, other.status), (201, 201));
    assert_ne!(id(&first), id(&other));
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn pages_show_every_instance_once_newest_first() {
    let world = World::new().await;
    let mut started = Vec::new();
    for number in 0..25 {
        started.push(world.start_order(&format!("{number}")).await);
    }
    started.reverse();

    let api = Api::of(&world);
    let mut path = "/instances?limit=10".to_owned();
    let (mut sizes, mut shown) = (Vec::new(), Vec::new());
    loop {
        let page: Page = serde_json::from_slice(&api.send(Call::get(path)).await.body).unwrap();
        sizes.push(page.items.len());
        shown.extend(page.items.into_iter().map(|instance| instance.instance_id));
        let Some(cursor) = page.next_cursor else { break };
        // What comes in meanwhile is newer, and on no later page.
        world.start_order(&format!("meanwhile-{}", sizes.len())).await;
        path = format!("/instances?limit=10&cursor={cursor}");
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(shown, started);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_list_holds_what_was_asked_for_and_nothing_else() {
    let world = World::new().await;
    world.start_order("done").await;
    world.settle().await;
    world.advance(Duration::from_secs(60));
    world.providers().fault("payment", "charge", "down", None).await;
    let mut other = orders::order("waits");
    other.customer.email = Some("Bob@Example.com".to_owned());
    world.start(&other).await.unwrap();
    world.settle().await;

    let api = Api::of(&world);
    let listed = async |query: &str| {
        let answer = api.send(Call::get(format!("/instances?{query}"))).await;
        let page: Page = serde_json::from_slice(&answer.body).unwrap();
        let order_id = |it: &Instance| it.attributes["order_id"].clone();
        page.items.iter().map(order_id).collect::<Vec<_>>()
    };
    let times: Page =
        serde_json::from_slice(&api.send(Call::get("/instances")).await.body).unwrap();
    let second = times.items[0].created_at.to_rfc3339().replace('+', "%2B");
    let key = |order_id: &str| format!("business_key=acme.myshopify.com%2F{order_id}");
    for (query, expected) in [
        (String::new(), &["waits", "done"][..]),
        ("status=completed".to_owned(), &["done"]),
        ("status=waiting".to_owned(), &["waits"]),
        ("status=stuck".to_owned(), &[]),
        ("workflow=fulfilment".to_owned(), &["waits", "done"]),
        ("workflow=returns".to_owned(), &[]),
        (key("done"), &["done"]),
        (key("unknown"), &[]),
        ("attribute=email:bob@example.com".to_owned(), &["waits"]),
        ("attribute=email:BOB@example.com".to_owned(), &["waits"]),
        ("attribute=order:%23done".to_owned(), &["done"]),
        (format!("created_from={second}"), &["waits"]),
        (format!("created_before={second}"), &["done"]),
        (format!("created_from={second}&status=completed"), &[]),
        ("limit=1".to_owned(), &["waits"]),
    ] {
        assert_eq!(listed(&query).await, expected, "{query}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_history_that_is_shown_is_the_one_that_is_recorded() {
    let world = World::new().await;
    let instance_id = world.start_order("1001").await;
    world.settle().await;
    let api = Api::of(&world);
    let answer = api.send(Call::get(format!("/instances/{instance_id}/history"))).await;
    let shown: History = serde_json::from_slice(&answer.body).unwrap();
    let recorded = world.history(instance_id).await;
    assert_eq!(shown.items.len(), recorded.len());
    for (shown, recorded) in shown.items.iter().zip(&recorded) {
        assert_eq!(
            (shown.seq, &shown.kind, &shown.step, shown.attempt, &shown.actor, shown.at),
            (
                recorded.seq,
                &recorded.kind,
                &recorded.step,
                recorded.attempt,
                &recorded.actor,
                recorded.at
            ),
        );
        assert_eq!(shown.payload.get(), recorded.payload.get());
        assert_eq!(
            shown.events.as_ref().map(|events| events.get()),
            recorded.events.as_ref().map(|events| events.get()),
        );
        let hash: String = recorded.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown.hash, hash);
    }
    world.finish().await;
}

/// An order that waits for its next attempt to charge.
async fn waiting(world: &World) -> Uuid {
    world.providers().fault("payment", "charge", "down", None).await;
    let instance_id = world.start_order("1001").await;
    world.settle().await;
    world.providers().heal().await;
    instance_id
}

fn cancel(instance_id: Uuid) -> Call {
    Call::command(instance_id, &json!({ "command": "cancel", "reason": "  asked for  " }))
}

#[tokio::test]
async fn an_accepted_command_is_answered_carried_out_and_kept_with_who_and_why() {
    let world = World::new().await;
    let instance_id = waiting(&world).await;
    let answer = Api::of(&world).send(cancel(instance_id)).await;
    assert_eq!((answer.status, answer.text()), (202, r#"{"answer":"accepted"}"#));
    world.settle().await;
    assert_eq!(world.instance(instance_id).await.status, Status::Cancelled);
    let kept: Vec<(Uuid, String, String, String, String)> =
        sqlx::query_as("select instance_id, command, actor, reason, answer from amends.command")
            .fetch_all(&mut world.database().await)
            .await
            .unwrap();
    let text = str::to_owned;
    assert_eq!(
        kept,
        [(instance_id, text("cancel"), text("operator"), text("asked for"), text("accepted"))],
    );
    world.finish().await;
}

#[tokio::test]
async fn a_refused_command_says_why_and_is_kept_too() {
    let world = World::new().await;
    let api = Api::of(&world);
    let instance_id = waiting(&world).await;
    api.send(cancel(instance_id)).await;
    let mut answers = Vec::new();
    for settle in [false, true] {
        if settle {
            world.settle().await;
        }
        let refused = api.send(cancel(instance_id)).await;
        assert!(refused.differs_from_problem(409, "command_refused").is_empty());
        answers.push(refused.json()["answer"].as_str().unwrap().to_owned());
    }
    assert_eq!(answers, ["already_cancelling", "already_ended"]);
    assert_eq!(stored(&world).await.commands, 3);
    world.finish().await;
}

#[tokio::test]
async fn metrics_are_openmetrics_to_their_end_and_name_no_order() {
    let world = World::new().await;
    let api = Api::of(&world);
    api.send(Call::order("k-1", &order("1001"))).await;
    let answer = api.send(Call::get("/metrics")).await;
    let media_type = answer.header("content-type");
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"), "{media_type}");
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains(r#"route="/orders""#), "{text}");
    assert!(!text.contains("1001"), "{text}");
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_server_that_has_lost_its_lease_lives_but_is_not_ready_and_takes_nothing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let probe = async |path: &str| api.send(Call::new("GET", path)).await;
    assert_eq!(
        (probe("/health/live").await.status, probe("/health/ready").await.status),
        (200, 200)
    );
    world.engine().abandon();
    assert_eq!(probe("/health/live").await.status, 200);
    let refused =
        [probe("/health/ready").await, api.send(Call::order("k-1", &order("1001"))).await];
    for refused in refused {
        assert!(refused.differs_from_problem(503, "unavailable").is_empty());
        assert_eq!(refused.header("retry-after"), "2");
    }
    assert_eq!(stored(&world).await.instances, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_request_keeps_the_name_its_sender_gave_it() {
    let world = World::new().await;
    let call = Call::new("GET", "/health/live").header("x-request-id", "shop-42");
    assert_eq!(Api::of(&world).send(call).await.header("x-request-id"), "shop-42");
    world.finish().await;
}
