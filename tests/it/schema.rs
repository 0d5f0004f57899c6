//! Who may do what with the schema, and builds that are older or newer than it.

use std::time::Duration;

use amends::{Engine, Error, Status};
use amends_tests::booking::{Book, Booking, Order, start};
use amends_tests::cluster;
use amends_tests::kit::{Kit, KitBuilder};
use amends_tests::process::eventually;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::everywhere::SCENARIOS;

const PATIENCE: Duration = Duration::from_secs(60);
/// A role that runs servers.
const SERVER: &str = "runs_servers";

fn book(book: &Book) -> impl Fn(amends::EngineBuilder) -> amends::EngineBuilder + use<> {
    let book = book.clone();
    move |engine| engine.workflow(Booking::with(&book))
}

async fn code(session: &mut sqlx::PgConnection, statement: &str) -> String {
    match session.execute(AssertSqlSafe(statement)).await {
        Ok(done) => panic!("{statement}: {done:?}"),
        Err(refused) => {
            let refused = refused.into_database_error().unwrap();
            refused.code().unwrap_or_default().into_owned()
        }
    }
}

#[tokio::test]
async fn servers_need_no_more_than_their_rights_for_anything_that_they_do() {
    for (name, scenario) in SCENARIOS {
        println!("{name}");
        scenario(KitBuilder::default().role(SERVER)).await;
    }
}

#[tokio::test]
async fn who_runs_servers_can_neither_change_nor_delete_what_is_append_only() {
    let kit = Kit::builder().role(SERVER).build(book(&Book::default())).await;
    kit.begin(start("one", Order::Straight)).await;
    kit.settle().await;
    let mut session = kit.way().connect().await.unwrap();
    let mut owner = kit.database().await;
    let grown = "select relname::text from pg_class
                 where relnamespace = 'amends'::regnamespace and relkind = 'r'
                   and not has_table_privilege($1, oid, 'update, delete')";
    let mut grown: Vec<String> =
        sqlx::query_scalar(grown).bind(SERVER).fetch_all(&mut owner).await.unwrap();
    grown.sort();
    assert_eq!(
        grown,
        [
            "_sqlx_migrations",
            "attribute",
            "command",
            "commit_loss",
            "delivery",
            "delivery_outcome",
            "former_key",
            "identity",
            "intake_case_command",
            "key_command",
            "ledger",
            "loss_acknowledgement",
            "mail",
            "record",
            "schedule_command",
            "schedule_definition",
            "subscription_command",
        ]
    );
    for table in &grown {
        for statement in [
            format!("delete from amends.{table}"),
            format!("truncate amends.{table}"),
            format!("alter table amends.{table} disable trigger all"),
            format!("drop table amends.{table}"),
        ] {
            assert_eq!(code(&mut session, &statement).await, "42501", "{statement}");
        }
    }
    assert_eq!(code(&mut session, "update amends.ledger set amount_minor = 0").await, "42501");
    let triggers_off = "set session_replication_role = replica";
    assert_eq!(code(&mut session, triggers_off).await, "42501");
    // A trigger keeps the owner from it as well.
    assert_eq!(code(&mut owner, "delete from amends.record").await, "42501");
    kit.finish().await;
}

#[tokio::test]
async fn who_runs_servers_is_told_who_has_to_bring_the_schema_up_to_date() {
    let options = cluster::database().await;
    cluster::make_role(&options, SERVER).await;
    amends::grant(options.clone(), SERVER).await.unwrap();
    let mut owner = options.connect().await.unwrap();
    owner.execute("delete from amends._sqlx_migrations where version = 25").await.unwrap();
    let opened = Engine::builder(options.username(SERVER)).clock(manual()).open().await;
    let Err(Error::UnsafeDatabase(why)) = opened.map(|_| ()) else { panic!("it is not refused") };
    assert!(why.contains("[25]") && why.contains("amends migrate"), "{why}");
}

fn manual() -> amends::clock::Clock {
    amends::clock::Clock::manual(chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap())
}

#[tokio::test]
async fn a_build_runs_on_the_schema_of_a_newer_one() {
    let mut kit = Kit::new(book(&Book::default())).await;
    let mut owner = kit.database().await;
    owner
        .execute(
            "insert into amends._sqlx_migrations
                 (version, description, success, checksum, execution_time)
             values (9999, 'of a newer build', true, '', 0);
             alter table amends.instance add column of_a_newer_build integer;
             create table amends.of_a_newer_build (name text)",
        )
        .await
        .unwrap();
    kit.restart().await;
    let one = kit.begin(start("one", Order::Straight)).await;
    kit.settle().await;
    assert_eq!(kit.status(one).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn what_an_index_that_was_not_finished_left_behind_is_cleared_away() {
    let options = cluster::database().await;
    let mut owner = options.connect().await.unwrap();
    owner
        .execute(
            "delete from amends._sqlx_migrations where version = 22;
             update pg_index set indisvalid = false
             where indexrelid = 'amends.instance_due_by_version'::regclass",
        )
        .await
        .unwrap();
    amends::migrate(options.clone()).await.unwrap();
    let is_valid = "select indisvalid from pg_index
                    where indexrelid = 'amends.instance_due_by_version'::regclass";
    assert!(sqlx::query_scalar::<_, bool>(is_valid).fetch_one(&mut owner).await.unwrap());
}

/// A migration that waits for a lock would have everybody wait behind it who comes after it.
#[tokio::test]
async fn a_migration_lets_others_pass_while_it_does_not_get_its_lock() {
    let options = cluster::database().await;
    let mut owner = options.connect().await.unwrap();
    owner
        .execute(
            "delete from amends._sqlx_migrations where version = 25;
             drop trigger ledger_is_append_only on amends.ledger;
             drop trigger ledger_is_never_truncated on amends.ledger;
             drop trigger attribute_is_append_only on amends.attribute;
             drop trigger attribute_is_never_truncated on amends.attribute",
        )
        .await
        .unwrap();
    owner.execute("begin; lock table amends.ledger in row exclusive mode").await.unwrap();
    let migrating = tokio::spawn(amends::migrate(options.clone()));
    let waits = "select exists (select from pg_locks
                                where not granted and relation = 'amends.ledger'::regclass)";
    eventually("the migration waits", PATIENCE, || async {
        let mut session = options.connect().await.unwrap();
        let waits: bool = sqlx::query_scalar(waits).fetch_one(&mut session).await.unwrap();
        if waits { Ok(()) } else { Err("it does not".to_owned()) }
    })
    .await;
    let mut other = options.connect().await.unwrap();
    other.execute("begin; lock table amends.ledger in row exclusive mode; commit").await.unwrap();
    owner.execute("rollback").await.unwrap();
    migrating.await.unwrap().unwrap();
}
