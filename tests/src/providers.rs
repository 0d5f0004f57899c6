//! The stand-in providers, with their ledger: evidence from outside of what was really done.

use std::collections::BTreeMap;

use amends_api::sandbox::Sandbox;
use amends_workflows::ports::Ports;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Providers that serve on a port of their own.
pub struct Providers {
    url: String,
    client: reqwest::Client,
    _ledger: TempDir,
}

/// One applied effect, as a provider has written it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which provider.
    pub provider: String,
    /// What it did.
    pub operation: String,
    /// The idempotency key it was asked with.
    pub key: String,
    /// The amount, where money is involved.
    pub amount_minor: Option<i64>,
}

impl Providers {
    /// Starts providers with an empty ledger.
    pub async fn start() -> Self {
        let ledger = TempDir::new().expect("a temporary folder");
        let sandbox = Sandbox::open(&ledger.path().join("ledger.jsonl")).await.expect("it opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let router = sandbox.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, client: reqwest::Client::new(), _ledger: ledger }
    }

    /// Where they serve.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ports that reach them over HTTP.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports::http(&self.url).expect("the url is valid")
    }

    /// Makes `provider` fail with `fault`, `times` times or for ever.
    pub async fn fault(&self, provider: &str, operation: &str, fault: &str, times: Option<u32>) {
        let rule = json!({
            "provider": provider, "operation": operation, "fault": fault, "times": times,
            "delay_ms": 10,
        });
        self.put("/faults", json!({ "rules": [rule] })).await;
    }

    /// Has a gateway answer in the place of `provider`, `times` times or for ever. The fault says what
    /// becomes of the call: `gateway_before`, `gateway_after` or `late`.
    pub async fn gateway(
        &self,
        (provider, operation): (&str, &str),
        fault: &str,
        gateway: &str,
        times: Option<u32>,
    ) {
        let rule = json!({
            "provider": provider, "operation": operation, "fault": fault, "times": times,
            "gateway": gateway, "delay_ms": 3_600_000,
        });
        let forgetful = ["payment", "stock", "invoice"];
        self.put("/faults", json!({ "rules": [rule], "forgetful": forgetful })).await;
    }

    /// Has everything applied now that is late, and says how much there was.
    pub async fn apply_late(&self) -> u64 {
        let answer = self.client.post(format!("{}/faults/late", self.url)).send().await;
        let text = answer.expect("the providers answer").text().await.expect("a body");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        body["applied"].as_u64().expect("a count")
    }

    /// Makes several providers fail for ever: (provider, operation, fault).
    pub async fn faults(&self, faults: &[(&str, &str, &str)]) {
        let rules: Vec<_> = faults
            .iter()
            .map(|(provider, operation, fault)| {
                json!({ "provider": provider, "operation": operation, "fault": fault })
            })
            .collect();
        self.put("/faults", json!({ "rules": rules })).await;
    }

    /// Makes everybody well again.
    pub async fn heal(&self) {
        self.put("/faults", json!({ "rules": [] })).await;
    }

    async fn put(&self, path: &str, body: Value) {
        let request = self.client.put(format!("{}{path}", self.url)).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await;
        let answer = answer.expect("the providers answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Everything that was applied for an order, in order.
    pub async fn applied(&self, business_key: &str) -> Vec<Applied> {
        let request = self.client.get(format!("{}/ledger?order_id={business_key}", self.url));
        let answer = request.send().await;
        let text = answer.expect("the providers answer").text().await.expect("a body");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        body["entries"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|entry| Applied {
                provider: text(entry, "provider"),
                operation: text(entry, "operation"),
                key: text(entry, "key"),
                amount_minor: entry["amount_minor"].as_i64(),
            })
            .collect()
    }

    /// How often each operation was applied for an order.
    pub async fn counts(&self, business_key: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for applied in self.applied(business_key).await {
            *counts.entry(applied.operation).or_insert(0) += 1;
        }
        counts
    }
}
