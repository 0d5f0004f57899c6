//! Two Postgres under Patroni, and what Patroni says of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use amends_tests::process::eventually;
use anyhow::{Context, bail, ensure};
use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::account::{Account, postgres_programs};
use crate::guard::{Guard, children, signal};

/// The name of the cluster.
const SCOPE: &str = "amends";
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a server is asked whether it accepts writes.
const POLL: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_millis(500);

/// A Postgres and its Patroni.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) rest: u16,
    home: PathBuf,
    account: Account,
    patroni: Option<Child>,
}

/// A member of the cluster, as Patroni knows it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) state: String,
}

impl Node {
    /// Writes its configuration into a folder of its own.
    pub(crate) fn prepare(
        name: &'static str,
        [port, rest, etcd]: [u16; 3],
        folder: &Path,
        account: Account,
    ) -> anyhow::Result<Self> {
        let home = folder.join(name);
        account.make_folder(&home)?;
        let here = |port: u16| format!("127.0.0.1:{port}");
        let configuration = json!({
            "scope": SCOPE,
            "name": name,
            "restapi": { "listen": here(rest), "connect_address": here(rest) },
            "etcd3": { "host": here(etcd) },
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 5,
                    "retry_timeout": 5,
                    // So that a copy that lacks commits is promoted, too.
                    "maximum_lag_on_failover": 1_u32 << 30,
                    "synchronous_mode": true,
                    "postgresql": { "use_pg_rewind": true },
                },
                "initdb": [{ "encoding": "UTF8" }, { "locale": "C" }, "data-checksums"],
                "pg_hba": [
                    "host replication replicator 127.0.0.1/32 trust",
                    "host all all 127.0.0.1/32 trust",
                ],
            },
            "postgresql": {
                "listen": here(port),
                "connect_address": here(port),
                "data_dir": home.join("data"),
                "bin_dir": postgres_programs()?,
                "pgpass": home.join("pgpass"),
                "authentication": {
                    "superuser": { "username": "postgres" },
                    "replication": { "username": "replicator" },
                },
                "parameters": {
                    "unix_socket_directories": "",
                    "max_connections": 100,
                    "logging_collector": "on",
                    "log_directory": home.join("log"),
                    "log_filename": "postgres.log",
                    "log_line_prefix": "%m ",
                    "log_timezone": "UTC",
                    "log_connections": "on",
                },
            },
        });
        let path = folder.join(format!("{name}.yml"));
        std::fs::write(path, serde_json::to_string_pretty(&configuration)?)?;
        Ok(Self { name, port, rest, home, account, patroni: None })
    }

    /// Its configuration, which Patroni and its tools read. JSON is YAML.
    fn configuration(&self) -> PathBuf {
        self.home.with_extension("yml")
    }

    /// Starts its Patroni, which starts its Postgres.
    pub(crate) fn start(&mut self, guard: &Guard) -> anyhow::Result<()> {
        let log = self.home.with_extension("log");
        let mut command = self.account.command("patroni", &log)?;
        let patroni = command.arg(self.configuration()).spawn().context("patroni")?;
        guard.watch(patroni.id())?;
        self.patroni = Some(patroni);
        Ok(())
    }

    /// Ends its Patroni with SIGKILL.
    pub(crate) async fn kill_patroni(&mut self) -> anyhow::Result<()> {
        self.patroni.take().context("Patroni runs")?.kill().await.context("Patroni is killed")
    }

    /// Ends its Postgres with SIGKILL, with everything that belongs to it.
    pub(crate) async fn kill_postgres(&self) -> anyhow::Result<()> {
        let file = self.home.join("data/postmaster.pid");
        let file = std::fs::read_to_string(file).context("Postgres runs")?;
        let server: u32 = file.lines().next().unwrap_or_default().trim().parse()?;
        let mut all = vec![server];
        all.extend(children(server).await?);
        signal("KILL", &all).await
    }

    /// As the owner of everything, past the proxy.
    pub(crate) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    pub(crate) async fn session(&self) -> anyhow::Result<PgConnection> {
        Ok(self.options("amends").connect().await?)
    }

    /// Whether it accepts writes at this moment.
    async fn accepts(&self) -> bool {
        let asking = async {
            let mut session = self.options("postgres").connect().await?;
            sqlx::query_scalar("select not pg_is_in_recovery()").fetch_one(&mut session).await
        };
        matches!(timeout(ANSWER, asking).await, Ok(Ok(true)))
    }

    /// When its log has said something for the first time, from then on.
    pub(crate) fn said(
        &self,
        what: &str,
        since: DateTime<Utc>,
    ) -> anyhow::Result<Option<DateTime<Utc>>> {
        let log = std::fs::read(self.home.join("log/postgres.log"))?;
        let log = String::from_utf8_lossy(&log);
        let at = log.lines().filter(|line| line.contains(what)).filter_map(|line| {
            let (at, _) = line.split_once(" UTC ")?;
            Some(NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc())
        });
        Ok(at.filter(|at| *at >= since).min())
    }
}

/// Waits until one of these accepts writes; which, and when it was seen.
pub(crate) async fn accepting<'a>(nodes: &[&'a Node]) -> anyhow::Result<(&'a Node, DateTime<Utc>)> {
    let asking = async {
        loop {
            for node in nodes {
                if node.accepts().await {
                    return (*node, Utc::now());
                }
            }
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, asking).await.context("no Postgres accepts writes")
}

/// What the cluster consists of, as any of these says.
pub(crate) async fn members(client: &Client, nodes: &[Node]) -> anyhow::Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Cluster {
        members: Vec<Member>,
    }
    let mut why = None;
    for node in nodes {
        let url = format!("http://127.0.0.1:{}/cluster", node.rest);
        match client.get(url).timeout(ANSWER).send().await {
            Ok(answer) => return Ok(answer.json::<Cluster>().await?.members),
            Err(error) => why = Some(error),
        }
    }
    bail!("no Patroni answers: {why:?}")
}

/// Waits until there is a leader, and beside it a standby in this role.
pub(crate) async fn settled(client: &Client, nodes: &[Node], standby: &str) {
    eventually("the cluster is whole", PATIENCE, || async {
        let members = members(client, nodes).await.map_err(|error| error.to_string())?;
        let has = |role: &str| {
            let is_well =
                |it: &&Member| it.role == role && ["running", "streaming"].contains(&&*it.state);
            members.iter().any(|it| is_well(&it))
        };
        if has("leader") && has(standby) { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
}

/// Changes the configuration of the whole cluster.
pub(crate) async fn configure(client: &Client, node: &Node, change: &Value) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{}/config", node.rest);
    client.patch(url).json(change).send().await?.error_for_status()?;
    Ok(())
}

/// Hands over in order, as a person does. Returns when Patroni says that it is done.
pub(crate) async fn switch_over(from: &Node, to: &Node, log: &Path) -> anyhow::Result<()> {
    let mut command = from.account.command("patronictl", log)?;
    command.arg("-c").arg(from.configuration()).args(["switchover", SCOPE, "--force"]);
    let done = command.args(["--leader", from.name, "--candidate", to.name]).status().await?;
    ensure!(done.success(), "patronictl: {done}; see {}", log.display());
    Ok(())
}
