//! What stands between us and a provider answers in its place, and knows nothing of what it has done.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Money, Status, StepError};
use amends_api::sandbox::Sandbox;
use amends_tests::World;
use amends_tests::providers::Providers;
use amends_workflows::fulfilment::ship::Ship;
use uuid::Uuid;

const KEY: &str = "acme.myshopify.com/1001";
const MINUTE: Duration = Duration::from_secs(60);
const CHARGE: (&str, &str) = ("payment", "charge");
const REFUND: (&str, &str) = ("payment", "refund");

/// How often the money was taken, and how often it was given back.
async fn money(world: &World) -> (usize, usize) {
    let counts = world.providers().counts(KEY).await;
    let count = |operation: &str| counts.get(operation).copied().unwrap_or_default();
    (count("charge"), count("refund"))
}

async fn status(world: &World, id: Uuid) -> Status {
    world.instance(id).await.status
}

#[tokio::test]
async fn whatever_a_gateway_says_is_unknown_on_the_wire_too() {
    let providers = Providers::start().await;
    let payments = providers.ports().payments;
    let total = Money { amount_minor: 100, currency: "EUR".parse().unwrap() };
    let mut count = 0;
    for name in Sandbox::gateways() {
        for fault in ["gateway_before", "gateway_after"] {
            providers.gateway(CHARGE, fault, name, None).await;
            let charged = payments.charge(&format!("{name}/{fault}"), "a/1", total).await;
            assert!(matches!(charged, Err(StepError::Unknown(_))), "{name}: {charged:?}");
            providers.gateway(REFUND, fault, name, None).await;
            let key = format!("{name}/{fault}");
            let refunded = payments.refund(&format!("{key}/undo"), &key, total).await;
            assert!(matches!(refunded, Err(StepError::Unknown(_))), "{name}: {refunded:?}");
        }
        count += 1;
    }
    assert!(count > 90);
    assert_eq!(providers.counts("a/1").await.get("charge"), Some(&count));
    assert_eq!(providers.counts("a/1").await.get("refund"), Some(&count));
}

