//! A write that the database refuses, a row that somebody has locked, a statement that has no
//! answer: each costs itself, and nobody else.

use std::time::Duration;

use amends::probe::Probes;
use amends::{Error, Status};
use amends_tests::booking::{Book, Booking, Order, start};
use amends_tests::detour::Detour;
use amends_tests::kit::Kit;
use amends_tests::process::eventually;
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const OTHERS: i64 = 40;

async fn kit() -> Kit {
    let book = Book::default();
    Kit::builder().build(move |engine| engine.workflow(Booking::with(&book))).await
}

/// Starts one booking, and a crowd beside it.
async fn begin(kit: &Kit) -> uuid::Uuid {
    let keys: Vec<_> = (0..OTHERS).map(|number| format!("other {number}")).collect();
    let others = keys.iter().map(|key| kit.begin(start(key, Order::Straight)));
    let (one, _) = tokio::join!(kit.begin(start("one", Order::Straight)), join_all(others));
    one
}

async fn others_complete(kit: &Kit) {
    eventually("the others have completed", PATIENCE, || async {
        let count = "select count(*) from amends.instance where status = 'completed'";
        let count: i64 =
            sqlx::query_scalar(count).fetch_one(&mut kit.database().await).await.unwrap();
        if count == OTHERS { Ok(()) } else { Err(format!("{count} have")) }
    })
    .await;
}

async fn execute(kit: &Kit, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut kit.database().await).await.unwrap();
}

/// Has the database refuse every record of one instance, with an error of this kind.
async fn refuse(kit: &Kit, id: uuid::Uuid, code: &str) {
    execute(
        kit,
        &format!(
            "create function public.refuse() returns trigger language plpgsql as $$ begin
                 if new.instance_id = '{id}' then
                     raise 'not this one' using errcode = '{code}';
                 end if;
                 return new;
             end $$;
             create trigger refuse before insert on amends.record
                 for each row execute function public.refuse()"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_write_that_the_database_refuses_keeps_nobody_else_waiting() {
    // One that says nothing about why, and one that passes as a rule.
    for code in ["P0001", "40001"] {
        let kit = kit().await;
        let one = begin(&kit).await;
        refuse(&kit, one, code).await;
        tokio::join!(kit.settle(), async {
            others_complete(&kit).await;
            assert_ne!(kit.status(one).await, Status::Completed);
            execute(&kit, "drop trigger refuse on amends.record").await;
        });
        // What it had done was not forgotten meanwhile.
        assert_eq!(kit.status(one).await, Status::Completed);
        kit.finish().await;
    }
}

#[tokio::test]
async fn a_start_that_the_database_refuses_is_to_be_asked_for_again() {
    let kit = kit().await;
    execute(
        &kit,
        "create function public.refuse() returns trigger language plpgsql as $$ begin
             raise 'no instances today';
         end $$;
         create trigger refuse before insert on amends.instance
             for each row execute function public.refuse()",
    )
    .await;
    let refused = kit.request(start("one", Order::Straight)).await;
    assert!(refused.as_ref().is_err_and(Error::is_transient), "{refused:?}");
    execute(&kit, "drop trigger refuse on amends.instance").await;
    let one = kit.begin(start("one", Order::Straight)).await;
    kit.settle().await;
    assert_eq!(kit.status(one).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_keeps_nobody_else_waiting() {
    let kit = kit().await;
    let one = begin(&kit).await;
    let mut database = kit.database().await;
    let lock = format!("begin; select from amends.instance where instance_id = '{one}' for update");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut database).await.unwrap();
    tokio::join!(kit.settle(), async {
        others_complete(&kit).await;
        assert_ne!(kit.status(one).await, Status::Completed);
        database.close().await.unwrap();
    });
    assert_eq!(kit.status(one).await, Status::Completed);
    kit.finish().await;
}

/// More readers than there are sessions of any sort, and none gets an answer.
#[tokio::test]
async fn readers_that_wait_keep_no_instance_waiting() {
    const READERS: usize = 24;
    const READING_SESSIONS: i64 = 4;
    let kit = kit().await;
    let mut stranger = kit.database().await;
    let lock = "begin; lock table amends.key_command in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut stranger).await.unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let engine = kit.engine();
        readers.spawn(async move { engine.key_commands(None, 1).await });
    }
    let waiting = async || -> i64 {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar(waiting).fetch_one(&mut kit.database().await).await.unwrap()
    };
    eventually("the readers wait", PATIENCE, || async {
        let waiting = waiting().await;
        if waiting >= READING_SESSIONS { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
    begin(&kit).await;
    kit.settle().await;
    // By no session of the engine.
    let completed = "select count(*) from amends.instance where status = 'completed'";
    let completed: i64 =
        sqlx::query_scalar(completed).fetch_one(&mut kit.database().await).await.unwrap();
    assert_eq!(completed, OTHERS + 1);
    assert_eq!(waiting().await, READING_SESSIONS, "they have waited all the time");
    stranger.close().await.unwrap();
    readers.shutdown().await;
    kit.finish().await;
}

/// As behind a router that has forgotten its connections: what is sent is lost, and nobody hears of it.
#[tokio::test]
async fn connections_that_have_gone_silent_keep_nobody_waiting_for_long() {
    let detour = Detour::default();
    let book = Book::default();
    let kit = Kit::builder().detour(&detour);
    let kit = kit.build(move |engine| engine.workflow(Booking::with(&book))).await;
    let begun = kit.begin(start("begun", Order::Straight)).await;
    kit.settle().await;
    let unsettled = kit.begin(start("unsettled", Order::Straight)).await;
    detour.fall_silent();
    // Nobody looks until it has fallen silent.
    tokio::task::yield_now().await;
    let later = kit.begin(start("later", Order::Straight)).await;
    eventually("all have completed", PATIENCE, || async {
        // A statement that has had no answer is an error, and the next one gets through.
        let settled = kit.engine().run_until_idle().await.map_err(|error| error.to_string());
        let mut all = Vec::new();
        for id in [begun, unsettled, later] {
            all.push(kit.status(id).await);
        }
        settled?;
        if all == [Status::Completed; 3] { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    kit.finish().await;
}

#[tokio::test]
async fn a_server_is_not_ready_while_a_write_has_no_answer() {
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
    let book = Book::default();
    let kit = Kit::builder().probes(probes);
    let kit = kit.build(move |engine| engine.workflow(Booking::with(&book))).await;
    let engine = kit.engine();
    engine.ready().await.unwrap();
    let asked = tokio::spawn({
        let engine = engine.clone();
        async move { engine.start(start("one", Order::Straight)).await }
    });
    let not_ready = eventually("it says so", PATIENCE, || async {
        kit.advance(Duration::from_secs(6));
        engine.ready().await.err().ok_or_else(|| "it is ready".to_owned())
    })
    .await;
    assert!(matches!(not_ready, Error::Stalled(_)), "{not_ready}");
    database_is_back.cancel();
    asked.await.unwrap().unwrap();
    engine.ready().await.unwrap();
    kit.settle().await;
    kit.finish().await;
}
