//! The whole server: database, engine, HTTP, and the way down.
//!
//! Whatever was opened is closed again, in reverse order, however the server ends.

use std::time::Duration;

use amends::{Engine, EngineBuilder, Settings};
use amends_workflows::fulfilment;
use amends_workflows::ports::Ports;
use anyhow::{Context, anyhow};
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;

use crate::app::{HttpConfig, app};
use crate::auth::Role;
use crate::config::Config;
use crate::database;
use crate::listen::answer;
use crate::observe::REQUEST_TIMEOUT;
use crate::sink::http::HttpSink;
use crate::sink::log::LogSink;

/// How long requests under way may take once the server is told to stop. A little more than any
/// request may take at all.
const DRAIN_TIMEOUT: Duration = REQUEST_TIMEOUT.saturating_add(Duration::from_secs(5));

/// One name for whichever sink: what one has not delivered, the next one will.
const SUBSCRIPTION: &str = "events";

/// Runs the server until `shutdown` completes, and then goes down gracefully: accepts nothing new,
/// finishes the requests under way, hands over the instances, stops a private database.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    warn_of_gaps(&config);
    database::with(&config.database, |options| serve_database(&config, options, shutdown)).await
}

/// Opens the engine on a database, with the workflows and the sink of this server.
pub async fn open_engine(config: &Config, options: PgConnectOptions) -> anyhow::Result<Engine> {
    let ports = Ports::http(&config.providers_url).context("AMENDS_PROVIDERS_URL")?;
    let settings = Settings {
        instances_max: config.instances_max,
        lease: config.lease,
        ..Settings::default()
    };
    let builder = workflows(options, ports).settings(settings);
    // The engine's errors say what their sources say again.
    subscribe(builder, config)?.open().await.map_err(|error| match error {
        amends::Error::Migration(error @ MigrateError::VersionMismatch(_)) => {
            anyhow!("another version of Amends has set up this database: {error}")
        }
        error => anyhow!("the engine cannot be opened: {error}"),
    })
}

/// An engine on a database, still closed, with every workflow of this build.
pub fn workflows(options: PgConnectOptions, ports: Ports) -> EngineBuilder {
    fulfilment::register(Engine::builder(options), ports)
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
    options: PgConnectOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let engine = open_engine(config, options).await?;
    let listened = listen(config, engine.clone(), shutdown).await;
    let handed_over = engine.shutdown().await.context("the engine did not shut down in order");
    listened.and(handed_over)
}

async fn listen(
    config: &Config,
    engine: Engine,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot listen on {}", config.listen);
    let listener = TcpListener::bind(config.listen).await.with_context(cannot)?;
    let address = listener.local_addr().with_context(cannot)?;
    tracing::info!(%address, "listening on http://{address}");
    serve_http(listener, engine, &config.http, shutdown).await;
    Ok(())
}

/// Answers HTTP until `shutdown` completes, then finishes the requests under way.
pub async fn serve_http(
    listener: TcpListener,
    engine: Engine,
    config: &HttpConfig,
    shutdown: impl Future<Output = ()>,
) {
    let told = async {
        shutdown.await;
        tracing::info!("stopping: no new requests; those under way are finished");
    };
    if !answer(listener, app(engine, config), told, DRAIN_TIMEOUT).await {
        tracing::warn!("cut off the requests that did not end within {DRAIN_TIMEOUT:?}");
    }
}

fn warn_of_gaps(config: &Config) {
    if config.http.tokens.is_empty() {
        tracing::warn!("there are no tokens (AMENDS_TOKENS): nobody can send orders or look");
    }
    for token in config.http.tokens.iter().filter(|token| token.role() == Role::Ingest) {
        let (name, binding) = (token.name(), token.binding());
        tracing::info!(token = name, "the token {name} may send orders and signals of {binding}");
    }
    if config.http.shopify.is_empty() {
        tracing::info!("there are no Shopify shops (AMENDS_SHOPIFY_SECRETS)");
    }
}
