//! Six stand-in providers and an event sink over HTTP, with a ledger of their own.
//!
//! Demos and crash tests use the ledger as outside evidence of what was done to the world, so it
//! holds more strictly than a real provider would: every effect is durable before its answer
//! leaves, a key has at most one effect, and what was undone stays undone. Failures happen only
//! on demand, see `fault`. A provider is a file that says what its calls look like; `call` does
//! the rest, `book` decides, `ledger` keeps.

#![expect(clippy::disallowed_methods, reason = "a provider outside keeps time of its own")]

mod book;
mod call;
mod carrier;
mod chance;
mod events;
mod fault;
mod gateway;
mod invoice;
mod key;
mod late;
mod ledger;
mod mail;
mod operation;
mod payment;
mod problem;
mod record;
mod shop;
mod stock;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::routing::{Router, get};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::listen::{ConnectionLimits, answer};
use crate::metrics::Connections;
use fault::Faults;
use key::Claims;
use late::Late;
use ledger::Ledger;
use problem::{JsonResult, Problem};

const BODY_BYTES_MAX: usize = 64 * 1024;

/// A stand-in has no strangers: it limits nobody.
const EVERYBODY: ConnectionLimits = ConnectionLimits { all: usize::MAX, per_address: None };

/// Where the sandbox keeps its ledger and listens.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ledger file, JSON lines; created if it is missing, in a folder that exists.
    pub ledger: PathBuf,
    /// The address to listen on; port 0 takes a free one, which is logged.
    pub listen: SocketAddr,
}

/// Why the sandbox cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ledger file cannot be read or written.
    #[error("the ledger {} cannot be opened", path.display())]
    Ledger {
        /// The ledger file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another sandbox has the ledger open.
    #[error("the ledger {} is in use by another sandbox", path.display())]
    InUse {
        /// The ledger file.
        path: PathBuf,
    },
    /// A line of the ledger is damaged or contradicts the lines before it.
    #[error("line {line} of the ledger {} is corrupt: {detail}", path.display())]
    Corrupt {
        /// The ledger file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The six providers and the event sink: a ledger, and the faults in force.
///
/// Clones share both. The ledger file is free again once the last clone and router are gone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Ledger,
    faults: Faults,
    claims: Claims,
    late: Late,
}

impl Sandbox {
    /// Opens the ledger and reads what was done before.
    ///
    /// Fails if the file is damaged anywhere but in a torn last line, or is open elsewhere.
    pub async fn open(ledger: &Path) -> Result<Sandbox, Error> {
        let path = ledger.to_owned();
        let opened = tokio::task::spawn_blocking(move || Ledger::open(&path, Utc::now)).await;
        let ledger = opened.map_err(|error| Error::Ledger {
            path: ledger.to_owned(),
            source: io::Error::other(error),
        })??;
        let shared = Shared {
            ledger,
            faults: Faults::default(),
            claims: Claims::default(),
            late: Late::default(),
        };
        Ok(Sandbox { shared: Arc::new(shared) })
    }

    /// The names of the answers that gateways can give in the place of a provider.
    pub fn gateways() -> impl Iterator<Item = &'static str> {
        gateway::names()
    }

    /// The whole protocol as a router.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(stock::routes())
            .merge(invoice::routes())
            .merge(payment::routes())
            .merge(carrier::routes())
            .merge(mail::routes())
            .merge(shop::routes())
            .merge(events::routes())
            .merge(fault::routes())
            .route("/ledger", get(show_ledger))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "no such path"))
            .method_not_allowed_fallback(async || {
                let (status, detail) = (StatusCode::METHOD_NOT_ALLOWED, "no such method here");
                Problem::new(status, "method_not_allowed", detail)
            })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.clone())
    }

    fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    fn late(&self) -> &Late {
        &self.shared.late
    }

    fn claims(&self) -> &Claims {
        &self.shared.claims
    }
}

/// Serves a sandbox until `shutdown` completes, then gives calls under way a moment to end.
///
/// Logs the address once it listens. A call that is cut off was not answered; if it was applied,
/// the ledger says so.
pub async fn serve(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Options { ledger, listen } = options;
    let sandbox = Sandbox::open(&ledger).await?;
    let failed = |source| Error::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let path = ledger.display();
    tracing::info!(%address, ledger = %path, "the sandbox listens on http://{address}");
    // Held connections would keep it waiting for as long as they are held.
    answer(listener, sandbox.router(), EVERYBODY, Connections::default(), shutdown).await;
    Ok(())
}

#[derive(Deserialize)]
struct ByOrder {
    order_id: Option<String>,
}

async fn show_ledger(
    State(sandbox): State<Sandbox>,
    query: Result<Query<ByOrder>, QueryRejection>,
) -> JsonResult {
    let Query(ByOrder { order_id }) = query?;
    let book = sandbox.ledger().read().await?;
    Ok(Json(json!({ "entries": book.entries(order_id.as_deref()) })))
}
