//! Everything that runs: etcd, two Postgres under Patroni, HAProxy, the stand-in providers, and two
//! servers of ours. One of them finds the primary through HAProxy, the other by itself.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use amends_api::auth::Role;
use amends_tests::cluster::scratch;
use amends_tests::http::token;
use amends_tests::process::{Process, command_of, eventually};
use anyhow::{Context, bail, ensure};
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::process::{Child, Command};

use crate::account::Account;
use crate::guard::Guard;
use crate::patroni::{self, Node};

/// The servers of ours: as whom each is known to the database, and how it finds the primary.
pub(crate) const SERVERS: [(&str, &str); 2] =
    [("amends_proxied", "through HAProxy"), ("amends_direct", "with both hosts")];
/// The owner of the schema.
const OWNER: &str = "amends_owner";
/// What every provider takes to answer.
const AWAY_MS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that runs.
pub(crate) struct Scene {
    pub(crate) folder: PathBuf,
    pub(crate) guard: Guard,
    pub(crate) nodes: Vec<Node>,
    pub(crate) client: Client,
    pub(crate) servers: Vec<Process>,
    sandbox: Process,
    _others: [Child; 2],
    urls: [String; 2],
}

impl Scene {
    /// Starts everything, with nothing in it.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let folder = scratch().join(format!("ha-{}", std::process::id()));
        std::fs::create_dir_all(&folder).context("the build directory is writable")?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711))?;
        let account = Account::find().await?;
        account.check_entry(&folder).await?;
        let guard = Guard::of(&folder)?;
        let [etcd, peers, proxy, first, second, first_rest, second_rest] = free_ports()?;
        let store = start_etcd(&folder, account, &guard, [etcd, peers])?;
        let mut nodes = Vec::new();
        for (name, port, rest) in [("pg1", first, first_rest), ("pg2", second, second_rest)] {
            nodes.push(Node::prepare(name, [port, rest, etcd], &folder, account)?);
        }
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        // The one that comes first is the leader, so it is known who that is.
        nodes[0].start(&guard)?;
        patroni::accepting(&[&nodes[0]]).await?;
        nodes[1].start(&guard)?;
        patroni::settled(&client, &nodes, "sync_standby").await;
        let proxied = start_haproxy(&folder, account, &guard, proxy, &nodes)?;
        let sandbox = start_sandbox(&folder, &guard).await?;
        let hosts = format!("127.0.0.1:{first},127.0.0.1:{second}");
        let urls = SERVERS.map(|(user, _)| user).map(|user| {
            if user == SERVERS[0].0 {
                format!("postgres://{user}@127.0.0.1:{proxy}/amends?sslmode=disable")
            } else {
                let one = "target_session_attrs=read-write&sslmode=disable";
                format!("postgres://{user}@{hosts}/amends?{one}")
            }
        });
        let others = [store, proxied];
        let mut scene = Self {
            folder,
            guard,
            nodes,
            client,
            servers: Vec::new(),
            sandbox,
            _others: others,
            urls,
        };
        scene.make_database().await?;
        scene.proxy_leads_to_the_primary().await;
        scene.start_servers().await?;
        let delay = json!({ "seed": 7, "delay_ms": AWAY_MS });
        let url = format!("{}/faults/random", scene.sandbox.url());
        scene.client.put(url).json(&delay).send().await?.error_for_status()?;
        Ok(scene)
    }

    /// The database with its roles, as docs/OPERATE.md says.
    async fn make_database(&self) -> anyhow::Result<()> {
        let mut admin = self.nodes[0].options("postgres").connect().await?;
        let [proxied, direct] = SERVERS.map(|(user, _)| user);
        let roles = format!(
            "create role {OWNER} login; create role {proxied} login; create role {direct} login;
             grant pg_monitor to {proxied}, {direct}"
        );
        let database = format!("create database amends owner {OWNER}");
        for statement in [roles, database] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await?;
        }
        admin.close().await?;
        for user in [proxied, direct] {
            let migrated = self.amends(&["migrate", "--grant", user]).await?;
            ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        }
        Ok(())
    }

    /// HAProxy takes everybody for the primary until it has asked them.
    async fn proxy_leads_to_the_primary(&self) {
        eventually("HAProxy leads to the primary alone", PATIENCE, || async {
            for _ in 0..2 * self.nodes.len() {
                let options: PgConnectOptions =
                    self.urls[0].parse().map_err(|it: sqlx::Error| it.to_string())?;
                let mut session = options.connect().await.map_err(|it| it.to_string())?;
                let asked = sqlx::query_scalar("select pg_is_in_recovery()");
                match asked.fetch_one(&mut session).await {
                    Ok(false) => {}
                    answer => return Err(format!("{answer:?}")),
                }
            }
            Ok(())
        })
        .await;
    }

    async fn start_servers(&mut self) -> anyhow::Result<()> {
        let tokens = self.folder.join("tokens");
        std::fs::write(&tokens, format!("shop:ingest:{}:*\n", token(Role::Ingest)))?;
        let tokens = tokens.display().to_string();
        let events = format!("{}/events", self.sandbox.url());
        for (url, (user, _)) in self.urls.iter().zip(SERVERS) {
            let settings = [
                ("AMENDS_LISTEN", "127.0.0.1:0"),
                ("DATABASE_URL", url),
                ("AMENDS_PROVIDERS_URL", self.sandbox.url()),
                ("AMENDS_EVENTS_URL", &events),
                ("AMENDS_TOKENS_FILE", &tokens),
            ];
            let log = self.log(user);
            let server = Process::start(amends(&["serve"], &settings)?, &log).await;
            let server = server.with_context(|| format!("see {}", log.display()))?;
            self.guard.watch(server.id())?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// The log of a server of ours.
    pub(crate) fn log(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.log"))
    }

    /// Runs a command of the product to its end, as the owner of the schema.
    pub(crate) async fn amends(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let url = self.urls[1].replace(SERVERS[1].0, OWNER);
        Ok(amends(arguments, &[("DATABASE_URL", &url)])?.output().await?)
    }

    /// The primary, and the other one.
    pub(crate) async fn roles(&self) -> anyhow::Result<(usize, usize)> {
        let members = patroni::members(&self.client, &self.nodes).await?;
        let leader = members.iter().find(|it| it.role == "leader").context("there is a leader")?;
        match self.nodes.iter().position(|it| it.name == leader.name) {
            Some(leader) => Ok((leader, 1 - leader)),
            None => bail!("{} is nobody's name", leader.name),
        }
    }

    /// A session with the primary, past the proxy.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        let nodes: Vec<_> = self.nodes.iter().collect();
        patroni::accepting(&nodes).await?.0.session().await
    }

    /// What the providers and the receiver of events have written down.
    pub(crate) async fn witness<T: DeserializeOwned>(
        &self,
        path: &str,
        member: &str,
    ) -> anyhow::Result<Vec<T>> {
        let url = format!("{}{path}", self.sandbox.url());
        let mut answer: Value = self.client.get(url).send().await?.json().await?;
        Ok(serde_json::from_value(answer[member].take())?)
    }

    /// What a server says of its health: the status, and the code if it is not well.
    pub(crate) async fn health(&self, server: usize) -> anyhow::Result<(u16, String)> {
        let url = format!("{}/health/ready", self.servers[server].url());
        let answer = self.client.get(url).send().await?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await?;
        Ok((status, body["code"].as_str().unwrap_or_default().to_owned()))
    }

    /// Waits until both servers are ready.
    pub(crate) async fn ready(&self) {
        eventually("both servers are ready", PATIENCE, || async {
            for (server, (name, _)) in SERVERS.iter().enumerate() {
                let health = self.health(server).await.map_err(|error| error.to_string())?;
                if health.0 != 200 {
                    return Err(format!("{name}: {health:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Ends everything. What is left is the folder.
    pub(crate) async fn close(self) -> anyhow::Result<PathBuf> {
        self.guard.end().await?;
        Ok(self.folder)
    }
}

/// The product's own program, which is built beside this one.
fn amends(arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Command> {
    let program = std::env::current_exe()?.with_file_name("amends");
    ensure!(program.is_file(), "{} is missing: run `make ha`", program.display());
    Ok(command_of(&program, arguments, settings))
}

fn start_etcd(
    folder: &Path,
    account: Account,
    guard: &Guard,
    [port, peers]: [u16; 2],
) -> anyhow::Result<Child> {
    let data = folder.join("etcd");
    account.make_folder(&data)?;
    let mut command = account.command("etcd", &folder.join("etcd.log"))?;
    let [clients, peers] = [port, peers].map(|port| format!("http://127.0.0.1:{port}"));
    command.arg("--data-dir").arg(&data);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    let etcd = command.spawn().context("etcd")?;
    guard.watch(etcd.id())?;
    Ok(etcd)
}

/// What leads to the primary. As in docs/OPERATE.md.
fn start_haproxy(
    folder: &Path,
    account: Account,
    guard: &Guard,
    port: u16,
    nodes: &[Node],
) -> anyhow::Result<Child> {
    let mut configuration = format!(
        "global\n    maxconn 500\n\
         defaults\n    mode tcp\n    retries 0\n    timeout connect 2s\n    timeout check 2s\n    \
         timeout client 30m\n    timeout server 30m\n\
         listen primary\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS /primary\n    \
         http-check expect status 200\n    \
         default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions\n"
    );
    for Node { name, port, rest, .. } in nodes {
        configuration += &format!("    server {name} 127.0.0.1:{port} check port {rest}\n");
    }
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, configuration)?;
    let mut command = account.command("haproxy", &folder.join("haproxy.log"))?;
    let haproxy = command.arg("-db").arg("-f").arg(path).spawn().context("haproxy")?;
    guard.watch(haproxy.id())?;
    Ok(haproxy)
}

async fn start_sandbox(folder: &Path, guard: &Guard) -> anyhow::Result<Process> {
    let ledger = folder.join("ledger.jsonl").display().to_string();
    let settings = [("AMENDS_SANDBOX_LISTEN", "127.0.0.1:0"), ("AMENDS_SANDBOX_LEDGER", &ledger)];
    let log = folder.join("sandbox.log");
    let sandbox = Process::start(amends(&["sandbox"], &settings)?, &log).await;
    let sandbox = sandbox.with_context(|| format!("see {}", log.display()))?;
    guard.watch(sandbox.id())?;
    Ok(sandbox)
}

/// Ports that nobody listens on. All are held until the last one is known.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<_> = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<std::io::Result<_>>()?;
    ports.try_into().ok().context("as many as were asked for")
}