#[tokio::test]
async fn a_charge_that_was_applied_behind_a_503_is_given_back_when_the_order_is_cancelled() {
    for gateway in ["envoy_503", "nginx_503", "heroku_h12", "alb_504", "cloudflare_524"] {
        let world = World::new().await;
        world.providers().gateway(CHARGE, "gateway_after", gateway, Some(3)).await;
        let id = world.start_order("1001").await;
        world.settle().await;
        world.pass(Duration::from_secs(1)).await;
        world.pass(Duration::from_secs(2)).await;
        assert_eq!(money(&world).await, (1, 0));
        assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
        world.settle().await;
        assert_eq!(status(&world, id).await, Status::Cancelled, "{gateway}");
        assert_eq!(money(&world).await, (1, 1), "{gateway}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_page_that_is_not_found_does_not_settle_a_charge_without_an_answer() {
    for gateway in ["nginx_404", "traefik_499", "cloudflare_1020", "apache_410", "login_200"] {
        let world = World::new().await;
        world.providers().gateway(CHARGE, "gateway_after", "envoy_503", Some(1)).await;
        let id = world.start_order("1001").await;
        world.settle().await;
        assert_eq!(money(&world).await, (1, 0));
        world.providers().gateway(CHARGE, "gateway_before", gateway, None).await;
        for _ in 0..30 {
            world.pass(5 * MINUTE).await;
        }
        let timeline = world.timeline(id).await;
        assert!(timeline.contains("compensation_planned <charge? "), "{timeline}");
        assert_eq!(status(&world, id).await, Status::Compensated, "{gateway}");
        assert_eq!(money(&world).await, (1, 1), "{gateway}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_gateway_that_answers_for_a_while_costs_no_order() {
    for gateway in ["nginx_404", "nginx_400", "nginx_405", "api_gateway_403", "haproxy_503"] {
        let world = World::new().await;
        world.providers().gateway(("stock", "reserve"), "gateway_before", gateway, Some(2)).await;
        let id = world.start_order("1001").await;
        world.settle().await;
        world.pass(MINUTE).await;
        world.pass(MINUTE).await;
        assert_eq!(status(&world, id).await, Status::Completed, "{gateway}");
        world.finish().await;
    }
}

#[tokio::test]
async fn no_answer_of_a_gateway_ends_a_refund() {
    let gateways = ["nginx_404", "nginx_400", "api_gateway_403", "traefik_499", "cloudflare_1015"];
    for (gateway, fault) in
        gateways.iter().flat_map(|name| [(name, "gateway_before"), (name, "gateway_after")])
    {
        let world = World::new().await;
        world.providers().gateway(REFUND, fault, gateway, Some(3)).await;
        world.attempt::<Ship>(1).fails(StepError::refused("SHIPMENT_ERROR", "no"));
        let id = world.start_order("1001").await;
        world.settle().await;
        assert_eq!(status(&world, id).await, Status::Compensating, "{gateway}");
        for _ in 0..5 {
            world.pass(MINUTE).await;
        }
        assert_eq!(status(&world, id).await, Status::Compensated, "{gateway}");
        assert_eq!(money(&world).await, (1, 1), "{gateway}");
        world.finish().await;
    }
}

#[tokio::test]
async fn gateways_that_answer_for_a_provider_count_as_its_outage() {
    let world = World::new().await;
    world.providers().gateway(CHARGE, "gateway_before", "nginx_404", None).await;
    for order in 0..30 {
        world.start_order(&format!("{}", 2000 + order)).await;
    }
    world.settle().await;
    let dependencies = world.engine().dependencies().await.unwrap();
    let payment = dependencies.iter().find(|it| it.name == "payment").unwrap();
    assert_ne!(payment.state.as_str(), "up");
    world.finish().await;
}

#[tokio::test]
async fn a_charge_that_turns_up_after_its_refund_has_found_nothing_is_given_back_too() {
    let world = World::new().await;
    world.providers().gateway(CHARGE, "late", "nginx_504", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    let timeline = world.timeline(id).await;
    assert!(timeline.contains("step_compensated charge (nothing to undo"), "{timeline}");
    assert_eq!((money(&world).await, world.providers().apply_late().await), ((0, 0), 1));
    assert_eq!(money(&world).await, (1, 0));
    // However much people press, it is not looked for before it must have turned up.
    for command in [Command::Retry, Command::Resume] {
        world.command(id, command).await;
        world.settle().await;
        world.pass(Duration::from_secs(29)).await;
        assert_eq!(status(&world, id).await, Status::Compensating, "{command}");
        assert_eq!(money(&world).await, (1, 0), "{command}");
    }
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(status(&world, id).await, Status::Cancelled);
    assert_eq!(money(&world).await, (1, 1));
    world.finish().await;
}

#[tokio::test]
async fn what_a_provider_says_again_of_a_refund_is_as_old_as_its_first_answer() {
    let world = World::new().await;
    world.providers().gateway(CHARGE, "late", "nginx_504", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    world.providers().gateway(REFUND, "gateway_after", "nginx_504", Some(1)).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!((money(&world).await, world.providers().apply_late().await), ((0, 0), 1));
    // The refund is asked for again when the charge is there, under the key that found nothing.
    world.pass(2 * MINUTE).await;
    assert_eq!(status(&world, id).await, Status::Cancelled);
    assert_eq!(money(&world).await, (1, 1));
    world.finish().await;
}

#[tokio::test]
async fn an_undo_that_finds_nothing_long_after_the_doubt_does_not_look_again() {
    let world = World::new().await;
    world.providers().gateway(CHARGE, "gateway_before", "nginx_504", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Hold).await, Answer::Accepted);
    world.pass(2 * MINUTE).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, id).await, Status::Cancelled);
    world.finish().await;
}

#[tokio::test]
async fn a_parcel_in_doubt_is_asked_for_under_the_same_key_after_a_resume() {
    let world = World::new().await;
    let ship = ("carrier", "ship");
    world.providers().gateway(ship, "gateway_after", "envoy_503", Some(1)).await;
    world.attempt::<Ship>(2).fails(StepError::fail("SHIPMENT_ERROR", "not this request"));
    let id = world.start_order("1001").await;
    world.settle().await;
    world.pass(MINUTE).await;
    let failure = world.instance(id).await.failure.unwrap();
    assert_eq!(failure.code, "PIVOT_UNKNOWN");
    assert_eq!(world.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, id).await, Status::Completed);
    assert_eq!(world.providers().counts(KEY).await.get("ship"), Some(&1));
    world.finish().await;
}
