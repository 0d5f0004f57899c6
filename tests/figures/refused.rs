//! How soon events of new orders leave beside so many keys whose events are refused.

use std::time::{Duration, Instant};

use amends::Engine;
use amends_tests::receiver::{Fate, Receiver};
use amends_tests::told::{Tells, start};
use futures::{StreamExt, stream};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// How many new orders come at a time.
const ORDERS: usize = 4;
/// Events of each.
const EVENTS: usize = Tells::EVENTS;
/// How often they come.
const ROUNDS: usize = 6;

/// Has `count` keys be refused by a receiver that answers at once, and then new orders come.
pub(crate) async fn measure(options: PgConnectOptions, count: usize) {
    let receiver = Receiver::new(|key| match key.starts_with("refused") {
        true => Fate::Refused,
        false => Fate::Taken,
    });
    let builder = Engine::builder(options.clone()).workflow(Tells);
    let engine = builder.subscription("events", receiver.clone()).open().await;
    let engine = engine.expect("the engine opens");
    let begun = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(2_000, |n| start(&engine, format!("refused/{n}")))
        .await;
    println!("{count} keys after {:.1} s", begun.elapsed().as_secs_f64());
    let mut database = options.connect().await.expect("the database answers");
    let count_of = "select count(*) from amends.key_block";
    for round in 1..=ROUNDS {
        let (asked, taken, begun) = (receiver.asked(), receiver.taken_in_all(), Instant::now());
        for number in 0..ORDERS {
            start(&engine, format!("new/{round}/{number}")).await;
        }
        let mut first = None;
        while receiver.taken_in_all() < taken + ORDERS * EVENTS {
            if receiver.taken_in_all() > taken {
                first.get_or_insert_with(|| begun.elapsed());
            }
            if begun.elapsed() > Duration::from_secs(300) {
                let left = receiver.taken_in_all() - taken;
                println!("round {round}: {left} of {} after 300 s", ORDERS * EVENTS);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all = begun.elapsed();
        let first = first.unwrap_or(all).as_secs_f64();
        let blocked: i64 =
            sqlx::query_scalar(count_of).fetch_one(&mut database).await.expect("it answers");
        tokio::time::sleep(Duration::from_secs(10).saturating_sub(all)).await;
        println!(
            "round {round}: the first event left after {first:.2} s, all {} after {:.2} s; \
             {blocked} keys blocked; asked {} times in ten seconds",
            ORDERS * EVENTS,
            all.as_secs_f64(),
            receiver.asked() - asked,
        );
    }
    // Everything is taken again.
    receiver.answer(|_| Fate::Taken);
    let begun = Instant::now();
    while receiver.taken_in_all() < (count + ROUNDS * ORDERS) * EVENTS {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(900), "{}", receiver.taken_in_all());
    }
    let all = begun.elapsed().as_secs_f64();
    println!("once they are taken, all have left after {all:.1} s");
    assert_eq!(receiver.out_of_order(), Vec::<String>::new());
    engine.shutdown().await.expect("it leaves");
}
