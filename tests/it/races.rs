//! Races, each a thousand times, with jitter that follows from a seed: whoever is told something is
//! told the truth, as the clerk's own book and the histories show, and each side wins now and then.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::view::RecordView;
use amends::{Engine, Settings, Signalled, Started, Status};
use amends_tests::booking::{Book, Booked, Booking, Order, PATIENCE, news, start};
use amends_tests::chance::Chance;
use amends_tests::crash::Crash;
use amends_tests::kit::{Kit, KitBuilder};
use futures::future::join_all;
use uuid::Uuid;

const TIMES: usize = 1_000;
/// How many race at the same time.
const AT_ONCE: usize = 50;
/// Nobody wins by accident alone.
const WINS_MIN: usize = 25;

const BOTH_PLACES: Booked = Booked { taken: 2, given_back: 0 };

async fn kit(builder: KitBuilder, book: &Book) -> Kit {
    let book = book.clone();
    builder.build(move |engine| engine.workflow(Booking::with(&book))).await
}

/// The keys of each turn.
fn turns() -> impl Iterator<Item = Vec<String>> {
    (0..TIMES / AT_ONCE).map(|turn| (0..AT_ONCE).map(|n| format!("{turn}/{n}")).collect())
}

fn both_have_won(one: usize, other: usize) {
    assert_eq!(one + other, TIMES);
    assert!(one.min(other) >= WINS_MIN, "{one} to {other}");
}

#[tokio::test]
async fn a_cancel_wins_against_the_end_or_is_told_that_it_was_too_late() {
    let (book, chance) = (Book::default(), Chance::seeded(1));
    let kit = kit(Kit::builder(), &book).await;
    let (mut cancelled, mut completed) = (0, 0);
    for keys in turns() {
        let answers = join_all(keys.iter().map(async |key| {
            let id = kit.begin(start(key, Order::Straight)).await;
            chance.dawdle(400).await;
            (id, kit.command(id, Command::Cancel).await)
        }));
        let answers = answers.await;
        kit.settle().await;
        for (key, (id, answer)) in keys.iter().zip(answers) {
            let booked = book.of(key);
            match (answer, kit.status(id).await) {
                (Answer::Accepted, Status::Cancelled) => {
                    assert_eq!(booked.taken, booked.given_back, "{key}");
                    cancelled += 1;
                }
                (Answer::AlreadyEnded, Status::Completed) => {
                    assert_eq!(booked, BOTH_PLACES, "{key}");
                    completed += 1;
                }
                untrue => panic!("{key}: {untrue:?}"),
            }
        }
    }
    both_have_won(cancelled, completed);
    kit.finish().await;
}

