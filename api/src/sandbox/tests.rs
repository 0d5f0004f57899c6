//! A sandbox to talk to without a network, and the claims about it, grouped by risk.

mod fault;
mod gateway;
mod idempotency;
mod restart;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::{Error, Sandbox};

/// A sandbox with a ledger that vanishes with it.
struct Bench {
    folder: TempDir,
    sandbox: Sandbox,
}

/// An answer of the sandbox.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Bench {
    async fn open() -> Bench {
        let folder = TempDir::new().unwrap();
        let sandbox = Sandbox::open(&folder.path().join("ledger.jsonl")).await.unwrap();
        Bench { folder, sandbox }
    }

    /// Opens the same ledger again, after `edit` had its way with the file.
    async fn restart(self, edit: impl FnOnce(&mut Vec<u8>)) -> Result<Bench, Error> {
        let Bench { folder, sandbox } = self;
        drop(sandbox);
        let path = folder.path().join("ledger.jsonl");
        let mut content = std::fs::read(&path).unwrap();
        edit(&mut content);
        std::fs::write(&path, content).unwrap();
        Ok(Bench { sandbox: Sandbox::open(&path).await?, folder })
    }

    fn ledger_lines(&self) -> usize {
        let content = std::fs::read_to_string(self.folder.path().join("ledger.jsonl")).unwrap();
        content.lines().count()
    }

    async fn request(&self, method: &str, path: &str, key: Option<&str>, body: String) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = self.sandbox.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = || Value::String(String::from_utf8(body.to_vec()).unwrap());
        let body = if body.is_empty() {
            Value::Null
        } else {
            // Gateways speak HTML.
            serde_json::from_slice(&body).unwrap_or_else(|_| text())
        };
        Reply { status: parts.status, headers: parts.headers, body }
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> Reply {
        self.request("POST", path, Some(key), body.to_string()).await
    }

    async fn charge(&self, key: &str, order_id: &str) -> Reply {
        self.post("/payments/charges", key, charge_of(order_id)).await
    }

    async fn refund(&self, key: &str, charge_key: &str) -> Reply {
        self.post("/payments/refunds", key, json!({ "charge_key": charge_key })).await
    }

    async fn deliver(&self, event: Value) -> Reply {
        self.request("POST", "/events", None, event.to_string()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, None, String::new()).await
    }

    async fn put(&self, path: &str, body: Value) -> Reply {
        self.request("PUT", path, None, body.to_string()).await
    }

    async fn rule(&self, rule: Value) {
        let reply = self.put("/faults", json!({ "rules": [rule] })).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    }

    /// The operations in the ledger, in order.
    async fn operations(&self) -> Vec<String> {
        let entries = self.get("/ledger").await.body["entries"].clone();
        let operation = |entry: &Value| entry["operation"].as_str().unwrap().to_owned();
        entries.as_array().unwrap().iter().map(operation).collect()
    }
}

impl Reply {
    /// The status, and the code if it is a problem.
    fn outcome(&self) -> (u16, Option<&str>) {
        if self.status.is_success() {
            assert!(self.body.is_null() || self.headers["content-type"] == "application/json");
        } else {
            assert_eq!(self.headers["content-type"], "application/problem+json");
            assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        }
        (self.status.as_u16(), self.body["code"].as_str())
    }

    fn is_replay(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }
}

fn charge_of(order_id: &str) -> Value {
    json!({ "order_id": order_id, "amount_minor": 1999, "currency": "EUR" })
}
