//! Undoing: what, in which order, and what if that fails too.

use std::time::Duration;

use amends::Status;
use amends::command::{Answer, Command};
use amends_tests::World;

const KEY: &str = "acme.myshopify.com/1001";

#[tokio::test]
async fn a_refused_shipment_undoes_everything_latest_first() {
    let world = World::new().await;
    world.providers().fault("carrier", "ship", "refuse", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    let operations: Vec<_> =
        world.providers().applied(KEY).await.into_iter().map(|a| a.operation).collect();
    assert_eq!(operations, ["reserve", "issue", "charge", "refund", "void", "release"]);
    world.finish().await;
}

#[tokio::test]
async fn a_declined_payment_undoes_what_came_before_it() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "decline", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_first_step_that_fails_has_nothing_to_undo() {
    let world = World::new().await;
    world.providers().fault("stock", "reserve", "refuse", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_charge_that_may_have_been_applied_is_refunded() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "timeout_before", None).await;
    let id = world.start_order("1001").await;
    for _ in 0..30 {
        world.pass(Duration::from_secs(300)).await;
    }
    let timeline = world.timeline(id).await;
    assert!(timeline.contains("compensation_planned <charge? <issue_invoice <reserve_stock"));
    assert!(timeline.contains("step_compensated charge (nothing to undo)"), "{timeline}");
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(world.providers().counts(KEY).await.get("charge"), None);
    world.finish().await;
}

#[tokio::test]
async fn a_refund_that_fails_is_repeated_until_it_succeeds() {
    let world = World::new().await;
    let rules = [("carrier", "ship", "refuse"), ("payment", "refund", "error_before")];
    world.providers().faults(&rules).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    for _ in 0..3 {
        assert_eq!(world.instance(id).await.status, Status::Compensating);
        world.pass(Duration::from_secs(60)).await;
    }
    world.providers().heal().await;
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(world.providers().counts(KEY).await["refund"], 1);
    world.finish().await;
}

#[tokio::test]
async fn a_compensation_that_fails_for_good_needs_a_person_and_goes_on_when_told() {
    let world = World::new().await;
    let rules = [("carrier", "ship", "refuse"), ("payment", "refund", "refuse")];
    world.providers().faults(&rules).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let stuck = world.instance(id).await;
    assert_eq!(stuck.status, Status::Stuck);
    assert_eq!(stuck.failure.unwrap().code, "COMPENSATION_FAILED");
    world.providers().heal().await;
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_step_after_the_pivot_that_fails_for_good_is_put_to_a_person_and_nothing_is_undone() {
    let world = World::new().await;
    world.providers().fault("mail", "send", "refuse", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Stuck);
    let counts = world.providers().counts(KEY).await;
    assert_eq!(counts.get("refund"), None);
    world.providers().heal().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}
