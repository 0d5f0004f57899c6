//! Rows of a feed that another session has locked: each costs its own key, and the rest goes on.

use std::time::Duration;

use amends_tests::kit::Kit;
use amends_tests::receiver::{Fate, Receiver};
use amends_tests::told::Tells;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::timeout;

use super::{ALL, PAUSE, finish, kit, refuses, start_all};

const KEYS: usize = 5;
const ONE: &str = "order/3";
/// What all that is done while a row is locked may take: less than one statement that waits for it.
const SOON: Duration = Duration::from_secs(7);

/// Locks these rows until the session ends.
async fn lock(kit: &Kit, rows: &str) -> PgConnection {
    let mut stranger = kit.database().await;
    let lock = format!("begin; select from amends.{rows} for update");
    stranger.execute(AssertSqlSafe(lock)).await.unwrap();
    stranger
}

async fn keys(kit: &Kit, of: &str) -> Vec<String> {
    let keys = AssertSqlSafe(format!("select key from amends.{of} order by key"));
    sqlx::query_scalar(keys).fetch_all(&mut kit.database().await).await.unwrap()
}

/// Lets time pass again and again, while new orders come.
async fn go_on(kit: &Kit, receiver: &Receiver) {
    let going_on = async {
        for round in 0..8 {
            let what = format!("new/{round}");
            start_all(kit, &what, 1).await;
            kit.pass(PAUSE).await;
            assert_eq!(receiver.taken(&format!("{what}/0")), ALL, "{what}");
        }
    };
    // Nothing waits for the row more than once.
    timeout(SOON, going_on).await.unwrap();
}

const NEW: usize = 8;

#[tokio::test]
async fn a_block_that_another_session_has_locked_costs_its_own_key_only() {
    let receiver = Receiver::new(refuses("order"));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", KEYS).await;
    kit.settle().await;
    let stranger = lock(&kit, &format!("key_block where key = '{ONE}'")).await;
    go_on(&kit, &receiver).await;
    let others = keys(&kit, "key_block where attempts > 1").await;
    assert_eq!(others, ["order/0", "order/1", "order/2", "order/4"], "the others are written");
    // What is not written is not tried again, and nothing overtakes it.
    receiver.answer(|_| Fate::Taken);
    kit.pass(Duration::from_secs(301)).await;
    for key in others {
        assert_eq!(receiver.taken(&key), ALL, "{key}");
    }
    assert_eq!(receiver.taken(ONE), Vec::<u32>::new());
    stranger.close().await.unwrap();
    finish(kit, &receiver, (KEYS + NEW) * Tells::EVENTS).await;
}

#[tokio::test]
async fn a_block_that_is_locked_when_its_head_is_taken_is_over_once_it_is_free() {
    let receiver = Receiver::new(refuses("order"));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", KEYS).await;
    kit.settle().await;
    let stranger = lock(&kit, &format!("key_block where key = '{ONE}'")).await;
    receiver.answer(|_| Fate::Taken);
    go_on(&kit, &receiver).await;
    for number in [0, 1, 2, 4] {
        assert_eq!(receiver.taken(&format!("order/{number}")), ALL);
    }
    assert_eq!(receiver.taken(ONE), [1], "the rest waits for its block");
    assert_eq!(keys(&kit, "key_block").await, [ONE]);
    stranger.close().await.unwrap();
    finish(kit, &receiver, (KEYS + NEW) * Tells::EVENTS).await;
}

#[tokio::test]
async fn a_block_that_is_over_and_locked_is_forgotten_once_it_is_free() {
    let receiver = Receiver::new(refuses("order"));
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", KEYS).await;
    kit.settle().await;
    // As those that another relay has left for a sweep.
    let over = "update amends.key_block set outbox_id = null, event_id = null";
    kit.database().await.execute(over).await.unwrap();
    receiver.answer(|_| Fate::Taken);
    let stranger = lock(&kit, &format!("key_block where key = '{ONE}'")).await;
    go_on(&kit, &receiver).await;
    assert_eq!(keys(&kit, "key_block").await, [ONE]);
    stranger.close().await.unwrap();
    finish(kit, &receiver, (KEYS + NEW) * Tells::EVENTS).await;
}

#[tokio::test]
async fn an_event_that_another_session_has_locked_is_delivered_once_and_keeps_nobody_waiting() {
    let receiver = Receiver::new(|_| Fate::Taken);
    let kit = kit(&[("events", &receiver)]).await;
    start_all(&kit, "order", KEYS).await;
    let rows = format!(
        "outbox where outbox_id = (select min(outbox_id) from amends.outbox
                                   where key = '{ONE}' and subscription = 'events')"
    );
    let stranger = lock(&kit, &rows).await;
    go_on(&kit, &receiver).await;
    for number in 0..KEYS {
        assert_eq!(receiver.taken(&format!("order/{number}")), ALL);
    }
    assert_eq!(keys(&kit, "outbox").await, [ONE], "the others are gone");
    stranger.close().await.unwrap();
    kit.pass(PAUSE).await;
    assert_eq!(receiver.asked(), (KEYS + NEW) * Tells::EVENTS);
    finish(kit, &receiver, (KEYS + NEW) * Tells::EVENTS).await;
}
