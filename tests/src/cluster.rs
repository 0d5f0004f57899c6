//! A private Postgres for a test process, and a database of its own for each test.
//!
//! The cluster forgets nothing between runs but is not durable; it stops when the test process
//! ends, however it ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use amends_api::postgres::{Durability, Embedded, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::runtime;
use tokio::sync::{OnceCell, mpsc, oneshot};

const TEMPLATE: &str = "amends_template";

/// Keeps the rows that migrations have made.
const REMEMBER: &str = "
    create schema pristine;
    do $$ declare it name; is_filled bool; begin
        for it in select relname from pg_class
            where relnamespace = 'amends'::regnamespace and relkind = 'r'
        loop
            execute format('select exists (select from amends.%I)', it) into is_filled;
            if is_filled then
                execute format('create table pristine.%I as table amends.%1$I', it);
            end if;
        end loop;
    end $$";
/// Has the tables hold these rows and no others, and nothing else be there. Replicas know no
/// triggers, so what is append-only lets go.
const RENEW: &str = "
    set session_replication_role = replica;
    do $$ declare it name; begin
        for it in select nspname from pg_namespace
            where nspname !~ '^pg_' and
                nspname not in ('amends', 'pristine', 'public', 'information_schema')
        loop
            execute format('drop schema %I cascade', it);
        end loop;
        for it in select relname from pg_class
            where relnamespace = 'amends'::regnamespace and relkind = 'r'
        loop
            execute format('delete from amends.%I', it);
        end loop;
        for it in select relname from pg_class
            where relnamespace = 'pristine'::regnamespace and relkind = 'r'
        loop
            execute format('insert into amends.%I table pristine.%1$I', it);
        end loop;
    end $$";

/// Ends every session in a database, and waits until they are gone.
const END_SESSIONS: &str = "
    do $$ begin
        while (
            select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity
            where datname = '{name}'
        ) loop
            perform pg_sleep(0.001), pg_stat_clear_snapshot();
        end loop;
    end $$";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    options: PgConnectOptions,
    steward: Steward,
    /// Databases that were given back, as new.
    spare: Mutex<Vec<String>>,
    /// Keeps the cluster for as long as this process lives.
    _embedded: Embedded,
}

/// A new database with every migration applied.
pub async fn database() -> PgConnectOptions {
    clone(&cluster().await.options.clone().database(TEMPLATE)).await
}

/// A database like a new one, for a test that makes a great many of them and gives each back.
pub async fn borrow() -> PgConnectOptions {
    let cluster = cluster().await;
    let spare = cluster.spare.lock().expect("nobody panics while holding this").pop();
    match spare {
        Some(name) => cluster.options.clone().database(&name),
        None => database().await,
    }
}

async fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(start).await
}

/// A new database like another one, to which nobody is connected.
pub async fn clone(template: &PgConnectOptions) -> PgConnectOptions {
    let name = new_name();
    let like = template.get_database().expect("it has a name");
    cluster().await.steward.ask(format!("create database {name} template {like}")).await;
    template.clone().database(&name)
}

fn new_name() -> String {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    format!("test_{}_{number}", std::process::id())
}

/// Gives back a database that was borrowed, with the schema that the migrations have made: to make
/// it as new is much cheaper than a new one. It gets another name, under which nobody finds it who
/// is left over.
pub async fn give_back(options: &PgConnectOptions) {
    let (name, next) = (options.get_database().expect("it has a name"), new_name());
    let cluster = cluster().await;
    for order in [
        format!("alter database {name} allow_connections false"),
        END_SESSIONS.replace("{name}", name),
        format!("alter database {name} rename to {next}"),
        format!("alter database {next} allow_connections true"),
    ] {
        cluster.steward.ask(order).await;
    }
    let next = cluster.options.clone().database(&next);
    let mut session = next.connect().await.expect("the cluster answers");
    session.execute(RENEW).await.expect("a superuser may do that");
    session.close().await.expect("the connection closes");
    let name = next.get_database().expect("it has a name").to_owned();
    cluster.spare.lock().expect("nobody panics while holding this").push(name);
}

