//! What the server says of its HTTP API is what it does, whoever asks what.
//!
//! Schemathesis makes requests up from the description that the server serves, good ones and bad
//! ones, and sequences of them, and holds every answer against it.

use std::path::Path;
use std::time::Duration;

use amends_tests::cluster::{bin_dir, scratch, stop_with_this_process};
use amends_tests::orders;
use amends_tests::process::{Process, eventually, installed};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::process::Command;

const TOKEN: &str = "admin-0123456789abcdef0123456789abcdef";
const SEED: &str = "4";
/// Per operation and phase; together they come to more than [`REQUESTS_MIN`].
const EXAMPLES: &str = "160";
const REQUESTS_MIN: u64 = 3_000;
/// Orders that end well before anybody asks.
const ORDERS: usize = 20;

#[tokio::test]
async fn every_answer_to_three_thousand_requests_is_as_it_is_documented() {
    let folder = scratch().join("contract");
    // There is none before the first run; what an earlier one left would change the requests.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let sandbox = sandbox(&folder).await;
    let server = serve(&folder, &sandbox).await;
    seed(&server, &sandbox).await;

    let run = schemathesis(&folder, &server).output().await.expect("schemathesis can be started");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    let made = told.split("Test cases:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let made: u64 = made.and_then(|count| count.parse().ok()).unwrap_or_default();
    assert!(made >= REQUESTS_MIN, "only {made} requests: {told}");
    server.kill().await;
    sandbox.kill().await;
}

async fn sandbox(folder: &Path) -> Process {
    let ledger = folder.join("ledger.jsonl").to_string_lossy().into_owned();
    let settings =
        [("AMENDS_SANDBOX_LISTEN", "127.0.0.1:0"), ("AMENDS_SANDBOX_LEDGER", ledger.as_str())];
    Process::serve(&["sandbox"], &settings, &folder.join("sandbox.log")).await
}

async fn serve(folder: &Path, sandbox: &Process) -> Process {
    let data = folder.join("postgres");
    let (data, programs) = (data.to_string_lossy(), bin_dir().unwrap_or_default());
    let programs = programs.to_string_lossy();
    let tokens = format!("root:admin:{TOKEN}");
    let mut settings = vec![
        ("AMENDS_LISTEN", "127.0.0.1:0"),
        ("AMENDS_DATA_DIR", &*data),
        ("AMENDS_PROVIDERS_URL", sandbox.url()),
        ("AMENDS_TOKENS", tokens.as_str()),
        ("AMENDS_SHOPIFY_SECRETS", "acme.myshopify.com=shpss_1"),
    ];
    if !programs.is_empty() {
        settings.push(("AMENDS_PG_BIN", &*programs));
    }
    let server = Process::serve(&["serve"], &settings, &folder.join("serve.log")).await;
    stop_with_this_process(Path::new(&*data));
    server
}

/// Orders that have ended, one that waits for its next attempt, and one that is stuck.
async fn seed(server: &Process, sandbox: &Process) {
    let client = Client::builder().no_proxy().build().unwrap();
    let rule = |provider: &str, operation: &str, order_id: &str, fault: &str| {
        let order_id = orders::order(order_id).business_key();
        json!({ "provider": provider, "operation": operation, "order_id": order_id,
            "fault": fault })
    };
    let rules = json!({ "rules": [
        rule("payment", "charge", "waiting", "down"),
        rule("mail", "send", "stuck", "refuse"),
    ]});
    let put = client.put(format!("{}/faults", sandbox.url())).json(&rules).send().await.unwrap();
    assert!(put.status().is_success());
    let ids = (0..ORDERS).map(|number| format!("{number}"));
    for order_id in ids.chain(["waiting", "stuck"].map(str::to_owned)) {
        let order = orders::order(&order_id);
        let post = client.post(format!("{}/orders", server.url())).bearer_auth(TOKEN);
        let answer = post.header("idempotency-key", &order_id).json(&order).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }
    let has = async |status: &str, count: usize| {
        let url = format!("{}/instances?status={status}", server.url());
        let answer = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        let found = page["items"].as_array().map_or(0, Vec::len);
        if found == count { Ok(()) } else { Err(format!("{found} are {status}")) }
    };
    let minute = Duration::from_secs(60);
    eventually("orders are completed", minute, || has("completed", ORDERS)).await;
    eventually("one is stuck", minute, || has("stuck", 1)).await;
    eventually("one waits", minute, || has("waiting", 1)).await;
}

fn schemathesis(folder: &Path, server: &Process) -> Command {
    let configuration =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis/schemathesis.toml");
    let mut command = Command::new(installed("schemathesis/bin/schemathesis"));
    command.arg("--config-file").arg(configuration).arg("run");
    command.arg(format!("{}/openapi.json", server.url()));
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    command.args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-color"]);
    // Where it keeps what it wants to remember.
    command.current_dir(folder).kill_on_drop(true);
    command
}
