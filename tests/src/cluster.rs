//! A private Postgres for a test process, and a database of its own for each test.
//!
//! The cluster forgets nothing between runs but is not durable; it stops when the test process
//! ends, however it ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use amends_api::postgres::{Durability, Embedded, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "amends_template";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    options: PgConnectOptions,
    /// Keeps the cluster for as long as this process lives.
    _embedded: Embedded,
}

/// A new database with every migration applied.
pub async fn database() -> PgConnectOptions {
    let cluster = CLUSTER.get_or_init(start).await;
    clone(&cluster.options.clone().database(TEMPLATE)).await
}

/// A new database like another one, to which nobody is connected.
pub async fn clone(template: &PgConnectOptions) -> PgConnectOptions {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let like = template.get_database().expect("it has a name");
    let mut admin = template.clone().database("postgres").connect().await.expect("it answers");
    let create = format!("create database {name} template {like}");
    admin.execute(AssertSqlSafe(create)).await.expect("a database can be cloned");
    admin.close().await.expect("the connection closes");
    template.clone().database(&name)
}

/// Drops a database that a test is done with, for one that makes a great many of them.
pub async fn drop_database(options: &PgConnectOptions) {
    let name = options.get_database().expect("it has a name");
    let drop = format!("drop database {name} with (force)");
    let mut admin = options.clone().database("postgres").connect().await.expect("it answers");
    admin.execute(AssertSqlSafe(drop)).await.expect("a database can be dropped");
}

/// The folder for what tests make, where tests run within a test that has a server of its own.
pub const SCRATCH: &str = "AMENDS_TEST_DATA";

/// Where tests keep what they make: beside the test binary, unless whoever runs them says where.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests are configured by their caller")]
pub fn scratch() -> PathBuf {
    if let Ok(folder) = std::env::var(SCRATCH) {
        return PathBuf::from(folder);
    }
    let binary = std::env::current_exe().expect("a running test has a binary");
    binary.parent().unwrap_or(Path::new(".")).with_file_name("test-data")
}

async fn start() -> Cluster {
    let data_dir = scratch().join("postgres");
    std::fs::create_dir_all(&data_dir).expect("the build directory is writable");
    let embedded = Embedded::start(Options {
        data_dir: data_dir.clone(),
        bin_dir: bin_dir(),
        durability: Durability::None,
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    stop_with_this_process(&data_dir);
    let options = PgConnectOptions::from_str(embedded.url()).expect("the launcher's url is valid");
    let mut admin = options.connect().await.expect("the cluster answers");
    for leftover in leftovers(&mut admin).await {
        let drop = format!("drop database if exists {leftover} with (force)");
        admin.execute(AssertSqlSafe(drop)).await.expect("a leftover can be dropped");
    }
    let create = format!("create database {TEMPLATE}");
    admin.execute(AssertSqlSafe(create)).await.expect("the template can be created");
    admin.close().await.expect("the connection closes");
    let template = options.clone().database(TEMPLATE);
    amends::migrate(template.clone()).await.expect("migrations apply");
    deafen_if_wanted(&template).await;
    Cluster { options, _embedded: embedded }
}

/// Does what [`deafen`] does, if whoever runs the tests wants to see that polling is sufficient.
#[expect(clippy::disallowed_methods, reason = "tests are configured by their caller")]
pub async fn deafen_if_wanted(options: &PgConnectOptions) {
    if std::env::var("AMENDS_TEST_HINTS").is_ok_and(|hints| hints == "off") {
        deafen(options).await;
    }
}

/// Has no hint of a database arrive. What sends them goes on under the name of `pg_notify_aloud`.
pub async fn deafen(options: &PgConnectOptions) {
    let mut database = options.connect().await.expect("the cluster answers");
    for statement in [
        "alter function pg_catalog.pg_notify(text, text) rename to pg_notify_aloud",
        "create function pg_catalog.pg_notify(text, text) returns void language sql as ''",
    ] {
        database.execute(statement).await.expect("a superuser may do that");
    }
    // Nobody can be connected to a template that is cloned.
    database.close().await.expect("the connection closes");
}

/// Stops the server of a folder when this process ends, which closes the pipe that a guard reads.
pub fn stop_with_this_process(data_dir: &Path) {
    let guard = Command::new("sh")
        .arg("-c")
        .arg(r#"cat > /dev/null; read -r pid < "$0"; kill -INT "$pid""#)
        .arg(data_dir.join("data").join("postmaster.pid"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell can be started");
    std::mem::forget(guard);
}

/// Databases of earlier runs.
async fn leftovers(admin: &mut sqlx::PgConnection) -> Vec<String> {
    sqlx::query_scalar("select datname from pg_database where datname ~ '^(test_|amends_template)'")
        .fetch_all(admin)
        .await
        .expect("databases can be listed")
}

/// Where Postgres is, if whoever runs the tests has said so.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests are configured by their caller")]
pub fn bin_dir() -> Option<PathBuf> {
    std::env::var("AMENDS_PG_BIN").ok().map(PathBuf::from)
}
