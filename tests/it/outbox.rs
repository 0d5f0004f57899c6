//! Publishing: at least once, in order per key, past what is blocked.

use std::time::Duration;

use amends_tests::World;

#[tokio::test]
async fn a_key_that_cannot_be_delivered_blocks_only_itself_and_keeps_its_order() {
    let world = World::new().await;
    let (blocked, free) = ("acme.myshopify.com/1001", "acme.myshopify.com/1002");
    world.recorder().refuse(blocked);
    world.start_order("1001").await;
    world.start_order("1002").await;
    world.settle().await;
    assert!(world.recorder().kinds(blocked).is_empty());
    assert_eq!(world.recorder().kinds(free).len(), 5);
    world.recorder().accept_all();
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.recorder().kinds(blocked), world.recorder().kinds(free));
    world.finish().await;
}

#[tokio::test]
async fn an_event_at_which_its_sink_panics_is_delivered_later_and_in_order() {
    let world = World::new().await;
    world.recorder().panic_once();
    world.start_order("1001").await;
    world.settle().await;
    world.pass(Duration::from_secs(2)).await;
    let numbers: Vec<_> = world.recorder().arrived().iter().map(|event| event.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    world.finish().await;
}

#[tokio::test]
async fn delivered_events_leave_nothing_in_the_outbox() {
    let world = World::new().await;
    world.start_order("1001").await;
    world.settle().await;
    let left: i64 = sqlx::query_scalar("select count(*) from amends.outbox")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    world.finish().await;
}