/// Makes a role that may log in, unless it is there, and lets it do everything with what is made from
/// now on.
pub async fn make_role(options: &PgConnectOptions, role: &str) {
    let make = format!(
        "do $$ begin
             if not exists (select from pg_roles where rolname = '{role}') then
                 create role {role} login;
             end if;
         exception when duplicate_object or unique_violation then null; end $$;
         alter default privileges grant all on schemas to {role};
         alter default privileges grant all on tables to {role};
         alter default privileges grant all on sequences to {role}"
    );
    let mut session = options.connect().await.expect("the cluster answers");
    session.execute(AssertSqlSafe(make)).await.expect("a superuser may do that");
}

/// Drops a database that a test is done with and that cannot be given back.
pub async fn drop_database(options: &PgConnectOptions) {
    let name = options.get_database().expect("it has a name");
    cluster().await.steward.ask(format!("drop database {name} with (force)")).await;
}

/// Makes and drops databases, one after the other, in one session. Tests have a runtime each, and a
/// connection belongs to one.
struct Steward {
    orders: mpsc::UnboundedSender<(String, oneshot::Sender<sqlx::Result<()>>)>,
}

impl Steward {
    fn of(cluster: PgConnectOptions) -> Self {
        let (orders, mut ordered) = mpsc::unbounded_channel::<(String, oneshot::Sender<_>)>();
        let work = async move {
            let mut session = cluster.connect().await.expect("the cluster answers");
            while let Some((order, done)) = ordered.recv().await {
                let carried_out = session.execute(AssertSqlSafe(order)).await;
                // A test that has failed meanwhile does not listen.
                let _ = done.send(carried_out.map(drop));
            }
        };
        std::thread::spawn(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a thread can have a runtime").block_on(work);
        });
        Self { orders }
    }

    async fn ask(&self, order: String) {
        let (done, is_done) = oneshot::channel();
        self.orders.send((order, done)).expect("it lives as long as this process");
        is_done.await.expect("it answers").expect("a superuser may do that");
    }
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
    let steward = Steward::of(options.clone());
    for leftover in leftovers(&options).await {
        steward.ask(format!("drop database if exists {leftover} with (force)")).await;
    }
    steward.ask(format!("create database {TEMPLATE}")).await;
    let template = options.clone().database(TEMPLATE);
    amends::migrate(template.clone()).await.expect("migrations apply");
    let mut session = template.connect().await.expect("the cluster answers");
    session.execute(REMEMBER).await.expect("a superuser may do that");
    session.close().await.expect("the connection closes");
    deafen_if_wanted(&template).await;
    Cluster { options, steward, spare: Mutex::default(), _embedded: embedded }
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

/// What stops a server once the pipe is closed on which it waits: as whoever uses a data folder
/// does, under the lock of those who start and stop, and not if somebody else uses it by now.
const GUARD: &str = r#"
    cat > /dev/null
    if command -v flock > /dev/null; then
        exec 8< "$0/start.lock" 9< "$0/users.lock"
        flock 8
        flock -w 1 9 || exit
    fi
    read -r pid < "$0/data/postmaster.pid"
    kill -INT "$pid"
    while kill -0 "$pid" 2> /dev/null; do sleep 0.05; done
"#;

/// Stops the server of a folder when this process ends, which closes the pipe that a guard reads.
pub fn stop_with_this_process(data_dir: &Path) {
    let guard = Command::new("sh")
        .arg("-c")
        .arg(GUARD)
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell can be started");
    std::mem::forget(guard);
}

/// Databases of earlier runs.
async fn leftovers(cluster: &PgConnectOptions) -> Vec<String> {
    let mut session = cluster.connect().await.expect("the cluster answers");
    sqlx::query_scalar("select datname from pg_database where datname ~ '^(test_|amends_template)'")
        .fetch_all(&mut session)
        .await
        .expect("databases can be listed")
}

/// Where Postgres is, if whoever runs the tests has said so.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests are configured by their caller")]
pub fn bin_dir() -> Option<PathBuf> {
    std::env::var("AMENDS_PG_BIN").ok().map(PathBuf::from)
}
