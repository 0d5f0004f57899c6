//! A durable Postgres, stand-in providers and a server, each a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use amends_api::auth::Role;
use amends_tests::cluster::{deafen_if_wanted, scratch};
use amends_tests::durable::Durable;
use amends_tests::http::token;
use amends_tests::process::{Process, eventually};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use uuid::Uuid;

/// The shop that sends orders.
const SHOP: &str = "acme.myshopify.com";
/// Short, so that the test need not wait long for what a dead server held.
const LEASE_SECONDS: &str = "3";
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(45);

/// Everything that runs, and the means to break it.
pub(super) struct Scene {
    folder: PathBuf,
    client: Client,
    postgres: Durable,
    sandbox: Process,
    server: Option<Process>,
    server_address: String,
}

impl Scene {
    /// Starts everything, with nothing in it, and providers that fail at random.
    pub(super) async fn open() -> Self {
        let folder = scratch().join("faults");
        std::fs::create_dir_all(&folder).unwrap();
        for leftover in ["ledger.jsonl", "serve.log", "sandbox.log"] {
            // There is none before the first run.
            let _ = std::fs::remove_file(folder.join(leftover));
        }
        let ledger = folder.join("ledger.jsonl").to_string_lossy().into_owned();
        let settings =
            [("AMENDS_SANDBOX_LISTEN", "127.0.0.1:0"), ("AMENDS_SANDBOX_LEDGER", ledger.as_str())];
        let log = folder.join("sandbox.log");
        let sandbox = Process::serve(&["sandbox"], &settings, &log).await;
        let postgres = Durable::start(&folder).await;
        let mut scene = Self {
            folder,
            client: Client::builder().no_proxy().build().unwrap(),
            postgres,
            sandbox,
            server: None,
            server_address: "127.0.0.1:0".to_owned(),
        };
        scene.empty_database().await;
        let mix = json!({ "seed": 7, "unknown_percent": 10, "error_percent": 5,
            "decline_percent": 10, "refuse_percent": 10, "delay_ms": 200 });
        scene.put("/faults/random", &mix).await;
        scene.start_server().await;
        scene
    }

    pub(super) fn server_url(&self) -> String {
        format!("http://{}", self.server_address)
    }

    /// Starts the server where it was before.
    pub(super) async fn start_server(&mut self) {
        let events_url = format!("{}/events", self.sandbox.url());
        let tokens = format!(
            "shop:ingest:{}:{SHOP},anna:operator:{}",
            token(Role::Ingest),
            token(Role::Operator)
        );
        let settings = [
            ("AMENDS_LISTEN", self.server_address.as_str()),
            ("DATABASE_URL", self.postgres.url()),
            ("AMENDS_PROVIDERS_URL", self.sandbox.url()),
            ("AMENDS_EVENTS_URL", events_url.as_str()),
            ("AMENDS_TOKENS", tokens.as_str()),
            ("AMENDS_LEASE_SECONDS", LEASE_SECONDS),
        ];
        let server = Process::serve(&["serve"], &settings, &self.folder.join("serve.log")).await;
        self.server_address = server.address().to_owned();
        self.server = Some(server);
    }

    /// Ends the server with SIGKILL.
    pub(super) async fn kill_server(&mut self) {
        self.server.take().unwrap().kill().await;
    }

    /// Ends the database with SIGKILL, and starts it again.
    pub(super) async fn restart_postgres(&mut self) {
        self.postgres.kill_and_start().await;
    }

    /// Lets an operation take 5 s, for as many orders as come first, and the receiver of events
    /// fail now and then.
    pub(super) async fn slow(&self, provider: &str, operation: &str) {
        let receiver = |fault: &str| json!({ "provider": "events", "operation": "deliver", "fault": fault, "times": 10 });
        let slow = json!({ "provider": provider, "operation": operation, "fault": "slow",
            "times": 240, "delay_ms": 5000 });
        let rules = json!([slow, receiver("error_before"), receiver("error_after")]);
        self.put("/faults", &json!({ "rules": rules })).await;
    }

