//! Starting an instance within the caller's own transaction: it is there if the caller commits.

use amends::{Delivery, Start, Started, Status};
use amends_tests::World;
use amends_tests::improvised::{Stage, start_request};
use futures::FutureExt;
use sqlx::{Connection, PgConnection};

async fn world() -> World {
    let stage = Stage::plain();
    stage
        .world(|saga, stage| {
            async {
                saga.publish(amends::Event::new("BEGUN", &1)).await?;
                saga.run(&stage.a, &"x".to_owned()).await
            }
            .boxed()
        })
        .await
}

/// A caller with a table of its own, whose search path knows nothing of the engine.
async fn caller(world: &World) -> PgConnection {
    let mut caller = world.database().await;
    let own = "create schema if not exists own; set search_path = own;
               create table if not exists own.booking (business_key text)";
    sqlx::raw_sql(own).execute(&mut caller).await.unwrap();
    caller
}

/// What the caller writes of its own, together with the start.
async fn book(world: &World, caller: &mut PgConnection, start: Start) -> Started {
    let booking = sqlx::query("insert into booking values ($1)").bind(&start.business_key);
    booking.execute(&mut *caller).await.unwrap();
    world.engine().start_within(caller, start).await.unwrap()
}

async fn instances(world: &World) -> usize {
    let filter = amends::view::Filter { limit: 10, ..Default::default() };
    world.engine().instances(&filter).await.unwrap().len()
}

fn delivered(body: &str) -> Start {
    let delivery = Delivery {
        source: "test".to_owned(),
        external_id: "1".to_owned(),
        body: body.as_bytes().to_vec(),
    };
    Start { delivery: Some(delivery), ..start_request("it") }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the caller's own transaction")]
async fn it_starts_with_the_commit_and_not_before() {
    let world = world().await;
    let mut caller = caller(&world).await;
    let mut transaction = caller.begin().await.unwrap();
    let started = book(&world, &mut transaction, start_request("it")).await;
    let Started::New(id) = started else { panic!("{started:?}") };
    world.settle().await;
    assert_eq!(instances(&world).await, 0, "nobody sees it yet");
    transaction.commit().await.unwrap();
    world.engine().nudge().await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(world.recorder().kinds("it"), ["BEGUN"]);
    world.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the caller's own transaction")]
async fn it_does_not_start_if_the_caller_rolls_back() {
    let world = world().await;
    let mut caller = caller(&world).await;
    let mut transaction = caller.begin().await.unwrap();
    book(&world, &mut transaction, delivered("body")).await;
    transaction.rollback().await.unwrap();
    world.settle().await;
    assert_eq!(instances(&world).await, 0);
    // Neither the key nor the delivery is used up.
    let mut transaction = caller.begin().await.unwrap();
    let started = book(&world, &mut transaction, delivered("body")).await;
    assert!(matches!(started, Started::New(_)), "{started:?}");
    transaction.commit().await.unwrap();
    world.settle().await;
    assert_eq!(instances(&world).await, 1);
    world.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the caller's own transaction")]
async fn repetitions_and_conflicts_are_answered_as_elsewhere() {
    let world = world().await;
    let mut caller = caller(&world).await;
    let mut transaction = caller.begin().await.unwrap();
    let Started::New(id) = book(&world, &mut transaction, delivered("body")).await else {
        panic!("it did not start");
    };
    let again = [start_request("it"), delivered("body"), delivered("another body")];
    let expected = [Started::Duplicate(id), Started::Replayed(id), Started::Conflict];
    for (start, expected) in again.iter().zip(expected) {
        assert_eq!(book(&world, &mut transaction, start.clone()).await, expected);
    }
    transaction.commit().await.unwrap();
    for (start, expected) in again.into_iter().zip(expected) {
        assert_eq!(world.engine().start(start).await.unwrap(), expected);
    }
    world.settle().await;
    assert_eq!(instances(&world).await, 1);
    world.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the callers' own transactions")]
async fn of_two_callers_about_one_key_the_second_waits_for_the_first() {
    for first_commits in [true, false] {
        let world = world().await;
        let (mut one, mut two) = (caller(&world).await, caller(&world).await);
        let mut first = one.begin().await.unwrap();
        let mut second = two.begin().await.unwrap();
        let Started::New(id) = book(&world, &mut first, start_request("it")).await else {
            panic!("it did not start");
        };
        let waiting = book(&world, &mut second, start_request("it"));
        let ends = async {
            let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock'
                         and datname = current_database())";
            let mut database = world.database().await;
            while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut database).await.unwrap() {}
            if first_commits {
                first.commit().await.unwrap();
            } else {
                first.rollback().await.unwrap();
            }
        };
        let (started, ()) = tokio::join!(waiting, ends);
        second.commit().await.unwrap();
        if first_commits {
            assert_eq!(started, Started::Duplicate(id));
        } else {
            assert!(matches!(started, Started::New(_)), "{started:?}");
        }
        world.settle().await;
        assert_eq!(instances(&world).await, 1);
        world.finish().await;
    }
}

#[tokio::test]
async fn an_open_transaction_of_a_caller_keeps_no_worker_from_being_taken_over() {
    let mut world = world().await;
    let mut caller = caller(&world).await;
    sqlx::raw_sql("begin").execute(&mut caller).await.unwrap();
    book(&world, &mut caller, start_request("it")).await;
    let _zombie = world.succeed().await;
    // With the caller's transaction still open.
    world.outlive_lease().await;
    let workers: i64 = sqlx::query_scalar("select count(*) from amends.worker")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!(workers, 1);
    sqlx::raw_sql("commit").execute(&mut caller).await.unwrap();
    world.settle().await;
    assert_eq!(instances(&world).await, 1);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_the_database_sees_it() {
    let world = world().await;
    let mut caller = caller(&world).await;
    let start = Start { business_key: "a\0b".to_owned(), ..start_request("it") };
    let refused = world.engine().start_within(&mut caller, start).await.unwrap_err();
    assert!(matches!(refused, amends::Error::InvalidInput(_)), "{refused}");
    world.finish().await;
}
