//! More than can be written: refused at once, and nothing of what was accepted is lost. A crowd
//! that can be written: it is, by a line of its own.

use std::sync::Arc;
use std::time::Duration;

use amends::probe::Probes;
use amends::{Delivery, Error, Start, Started, Status};
use amends_tests::World;
use amends_tests::booking::{Book, Booking, Order, start};
use amends_tests::kit::Kit;
use amends_tests::scripted::{self, ONCE, Script, Scripted};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than the write queue and a batch hold.
const STARTS: usize = 18_000;

/// A world in which nothing is written until the token is cancelled.
async fn world_without_its_database() -> (World, CancellationToken) {
    let database_is_back = CancellationToken::new();
    let waits_for = database_is_back.clone();
    let probes = Probes::new(move |point| {
        let waits_for = waits_for.clone();
        Box::pin(async move {
            if point == "commit.before" {
                waits_for.cancelled().await;
            }
        })
    });
    let script = Script::new(ONCE, []);
    let world = World::builder()
        .probes(probes)
        .engine(move |engine| engine.workflow(Scripted(script.clone())))
        .build()
        .await;
    (world, database_is_back)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_every_accepted_start_is_there() {
    let (world, database_is_back) = world_without_its_database().await;
    let engine = Arc::new(world.engine().clone());
    let mut starts: FuturesUnordered<_> = (0..STARTS)
        .map(|number| {
            let engine = Arc::clone(&engine);
            async move { engine.start(scripted::start(&format!("{number}"))).await }
        })
        .collect();
    // While nothing can be written, only refusals are answered.
    let first = starts.next().await.unwrap();
    assert!(matches!(first, Err(Error::Overloaded)), "{first:?}");
    database_is_back.cancel();
    let answers: Vec<_> = starts.collect().await;
    let accepted = answers.iter().filter(|answer| matches!(answer, Ok(Started::New(_)))).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(Error::Overloaded))).count();
    assert_eq!(accepted + refused + 1, STARTS);
    assert!(accepted >= 16_384, "only {accepted} were accepted");
    let stored: i64 = sqlx::query_scalar("select count(*) from amends.instance")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!(stored, accepted as i64);
    world.engine().abandon();
}

/// Seven of these fit into what waiting writes may take of memory, and eight do not.
const LARGE_BYTES: usize = 32 * 1024 * 1024;
const LARGE_FITTING: usize = 7;

fn large(number: usize) -> Start {
    let delivery = Delivery {
        source: "test".to_owned(),
        external_id: number.to_string(),
        body: vec![0; LARGE_BYTES],
    };
    Start { delivery: Some(delivery), ..scripted::start(&number.to_string()) }
}

#[tokio::test]
async fn what_is_too_much_for_memory_is_refused_until_there_is_room_again() {
    let (world, database_is_back) = world_without_its_database().await;
    let engine = world.engine();
    let start = |number| engine.start(large(number));
    let mut starts: FuturesUnordered<_> = (0..=LARGE_FITTING).map(start).collect();
    // While nothing can be written, only a refusal is answered.
    let first = timeout(PATIENCE, starts.next()).await.expect("one is refused").unwrap();
    assert!(matches!(first, Err(Error::Overloaded)), "{first:?}");
    database_is_back.cancel();
    let accepted: Vec<_> = starts.collect().await;
    let is_new = |it: &Result<Started, Error>| matches!(it, Ok(Started::New(_)));
    assert!(accepted.len() == LARGE_FITTING && accepted.iter().all(is_new), "{accepted:?}");
    let later = start(LARGE_FITTING + 1).await;
    assert!(is_new(&later), "{later:?}");
    engine.abandon();
}

/// The sessions that have written batches, the one that did so last first.
async fn lines(kit: &Kit) -> Vec<i32> {
    let sessions = "select pid from pg_stat_activity
                    where datname = current_database() and query like '-- One commit of a worker%'
                    order by query_start desc";
    sqlx::query_scalar(sessions).fetch_all(&mut kit.database().await).await.unwrap()
}

#[tokio::test]
async fn a_crowd_is_written_by_a_line_of_its_own_until_it_has_gone() {
    let book = Book::default();
    let kit = Kit::builder().build(move |engine| engine.workflow(Booking::with(&book))).await;
    let mut ids = vec![kit.begin(start("first", Order::Straight)).await];
    kit.settle().await;
    let [usual] = lines(&kit).await[..] else { panic!("one line, and not two") };
    let mut turns = 0;
    for crowd in ["one", "another"] {
        let keys: Vec<_> = (0..200).map(|number| format!("{crowd} crowd, {number}")).collect();
        ids.extend(join_all(keys.iter().map(|key| kit.begin(start(key, Order::Straight)))).await);
        kit.settle().await;
        let [latest, other] = lines(&kit).await[..] else { panic!("two lines") };
        assert!(latest != usual && other == usual, "after {crowd} crowd");
        while lines(&kit).await[0] != usual {
            turns += 1;
            assert!(turns < 100, "the line of the crowd is still in use");
            ids.push(kit.begin(start(&format!("turn {turns}"), Order::Straight)).await);
            kit.settle().await;
        }
    }
    for id in ids {
        assert_eq!(kit.status(id).await, Status::Completed);
    }
    kit.finish().await;
}
