//! Answers HTTP/1.1 on a socket, and bears with strangers.
//!
//! Clients that are slow, silent, fat or many cost themselves: every connection has a limit for what
//! it keeps in memory, and a time limit for each thing that the server waits for. At the end,
//! requests that are being answered are answered; a connection without one is not waited for.

mod parting;
mod places;
mod refusal;

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::metrics::{Connections, Cut};

use parting::{Activity, patience};
pub use places::ConnectionLimits;
pub(crate) use places::{Full, one_client};
use places::{Place, Places};
use refusal::Refusals;

/// How long a connection may take to send the head of a request, or to think of another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is kept of what a connection has sent and nobody has read, and the other way round. The head
/// of a request has to fit.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How many headers a request may have.
const HEADERS_MAX: usize = 100;
/// How long nobody is let in once the process can open no more files.
const REST: Duration = Duration::from_secs(1);

/// Where a request comes from. Requests that have not come over a socket have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Answers requests until `shutdown` completes. Those that are under way then are finished, unless
/// they take longer than [`parting::PATIENCE`]. Returns how many were cut off.
#[expect(clippy::disallowed_methods, reason = "it waits for the operating system")]
pub(crate) async fn answer(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    metrics: Connections,
    shutdown: impl Future<Output = ()>,
) -> u64 {
    let door = Door::new(router, limits, metrics);
    let open = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, address)) => door.let_in(stream, address.ip(), open.watcher()),
            Err(error) if is_about_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                sleep(REST).await;
            }
        }
    }
    drop(listener);
    door.closing.cancel();
    open.shutdown().await;
    door.metrics.count_cut(Cut::UnderWay)
}

/// What every connection of a socket shares.
struct Door {
    http: http1::Builder,
    router: Router,
    places: Places,
    refusals: Refusals,
    metrics: Connections,
    closing: CancellationToken,
}

impl Door {
    fn new(router: Router, limits: ConnectionLimits, metrics: Connections) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        http.max_buf_size(BUFFER_BYTES_MAX).max_headers(HEADERS_MAX);
        Self {
            http,
            router,
            places: Places::new(limits),
            refusals: Refusals::default(),
            metrics,
            closing: CancellationToken::new(),
        }
    }

    /// Serves a connection in a task of its own, or turns it away.
    fn let_in(&self, stream: TcpStream, address: IpAddr, open: Watcher) {
        match self.places.take(address) {
            Ok(place) => self.serve(stream, place, Peer(address), open),
            Err(full) => {
                self.metrics.refused(full);
                self.refusals.refuse(stream, address, full);
            }
        }
    }

    fn serve(&self, stream: TcpStream, place: Place, peer: Peer, open: Watcher) {
        let under_way = Arc::new(Activity::default());
        let patience = patience(self.closing.clone(), under_way.watch());
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(WRITE_TIMEOUT));
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let answering = under_way.start();
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answer = router.clone().oneshot(request);
            async move {
                let answer: Result<Response, Infallible> = answer.await;
                drop(answering);
                answer
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = open.watch(connection);
        let (metrics, counted) = (self.metrics.clone(), self.metrics.opened());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Some(cut) = ended.as_ref().err().and_then(why_cut) {
                        metrics.cut(cut);
                    }
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended before its time");
                    }
                }
                was_under_way = patience => {
                    metrics.cut(if was_under_way { Cut::UnderWay } else { Cut::Stopping });
                }
            }
            drop((place, counted));
        });
    }
}

/// Whether it was closed here because it took too long.
fn why_cut(error: &hyper::Error) -> Option<Cut> {
    if error.is_timeout() {
        return Some(Cut::Silent);
    }
    let source = error.source()?.downcast_ref::<io::Error>()?;
    (source.kind() == io::ErrorKind::TimedOut).then_some(Cut::Unread)
}

fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
