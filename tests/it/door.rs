//! Strangers at the door of a real server: slow, silent, deaf and many ones, guesses, and what it
//! costs when it is told to stop. And those who are no strangers: tokens that change under it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use amends_api::auth::Role;
use amends_tests::cluster::{deafen_if_wanted, scratch};
use amends_tests::durable::Durable;
use amends_tests::http::token;
use amends_tests::orders;
use amends_tests::process::{Process, binary, command, command_of, eventually};
use reqwest::{Client, StatusCode};
use serde_json::json;
use sqlx::ConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);
/// A stop is to take ten seconds at most. Before there were limits, each of the clients that hold it
/// up here cost half a minute.
const STOPPED: Duration = Duration::from_secs(20);

/// A server with a database of its own.
struct Scene {
    folder: PathBuf,
    postgres: Durable,
    client: Client,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let folder = scratch().join("door").join(name);
        // There is none before the first run.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let postgres = Durable::start(&folder).await;
        deafen_if_wanted(&postgres.options()).await;
        Self { folder, postgres, client }
    }

    async fn serve(&self, settings: &[(&str, &str)]) -> Process {
        let database = ("DATABASE_URL", self.postgres.url());
        let mut all = vec![("AMENDS_LISTEN", "127.0.0.1:0"), database];
        all.extend(settings);
        Process::serve(&["serve"], &all, &self.log_file()).await
    }

    /// The same, with standard output and standard error going to one place.
    async fn serve_on_one_pipe(&self, settings: &[(&str, &str)]) -> Process {
        let mut all = vec![("AMENDS_LISTEN", "127.0.0.1:0"), ("DATABASE_URL", self.postgres.url())];
        all.extend(settings);
        let program = binary().to_string_lossy().into_owned();
        let arguments = ["-c", "exec \"$0\" serve >&2", &program];
        let server = command_of(Path::new("sh"), &arguments, &all);
        Process::start(server, &self.log_file()).await.unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("serve.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    /// What a server answers to the holder of a token.
    async fn status(&self, server: &Process, token: &str) -> StatusCode {
        let request = self.client.get(format!("{}/instances", server.url()));
        request.bearer_auth(token).send().await.unwrap().status()
    }

    /// A number of the database.
    async fn count(&self, query: &'static str) -> i64 {
        let mut database = self.postgres.options().connect().await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut database).await.unwrap()
    }

    /// Whether the database counts so many.
    async fn counts(&self, query: &'static str, wanted: i64) -> Result<(), String> {
        let count = self.count(query).await;
        if count == wanted { Ok(()) } else { Err(format!("{count}, not {wanted}")) }
    }
}

fn tokens() -> String {
    format!("anna:operator:{}", token(Role::Operator))
}

