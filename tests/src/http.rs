//! Requests to the HTTP part of the server, past the network, and what was answered.
//!
//! Every role has a token of its own, and is known by its own name.

use amends::Clock;
use amends_api::app::{HttpConfig, app};
use amends_api::auth::{Binding, Role, Token};
use amends_api::secret::Secret;
use amends_api::webhook::Shops;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tower::ServiceExt;

use crate::World;

/// The Shopify shop that is known, with its secret.
pub const SHOP: (&str, &str) = ("acme.myshopify.com", "shpss_secret");

/// A token that sends, bound to [`SHOP`], and its name.
pub const BOUND_TOKEN: (&str, &str) = ("acme", "acme-0123456789abcdef0123456789abcdef");

/// What every token is filled up with: a server that is told its tokens takes long ones only.
const FILLING: &str = "-0123456789abcdef0123456789abcdef";

/// The token of a role, known to the server of a world.
#[must_use]
pub fn token(role: Role) -> String {
    format!("{}{FILLING}", role.as_str())
}

/// The HTTP part of the server, on the engine of a world.
#[derive(Clone)]
pub struct Api {
    router: Router,
}

impl Api {
    /// The API of a world.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut shopify = Shops::default();
        shopify.insert(SHOP.0, vec![Secret::new(SHOP.1)]);
        let holder = |role: Role| Token::new(role.as_str(), role, &token(role));
        let binding: Binding = SHOP.0.parse().expect("a shop");
        let bound = Token::new(BOUND_TOKEN.0, Role::Ingest, BOUND_TOKEN.1).bound_to(binding);
        let tokens = Role::ALL.map(holder).into_iter().chain([bound]).collect();
        let clock = Clock::manual(now());
        let config = HttpConfig { tokens, shopify, clock, ..HttpConfig::default() };
        Self { router: app(world.engine().clone(), &config) }
    }

    /// All routes, to be served on a port.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, call: Call) -> Answer {
        let response = self.router.clone().oneshot(call.into_request()).await;
        let (parts, body) = response.expect("the router cannot fail").into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("the answer has a body");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// When requests arrive, as far as the age of webhooks goes.
#[must_use]
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).expect("a valid time")
}

/// A request; clones are the same request sent again.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// A request without headers or body.
    #[must_use]
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        let method = method.parse().expect("a method");
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A look at something, by a viewer.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path).role(Role::Viewer)
    }

    /// An order under a key, by an operator.
    #[must_use]
    pub fn order(key: &str, order: &Value) -> Self {
        Self::new("POST", "/orders").role(Role::Operator).header("idempotency-key", key).json(order)
    }

    /// A command to an instance, by an operator.
    #[must_use]
    pub fn command(instance_id: impl std::fmt::Display, command: &Value) -> Self {
        let path = format!("/instances/{instance_id}/commands");
        Self::new("POST", path).role(Role::Operator).json(command)
    }

    /// A signal, by whoever may only send.
    #[must_use]
    pub fn signal(signal: &Value) -> Self {
        Self::new("POST", "/signals").role(Role::Ingest).json(signal)
    }

    /// Sent by the holder of this role's token, and of no other.
    #[must_use]
    pub fn role(self, role: Role) -> Self {
        self.bearer(&token(role))
    }

    /// Sent by the holder of this token, and of no other.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        self.without(AUTHORIZATION.as_str()).header(AUTHORIZATION.as_str(), &bearer)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// Without this header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// With this body, declared to be JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string())
    }

    /// With these bytes as its body, declared to be JSON, be they or not.
    #[must_use]
    pub fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.without(CONTENT_TYPE.as_str()).header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// What is sent as its body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    fn into_request(self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().expect("a path");
        *request.headers_mut() = self.headers;
        request
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    headers: HeaderMap,
    /// The body, to the byte.
    pub body: Bytes,
}

impl Answer {
    /// A header; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.status))
    }

    /// What keeps this from being a proper problem with this status and code; nothing, if it is one.
    #[must_use]
    pub fn differs_from_problem(&self, status: u16, code: &str) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let expected: [(&str, Value, Value); 7] = [
            ("status", self.status.into(), status.into()),
            ("member status", body["status"].clone(), status.into()),
            ("member code", body["code"].clone(), code.into()),
            ("member type", body["type"].clone(), "about:blank".into()),
            ("media type", self.header("content-type").into(), "application/problem+json".into()),
            (
                "a detail",
                body["detail"].as_str().is_some_and(|it| !it.is_empty()).into(),
                true.into(),
            ),
            ("a request id", (!self.header("x-request-id").is_empty()).into(), true.into()),
        ];
        let differs = |(what, found, wanted): (&str, Value, Value)| {
            (found != wanted).then(|| format!("{what}: {found}, not {wanted}"))
        };
        expected.into_iter().filter_map(differs).collect()
    }
}

/// How much of everything that a request may leave behind is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Stored {
    /// Instances.
    pub instances: i64,
    /// Deliveries.
    pub deliveries: i64,
    /// Commands.
    pub commands: i64,
    /// Messages to instances.
    pub mail: i64,
    /// Signals to instances that there are not yet.
    pub early_signals: i64,
}

/// What is stored in a world.
pub async fn stored(world: &World) -> Stored {
    let counted = sqlx::query_as(
        "select (select count(*) from amends.instance) as instances,
                (select count(*) from amends.delivery) as deliveries,
                (select count(*) from amends.command) as commands,
                (select count(*) from amends.mail) as mail,
                (select count(*) from amends.early_signal) as early_signals",
    );
    counted.fetch_one(&mut world.database().await).await.expect("rows can be counted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let media_type = HeaderValue::from_static("application/problem+json");
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, media_type),
            (HeaderName::from_static("x-request-id"), HeaderValue::from_static("1")),
        ]);
        Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn a_problem_is_told_from_what_is_only_like_one() {
        let good = r#"{"type":"about:blank","status":404,"code":"not_found","detail":"none"}"#;
        assert_eq!(answer(404, good).differs_from_problem(404, "not_found"), Vec::<String>::new());
        assert_eq!(answer(404, good).differs_from_problem(400, "not_found").len(), 2);
        assert_eq!(answer(404, good).differs_from_problem(404, "unknown_order").len(), 1);
        assert_eq!(answer(404, "").differs_from_problem(404, "not_found").len(), 4);
        let mut unnamed = answer(404, good);
        unnamed.headers.clear();
        assert_eq!(unnamed.differs_from_problem(404, "not_found").len(), 2);
    }
}