#[tokio::test]
async fn a_signal_is_taken_whether_it_comes_before_its_instance_or_after() {
    let (book, chance) = (Book::default(), Chance::seeded(2));
    let kit = kit(Kit::builder(), &book).await;
    let (mut early, mut late) = (0, 0);
    for keys in turns() {
        let answers = join_all(keys.iter().map(async |key| {
            let starts = async {
                chance.dawdle(100).await;
                kit.begin(start(key, Order::AfterNews)).await
            };
            let sends = async {
                chance.dawdle(100).await;
                kit.engine().signal(news(key, "1")).await.unwrap()
            };
            tokio::join!(starts, sends)
        }));
        let answers = answers.await;
        kit.settle().await;
        for (key, (id, answer)) in keys.iter().zip(answers) {
            match answer {
                Signalled::Kept => early += 1,
                Signalled::Accepted(to) if to == id => late += 1,
                untrue => panic!("{key}: {untrue:?}"),
            }
            assert_eq!(kit.status(id).await, Status::Completed, "{key}, told {answer:?}");
            assert!(kit.output::<Booking>(id).await, "{key} has not heard of it");
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
        }
    }
    both_have_won(early, late);
    kit.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_as_the_wait_runs_out_is_taken_or_on_record_or_told_it_was_too_late() {
    let (book, chance) = (Book::default(), Chance::seeded(3));
    let kit = kit(Kit::builder(), &book).await;
    let (mut taken, mut missed) = (0, 0);
    for keys in turns() {
        let ids = join_all(keys.iter().map(|key| kit.begin(start(key, Order::AfterNews)))).await;
        kit.settle().await;
        kit.advance(PATIENCE);
        let sends = join_all(keys.iter().map(async |key| {
            chance.dawdle(1_000).await;
            kit.engine().signal(news(key, "1")).await.unwrap()
        }));
        let (answers, ()) = tokio::join!(sends, kit.settle());
        kit.settle().await;
        for ((key, id), answer) in keys.iter().zip(ids).zip(answers) {
            let heard = kit.output::<Booking>(id).await;
            let history = kit.history(id).await;
            let on_record = history.iter().any(|record| record.kind == "signal");
            match answer {
                Signalled::Accepted(_) => assert!(on_record, "{key}: accepted, and gone"),
                Signalled::AlreadyEnded(_) => assert!(!on_record && !heard, "{key}: not refused"),
                untrue => panic!("{key}: {untrue:?}"),
            }
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
            if heard { taken += 1 } else { missed += 1 }
        }
    }
    both_have_won(taken, missed);
    kit.finish().await;
}

/// How many workers an engine has taken over.
fn taken_over(engine: &Engine) -> usize {
    let mut registry = prometheus_client::registry::Registry::default();
    engine.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find(|line| line.starts_with("amends_workers_taken_over_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Has each instance held by a worker of its own that nobody has heard of for long.
async fn lose_workers(kit: &Kit, ids: &[Uuid]) {
    let lose = "with lost as (
                    insert into amends.worker (worker_id, name, started_at, lease_until, relays)
                    select gen_random_uuid(), id::text, $2, $2, false from unnest($1) id
                    returning worker_id, name
                )
                update amends.instance i
                set worker_id = lost.worker_id, run_at = null, status = 'running'
                from lost where lost.name = i.instance_id::text";
    sqlx::query(lose)
        .bind(ids)
        .bind(kit.now() - Settings::default().lease)
        .execute(&mut kit.database().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn of_two_workers_who_take_over_a_third_one_does() {
    let book = Book::default();
    let mut kit = kit(Kit::builder(), &book).await;
    let first = kit.engine();
    let beside = kit.succeed().await;
    let second = kit.engine();
    let ids = join_all(
        (0..AT_ONCE).map(async |n| kit.begin(start(&n.to_string(), Order::AfterNews)).await),
    );
    let ids = ids.await;
    kit.settle().await;
    for _ in 0..TIMES / AT_ONCE {
        lose_workers(&kit, &ids).await;
        tokio::join!(beside.run_dry(), kit.settle());
    }
    both_have_won(taken_over(&first), taken_over(&second));
    for (n, id) in ids.iter().enumerate() {
        let history = kit.history(*id).await;
        let losses = history.iter().filter(|record| record.kind == "worker_lost").count();
        assert_eq!(losses, TIMES / AT_ONCE, "{n} was freed as often as its worker was lost");
        assert_eq!(book.of(&n.to_string()), Booked { taken: 1, given_back: 0 });
    }
    kit.finish().await;
}

#[tokio::test]
async fn a_worker_that_goes_on_while_it_is_taken_over_writes_before_that_or_not_at_all() {
    let chance = Chance::seeded(4);
    let (mut by_the_first, mut by_another) = (0, 0);
    for keys in turns() {
        let book = Book::default();
        // The first points lie before anybody is told that his booking has begun.
        let nth = AT_ONCE + chance.below(4 * AT_ONCE as u64) as usize;
        let (crash, probes) = Crash::at(Some(nth));
        let mut kit = kit(Kit::builder().probes(probes), &book).await;
        let first = kit.engine();
        let begins = keys.iter().map(|key| first.start(start(key, Order::Straight)));
        tokio::select! {
            _ = join_all(begins) => crash.happened().await,
            () = crash.happened() => {}
        }
        let stopped = kit.succeed().await;
        kit.advance(Settings::default().lease + Duration::from_secs(1));
        let goes_on = async {
            chance.dawdle(200).await;
            crash.release();
            stopped.run_dry().await;
        };
        tokio::join!(goes_on, kit.settle());
        for key in &keys {
            // Whoever got no answer asks again.
            let begun = kit.request(start(key, Order::Straight)).await.unwrap();
            let (Started::New(id) | Started::Duplicate(id)) = begun else { panic!("{begun:?}") };
            kit.settle().await;
            assert_eq!(kit.status(id).await, Status::Completed, "{key}");
            assert_eq!(book.of(key), BOTH_PLACES, "{key}");
            let is_taken_over = |record: &RecordView| record.kind == "worker_lost";
            let records = kit.history(id).await;
            if records.iter().any(is_taken_over) { by_another += 1 } else { by_the_first += 1 }
        }
        kit.finish().await;
    }
    both_have_won(by_the_first, by_another);
}
