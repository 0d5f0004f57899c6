//! Steps whose SQL commits together with their record: exactly once, whatever is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Status, StepError};
use amends_tests::World;
use amends_tests::scripted::{Act, retry, unknown};
use amends_tests::shop::{Shop, Take, open, start, stock};
use futures::FutureExt;
use tokio::sync::{Barrier, Notify};

mod lost;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// An attempt that is to time out does so in real time.
const SHORT: Duration = Duration::from_millis(200);

/// Has what waits for another attempt complete. On a machine that stands still for a moment one
/// more of them may time out.
async fn complete(world: &World, id: uuid::Uuid) {
    for _ in 0..10 {
        world.pass(HOUR).await;
        if world.instance(id).await.status == Status::Completed {
            return;
        }
    }
    panic!("it does not complete: {:?}", outline(world, id).await);
}

fn fails() -> Act {
    Act::Err(StepError::refused("NO", "no"))
}

fn taking(take: Take) -> Shop {
    Shop { take, ..Shop::default() }
}

/// A world in which a sale takes a tea.
async fn tea(take: Take, pieces: i32) -> World {
    open(taking(take).builder(take_tea), pieces).await
}

fn take_tea<'a>(saga: &'a amends::Saga, shop: &'a Shop, _: String) -> amends_tests::shop::Ran<'a> {
    async { saga.transaction(&shop.take, &"tea".to_owned()).await }.boxed()
}

/// A sale that takes a tea and a cup, then calls, then takes another tea; the call may fail.
fn take_and_call<'a>(
    saga: &'a amends::Saga,
    shop: &'a Shop,
    _: String,
) -> amends_tests::shop::Ran<'a> {
    async {
        saga.transaction(&shop.take, &"tea,cup".to_owned()).await?;
        saga.run(&shop.a, &"x".to_owned()).await?;
        saga.transaction(&shop.take, &"tea".to_owned()).await
    }
    .boxed()
}

async fn code(world: &World, id: uuid::Uuid) -> String {
    world.instance(id).await.failure.unwrap().code.into_owned()
}

/// The kinds and steps of an instance's records.
async fn outline(world: &World, id: uuid::Uuid) -> Vec<String> {
    amends_tests::timeline::outline(&world.history(id).await)
}

