//! Everything that runs: a durable Postgres, the stand-in providers, three servers, and proxies
//! between them. Each is a process that was started here, and is ended here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use amends_tests::cluster::scratch;
use amends_tests::durable::Durable;
use amends_tests::process::{Process, command_of};
use anyhow::Context;
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};
use tokio::sync::Mutex;

use crate::pace::{self, Pace};
use crate::proxy::{Proxy, Upstream};
use crate::schedule::SERVERS;
use crate::server::Server;
use crate::settlement;
use crate::stranger;
use crate::wire;

/// How far the providers are away: a call takes as long as it does anywhere.
pub(crate) const AWAY: Duration = Duration::from_millis(300);

/// How this program wants its own sessions.
const OWN_SETTINGS: [(&str, &str); 6] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("search_path", "public"),
];

/// Everything that runs.
pub(crate) struct Scene {
    /// Where logs, ledger and data are.
    pub(crate) folder: PathBuf,
    pub(crate) database_proxy: Proxy,
    /// One for each server, so that it is known whose a call was.
    pub(crate) providers_proxies: Vec<Proxy>,
    pub(crate) servers: Vec<Server>,
    pub(crate) pace: Pace,
    postgres: Mutex<Option<Durable>>,
    options: PgConnectOptions,
    sandbox: Process,
    client: Client,
}

impl Scene {
    /// Starts everything, with nothing in it, in a folder of its own.
    pub(crate) async fn open(seed: u64, beside: Option<PathBuf>) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("a running program has a file")?;
        let mut programs: Vec<_> = std::iter::once(this).chain(beside).collect();
        let folder = scratch().join(format!("chaos-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).context("the build directory is writable")?;
        let sandbox = start_sandbox(&folder).await?;
        let postgres = start_postgres(&folder).await?;
        // Whatever a stranger sets, this is not bent by it.
        let options = postgres.options().options(OWN_SETTINGS);
        let socket = options.get_socket().context("a private Postgres listens on a socket")?;
        let socket = socket.join(format!(".s.PGSQL.{}", options.get_port()));
        let database_proxy = Proxy::open(Upstream::Unix(socket), wire::commit, Duration::ZERO)?;
        let providers = Upstream::Tcp(sandbox.address().to_owned());
        let pace = Pace::measure(&mut options.connect().await?).await?;
        let (mut providers_proxies, mut servers) = (Vec::new(), Vec::new());
        for number in 0..SERVERS {
            let proxy = Proxy::open(providers.clone(), wire::call, AWAY)?;
            let through = (database_proxy.address(), proxy.address());
            let log = folder.join(format!("server-{number}.log"));
            servers.push(Server::start(programs.clone(), through, pace, log).await);
            // The next one begins with the other.
            programs.rotate_left(1);
            providers_proxies.push(proxy);
        }
        options.connect().await?.execute(stranger::RULE).await?;
        let client = Client::builder().no_proxy().build()?;
        let postgres = Mutex::new(Some(postgres));
        Ok(Self {
            folder,
            database_proxy,
            providers_proxies,
            servers,
            pace,
            postgres,
            options,
            sandbox,
            client,
        })
    }

    /// A connection past the servers and the proxy.
    pub(crate) async fn database(&self) -> sqlx::Result<PgConnection> {
        self.options.connect().await
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Ends the database with SIGKILL, and starts it again.
    pub(crate) async fn restart_postgres(&self) {
        if let Some(postgres) = self.postgres.lock().await.as_mut() {
            postgres.kill_and_start().await;
        }
    }

    /// What the stand-ins answer.
    pub(crate) async fn sandbox(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.sandbox.url());
        Ok(self.client.get(url).send().await?.json().await?)
    }

    /// Tells the stand-ins how to fail.
    pub(crate) async fn tell_sandbox(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.sandbox.url());
        self.client.put(url).json(body).send().await?.error_for_status()?;
        Ok(())
    }

    /// Nothing is broken any more, as far as this can see to it.
    pub(crate) async fn heal(&self, seed: u64) -> anyhow::Result<()> {
        self.database_proxy.heal();
        self.providers_proxies.iter().for_each(Proxy::heal);
        self.tell_sandbox("/faults", &json!({ "rules": [] })).await?;
        self.tell_sandbox("/faults/random", &json!({ "seed": seed })).await
    }

    /// Ends everything that runs.
    pub(crate) async fn close(self) -> anyhow::Result<PathBuf> {
        for server in &self.servers {
            server.end().await;
        }
        self.sandbox.kill().await;
        let postgres = self.postgres.into_inner().context("it was started")?;
        let data = postgres.data_directory().await;
        postgres.stop().await;
        // Where the build directory is out of Postgres's reach, its data are somewhere else.
        if !data.starts_with(&self.folder) {
            std::fs::remove_dir_all(data)?;
        }
        Ok(self.folder)
    }
}

async fn start_sandbox(folder: &Path) -> anyhow::Result<Process> {
    let ledger = folder.join("ledger.jsonl").to_string_lossy().into_owned();
    let arguments = ["sandbox", "--ledger", &ledger];
    let mut command = command_of(&std::env::current_exe()?, &arguments, &[]);
    command.stdin(std::process::Stdio::piped());
    let log = folder.join("sandbox.log");
    Process::start(command, &log).await.with_context(|| format!("see {}", log.display()))
}

async fn start_postgres(folder: &Path) -> anyhow::Result<Durable> {
    let postgres = Durable::start(folder).await;
    let mut database = postgres.options().connect().await?;
    for table in [settlement::TABLE, pace::TABLE, stranger::TABLE] {
        sqlx::raw_sql(table).execute(&mut database).await?;
    }
    Ok(postgres)
}
