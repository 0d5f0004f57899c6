//! What every handler works with, and the HTTP part of the server as one service.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use amends::{Clock, Engine};
use chrono::{DateTime, Utc};
use tracing::Instrument;

use crate::auth::{Guesses, Token};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::router;
use crate::webhook::Shops;

pub use crate::listen::ConnectionLimits;

/// What the HTTP part has to know beside the engine.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The bearer tokens that are accepted.
    pub tokens: Vec<Token>,
    /// The Shopify shops that may send webhooks.
    pub shopify: Shops,
    /// The clock that the age of webhooks and of tokens is measured with.
    pub clock: Clock,
    /// How many connections are served at once.
    pub connections: ConnectionLimits,
}

impl Default for HttpConfig {
    /// Nobody may do anything.
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            shopify: Shops::default(),
            clock: Clock::system(),
            connections: ConnectionLimits::default(),
        }
    }
}

/// The HTTP part of the server, for an engine that is open.
pub fn app(engine: Engine, config: &HttpConfig) -> axum::Router {
    router::router(&App::new(engine, config)).public
}

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    engine: Engine,
    credentials: RwLock<Credentials>,
    clock: Clock,
    guesses: Guesses,
    metrics: Metrics,
}

/// Who is let in. It may change while the server runs.
struct Credentials {
    tokens: Arc<[Token]>,
    shopify: Arc<Shops>,
}

impl App {
    pub(crate) fn new(engine: Engine, config: &HttpConfig) -> Self {
        let metrics = Metrics::new(&engine);
        metrics.admitted(&config.tokens);
        let HttpConfig { tokens, shopify, clock, .. } = config.clone();
        let credentials = Credentials { tokens: tokens.into(), shopify: Arc::new(shopify) };
        let (credentials, guesses) = (RwLock::new(credentials), Guesses::default());
        Self(Arc::new(Shared { engine, credentials, clock, guesses, metrics }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn tokens(&self) -> Arc<[Token]> {
        Arc::clone(&self.0.credentials.read().unwrap_or_else(PoisonError::into_inner).tokens)
    }

    pub(crate) fn shopify(&self) -> Arc<Shops> {
        Arc::clone(&self.0.credentials.read().unwrap_or_else(PoisonError::into_inner).shopify)
    }

    /// Lets these in from now on, and nobody else.
    pub(crate) fn admit_tokens(&self, tokens: Vec<Token>) {
        self.metrics().admitted(&tokens);
        let mut credentials = self.0.credentials.write().unwrap_or_else(PoisonError::into_inner);
        credentials.tokens = tokens.into();
    }

    /// Believes these shops from now on, and no others.
    pub(crate) fn admit_shopify(&self, shops: Shops) {
        let mut credentials = self.0.credentials.write().unwrap_or_else(PoisonError::into_inner);
        credentials.shopify = Arc::new(shops);
    }

    pub(crate) fn guesses(&self) -> &Guesses {
        &self.0.guesses
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }
}

/// How long an answer about something written may take. Shopify hangs up after 5 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(4);

/// Runs to its end what must not be cut off half-way, when the client hangs up or has to be told
/// that the answer takes too long.
pub(crate) async fn uncancelled<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Into<Problem> + Send + 'static,
{
    match tokio::time::timeout(WRITE_TIMEOUT, tokio::spawn(work.in_current_span())).await {
        Ok(Ok(result)) => result.map_err(Into::into),
        Ok(Err(error)) => {
            tracing::error!(%error, "the work of a request did not end: {error}");
            Err(Problem::internal())
        }
        Err(_) => {
            tracing::warn!("gave up waiting for a write after {WRITE_TIMEOUT:?}; it goes on");
            Err(Problem::timed_out())
        }
    }
}
