//! The ordinary course: order of steps, retries, waiting, duplicates, money.

use std::time::Duration;

use amends::{Started, Status};
use amends_tests::{World, orders};

#[tokio::test]
async fn a_good_order_is_completed_step_by_step() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn every_effect_is_applied_once_under_a_key_of_its_step() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let applied = world.providers().applied("acme.myshopify.com/1001").await;
    let keys: Vec<_> = applied.iter().map(|applied| applied.key.clone()).collect();
    let steps = ["reserve_stock", "issue_invoice", "charge", "ship", "notify"];
    assert_eq!(keys, steps.map(|step| format!("{id}/{step}")));
    world.finish().await;
}

#[tokio::test]
async fn events_arrive_in_order_and_are_numbered_without_gaps() {
    let world = World::new().await;
    world.start_order("1001").await;
    world.settle().await;
    let arrived = world.recorder().arrived();
    let numbers: Vec<_> = arrived.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
    assert_eq!(
        world.recorder().kinds("acme.myshopify.com/1001"),
        [
            "ORDER_CREATED",
            "INVOICE_CREATED",
            "PAYMENT_CONFIRMED",
            "ORDER_PROCESSED",
            "SHIPMENT_PREPARED",
            "SHIPMENT_PROCESSED",
            "SHIPPED",
            "ORDER_FULFILLED",
        ],
    );
    world.finish().await;
}

#[tokio::test]
async fn a_second_delivery_of_the_same_order_starts_nothing() {
    let world = World::new().await;
    let order = orders::order("1001");
    let Ok(Started::New(first)) = world.start(&order).await else { panic!("it starts") };
    assert_eq!(world.start(&order).await.unwrap(), Started::Replayed(first));
    world.settle().await;
    assert_eq!(world.start(&order).await.unwrap(), Started::Replayed(first));
    world.finish().await;
}

#[tokio::test]
async fn another_delivery_about_the_same_order_starts_nothing() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    let mut again = amends_tests::start_request(&orders::order("1001"));
    again.delivery.as_mut().unwrap().external_id = "another".to_owned();
    assert_eq!(world.engine().start(again).await.unwrap(), Started::Duplicate(id));
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_id_with_another_body_is_a_conflict() {
    let world = World::new().await;
    world.start_order("1001").await;
    let mut other = amends_tests::start_request(&orders::order("1002"));
    other.delivery.as_mut().unwrap().external_id = "1001".to_owned();
    assert_eq!(world.engine().start(other).await.unwrap(), Started::Conflict);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_thousand_concurrent_duplicates_start_one_instance() {
    let world = World::new().await;
    let order = orders::order("1001");
    let starts = (0..1000).map(|_| world.start(&order));
    let started = futures::future::join_all(starts).await;
    let new = started.iter().filter(|started| matches!(started, Ok(Started::New(_)))).count();
    let replayed =
        started.iter().filter(|started| matches!(started, Ok(Started::Replayed(_)))).count();
    assert_eq!((new, replayed), (1, 999));
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_when_it_is_due_and_not_before() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "error_before", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(Duration::from_millis(100)).await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.pass(Duration::from_secs(1)).await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_applied_once() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "error_after", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    let counts = world.providers().counts("acme.myshopify.com/1001").await;
    assert_eq!(counts["charge"], 1);
    world.finish().await;
}

#[tokio::test]
async fn input_that_does_not_fit_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let mut start = amends_tests::start_request(&orders::order("1001"));
    start.input = "{}".to_owned();
    assert!(matches!(world.engine().start(start).await, Err(amends::Error::InvalidInput(_))));
    let mut start = amends_tests::start_request(&orders::order("1001"));
    start.business_key = "a\0b".to_owned();
    assert!(matches!(world.engine().start(start).await, Err(amends::Error::InvalidInput(_))));
    let filter = amends::view::Filter { limit: 10, ..Default::default() };
    assert!(world.engine().instances(&filter).await.unwrap().is_empty());
    world.finish().await;
}