/// A connection on which this has been sent.
async fn connection(server: &Process, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// A connection that asks again and again and reads nothing, until nothing more is taken of it.
async fn deaf(server: &Process) -> TcpStream {
    let bearer = token(Role::Operator);
    let request = format!(
        "GET /openapi.json HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {bearer}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let many = request.repeat(100_000);
    let asking = stream.write_all(many.as_bytes());
    let _ = tokio::time::timeout(Duration::from_secs(2), asking).await;
    stream
}

async fn send_order(scene: &Scene, server: &Process, order_id: &str) {
    let post = scene.client.post(format!("{}/orders", server.url()));
    let post = post.bearer_auth(token(Role::Operator)).header("idempotency-key", order_id);
    let answer = post.json(&orders::order(order_id)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

async fn sandbox(folder: &Path) -> Process {
    let ledger = folder.join("ledger.jsonl").to_string_lossy().into_owned();
    let settings =
        [("AMENDS_SANDBOX_LISTEN", "127.0.0.1:0"), ("AMENDS_SANDBOX_LEDGER", ledger.as_str())];
    Process::serve(&["sandbox"], &settings, &folder.join("sandbox.log")).await
}

/// Tells the providers how to behave.
async fn fault(scene: &Scene, sandbox: &Process, rules: serde_json::Value) {
    let put =
        scene.client.put(format!("{}/faults", sandbox.url())).json(&json!({ "rules": rules }));
    assert!(put.send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_has_soon_handed_everything_over_whatever_holds_on_to_it() {
    let scene = Scene::new("stop").await;
    let sandbox = sandbox(&scene.folder).await;
    let tokens = tokens();
    let settings = [("AMENDS_PROVIDERS_URL", sandbox.url()), ("AMENDS_TOKENS", tokens.as_str())];
    let server = scene.serve(&settings).await;
    let slow = json!({ "provider": "payment", "operation": "charge", "fault": "slow",
        "delay_ms": 20_000 });
    fault(&scene, &sandbox, json!([slow])).await;
    for number in 0..5 {
        send_order(&scene, &server, &number.to_string()).await;
    }
    let charging = "select count(*) from amends.instance i where worker_id is not null
        and exists (select from amends.record r where r.instance_id = i.instance_id
            and r.step = 'issue_invoice' and r.kind = 'step_done')";
    eventually("all are being charged", PATIENCE, || scene.counts(charging, 5)).await;
    let bearer = token(Role::Operator);
    let slow_body = format!(
        "POST /signals HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {bearer}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    );
    let held = [
        connection(&server, "").await,
        connection(&server, "GET / HTTP/1.1\r\nhost:").await,
        connection(&server, &slow_body).await,
        deaf(&server).await,
    ];

    let since = Instant::now();
    let status = server.stop().await;
    let took = since.elapsed();
    let log = scene.log();
    assert!(status.success(), "{status}: {log}");
    assert!(took < STOPPED, "it took {took:?}: {log}");
    println!("stopped within {took:?}");
    drop(held);
    assert_eq!(scene.count("select count(*) from amends.worker").await, 0, "{log}");
    let held = "select count(*) from amends.instance where worker_id is not null";
    assert_eq!(scene.count(held).await, 0);

    fault(&scene, &sandbox, json!([])).await;
    let server = scene.serve(&settings).await;
    let completed = "select count(*) from amends.instance where status = 'completed'";
    eventually("all are completed", PATIENCE, || scene.counts(completed, 5)).await;
    server.kill().await;
    sandbox.kill().await;
    scene.postgres.stop().await;
}

#[tokio::test]
async fn tokens_are_replaced_under_a_server_and_a_broken_file_replaces_nothing() {
    let scene = Scene::new("tokens").await;
    let file = scene.folder.join("tokens");
    let write = |text: &str| {
        // As one would: nobody reads half of it.
        let next = scene.folder.join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    let (old, new) = (token(Role::Viewer), token(Role::Auditor));
    let is_accepted = async |server: &Process, token: &str| {
        if scene.status(server, token).await == StatusCode::OK { Ok(()) } else { Err(scene.log()) }
    };
    write(&format!("anna:viewer:{old}\n"));
    let path = file.to_string_lossy().into_owned();
    let server = scene.serve(&[("AMENDS_TOKENS_FILE", path.as_str())]).await;
    assert_eq!(scene.status(&server, &old).await, StatusCode::OK);
    assert_eq!(scene.status(&server, &new).await, StatusCode::UNAUTHORIZED);

    write(&format!("# both, for a while\nanna:viewer:{old}\nanna-2:viewer:{new}\n"));
    server.signal("HUP").await;
    eventually("a token is there at SIGHUP", PATIENCE, || is_accepted(&server, &new)).await;
    assert_eq!(scene.status(&server, &old).await, StatusCode::OK);

    write("anna:viewer:short\n");
    server.signal("HUP").await;
    let broken = "AMENDS_TOKENS_FILE cannot be used, and what was read from it before counts on";
    eventually("a broken file is told", PATIENCE, || async {
        if scene.log().contains(broken) { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    for token in [&old, &new] {
        assert_eq!(scene.status(&server, token).await, StatusCode::OK);
    }

    write(&format!("anna-2:viewer:{new}\n"));
    eventually("a token is gone by itself", PATIENCE, || async {
        let status = scene.status(&server, &old).await;
        if status == StatusCode::UNAUTHORIZED { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    assert_eq!(scene.status(&server, &new).await, StatusCode::OK);
    let log = scene.log();
    assert!(!log.contains(&old) && !log.contains(&new) && !log.contains("short"), "{log}");
    server.kill().await;
    scene.postgres.stop().await;
}

#[tokio::test]
async fn strangers_are_counted_logged_and_turned_away_and_see_nothing() {
    let scene = Scene::new("strangers").await;
    let tokens = tokens();
    let server = scene
        .serve(&[
            ("AMENDS_TOKENS", tokens.as_str()),
            ("AMENDS_METRICS_LISTEN", "127.0.0.1:0"),
            ("AMENDS_CONNECTIONS_PER_ADDRESS_MAX", "16"),
        ])
        .await;
    let metrics = eventually("it says where metrics are", PATIENCE, || async {
        let log = scene.log();
        let (_, url) = log.split_once("the description of the API: ").ok_or("not yet")?;
        Ok(url.split_whitespace().next().unwrap_or_default().to_owned())
    })
    .await;
    let get = async |url: String| {
        let answer = scene.client.get(url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    for path in ["/metrics", "/openapi.json"] {
        let public = get(format!("{}{path}", server.url())).await;
        assert_eq!(public.0, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(get(format!("{metrics}{path}")).await.0, StatusCode::OK, "{path}");
    }
    let other = get(format!("{metrics}/instances")).await;
    assert_eq!(other.0, StatusCode::NOT_FOUND, "{}", other.1);

    let guess = "nobody-0123456789abcdef0123456789abcdef";
    let since = Instant::now();
    for _ in 0..12 {
        assert_eq!(scene.status(&server, guess).await, StatusCode::UNAUTHORIZED);
    }
    assert!(since.elapsed() >= Duration::from_secs(2), "the eleventh and twelfth come late");
    assert_eq!(scene.status(&server, &token(Role::Operator)).await, StatusCode::OK);
    eventually("the first and the tenth are logged", PATIENCE, || async {
        let log = scene.log();
        let lines = log.lines().filter(|line| line.contains("from 127.0.0.1: unknown token"));
        if lines.count() == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(!scene.log().contains(guess), "{}", scene.log());

    let mut many = Vec::new();
    for _ in 0..16 {
        many.push(connection(&server, "").await);
    }
    let mut last = connection(&server, "GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut told = String::new();
    last.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("too_many_connections"), "{told}");
    drop(many);
    let measured = get(format!("{metrics}/metrics")).await.1;
    assert!(
        measured.contains(r#"amends_credentials_refused_total{reason="unknown_token"} 12"#),
        "{measured}"
    );
    assert!(measured.contains(r#"amends_http_connections_refused_total{limit="address"}"#));
    eventually("there is room again", PATIENCE, || async {
        let answer = scene.client.get(format!("{}/health/live", server.url())).send().await;
        match answer.map(|answer| answer.status()) {
            Ok(StatusCode::OK) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    server.kill().await;
    scene.postgres.stop().await;
}

#[tokio::test]
async fn a_secret_on_the_command_line_is_refused_with_the_way_out() {
    let tokens = format!("a:admin:{}", token(Role::Admin));
    let refused = command(&["serve", "--tokens", &tokens], &[]).output().await.unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("AMENDS_TOKENS_FILE") && !told.contains(&tokens), "{told}");
}

/// What a server says of itself to those who look after it.
async fn metric(scene: &Scene, server: &Process, name: &str) -> u64 {
    let get = scene.client.get(format!("{}/metrics", server.url())).timeout(PATIENCE);
    let answer = get.bearer_auth(token(Role::Operator)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_log_that_nobody_takes_keeps_nobody_waiting() {
    let scene = Scene::new("log").await;
    let tokens = tokens();
    let settings = [("AMENDS_TOKENS", tokens.as_str()), ("AMENDS_LOG", "trace")];
    for is_closed in [false, true] {
        let server = scene.serve_on_one_pipe(&settings).await;
        let stalled = (!is_closed).then(|| server.stall_log());
        if is_closed {
            server.close_log();
        }
        // Until neither the pipe nor the memory set aside for it takes any more.
        for number in 0.. {
            send_order(&scene, &server, &format!("{is_closed}-{number}")).await;
            let lost = metric(&scene, &server, "amends_log_lines_lost_total").await;
            if lost > 0 || (is_closed && number > 50) {
                break;
            }
        }
        let ready = scene.client.get(format!("{}/health/ready", server.url())).send().await;
        assert_eq!(ready.unwrap().status(), StatusCode::OK);
        let stopped = tokio::time::timeout(STOPPED, server.stop()).await;
        assert!(stopped.expect("it ends").success(), "closed: {is_closed}");
        drop(stalled);
    }
    scene.postgres.stop().await;
}
