//! The whole server: database, engine, HTTP, and the way down.
//!
//! Whatever was opened is closed again, in reverse order, however the server ends.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use amends::{Address, Engine, EngineBuilder, Settings};
use amends_workflows::fulfilment::{self, Setup};
use amends_workflows::ports::Ports;
use anyhow::{Context, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use sqlx::migrate::MigrateError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, ConnectionLimits, HttpConfig};
use crate::auth::{Role, Token};
use crate::config::{Config, SecretFiles};
use crate::database;
use crate::listen::answer;
use crate::reload;
use crate::router::{Routers, router};
use crate::sink::http::HttpSink;
use crate::sink::log::LogSink;

/// How many connections there may be to where only metrics are served.
const METRICS_CONNECTIONS: ConnectionLimits = ConnectionLimits { all: 64, per_address: None };
/// How many files a process may have open that may have any number.
const FILES_MAX: u64 = 1 << 20;
/// How soon a token expires that is warned of.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(14);

/// One name for whichever sink: what one has not delivered, the next one will.
const SUBSCRIPTION: &str = "events";

/// Runs the server until `shutdown` completes, and then goes down gracefully, within ten seconds:
/// accepts nothing new, finishes the requests and the attempts under way, hands over the instances,
/// stops a private database.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let config = Config { http: with_room(config.http), ..config };
    warn_of_gaps(&config);
    let shutdown = shutdown.boxed().shared();
    let waited = database::wait(&config.database, config.wait_database, shutdown.clone()).await?;
    if waited.is_break() {
        return Ok(());
    }
    // It has just been looked at.
    database::lend(&config.database, |address| serve_database(&config, address, shutdown)).await
}

/// Opens the engine on a database, with the workflows and the sink of this server.
pub async fn open_engine(config: &Config, address: impl Into<Address>) -> anyhow::Result<Engine> {
    build_engine(config, address)?.open().await.map_err(explain)
}

fn build_engine(config: &Config, address: impl Into<Address>) -> anyhow::Result<EngineBuilder> {
    let ports = Ports::http(config.providers_url.expose()).context("AMENDS_PROVIDERS_URL")?;
    let settings = Settings {
        instances_max: config.instances_max,
        lease: config.lease,
        on_lost_commits: config.on_lost_commits,
        durability: config.durability,
        ..Settings::default()
    };
    subscribe(workflows(address, ports, config.setup).settings(settings), config)
}

/// Why an engine cannot be opened. Its errors say what their sources say again.
fn explain(error: amends::Error) -> anyhow::Error {
    match error {
        amends::Error::Migration(error @ MigrateError::VersionMismatch(_)) => {
            anyhow!("another version of Amends has set up this database: {error}")
        }
        error => anyhow!("the engine cannot be opened: {error}"),
    }
}

/// An engine on a database, still closed, with every workflow of this build.
pub fn workflows(address: impl Into<Address>, ports: Ports, setup: Setup) -> EngineBuilder {
    fulfilment::register(Engine::builder(address), ports, setup)
}

fn subscribe(builder: EngineBuilder, config: &Config) -> anyhow::Result<EngineBuilder> {
    match &config.events_url {
        Some(url) => {
            let sink = HttpSink::try_new(url.expose()).context("AMENDS_EVENTS_URL")?;
            Ok(builder.subscription(SUBSCRIPTION, sink))
        }
        None => Ok(builder.subscription(SUBSCRIPTION, LogSink)),
    }
}

async fn serve_database(
    config: &Config,
    address: Address,
    shutdown: impl Future<Output = ()> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let builder = build_engine(config, address)?;
    let open = async || builder.clone().open().await;
    let opened = database::patiently(config.wait_database, shutdown.clone(), open).await;
    let ControlFlow::Continue(engine) = opened.map_err(explain)? else { return Ok(()) };
    let listened = listen(config, engine.clone(), shutdown).await;
    let handed_over = engine.shutdown().await.context("the engine did not shut down in order");
    listened.and(handed_over)
}

