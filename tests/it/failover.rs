//! A database that moves from one server to another, with everything or without its last commits;
//! that is another one all of a sudden; and that is not where it was asked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amends::{Address, Durability, Engine, Error, OnLostCommits, Settings, Status, verify};
use amends_api::app::{HttpConfig, app};
use amends_tests::booking::{Book, Booked, Booking, Order, news, start};
use amends_tests::cluster;
use amends_tests::durable::Durable;
use amends_tests::kit::Kit;
use amends_tests::process::{Process, command, eventually};
use amends_tests::standby::{Standby, set, url};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tower::ServiceExt;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that what a lost worker held is soon taken up again.
const LEASE: Duration = Duration::from_secs(3);

async fn primary(name: &str) -> Durable {
    let folder = cluster::scratch().join(format!("failover-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let primary = Durable::start(&folder).await;
    amends::migrate(primary.options()).await.unwrap();
    primary
}

fn settings() -> Settings {
    Settings { lease: LEASE, poll: Duration::from_millis(100), ..Settings::default() }
}

async fn open_with(
    address: impl Into<Address>,
    book: &Book,
    settings: Settings,
) -> Result<Engine, Error> {
    Engine::builder(address).workflow(Booking::with(book)).settings(settings).open().await
}

async fn open(servers: &[PgConnectOptions], book: &Book) -> Engine {
    let address = url(servers, "&target_session_attrs=read-write");
    open_with(address.parse::<Address>().unwrap(), book, settings()).await.unwrap()
}

/// A server that is not there.
fn nowhere(like: &PgConnectOptions) -> PgConnectOptions {
    like.clone().socket("/nowhere")
}

async fn scalar<T>(server: &PgConnectOptions, query: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut session = server.connect().await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut session).await.unwrap()
}

async fn execute(server: &PgConnectOptions, statement: &str) {
    let mut session = server.connect().await.unwrap();
    session.execute(AssertSqlSafe(statement)).await.unwrap();
}

/// Gives a database another name, after ending every session with it.
async fn rename(server: &PgConnectOptions, from: &str, to: &str) {
    let admin = server.clone().database("postgres");
    for statement in [
        format!("alter database {from} allow_connections false"),
        format!(
            "do $$ begin
                 while (select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity
                        where datname = '{from}') loop
                     perform pg_sleep(0.01), pg_stat_clear_snapshot();
                 end loop;
             end $$"
        ),
        format!("alter database {from} rename to {to}"),
        format!("alter database {to} allow_connections true"),
    ] {
        execute(&admin, &statement).await;
    }
}

/// Starts a booking, as soon as that can be done.
async fn begin(engine: &Engine, key: &str) {
    eventually("an order is taken in", PATIENCE, || async {
        let started = engine.start(start(key, Order::Straight)).await;
        started.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn completes(engine: &Engine, key: &str) {
    eventually("it is completed", PATIENCE, || async {
        let filter = amends::view::Filter {
            business_key: Some(key.to_owned()),
            limit: 1,
            ..amends::view::Filter::default()
        };
        let found = engine.instances(&filter).await.map_err(|error| error.to_string())?;
        match found.first().map(|it| it.status) {
            Some(Status::Completed) => Ok(()),
            other => Err(format!("{key} is {other:?}")),
        }
    })
    .await;
}

async fn is_ready(engine: &Engine) {
    eventually("it is ready", PATIENCE, || async {
        engine.ready().await.map_err(|error| error.to_string())
    })
    .await;
}

/// The status and the code of what the server says of its health.
async fn health(engine: &Engine) -> (u16, String) {
    let router = app(engine.clone(), &HttpConfig::default());
    let request = Request::get("/health/ready").body(Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn metric(engine: &Engine, name: &str) -> f64 {
    let mut registry = prometheus_client::registry::Registry::default();
    engine.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap()
}

#[tokio::test]
async fn a_primary_is_found_behind_servers_that_will_not_do_and_again_when_it_has_moved() {
    let primary = primary("moved").await;
    let standby = Standby::of(&primary, "second").await;
    let book = Book::default();
    let servers = [nowhere(&primary.options()), standby.options(), primary.options()];
    let engine = open(&servers, &book).await;
    begin(&engine, "before").await;
    completes(&engine, "before").await;
    standby.catch_up(&primary).await;
    primary.kill().await;
    standby.promote().await;
    begin(&engine, "after").await;
    completes(&engine, "after").await;
    is_ready(&engine).await;
    assert_eq!(metric(&engine, "amends_commits_lost_total"), 0.0);
    assert_eq!([book.of("before"), book.of("after")].map(|it| it.taken), [2, 2]);
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_server_waits_for_a_database_that_can_be_written_to_and_refuses_what_does_not_pass() {
    let primary = primary("awaited").await;
    let standby = Standby::of(&primary, "awaited").await;
    let wrong = url(&[primary.options()], "").replace("amends@localhost", "nobody@localhost");
    let mut refused = command(&["serve", "--wait-database", "3600"], &[("DATABASE_URL", &*wrong)]);
    let refused = tokio::time::timeout(PATIENCE, refused.output()).await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("nobody"), "{why}");

    let address = url(&[nowhere(&primary.options()), standby.options()], "");
    let settings = [("DATABASE_URL", &*address), ("AMENDS_LISTEN", "127.0.0.1:0")];
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("serve.log");
    let starting = Process::start(command(&["serve"], &settings), &log);
    let promoting = async {
        eventually("it waits", PATIENCE, || async {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("it is waited for") { Ok(()) } else { Err(said) }
        })
        .await;
        primary.kill().await;
        standby.promote().await;
    };
    let (server, ()) = tokio::join!(starting, promoting);
    assert!(server.unwrap().stop().await.success());
}

/// A way to a database on which some connections end as soon as they have begun: its address was just
/// then about to lead somewhere else. Returns its port.
async fn way_that_cuts(
    mut is_cut: impl FnMut() -> bool + Send + 'static,
    to: &PgConnectOptions,
) -> u16 {
    let socket = to.get_socket().unwrap().join(format!(".s.PGSQL.{}", to.get_port()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if !is_cut() {
                let mut server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        }
    });
    port
}

/// A server on a database to which some connections are cut.
async fn serve(
    is_cut: impl FnMut() -> bool + Send + 'static,
    to: &PgConnectOptions,
    log: &Path,
) -> Option<Process> {
    let port = way_that_cuts(is_cut, to).await;
    let name = to.get_database().unwrap();
    let address = format!("postgres://amends@127.0.0.1:{port}/{name}?sslmode=disable");
    let settings = [("DATABASE_URL", &*address), ("AMENDS_LISTEN", "127.0.0.1:0")];
    Process::start(command(&["serve"], &settings), log).await
}

#[tokio::test]
async fn a_server_starts_whichever_of_its_first_connections_is_cut() {
    let primary = primary("cut").await;
    let folder = tempfile::tempdir().unwrap();
    for nth in 0..8 {
        let log = folder.path().join(format!("{nth}.log"));
        let mut numbers = 0..;
        let is_cut = move || numbers.next() == Some(nth);
        let server = serve(is_cut, &primary.options(), &log).await;
        let said = || std::fs::read_to_string(&log).unwrap();
        let ended = server.unwrap_or_else(|| panic!("{nth}: {}", said())).stop().await;
        assert!(ended.success(), "{nth}: {ended}: {}", said());
    }
    primary.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_asks_again_to_hand_over_when_its_connection_for_that_is_cut() {
    let primary = primary("left").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("serve.log");
    let is_cutting = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&is_cutting);
    let is_cut = move || is_cut.load(Ordering::SeqCst);
    let server = serve(is_cut, &primary.options(), &log).await.unwrap();
    is_cutting.store(true, Ordering::SeqCst);
    let has_asked = async {
        eventually("it asks again", PATIENCE, || async {
            let said = std::fs::read_to_string(&log).unwrap();
            if said.contains("is not handed over yet") { Ok(()) } else { Err(said) }
        })
        .await;
        is_cutting.store(false, Ordering::SeqCst);
    };
    let (ended, ()) = tokio::join!(server.stop(), has_asked);
    assert!(ended.success(), "{ended}: {}", std::fs::read_to_string(&log).unwrap());
    let left: i64 = scalar(&primary.options(), "select count(*) from amends.worker").await;
    assert_eq!(left, 0);
    primary.stop().await;
}

#[tokio::test]
async fn another_database_behind_the_same_name_is_neither_read_nor_written() {
    let server = primary("another").await;
    let options = server.options();
    let other = options.clone().database("other");
    execute(&options.clone().database("postgres"), "create database other").await;
    amends::migrate(other.clone()).await.unwrap();
    let book = Book::default();
    let engine = open_with(options.clone(), &book, settings()).await.unwrap();
    begin(&engine, "one").await;
    completes(&engine, "one").await;
    // Somebody restores another shop's database, and gives it this name.
    let name = |options: &PgConnectOptions| options.get_database().unwrap().to_owned();
    let (this, that) = (name(&options), name(&other));
    let aside = format!("{this}_aside");
    rename(&options, &this, &aside).await;
    rename(&options, &that, &this).await;
    eventually("it is not ready", PATIENCE, || async {
        match engine.ready().await {
            Err(Error::Stalled(why)) if why.contains("another") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // It gets no 2xx from the wrong one.
    let two = tokio::spawn({
        let engine = engine.clone();
        async move { engine.start(start("two", Order::Straight)).await }
    });
    let found: i64 = scalar(&options, "select count(*) from amends.instance").await;
    assert_eq!(found, 0);
    let workers: i64 = scalar(&options, "select count(*) from amends.worker").await;
    assert_eq!(workers, 0);
    rename(&options, &this, &that).await;
    rename(&options, &aside, &this).await;
    is_ready(&engine).await;
    // Who got no answer asks again.
    let _ = two.await.unwrap();
    begin(&engine, "two").await;
    completes(&engine, "two").await;
    engine.shutdown().await.unwrap();
    server.stop().await;
}

/// A standby that lacks the last commits is promoted.
#[tokio::test]
async fn lost_commits_are_noticed_and_nothing_goes_on_from_memory_until_a_person_knows() {
    let primary = primary("lost").await;
    let standby = Standby::of(&primary, "behind").await;
    let book = Book::default();
    let servers = [primary.options(), standby.options()];
    let engine = open(&servers, &book).await;
    engine.start(start("early", Order::AfterNews)).await.unwrap();
    eventually("it waits", PATIENCE, || async {
        let booked = book.of("early");
        if booked.taken == 1 { Ok(()) } else { Err(format!("{booked:?}")) }
    })
    .await;
    // One is held in memory, and further on there than in what the standby has.
    book.pace(Duration::from_millis(1500));
    engine.start(start("ahead", Order::Straight)).await.unwrap();
    standby.catch_up(&primary).await;
    standby.cut_off().await;
    engine.start(start("late", Order::Straight)).await.unwrap();
    eventually("its first step is recorded", PATIENCE, || async {
        let done = "select count(*) from amends.record r join amends.instance i using (instance_id)
                    where i.business_key = 'ahead' and r.kind = 'step_done'";
        let done: i64 = scalar(&primary.options(), done).await;
        if done == 1 { Ok(()) } else { Err(format!("{done} are")) }
    })
    .await;
    primary.kill().await;
    standby.promote().await;

    eventually("the loss is noticed", PATIENCE, || async {
        match health(&engine).await {
            (503, code) if code == "commits_lost" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(metric(&engine, "amends_commits_lost_total") >= 1.0);
    assert!(matches!(engine.start(start("more", Order::Straight)).await, Err(Error::CommitsLost)));
    assert!(matches!(engine.signal(news("early", "1")).await, Err(Error::CommitsLost)));
    // Another server hears of it.
    let other = open(&servers, &book).await;
    assert!(matches!(other.ready().await, Err(Error::CommitsLost)));
    assert!(matches!(other.start(start("more", Order::Straight)).await, Err(Error::CommitsLost)));
    // Unless it was told not to mind.
    let careless = Settings { on_lost_commits: OnLostCommits::GoOn, ..settings() };
    let careless = open_with(standby.options(), &book, careless).await.unwrap();
    careless.start(start("anyway", Order::Straight)).await.unwrap();
    careless.ready().await.unwrap();
    careless.shutdown().await.unwrap();
    let findings = amends::doctor::examine(standby.options()).await.unwrap();
    let losses = findings.iter().find(|it| it.about == "losses").unwrap();
    assert!(losses.found.contains("record"), "{losses:?}");

    let known = amends::acknowledge_losses(standby.options(), "anna", "seen").await.unwrap();
    assert!(!known.is_empty());
    is_ready(&engine).await;
    is_ready(&other).await;
    engine.signal(news("early", "1")).await.unwrap();
    book.pace(Duration::ZERO);
    begin(&engine, "late").await;
    completes(&engine, "late").await;
    for key in ["early", "ahead"] {
        completes(&engine, key).await;
        assert_eq!(book.of(key), Booked { taken: 2, given_back: 0 }, "{key}");
    }
    let report = verify::verify(standby.options(), |_| ()).await.unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    for engine in [engine, other] {
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_record_without_an_instance_is_found_whatever_its_number() {
    let book = Book::default();
    let kit = Kit::builder().build(move |engine| engine.workflow(Booking::with(&book))).await;
    for key in ["one", "two"] {
        kit.begin(start(key, Order::Straight)).await;
    }
    kit.settle().await;
    let whole = verify::verify(kit.options(), |_| ()).await.unwrap();
    assert!(whole.broken.is_empty(), "{:?}", whole.broken);
    // Before every instance, and behind.
    let orphans = [Uuid::from_u128(1), Uuid::max()];
    for orphan in &orphans {
        execute(
            &kit.options(),
            &format!(
                "insert into amends.record (instance_id, seq, kind, payload, at, hash)
                 values ('{orphan}', 4, 'noted', '{{}}', now(), sha256('x'))"
            ),
        )
        .await;
    }
    let report = verify::verify(kit.options(), |_| ()).await.unwrap();
    let found: Vec<_> = report.broken.iter().map(|(id, it)| (*id, it.seq)).collect();
    let expected: Vec<_> = orphans.iter().map(|id| (*id, 4)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_server_that_is_to_be_replicated_starts_on_nothing_else_and_says_when_it_no_longer_is() {
    let primary = primary("copies").await;
    let standby = Standby::of(&primary, "copy").await;
    let book = Book::default();
    let settings = || Settings {
        durability: Durability::Replicated,
        not_replicated_grace: Duration::ZERO,
        ..settings()
    };
    let refused = open_with(primary.options(), &book, settings()).await;
    let Err(Error::UnsafeDatabase(why)) = refused.map(drop) else { panic!("it is not refused") };
    assert!(why.contains("synchronous_standby_names is empty"), "{why}");
    set(&primary.options(), "synchronous_standby_names", "copy").await;
    let engine = eventually("it opens", PATIENCE, || async {
        let opened = open_with(primary.options(), &book, settings()).await;
        opened.map_err(|error| error.to_string())
    })
    .await;
    is_ready(&engine).await;
    assert_eq!(metric(&engine, "amends_durability_copies"), 2.0);
    let findings = amends::doctor::examine(primary.options()).await.unwrap();
    let durability = findings.iter().find(|it| it.about == "durability").unwrap();
    assert!(durability.found.contains("2 copies"), "{durability:?}");
    set(&primary.options(), "synchronous_standby_names", "").await;
    eventually("it is not ready", PATIENCE, || async {
        match health(&engine).await {
            (503, code) if code == "not_replicated" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    engine.shutdown().await.unwrap();
    drop(standby);
    primary.stop().await;
}

/// A commit that waits for a standby does not see that nobody waits for it any more.
#[tokio::test]
async fn who_gives_up_a_session_leaves_nobody_behind_in_the_server() {
    let primary = primary("doubt").await;
    let server = primary.options();
    let engine = open_with(server.clone(), &Book::default(), settings()).await.unwrap();
    begin(&engine, "one").await;
    completes(&engine, "one").await;
    set(&server, "synchronous_standby_names", "nobody").await;
    // The heartbeat gives up six times per lease.
    let waiting = "select coalesce(array_agg(pid || ' ' || backend_start), '{}')
                   from pg_stat_activity where wait_event = 'SyncRep'";
    let seen = std::sync::Mutex::new((std::collections::BTreeSet::new(), 0));
    eventually("eight have waited", PATIENCE, || async {
        let waiting: Vec<String> = scalar(&server, waiting).await;
        let mut seen = seen.lock().unwrap();
        seen.1 = seen.1.max(waiting.len());
        seen.0.extend(waiting);
        if seen.0.len() >= 8 { Ok(()) } else { Err(format!("{:?}", seen.0)) }
    })
    .await;
    let (_, most) = seen.into_inner().unwrap();
    assert!(most <= 4, "{most} waited at the same time");
    set(&server, "synchronous_standby_names", "").await;
    begin(&engine, "two").await;
    completes(&engine, "two").await;
    engine.shutdown().await.unwrap();
    primary.stop().await;
}
