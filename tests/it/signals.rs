//! Signals: kept from the moment they are accepted, taken in order, never lost.

mod identities;
mod versions;

use std::time::Duration;

use amends::command::Command;
use amends::{Signalled, Started, Status};
use amends_tests::World;
use amends_tests::improvised::{Packed, Ran, Stage, packed, send, start, start_request};
use futures::FutureExt;

const MINUTE: Duration = Duration::from_secs(60);

/// Waits for two parcels, each for an hour.
fn two_parcels<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async move {
        let first = saga.wait::<Packed>(60 * MINUTE).await?;
        let name = |packed: Option<Packed>| packed.map_or("none".to_owned(), |it| it.parcel);
        let first = saga.run(&stage.a, &name(first)).await?;
        let second = saga.wait::<Packed>(60 * MINUTE).await?;
        let second = saga.run(&stage.b, &name(second)).await?;
        Ok(format!("{first}, {second}"))
    }
    .boxed()
}

async fn stored(world: &World, table: &str) -> i64 {
    let count = format!("select count(*) from amends.{table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(&mut world.database().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn signals_are_taken_in_order_and_the_instance_sleeps_in_between() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(world.instance(id).await.step.as_deref(), Some("wait:packed"));
    assert_eq!(send(&world, "it", "one").await, Signalled::Accepted(id));
    assert_eq!(send(&world, "it", "two").await, Signalled::Accepted(id));
    world.settle().await;
    assert_eq!(stage.log(), ["a one", "b two"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_before_its_instance_is_kept_for_it() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    assert_eq!(send(&world, "it", "one").await, Signalled::Kept);
    assert_eq!(send(&world, "it", "two").await, Signalled::Kept);
    assert_eq!(send(&world, "it", "one").await, Signalled::Kept);
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a one", "b two"]);
    assert_eq!(stored(&world, "early_signal").await, 0);
    // The sender did not hear the answer, and repeats.
    assert_eq!(send(&world, "it", "two").await, Signalled::Replayed(id));
    world.finish().await;
}

#[tokio::test]
async fn an_instance_that_waits_for_nothing_ends_with_its_early_signal_on_record() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| async move { saga.run(&stage.a, &"x".to_owned()).await }.boxed())
        .await;
    assert_eq!(send(&world, "it", "one").await, Signalled::Kept);
    let id = start(&world, "it").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    let last = world.history(id).await.pop().unwrap();
    assert!(last.payload.get().contains(r#""unread":[2]"#), "{}", last.payload);
    world.finish().await;
}

#[tokio::test]
async fn the_same_signal_is_taken_once() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    assert_eq!(send(&world, "it", "one").await, Signalled::Accepted(id));
    assert_eq!(send(&world, "it", "one").await, Signalled::Replayed(id));
    world.settle().await;
    assert_eq!(stage.log(), ["a one"]);
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    send(&world, "it", "two").await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_wait_ends_without_a_signal_when_its_time_is_over() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(59 * MINUTE).await;
    assert_eq!(stage.log(), [""; 0]);
    world.pass(MINUTE).await;
    assert_eq!(stage.log(), ["a none"]);
    // The next one is for the next wait, whatever a replay asks for first.
    send(&world, "it", "late").await;
    world.settle().await;
    assert_eq!(stage.log(), ["a none", "b late"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_to_an_instance_that_has_ended_is_told_so() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(send(&world, "it", "one").await, Signalled::AlreadyEnded(id));
    assert_eq!(stored(&world, "mail").await, 1);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_does_not_move_an_instance_that_is_stuck() {
    let stage = Stage::plain();
    let world = stage.world(|_, _| async { panic!("as the test says") }.boxed()).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(send(&world, "it", "one").await, Signalled::Accepted(id));
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn signals_that_nobody_can_take_are_refused() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let refusal = async |change: fn(&mut amends::SendSignal)| {
        let mut signal = packed("it", "one");
        change(&mut signal);
        world.engine().signal(signal).await.unwrap_err().to_string()
    };
    let unknown = refusal(|signal| signal.name = "unpacked".to_owned()).await;
    assert_eq!(unknown, "input: no signal unpacked is waited for; there are: packed");
    let body = refusal(|signal| signal.body = r#"{"box":1}"#.to_owned()).await;
    assert!(body.starts_with("input: signal packed: missing field `parcel`"), "{body}");
    let workflow = refusal(|signal| signal.workflow = "nothing".to_owned()).await;
    assert_eq!(workflow, "no workflow nothing is registered");
    assert!(refusal(|signal| signal.business_key.clear()).await.contains("business key"));
    assert_eq!(stored(&world, "early_signal").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn news_starts_the_instance_or_goes_to_the_one_that_is_there() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let news = async |parcel: &str| {
        let told = world.engine().signal_or_start(start_request("it"), packed("it", parcel)).await;
        told.unwrap()
    };
    let (started, signalled) = news("one").await;
    let Started::New(id) = started else { panic!("{started:?}") };
    assert_eq!(signalled, Some(Signalled::Accepted(id)));
    assert_eq!(news("two").await, (Started::Duplicate(id), Some(Signalled::Accepted(id))));
    assert_eq!(news("one").await, (Started::Duplicate(id), Some(Signalled::Replayed(id))));
    world.settle().await;
    assert_eq!(stage.log(), ["a one", "b two"]);
    world.finish().await;
}

#[tokio::test]
async fn a_signal_survives_the_worker_that_had_read_it() {
    let stage = Stage::plain();
    let mut world = stage.world(two_parcels).await;
    let id = start(&world, "it").await;
    world.settle().await;
    send(&world, "it", "one").await;
    world.crash().await;
    world.outlive_lease().await;
    send(&world, "it", "two").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a one", "b two"]);
    world.finish().await;
}