/// Where HTTP is answered.
pub struct Listeners {
    /// To everybody.
    pub public: TcpListener,
    /// To those who look after the server, without a token; `None`: nowhere.
    pub metrics: Option<TcpListener>,
}

async fn listen(
    config: &Config,
    engine: Engine,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let public = bind(config.listen).await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = public.local_addr()?;
    tracing::info!(%address, "listening on http://{address}");
    if let Some(metrics) = &metrics {
        let address = metrics.local_addr()?;
        tracing::info!(%address, "metrics and the description of the API: http://{address}");
    }
    let listeners = Listeners { public, metrics };
    serve_http(listeners, engine, &config.http, config.files.clone(), shutdown).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Answers HTTP until `shutdown` completes, then finishes the requests under way. Meanwhile the
/// engine drains: it takes up nothing more, and still writes what these requests ask for. Files of
/// secrets are followed as long as requests are answered.
pub async fn serve_http(
    listeners: Listeners,
    engine: Engine,
    config: &HttpConfig,
    files: SecretFiles,
    shutdown: impl Future<Output = ()>,
) {
    let app = App::new(engine.clone(), config);
    let Routers { public, operation } = router(&app);
    let connections = || app.metrics().connections().clone();
    let stopping = CancellationToken::new();
    let stopped = || stopping.clone().cancelled_owned();
    let told = async {
        shutdown.await;
        tracing::info!("stopping: no new requests; those under way are finished");
        stopping.cancel();
        engine.drain().await;
    };
    let asked = answer(listeners.public, public, config.connections, connections(), stopped());
    let measured = async {
        if let Some(listener) = listeners.metrics {
            answer(listener, operation, METRICS_CONNECTIONS, connections(), stopped()).await;
        }
    };
    let follow = stopping.run_until_cancelled(reload::follow(files, app.clone()));
    let (cut, (), (), _) = tokio::join!(asked, measured, told, follow);
    if cut > 0 {
        tracing::warn!(cut, "cut off {cut} requests that took too long");
    }
}

/// Raises the limit of open files as far as this process may, and leaves half of them to the
/// database, the providers and the receivers of events.
fn with_room(http: HttpConfig) -> HttpConfig {
    let files = match rlimit::increase_nofile_limit(FILES_MAX) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "it is not known how many files may be open: {error}");
            return http;
        }
    };
    let room = usize::try_from(files / 2).unwrap_or(usize::MAX).max(1);
    let ConnectionLimits { all, per_address } = http.connections;
    if all <= room {
        return http;
    }
    tracing::warn!(
        "{room} connections are served at once, and not {all}: the process may have {files} files \
         open (ulimit -n)"
    );
    HttpConfig { connections: ConnectionLimits { all: room, per_address }, ..http }
}

fn warn_of_gaps(config: &Config) {
    if config.http.tokens.is_empty() {
        tracing::warn!(
            "there are no tokens (AMENDS_TOKENS, AMENDS_TOKENS_FILE): nobody can send orders or look"
        );
    }
    for token in config.http.tokens.iter().filter(|token| token.role() == Role::Ingest) {
        let (name, binding) = (token.name(), token.binding());
        tracing::info!(token = name, "the token {name} may send orders and signals of {binding}");
    }
    if config.http.shopify.is_empty() {
        tracing::info!("there are no Shopify shops (AMENDS_SHOPIFY_SECRETS)");
    }
    warn_of_expiry(&config.http.tokens, config.http.clock.now());
}

/// Says which tokens have expired, and which soon will have.
pub(crate) fn warn_of_expiry(tokens: &[Token], now: DateTime<Utc>) {
    for token in tokens {
        let (name, expires_at) = (token.name(), token.expires_at());
        match expires_at {
            Some(expires_at) if expires_at <= now => {
                tracing::warn!(token = name, "the token {name} has expired, at {expires_at}");
            }
            Some(expires_at) if expires_at - now <= EXPIRES_SOON => {
                tracing::warn!(token = name, "the token {name} expires at {expires_at}");
            }
            Some(_) | None => {}
        }
    }
}
