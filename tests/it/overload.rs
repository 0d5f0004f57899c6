//! More than can be written: refused at once, and nothing of what was accepted is lost.

use std::sync::Arc;

use amends::probe::Probes;
use amends::{Error, Started};
use amends_tests::World;
use amends_tests::scripted::{self, ONCE, Script, Scripted};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

/// More than the write queue and a batch hold.
const STARTS: usize = 18_000;

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_every_accepted_start_is_there() {
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
