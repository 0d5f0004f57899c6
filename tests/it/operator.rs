//! What people ask for, and whether the answer is true.

use std::time::Duration;

use amends::Status;
use amends::command::{Answer, Command};
use amends_tests::World;

const KEY: &str = "acme.myshopify.com/1001";

/// An order that waits for its next attempt at `operation`.
async fn waiting(world: &World, provider: &str, operation: &str) -> uuid::Uuid {
    world.providers().fault(provider, operation, "down", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.providers().heal().await;
    id
}

#[tokio::test]
async fn a_cancel_before_the_pivot_undoes_everything() {
    let world = World::new().await;
    let id = waiting(&world, "payment", "charge").await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_while_the_carrier_is_down_is_honoured() {
    let world = World::new().await;
    let id = waiting(&world, "carrier", "ship").await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let counts = world.providers().counts(KEY).await;
    assert_eq!((counts["charge"], counts["refund"], counts.get("ship")), (1, 1, None));
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_while_the_outcome_of_the_pivot_is_unknown_is_refused() {
    let world = World::new().await;
    world.providers().fault("carrier", "ship", "error_after", Some(1)).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::PastPivot);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_second_cancel_is_told_that_there_was_a_first() {
    let world = World::new().await;
    let id = waiting(&world, "payment", "charge").await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::AlreadyCancelling);
    world.settle().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::AlreadyEnded);
    world.finish().await;
}

#[tokio::test]
async fn a_resume_ends_a_wait_early() {
    let world = World::new().await;
    let id = waiting(&world, "payment", "charge").await;
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn every_command_is_kept_with_its_answer_refusals_too() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::AlreadyEnded);
    assert_eq!(world.command(id, Command::Resume).await, Answer::AlreadyEnded);
    let kept: Vec<(String, String, String)> = sqlx::query_as(
        "select command, actor, answer from amends.command order by given_at, command_id",
    )
    .fetch_all(&mut world.database().await)
    .await
    .unwrap();
    let by_anna =
        |command: &str| (command.to_owned(), "anna".to_owned(), "already_ended".to_owned());
    assert_eq!(kept, [by_anna("cancel"), by_anna("resume")]);
    world.finish().await;
}

#[tokio::test]
async fn a_command_to_nobody_is_no_command() {
    let world = World::new().await;
    let answer = world.engine().command(uuid::Uuid::nil(), Command::Cancel, "anna", "why").await;
    assert_eq!(answer.unwrap(), None);
    world.finish().await;
}

#[tokio::test]
async fn records_and_commands_cannot_be_changed() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    world.command(id, Command::Resume).await;
    let mut database = world.database().await;
    for change in [
        "update amends.record set payload = '{}'",
        "delete from amends.record",
        "truncate amends.record",
        "update amends.delivery set body = ''",
        "delete from amends.command",
        "truncate amends.command",
        "truncate amends.delivery, amends.mail",
    ] {
        let refused = sqlx::query(change).execute(&mut database).await.unwrap_err();
        assert!(refused.to_string().contains("never changed"), "{change}: {refused}");
    }
    world.finish().await;
}