#[tokio::test]
async fn whatever_an_attempt_fails_with_nothing_of_it_has_happened() {
    for act in [retry("later"), unknown(), Act::Panic, Act::Hang] {
        let take = Take::default().acts([act.clone()]);
        let is_endless = matches!(act, Act::Hang);
        let world = tea(if is_endless { take.timeout(SHORT) } else { take }, 10).await;
        let id = start(&world, "it").await;
        world.settle().await;
        assert_eq!(stock(&world).await, (10, 0, 0), "after {act:?}");
        let failed = world.history(id).await.pop().unwrap();
        assert!(failed.payload.get().contains(r#""outcome":"retry""#), "after {act:?}");
        complete(&world, id).await;
        assert_eq!(stock(&world).await, (9, 1, 0), "after {act:?}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_failure_for_good_leaves_nothing_and_undoes_what_came_before() {
    let take = Take::default().acts([Act::Succeed, fails()]);
    let world = open(taking(take).builder(take_and_call), 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(stock(&world).await, (10, 2, 2));
    world.finish().await;
}

#[tokio::test]
async fn an_undo_that_fails_has_not_happened_and_is_done_once() {
    let undos = [retry("later"), Act::Panic, unknown()];
    let take = Take::default().acts([Act::Succeed, fails()]).undos(undos);
    let world = open(taking(take).builder(take_and_call), 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stock(&world).await, (9, 2, 0));
    for _ in 0..3 {
        world.pass(MINUTE).await;
    }
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(stock(&world).await, (10, 2, 2));
    world.finish().await;
}

#[tokio::test]
async fn branches_take_stock_side_by_side() {
    let met = Arc::new(Barrier::new(2));
    let barrier = Arc::clone(&met);
    // Both are in their transactions at the same time.
    let take = Take::default().also(move |_, call| {
        let (barrier, first) = (Arc::clone(&barrier), call.attempt == 1);
        async move {
            if first {
                barrier.wait().await;
            }
        }
        .boxed()
    });
    let builder = taking(take).builder(|saga, shop, _| {
        async {
            let (tea, cup) = ("tea".to_owned(), "cup".to_owned());
            let (left, right) = (saga.at("left"), saga.at("right"));
            tokio::try_join!(
                left.transaction(&shop.take, &tea),
                right.transaction(&shop.take, &cup)
            )?;
            Ok("done".to_owned())
        }
        .boxed()
    });
    let world = open(builder, 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stock(&world).await, (9, 2, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_that_arrives_in_the_middle_is_true() {
    let (taken, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (said, heard) = (Arc::clone(&taken), Arc::clone(&go_on));
    let take = Take::default().also(move |_, _| {
        let (said, heard) = (Arc::clone(&said), Arc::clone(&heard));
        async move {
            said.notify_one();
            heard.notified().await;
        }
        .boxed()
    });
    let world = tea(take, 10).await;
    let id = start(&world, "it").await;
    taken.notified().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    go_on.notify_one();
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    let (pieces, taken, given_back) = stock(&world).await;
    assert_eq!((pieces, taken), (10, given_back));
    world.finish().await;
}

#[tokio::test]
async fn a_deadlock_is_attempted_again_and_both_are_done_once() {
    let met = Arc::new((Barrier::new(2), AtomicUsize::new(0)));
    let take = Take::default().also(move |_, _| {
        let met = Arc::clone(&met);
        async move {
            let (barrier, came) = &*met;
            if came.fetch_add(1, Ordering::SeqCst) < 2 {
                // Each has one article, and wants the other one's.
                barrier.wait().await;
            }
        }
        .boxed()
    });
    // Its key says what a sale takes, in which order.
    let builder = taking(take).builder(|saga, shop, articles| {
        async move { saga.transaction(&shop.take, &articles).await }.boxed()
    });
    let world = open(builder, 10).await;
    let ids = [start(&world, "tea,cup").await, start(&world, "cup,tea").await];
    world.settle().await;
    world.pass(MINUTE).await;
    let mut interrupted = 0;
    for id in ids {
        assert_eq!(world.instance(id).await.status, Status::Completed);
        let records = world.history(id).await;
        interrupted +=
            records.iter().filter(|it| it.payload.get().contains("SQL_INTERRUPTED")).count();
    }
    assert_eq!(interrupted, 1, "one of the two was the victim");
    assert_eq!(stock(&world).await, (8, 4, 0));
    world.finish().await;
}

#[tokio::test]
async fn sales_side_by_side_never_sell_more_than_there_is() {
    let world = tea(Take::default(), 10).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(start(&world, &n.to_string()).await);
    }
    world.settle().await;
    let (mut completed, mut compensated) = (0, 0);
    for id in ids {
        match world.instance(id).await.status {
            Status::Completed => completed += 1,
            Status::Compensated => compensated += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((completed, compensated), (10, 30));
    assert_eq!(stock(&world).await, (0, 10, 0));
    world.finish().await;
}

#[tokio::test]
async fn what_the_database_refuses_fails_the_step_for_good() {
    let take = Take::default().also(|connection, _| {
        async move {
            // The step itself sees nothing: the commit fails.
            let deferred = "create table shop.odd (n int unique deferrable initially deferred);
                            insert into shop.odd values (1), (1)";
            sqlx::raw_sql(deferred).execute(connection).await.unwrap();
        }
        .boxed()
    });
    let world = tea(take, 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    assert_eq!(code(&world, id).await, "SQL_REFUSED");
    assert_eq!(stock(&world).await, (10, 0, 0));
    world.finish().await;
}

#[tokio::test]
async fn money_of_a_step_and_of_its_undo_is_in_the_ledger_once() {
    let take = Take::default().takes_money_under("till").acts([Act::Succeed, fails()]);
    let world = open(taking(take).builder(take_and_call), 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    let kinds: Vec<String> = sqlx::query_scalar("select kind from amends.ledger order by seq")
        .fetch_all(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!(kinds, ["capture", "refund"]);
    world.finish().await;
}

#[tokio::test]
async fn a_record_that_the_database_refuses_leaves_nothing_in_doubt() {
    // The ledger's text cannot hold a NUL.
    let world = tea(Take::default().takes_money_under("till\0"), 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(code(&world, id).await, "RECORD_REFUSED");
    assert_eq!(stock(&world).await, (10, 0, 0));
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(stock(&world).await, (10, 0, 0), "there was nothing to give back");
    world.finish().await;
}

#[tokio::test]
async fn a_nested_transaction_is_a_savepoint() {
    let take = Take::default().also(|connection, _| {
        async move {
            #[expect(clippy::disallowed_methods, reason = "that is the question")]
            let mut nested = sqlx::Connection::begin(connection).await.unwrap();
            let more = "insert into shop.taken values ('nested', 'tea')";
            sqlx::query(more).execute(&mut *nested).await.unwrap();
            nested.commit().await.unwrap();
        }
        .boxed()
    });
    let world = tea(take.acts([retry("later"), Act::Succeed]), 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stock(&world).await, (10, 0, 0), "what was nested is rolled back as well");
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stock(&world).await, (9, 2, 0));
    world.finish().await;
}

/// What an author may leave in a session.
const LEFT: &str = "
    set app.tenant = 'somebody';
    set statement_timeout = 1;
    reset statement_timeout;
    create temporary table if not exists mine (n int);
    prepare mine as select 1;
    listen mine;
    select pg_advisory_lock(4711)";

/// What of it is there in a session that has it.
const FOUND: &str = "
    select concat_ws(' ', current_setting('app.tenant', true), to_regclass('pg_temp.mine'),
        (select name from pg_prepared_statements where from_sql limit 1),
        (select pg_listening_channels() limit 1),
        (select objid from pg_locks where locktype = 'advisory' and objid = 4711 limit 1))";

#[tokio::test]
async fn what_a_step_leaves_in_its_session_is_gone_when_another_gets_it() {
    let found = Arc::new(std::sync::Mutex::new(Vec::new()));
    let finds = Arc::clone(&found);
    let take = Take::default().also(move |connection, _| {
        let finds = Arc::clone(&finds);
        async move {
            let session = format!("select concat(pg_backend_pid(), ': ', ({FOUND}))");
            let before = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(session));
            let before = before.fetch_one(&mut *connection).await.unwrap();
            finds.lock().unwrap().push(before);
            sqlx::raw_sql(LEFT).execute(&mut *connection).await.unwrap();
        }
        .boxed()
    });
    let world = tea(take, 10).await;
    for number in 0..5 {
        let id = start(&world, &format!("it/{number}")).await;
        world.settle().await;
        assert_eq!(world.instance(id).await.status, Status::Completed);
    }
    let found = found.lock().unwrap().clone();
    let sessions: std::collections::HashSet<_> = found.iter().collect();
    assert!(sessions.len() < found.len(), "no session was used again: {found:?}");
    assert!(found.iter().all(|found| found.ends_with(": ")), "{found:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_step_that_ends_its_transaction_by_hand_is_put_to_a_person() {
    let take = Take::default().also(|connection, _| {
        async move {
            sqlx::raw_sql("commit").execute(connection).await.unwrap();
        }
        .boxed()
    });
    let world = tea(take, 10).await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Stuck);
    assert_eq!(code(&world, id).await, "TRANSACTION_ENDED");
    assert_eq!(stock(&world).await, (9, 1, 0), "it is not attempted again by itself");
    world.finish().await;
}

#[tokio::test]
async fn a_transaction_that_waits_for_a_lock_gives_up_at_its_time_out() {
    let world = tea(Take::default().timeout(SHORT), 10).await;
    let mut other = world.database().await;
    sqlx::raw_sql("begin; select from shop.stock for update").execute(&mut other).await.unwrap();
    let id = start(&world, "it").await;
    world.settle().await;
    let failed = world.history(id).await.pop().unwrap();
    let code = failed.payload.get();
    assert!(code.contains("SQL_INTERRUPTED") || code.contains("STEP_TIMED_OUT"), "{code}");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    complete(&world, id).await;
    assert_eq!(stock(&world).await, (9, 1, 0));
    world.finish().await;
}