    /// Waits until the providers have done something so often.
    pub(super) async fn applied(&self, operation: &str, times: usize) {
        eventually(&format!("{times} times {operation}"), PATIENCE, || async {
            let ledger = self.get("/ledger").await;
            let entries = ledger["entries"].as_array().unwrap();
            let count = entries.iter().filter(|entry| entry["operation"] == operation).count();
            enough(count >= times, || format!("{count} so far"))
        })
        .await;
    }

    /// How many orders are under way.
    pub(super) async fn in_flight(&self) -> i64 {
        let counted = sqlx::query_scalar(
            "select count(*) from amends.instance
             where status in ('pending', 'running', 'waiting', 'compensating')",
        );
        counted.fetch_one(&mut self.database().await).await.unwrap()
    }

    /// Waits until every order has ended and every event is delivered. Providers get well, and
    /// somebody resumes what got stuck, as one would.
    pub(super) async fn everything_has_ended(&self) {
        self.put("/faults", &json!({ "rules": [] })).await;
        self.put("/faults/random", &json!({ "seed": 7 })).await;
        eventually("every order has ended", PATIENCE, || async {
            let stuck = self.stuck().await;
            for (instance_id, _) in &stuck {
                self.resume(*instance_id).await;
            }
            let going = self.in_flight().await;
            let left = || format!("{going} are under way, and stuck are {stuck:?}");
            enough(going == 0 && stuck.is_empty(), left)
        })
        .await;
        eventually("every event is delivered", PATIENCE, || async {
            let counted = sqlx::query_scalar("select count(*) from amends.outbox");
            let left: i64 = counted.fetch_one(&mut self.database().await).await.unwrap();
            enough(left == 0, || format!("{left} are left"))
        })
        .await;
    }

    /// What is stuck, and why.
    async fn stuck(&self) -> Vec<(Uuid, Option<String>)> {
        sqlx::query_as(
            "select instance_id, failure_code from amends.instance where status = 'stuck'",
        )
        .fetch_all(&mut self.database().await)
        .await
        .unwrap()
    }

    async fn resume(&self, instance_id: Uuid) {
        let url = format!("{}/instances/{instance_id}/commands", self.server_url());
        let body = json!({ "command": "resume", "reason": "the providers are well again" });
        let request = self.client.post(url).bearer_auth(token(Role::Operator)).json(&body);
        // Whether it helped is seen by whether the order ends.
        let _ = request.send().await;
    }

    /// How many dead workers the server that runs now has taken over.
    pub(super) async fn taken_over(&self) -> usize {
        let metrics = self.client.get(format!("{}/metrics", self.server_url()));
        let answer = metrics.bearer_auth(token(Role::Operator)).send().await;
        let text = answer.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|it| it.strip_prefix("amends_workers_taken_over_total "));
        line.unwrap_or_else(|| panic!("no such metric: {text}")).parse().unwrap()
    }

    /// What the providers answer.
    pub(super) async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.sandbox.url())).send().await;
        answer.unwrap().json().await.unwrap()
    }

    async fn put(&self, path: &str, body: &Value) {
        let url = format!("{}{path}", self.sandbox.url());
        let answer = self.client.put(url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// A connection past the server.
    pub(super) async fn database(&self) -> PgConnection {
        self.options().connect().await.unwrap()
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        self.postgres.options()
    }

    async fn empty_database(&self) {
        let mut admin = self.options().database("postgres").connect().await.unwrap();
        for statement in ["drop database if exists amends with (force)", "create database amends"] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        deafen_if_wanted(&self.options()).await;
    }

    /// Ends everything that runs.
    pub(super) async fn close(mut self) {
        self.kill_server().await;
        self.sandbox.kill().await;
        self.postgres.stop().await;
    }
}

fn enough(is_enough: bool, left: impl FnOnce() -> String) -> Result<(), String> {
    if is_enough { Ok(()) } else { Err(left()) }
}
