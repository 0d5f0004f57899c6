//! Answers HTTP/1.1 on a socket. Whoever sends a request's head too slowly loses the connection;
//! whoever is being answered at the end is answered.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::routing::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// How long a connection may take to send the head of a request, or to think of another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nobody is let in once the process can open no more files.
const REST: Duration = Duration::from_secs(1);

/// Answers requests until `shutdown` completes. Those that are under way then are finished, unless
/// they take longer than `drain`: then this is `false`, and they are cut off with the process.
#[expect(clippy::disallowed_methods, reason = "it waits for the operating system")]
pub(crate) async fn answer(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let open = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let connection = open.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection ended before its time");
                    }
                });
            }
            Err(error) if is_about_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                sleep(REST).await;
            }
        }
    }
    drop(listener);
    timeout(drain, open.shutdown()).await.is_ok()
}

fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// A server whose answers wait until they may be given, and what ends it.
    struct Server {
        client: TcpStream,
        asked: Arc<Notify>,
        may_answer: Arc<Notify>,
        stop: oneshot::Sender<()>,
        serving: JoinHandle<bool>,
    }

    async fn serve(drain: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (is_asked, go_on) = (Arc::clone(&asked), Arc::clone(&may_answer));
        let router = Router::new().route(
            "/",
            get(async move || {
                is_asked.notify_one();
                go_on.notified().await;
                "answered"
            }),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap() };
        let serving = tokio::spawn(answer(listener, router, shutdown, drain));
        let client = TcpStream::connect(address).await.unwrap();
        Server { client, asked, may_answer, stop, serving }
    }

    async fn rest(client: &mut TcpStream) -> String {
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        rest
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_too_long_for_a_head_loses_the_connection() {
        for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost:", REQUEST] {
            let mut server = serve(Duration::ZERO).await;
            server.may_answer.notify_one();
            server.client.write_all(sent).await.unwrap();
            let since = Instant::now();
            let told = rest(&mut server.client).await;
            assert_eq!(told.ends_with("answered"), sent == REQUEST, "{told}");
            let took = since.elapsed();
            assert!((HEAD_TIMEOUT..2 * HEAD_TIMEOUT).contains(&took), "{sent:?}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_under_way_at_the_end_is_answered() {
        let mut server = serve(Duration::from_secs(60)).await;
        server.client.write_all(REQUEST).await.unwrap();
        server.asked.notified().await;
        server.stop.send(()).unwrap();
        tokio::task::yield_now().await;
        server.may_answer.notify_one();
        assert!(rest(&mut server.client).await.ends_with("answered"));
        assert!(server.serving.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_at_the_end_is_given_up() {
        let mut server = serve(Duration::from_secs(7)).await;
        server.client.write_all(REQUEST).await.unwrap();
        server.asked.notified().await;
        server.stop.send(()).unwrap();
        assert!(!server.serving.await.unwrap());
    }
}
