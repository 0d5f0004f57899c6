//! What operators can measure, as OpenMetrics text.

mod connections;
mod lines_lost;

use std::time::Duration;

use amends::Engine;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::auth::Token;
use crate::openapi::Overview;
use crate::problem::Problem;

pub(crate) use connections::{Connections, Cut};
use lines_lost::LinesLost;

/// The media type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const BUCKETS_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is measured of requests, and the registry that holds it with what the engine measures.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    shops_refused: Family<TokenLabels, Counter>,
    conflicts: Family<ConflictLabels, Counter>,
    cases: Family<CodeLabels, Counter>,
    credentials_refused: Family<CredentialLabels, Counter>,
    expiries: Family<TokenLabels, Gauge>,
    broken_files: Family<SettingLabels, Gauge>,
    connections: Connections,
}

/// Why a token or a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadCredential {
    /// A token that nobody has.
    UnknownToken,
    /// A token whose last day is over.
    ExpiredToken,
    /// A signature that does not fit.
    Signature,
}

impl BadCredential {
    /// As in the log.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::UnknownToken => "unknown token",
            Self::ExpiredToken => "expired token",
            Self::Signature => "wrong signature",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::Signature => "signature",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettingLabels {
    setting: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

/// Tokens are named by the configuration, not by whoever sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: String,
}

/// What comes in and contradicts what has come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// A webhook under an id that came before with another body.
    WebhookIdReused,
    /// A request of a token under an idempotency key that came before with another body.
    KeyReused,
    /// An order of a token that was accepted before with other content.
    OrderContradicted,
}

impl Conflict {
    fn as_str(self) -> &'static str {
        match self {
            Self::WebhookIdReused => "webhook_id_reused",
            Self::KeyReused => "idempotency_key_reused",
            Self::OrderContradicted => "order_contradicted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConflictLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

impl Metrics {
    /// Everything that this process measures.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut registry = Registry::default();
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS_SECONDS);
        let requests = Family::new_with_constructor(histogram);
        registry.register_with_unit(
            "amends_http_request",
            "Time from the request's headers to the answer's",
            Unit::Seconds,
            requests.clone(),
        );
        let shops_refused = Family::default();
        registry.register(
            "amends_shops_refused",
            "Orders and signals of shops that their token may not send for",
            shops_refused.clone(),
        );
        let conflicts = Family::default();
        registry.register(
            "amends_intake_conflicts",
            "Requests that contradict what came before under their id or about their order",
            conflicts.clone(),
        );
        let cases = Family::default();
        registry.register("amends_intake_cases", "Cases opened for a person", cases.clone());
        let credentials_refused = Family::default();
        registry.register(
            "amends_credentials_refused",
            "Requests with a token or a signature that is wrong",
            credentials_refused.clone(),
        );
        let expiries = Family::default();
        registry.register_with_unit(
            "amends_token_expiry_timestamp",
            "When each token expires that does, since 1970",
            Unit::Seconds,
            expiries.clone(),
        );
        let broken_files = Family::default();
        registry.register(
            "amends_secret_file_broken",
            "Whether a file of secrets cannot be used as it is now, so that older ones count",
            broken_files.clone(),
        );
        let connections = Connections::registered(&mut registry);
        registry.register_collector(Box::new(LinesLost));
        engine.register_metrics(&mut registry);
        Self {
            registry,
            requests,
            shops_refused,
            conflicts,
            cases,
            credentials_refused,
            expiries,
            broken_files,
            connections,
        }
    }

    /// What is counted of connections.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Counts a token or a signature that is not accepted.
    pub(crate) fn refused_credential(&self, bad: BadCredential) {
        self.credentials_refused.get_or_create(&CredentialLabels { reason: bad.as_str() }).inc();
    }

    /// Tells when these tokens expire, and forgets those before them.
    pub(crate) fn admitted(&self, tokens: &[Token]) {
        self.expiries.clear();
        for token in tokens {
            if let Some(expires_at) = token.expires_at() {
                let labels = TokenLabels { token: token.name().to_owned() };
                self.expiries.get_or_create(&labels).set(expires_at.timestamp());
            }
        }
    }

    /// Tells whether the file of a setting can be used as it is.
    pub(crate) fn file_is_broken(&self, setting: &'static str, is_broken: bool) {
        self.broken_files.get_or_create(&SettingLabels { setting }).set(is_broken.into());
    }

    /// Counts what contradicts what came before.
    pub(crate) fn met(&self, conflict: Conflict) {
        self.conflicts.get_or_create(&ConflictLabels { kind: conflict.as_str() }).inc();
    }

    /// Counts a case that was opened for a person.
    pub(crate) fn opened(&self, code: &'static str) {
        self.cases.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts a request about a shop that its token may not send for.
    pub(crate) fn refused_for_its_shop(&self, token: &str) {
        self.shops_refused.get_or_create(&TokenLabels { token: token.to_owned() }).inc();
    }

    /// Counts a request. `route` is the route's pattern, never the path.
    pub(crate) fn observe(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels { route: route.to_owned(), method, status };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Shows every metric.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operation",
    responses(
        (status = 200, description = "Every metric", content_type = OPENMETRICS, body = String),
        Overview,
    )
)]
pub(crate) async fn show(State(app): State<App>) -> Result<Response, Problem> {
    let mut text = String::new();
    encode(&mut text, &app.metrics().registry).map_err(|_| Problem::internal())?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
