//! What the demo runs on: the stand-ins for the providers and the real server, in this process.
//!
//! Tokens and secrets are public, so nothing here listens on anything but loopback.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use amends::{Address, Durability, Engine, OnLostCommits};
use amends_workflows::fulfilment::Setup;
use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::{Options, shop};
use crate::app::HttpConfig;
use crate::auth::{Role, Token};
use crate::config::{Config, SecretFiles};
use crate::sandbox::{self, Sandbox};
use crate::secret::Secret;
use crate::serve::{Listeners, open_engine, serve_http};
use crate::webhook::Shops;

/// Where the server listens, unless that is taken.
pub(super) const SERVER_PORT: u16 = 8080;
const PROVIDERS_PORT: u16 = 8090;
/// The token of the one person in the demo. It protects nothing.
pub(super) const TOKEN: &str = "demo-token-that-everybody-knows-of";
const PERSON: &str = "demo";
/// Short, so that a run after a kill -9 soon goes on with what that one held.
const LEASE: Duration = Duration::from_secs(10);
const INSTANCES_MAX: usize = 1_000;

/// Everything that is up.
pub(super) struct Stage {
    /// Where the server answers.
    pub(super) server: SocketAddr,
    /// Whether that is not where one would look for it.
    pub(super) moved: Moved,
    /// Where the providers answer.
    pub(super) providers: SocketAddr,
    engine: Engine,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    standing_in: JoinHandle<std::io::Result<()>>,
}

/// Where everything will listen, taken before anything is started.
pub(super) struct Doors {
    server: TcpListener,
    moved: Moved,
    providers: TcpListener,
}

/// Whether something listens elsewhere than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// No.
    No,
    /// The usual port is taken.
    Taken,
}

impl Doors {
    /// Takes the usual ports, or free ones; the one that is asked for, or none.
    pub(super) async fn open(wanted: Option<SocketAddr>) -> anyhow::Result<Self> {
        let (server, moved) = listen(wanted, SERVER_PORT).await?;
        let (providers, _) = listen(None, PROVIDERS_PORT).await?;
        Ok(Self { server, moved, providers })
    }
}

impl Stage {
    /// Starts everything on this database.
    pub(super) async fn set(
        options: &Options,
        doors: Doors,
        database: Address,
    ) -> anyhow::Result<Self> {
        let Doors { server: listener, moved, providers: stand_ins } = doors;
        let (server, providers) = (listener.local_addr()?, stand_ins.local_addr()?);
        let sandbox = open_books(&options.folder).await?;
        let config = config(server, providers, options);
        let engine = open_engine(&config, database).await?;

        let standing_in =
            tokio::spawn(async move { axum::serve(stand_ins, sandbox.router()).await });
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (engine, stopped) = (engine.clone(), stop.clone().cancelled_owned());
            let listeners = Listeners { public: listener, metrics: None };
            async move {
                serve_http(listeners, engine, &config.http, SecretFiles::default(), stopped).await;
            }
        });
        Ok(Self { server, moved, providers, engine, stop, serving, standing_in })
    }

    /// A client of the server and the providers.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let Self { server, providers, .. } = self;
        Client::try_new(&format!("http://{server}"), &format!("http://{providers}"), TOKEN)
    }

    /// Stops everything, the providers last: what is under way still needs them.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.serving.await.context("the server broke off")?;
        let handed_over = self.engine.shutdown().await.context("the engine did not shut down");
        self.standing_in.abort();
        handed_over
    }
}

/// Listens where it is asked to, else on the usual port, or on any if that is taken.
async fn listen(wanted: Option<SocketAddr>, usual: u16) -> anyhow::Result<(TcpListener, Moved)> {
    let address = wanted.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, usual)));
    if !address.ip().is_loopback() {
        bail!("{address} is open to others, and everybody knows the demo's token: use 127.0.0.1");
    }
    match TcpListener::bind(address).await {
        Ok(listener) => Ok((listener, Moved::No)),
        Err(error) if wanted.is_none() && error.kind() == ErrorKind::AddrInUse => {
            let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            Ok((any.context("there is no free port")?, Moved::Taken))
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// Opens the providers' books, which only one demo at a time can write.
async fn open_books(folder: &Path) -> anyhow::Result<Sandbox> {
    let cannot = || format!("cannot make the folder {}", folder.display());
    tokio::fs::create_dir_all(folder).await.with_context(cannot)?;
    match Sandbox::open(&folder.join("sandbox.jsonl")).await {
        Err(sandbox::Error::InUse { .. }) => {
            bail!("another demo is running in {}", folder.display())
        }
        opened => opened.context("the stand-ins for the providers cannot be started"),
    }
}

fn config(server: SocketAddr, providers: SocketAddr, options: &Options) -> Config {
    let mut shopify = Shops::default();
    shopify.insert(shop::NAME, vec![Secret::new(shop::SECRET)]);
    let tokens = vec![Token::new(PERSON, Role::Operator, TOKEN)];
    Config {
        listen: server,
        metrics_listen: None,
        database: options.database.clone(),
        providers_url: Secret::new(format!("http://{providers}")),
        events_url: Some(Secret::new(format!("http://{providers}/events"))),
        instances_max: INSTANCES_MAX,
        lease: LEASE,
        wait_database: Duration::ZERO,
        on_lost_commits: OnLostCommits::Stop,
        durability: Durability::Local,
        setup: Setup::default(),
        http: HttpConfig { tokens, shopify, ..HttpConfig::default() },
        files: SecretFiles::default(),
    }
}
