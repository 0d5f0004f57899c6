//! Databases that are set up for something else, and what stands before them: nothing of it reaches
//! the engine, or it says at once what has to be changed.

use amends::{
    Call, Declaration, Engine, Error, Halt, InTransaction, PgConnection, Saga, StepError, Steps,
    TransactionStep, Workflow,
};
use amends_tests::booking::{Book, Booking, Order, start};
use amends_tests::cluster;
use amends_tests::durable::Durable;
use amends_tests::kit::Kit;
use amends_tests::pooler::{PoolMode, Pooler};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

/// What somebody may have had a reason for.
const FOREIGN: [&str; 14] = [
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "synchronous_commit = off",
    "statement_timeout = '700ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "search_path = pg_catalog",
    "row_security = on",
    "plan_cache_mode = force_custom_plan",
    "enable_indexscan = off",
    "TimeZone = 'Asia/Kathmandu'",
    "DateStyle = 'SQL, DMY'",
    "client_encoding = LATIN1",
];

/// Tells what its session is like.
#[derive(Clone)]
struct Look;

impl TransactionStep for Look {
    const NAME: &'static str = "look";
    type Input = ();
    type Output = Vec<String>;

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().nothing_to_undo()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        (): &(),
    ) -> Result<Vec<String>, StepError> {
        let names = ["transaction_isolation", "synchronous_commit", "search_path", "TimeZone"];
        let mut found = Vec::new();
        for name in names {
            let setting = sqlx::query_scalar("select current_setting($1)").bind(name);
            found.push(setting.fetch_one(&mut *connection).await?);
        }
        Ok(found)
    }
}

struct Looking;

impl Workflow for Looking {
    const NAME: &'static str = "looking";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = Vec<String>;

    fn steps(&self) -> Steps {
        Steps::new().transaction(&Look)
    }

    async fn run(&self, saga: &Saga, (): ()) -> Result<Vec<String>, Halt> {
        saga.transaction(&Look, &()).await
    }
}

#[tokio::test]
async fn what_the_database_is_set_to_does_not_reach_the_engine() {
    let book = Book::default();
    let build = move |engine: amends::EngineBuilder| {
        engine.workflow(Booking::with(&book)).workflow(Looking)
    };
    let mut kit = Kit::new(build).await;
    let name = kit.options().get_database().unwrap().to_owned();
    let mut database = kit.database().await;
    for setting in FOREIGN {
        let alter = format!("alter database {name} set {setting}");
        database.execute(AssertSqlSafe(alter)).await.unwrap();
    }
    kit.restart().await;
    let booking = kit.begin(start("one", Order::Straight)).await;
    let looking = kit.start::<Looking>("look", &()).await;
    kit.settle().await;
    assert_eq!(kit.status(booking).await, amends::Status::Completed);
    let found: String = sqlx::query_scalar(
        "select payload::jsonb ->> 'output' from amends.record
         where instance_id = $1 and kind = 'step_done'",
    )
    .bind(looking)
    .fetch_one(&mut database)
    .await
    .unwrap();
    assert_eq!(found, r#"["read committed", "on", "amends", "UTC"]"#);
    for setting in FOREIGN {
        let name_of_setting = setting.split(' ').next().unwrap();
        let reset = format!("alter database {name} reset {name_of_setting}");
        sqlx::raw_sql(AssertSqlSafe(format!("set default_transaction_read_only = off; {reset}")))
            .execute(&mut database)
            .await
            .unwrap();
    }
    kit.finish().await;
}

async fn open(options: PgConnectOptions) -> Result<Engine, Error> {
    let book = Book::default();
    Engine::builder(options).workflow(Booking::with(&book)).open().await
}

/// Why a database is refused.
async fn refusal(options: PgConnectOptions) -> String {
    match open(options).await {
        Err(Error::UnsafeDatabase(why)) => why,
        Err(other) => panic!("refused as something else: {other}"),
        Ok(engine) => {
            engine.abandon();
            panic!("it is not refused")
        }
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    let options = cluster::database().await;
    let name = format!("{}_latin", options.get_database().unwrap());
    let mut session = options.connect().await.unwrap();
    let create = format!(
        "create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    );
    session.execute(AssertSqlSafe(create)).await.unwrap();
    let latin = options.clone().database(&name);
    let why = refusal(latin.clone()).await;
    assert!(why.contains("LATIN1") && why.contains("encoding 'UTF8'"), "{why}");
    cluster::drop_database(&latin).await;
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_out_by_the_transaction_is_refused() {
    let options = cluster::database().await;
    let pooler = Pooler::start(&options, PoolMode::Transaction).await;
    let why = refusal(pooler.options()).await;
    assert!(why.contains("pool_mode"), "{why}");
}

#[tokio::test]
async fn a_pooler_that_gives_each_client_a_session_will_do() {
    let folder = cluster::scratch().join(format!("pooled-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let postgres = Durable::start(&folder).await;
    let pooler = Pooler::start(&postgres.options(), PoolMode::Session).await;
    let engine = open(pooler.options()).await.unwrap();
    let mut endings = engine.endings();
    engine.start(start("one", Order::Straight)).await.unwrap();
    let (_, status) = endings.recv().await.unwrap();
    assert_eq!(status, amends::Status::Completed);
    engine.ready().await.unwrap();
    engine.shutdown().await.unwrap();
    postgres.stop().await;
}
