//! Whoever asks may go away at any moment, as a client does that hangs up: no session is left in a
//! transaction, and whatever was reported as done can be seen by others.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use amends::command::Command;
use amends::view::Filter;
use amends::{Delivery, Engine, Error, Signalled, Started, Verdict};
use amends_tests::booking::{Book, Booking, Order, news, start};
use amends_tests::chance::Chance;
use amends_tests::detour::Detour;
use amends_tests::kit::Kit;
use futures::stream::{self, StreamExt};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};
use uuid::Uuid;

const DROPPED: usize = 10_000;
/// How many kinds of things are asked for.
const KINDS: usize = 12;
/// How often each kind is answered at least.
const ANSWERED: usize = 50;
/// How many ask at the same time.
const AT_ONCE: usize = 32;
/// Of a hundred who wait, so many go away at either moment of a step.
const GOING_AWAY: u64 = 20;

/// What was reported as done: the query that has to find it.
type Done = Option<String>;

/// Asks for one thing of many.
async fn ask(kit: &Kit, known: &[Uuid], n: usize) -> Result<Done, Error> {
    let engine = kit.engine();
    let id = known[n % known.len()];
    let key = format!("dropped/{n}");
    match n % KINDS {
        0 => begin(&engine, &key).await,
        1 => signal(&engine, &format!("known/{}", n % known.len()), n).await,
        2 => signal(&engine, &key, n).await,
        3 => command(&engine, id, Command::Hold, n).await,
        4 => command(&engine, id, Command::Release, n).await,
        5 => begin_within(kit, &key).await,
        6 => {
            let (source, body) = ("dropped".to_owned(), b"x".to_vec());
            engine
                .record_delivery(
                    Delivery { source, external_id: key.clone(), body },
                    Verdict::ignored("TOPIC_UNUSED"),
                )
                .await?;
            Ok(Some(format!("from amends.delivery where external_id = '{key}'")))
        }
        7 => {
            let filter = Filter { limit: 20, ..Filter::default() };
            engine.instances(&filter).await.map(|_| None)
        }
        8 => engine.history(id).await.map(|_| None),
        9 => engine.preview(id, Command::Cancel).await.map(|_| None),
        10 => engine.dependencies().await.map(|_| None),
        _ => engine.ready().await.map(|()| None),
    }
}

/// Waits for what is done, but may go away at each step: as soon as it is under way, or when it is
/// ready to go on. How far it gets does not depend on how fast this machine is.
async fn with_little_patience<T>(chance: &Chance, asked: impl Future<Output = T>) -> Option<T> {
    let mut asked = pin!(asked);
    let mut is_going_away = false;
    poll_fn(|context| {
        if is_going_away {
            return Poll::Ready(None);
        }
        if let Poll::Ready(done) = asked.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        is_going_away = chance.percent(GOING_AWAY);
        if chance.percent(GOING_AWAY) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

fn instance(id: Uuid) -> String {
    format!(
        "from amends.instance join amends.record using (instance_id) where instance_id = '{id}'"
    )
}

async fn begin(engine: &Engine, key: &str) -> Result<Done, Error> {
    match engine.start(start(key, Order::AfterNews)).await? {
        Started::New(id) | Started::Duplicate(id) => Ok(Some(instance(id))),
        other => panic!("{key}: {other:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the caller's own transaction")]
async fn begin_within(kit: &Kit, key: &str) -> Result<Done, Error> {
    let mut caller = kit.way().connect().await?;
    let mut transaction = caller.begin().await?;
    let begun = kit.engine().start_within(&mut transaction, start(key, Order::AfterNews)).await?;
    transaction.commit().await?;
    let Started::New(id) = begun else { panic!("{key}: {begun:?}") };
    Ok(Some(instance(id)))
}

async fn signal(engine: &Engine, key: &str, n: usize) -> Result<Done, Error> {
    let id = format!("signal {n}");
    let table = match engine.signal(news(key, &id)).await? {
        Signalled::Accepted(_) => format!("from amends.mail where mail_id = '{id}'"),
        Signalled::Kept => format!("from amends.early_signal where signal_id = '{id}'"),
        other => panic!("{key}: {other:?}"),
    };
    Ok(Some(table))
}

async fn command(engine: &Engine, id: Uuid, command: Command, n: usize) -> Result<Done, Error> {
    let reason = format!("for reason {n}");
    let answer = engine.command(id, command, "anna", &reason).await?.unwrap();
    let answer = answer.as_str();
    Ok(Some(format!("from amends.command where reason = '{reason}' and answer = '{answer}'")))
}

async fn is_there(beside: &PgPool, done: &str) -> bool {
    let query = format!("select exists (select {done})");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(beside).await.unwrap()
}

#[tokio::test]
async fn ten_thousand_dropped_futures_leave_no_transaction_open_and_no_report_untrue() {
    let (detour, chance, book) = (Detour::default(), Chance::seeded(1), Book::default());
    let builder = Kit::builder().detour(&detour);
    let kit = builder.build(move |engine| engine.workflow(Booking::with(&book))).await;
    let beside = PgPool::connect_with(kit.options()).await.unwrap();
    let mut known = Vec::new();
    for n in 0..50 {
        known.push(kit.begin(start(&format!("known/{n}"), Order::AfterNews)).await);
    }
    kit.settle().await;
    let dropped = AtomicUsize::new(0);
    let answered = [const { AtomicUsize::new(0) }; KINDS];
    let is_over = || {
        let is_often = |count: &AtomicUsize| count.load(Ordering::Relaxed) >= ANSWERED;
        dropped.load(Ordering::Relaxed) >= DROPPED && answered.iter().all(is_often)
    };
    stream::iter(0..)
        .take_while(|_| std::future::ready(!is_over()))
        .for_each_concurrent(AT_ONCE, async |n| {
            let Some(done) = with_little_patience(&chance, ask(&kit, &known, n)).await else {
                dropped.fetch_add(1, Ordering::Relaxed);
                return;
            };
            answered[n % KINDS].fetch_add(1, Ordering::Relaxed);
            if let Some(done) = done.unwrap_or_else(|error| panic!("{n}: {error}")) {
                assert!(is_there(&beside, &done).await, "reported and not there: {done}");
            }
        })
        .await;
    // What was asked goes on without whoever asked it. The server ends a session that stays in its
    // transaction, and its saying so is a refusal.
    let open = "select count(*) from pg_stat_activity where datname = current_database()
                and application_name = 'amends' and state like 'idle in transaction%'";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&beside).await.unwrap() > 0 {}
    kit.settle().await;
    assert_eq!(detour.refusals(), [""; 0], "nobody stays in a transaction, or runs into one");
    kit.finish().await;
}
