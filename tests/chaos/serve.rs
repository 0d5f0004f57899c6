//! A server that is broken on purpose from outside: the product's own, with two workflows more.
//!
//! `chaos serve` is to be started by the program itself, which tells it everything in the
//! environment; `chaos sandbox` is the product's stand-in providers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use amends::{Delivery, Engine, Priority, Settings, Start, Started, Workflow};
use amends_api::app::{HttpConfig, app};
use amends_api::auth::{Role, Token};
use amends_api::log::{self, Log};
use amends_api::sandbox;
use amends_api::secret::Secret;
use amends_api::serve::workflows;
use amends_api::sink::http::HttpSink;
use amends_api::webhook::Shops;
use amends_workflows::fulfilment::Setup;
use amends_workflows::ports::Ports;
use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::dispatch::{self, Dispatching};
use crate::pace::Pace;
use crate::settlement::{self, Settling};

/// Who may send orders, and who may command.
pub(crate) const INGEST_TOKEN: &str = "ingest-0123456789abcdef0123456789abcdef";
pub(crate) const OPERATOR_TOKEN: &str = "operator-0123456789abcdef0123456789abcdef";
/// The Shopify shop, with its secret.
pub(crate) const SHOP: (&str, &str) = ("acme.myshopify.com", "shpss_secret");

/// Short, so that what comes due during an outage is claimed as soon as that is over.
const POLL: Duration = Duration::from_millis(100);

/// So short that what waits is let go of, and claimed again.
const LINGER: Duration = Duration::from_millis(100);

/// What a server is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    database_url: String,
    #[arg(long)]
    providers_url: String,
    #[arg(long)]
    pace: u32,
}

/// What the stand-ins are told.
#[derive(Debug, clap::Args)]
pub(crate) struct SandboxArguments {
    #[arg(long)]
    ledger: PathBuf,
}

/// What the sender of an order is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) instance_id: Uuid,
}

/// Serves until it is killed, or whoever started it is gone.
pub(crate) async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let _log = begin()?;
    #[cfg(feature = "sabotage")]
    crate::bugs::put_in()?;
    let engine = open(&arguments).await?;
    let own = Router::new()
        .route("/settlements", post(start::<Settling>))
        .route("/dispatches", post(start::<Dispatching>))
        .with_state(engine.clone());
    let router = own.merge(app(engine, &http()));
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

/// Serves the stand-ins, just as long.
pub(crate) async fn sandbox(arguments: SandboxArguments) -> anyhow::Result<()> {
    let _log = begin()?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = sandbox::Options { ledger: arguments.ledger, listen };
    Ok(sandbox::serve(options, std::future::pending()).await?)
}

async fn open(arguments: &Arguments) -> anyhow::Result<Engine> {
    let options = PgConnectOptions::from_str(&arguments.database_url)?;
    let ports = Ports::http(&arguments.providers_url)?;
    let pace = Pace(arguments.pace);
    let settings = Settings {
        lease: pace.lease(),
        poll: POLL,
        linger: LINGER,
        refusals_max: 3,
        ..Settings::default()
    };
    let builder = workflows(options, ports.clone(), Setup::default()).settings(settings);
    let url = &arguments.providers_url;
    let builder = settlement::register(builder, ports.clone(), url, pace)?;
    let builder = dispatch::register(builder, ports, url, pace)?;
    let sink = HttpSink::try_new(&format!("{url}/events"))?;
    Ok(builder.subscription("events", sink).open().await?)
}

fn http() -> HttpConfig {
    let mut shopify = Shops::default();
    shopify.insert(SHOP.0, vec![Secret::new(SHOP.1)]);
    let tokens = vec![
        Token::new("shop", Role::Ingest, INGEST_TOKEN),
        Token::new("anna", Role::Operator, OPERATOR_TOKEN),
    ];
    HttpConfig { tokens, shopify, ..HttpConfig::default() }
}

/// Starts a workflow for an order, once. A 2xx says that it is durable; something else under the id
/// of the order is refused.
async fn start<W: Workflow>(
    State(engine): State<Engine>,
    body: String,
) -> Result<Json<Accepted>, StatusCode> {
    #[derive(Deserialize)]
    struct Ordered {
        order_id: String,
    }
    let Ordered { order_id } = serde_json::from_str(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let delivery = Delivery {
        source: W::NAME.to_owned(),
        external_id: order_id.clone(),
        body: body.clone().into_bytes(),
    };
    let start = Start {
        workflow: W::NAME,
        business_key: order_id,
        input: body,
        delivery: Some(delivery),
        priority: Priority::Normal,
    };
    match engine.start(start).await {
        Ok(Started::New(id) | Started::Replayed(id) | Started::Duplicate(id)) => {
            Ok(Json(Accepted { instance_id: id }))
        }
        Ok(Started::Conflict) => Err(StatusCode::UNPROCESSABLE_ENTITY),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Logs, and ends the process when its standard input does.
fn begin() -> anyhow::Result<Log> {
    std::thread::spawn(|| {
        // The end of it and an error mean the same.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    log::start(EnvFilter::new("info,sqlx=warn"), false)
}
