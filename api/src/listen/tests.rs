//! What strangers try at the socket, and what it costs.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::parting::{PARTING, PATIENCE};
use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
/// Asks for more than sockets hold.
const FAT_REQUEST: &[u8] = b"GET /fat HTTP/1.1\r\nhost: here\r\n\r\n";
const FAT_BYTES: usize = 64 * 1024 * 1024;
const SOME: ConnectionLimits = ConnectionLimits { all: 8, per_address: None };

/// A server whose answers wait until they may be given, and what ends it.
struct Server {
    address: std::net::SocketAddr,
    client: TcpStream,
    asked: Arc<Notify>,
    may_answer: Arc<Notify>,
    metrics: Connections,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<u64>,
}

async fn serve(limits: ConnectionLimits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_asked, go_on) = (Arc::clone(&asked), Arc::clone(&may_answer));
    let slow = async move |request: Request| {
        assert!(request.extensions().get::<Peer>().is_some_and(|it| it.0.is_loopback()));
        is_asked.notify_one();
        go_on.notified().await;
        "answered"
    };
    let router = Router::new()
        .route("/", get(slow))
        .route("/fat", get(async || axum::body::Bytes::from(vec![b'x'; FAT_BYTES])));
    let metrics = Connections::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap() };
    let serving = tokio::spawn(answer(listener, router, limits, metrics.clone(), shutdown));
    let client = TcpStream::connect(address).await.unwrap();
    Server { address, client, asked, may_answer, metrics, stop, serving }
}

async fn rest(client: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // A connection that was closed while something was unread ends in an error.
    let _ = client.read_to_end(&mut rest).await;
    String::from_utf8_lossy(&rest).into_owned()
}

/// Lets time pass that stands still otherwise.
async fn pass(time: Duration) {
    let passed = tokio::time::timeout(time, std::future::pending::<()>()).await;
    assert!(passed.is_err());
}

/// What a new connection is told, that asks for `request`.
async fn told(server: &Server, request: &[u8]) -> String {
    let mut client = TcpStream::connect(server.address).await.unwrap();
    // The answer may come before all of it is sent.
    let _ = client.write_all(request).await;
    rest(&mut client).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_too_long_for_a_head_loses_the_connection() {
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost:", REQUEST] {
        let mut server = serve(SOME).await;
        server.may_answer.notify_one();
        server.client.write_all(sent).await.unwrap();
        let since = Instant::now();
        let told = rest(&mut server.client).await;
        assert_eq!(told.ends_with("answered"), sent == REQUEST, "{told}");
        let took = since.elapsed();
        assert!((HEAD_TIMEOUT..2 * HEAD_TIMEOUT).contains(&took), "{sent:?}: {took:?}");
        assert_eq!(server.metrics.count_cut(Cut::Silent), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_of_its_answer_loses_the_connection() {
    let mut server = serve(SOME).await;
    server.client.write_all(FAT_REQUEST).await.unwrap();
    let since = Instant::now();
    while server.metrics.count_cut(Cut::Unread) == 0 {
        pass(Duration::from_millis(100)).await;
        assert!(since.elapsed() < 2 * WRITE_TIMEOUT);
    }
    assert!(since.elapsed() >= WRITE_TIMEOUT);
    assert!(rest(&mut server.client).await.len() < FAT_BYTES);
}

#[tokio::test]
async fn a_client_that_reads_its_answer_gets_all_of_it() {
    let mut server = serve(SOME).await;
    server.client.write_all(FAT_REQUEST).await.unwrap();
    let mut read = 0;
    let mut some = vec![0; 1024 * 1024];
    while read < FAT_BYTES {
        let more = server.client.read(&mut some).await.unwrap();
        assert!(more > 0, "it ended after {read} bytes");
        read += more;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_before_it_is_there() {
    let server = serve(SOME).await;
    let fat = [&b"GET / HTTP/1.1\r\nx: "[..], &[b'x'; BUFFER_BYTES_MAX]].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
    for head in [&fat[..], many.as_bytes()] {
        let told = told(&server, head).await;
        assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    }
    server.may_answer.notify_one();
    let few = format!(
        "GET / HTTP/1.1\r\n{}connection: close\r\n\r\n",
        "x: y\r\n".repeat(HEADERS_MAX - 1)
    );
    assert!(told(&server, few.as_bytes()).await.ends_with("answered"));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_counted_and_the_others_are_served() {
    for (limits, full, status, code) in [
        (ConnectionLimits { all: 2, per_address: None }, Full::All, "503 ", "overloaded"),
        (
            ConnectionLimits { all: 9, per_address: Some(2) },
            Full::Address,
            "429 ",
            "too_many_connections",
        ),
    ] {
        let mut server = serve(limits).await;
        let second = TcpStream::connect(server.address).await.unwrap();
        let told = told(&server, REQUEST).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        assert!(told.contains(&format!(r#""code":"{code}""#)), "{told}");
        assert!(told.contains("retry-after: 1\r\n"), "{told}");
        assert_eq!(server.metrics.count_refused(full), 1);

        server.may_answer.notify_one();
        let request = [&REQUEST[..REQUEST.len() - 2], b"connection: close\r\n\r\n"].concat();
        server.client.write_all(&request).await.unwrap();
        assert!(rest(&mut server.client).await.ends_with("answered"));
        drop(second);
    }
}

#[tokio::test]
async fn a_place_is_free_again_once_its_connection_has_gone() {
    let mut server = serve(ConnectionLimits { all: 1, per_address: Some(1) }).await;
    let request = [&REQUEST[..REQUEST.len() - 2], b"connection: close\r\n\r\n"].concat();
    server.may_answer.notify_one();
    server.client.write_all(&request).await.unwrap();
    assert!(rest(&mut server.client).await.ends_with("answered"));
    // The place is given back by the task of the connection, after the client has heard its end.
    while server.metrics.count_open() > 0 {
        tokio::task::yield_now().await;
    }
    server.may_answer.notify_one();
    assert!(told(&server, &request).await.ends_with("answered"));
}

#[tokio::test]
async fn a_request_that_is_under_way_at_the_end_is_answered() {
    let mut server = serve(SOME).await;
    server.client.write_all(REQUEST).await.unwrap();
    server.asked.notified().await;
    server.stop.send(()).unwrap();
    tokio::task::yield_now().await;
    server.may_answer.notify_one();
    assert!(rest(&mut server.client).await.ends_with("answered"));
    assert_eq!(server.serving.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_after_all_others_have_gone_is_answered() {
    let mut server = serve(SOME).await;
    server.client.write_all(REQUEST).await.unwrap();
    server.asked.notified().await;
    server.stop.send(()).unwrap();
    pass(PARTING + Duration::from_secs(1)).await;
    server.may_answer.notify_one();
    assert!(rest(&mut server.client).await.ends_with("answered"));
    assert_eq!(server.serving.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_at_the_end_is_given_up() {
    let mut server = serve(SOME).await;
    server.client.write_all(REQUEST).await.unwrap();
    server.asked.notified().await;
    let since = Instant::now();
    server.stop.send(()).unwrap();
    assert_eq!(server.serving.await.unwrap(), 1);
    assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&since.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn no_client_that_is_silent_slow_or_deaf_holds_up_the_end() {
    for sent in [&b""[..], b"GET / HTTP/1.1\r\nhost:", FAT_REQUEST] {
        let mut server = serve(SOME).await;
        server.client.write_all(sent).await.unwrap();
        while server.metrics.count_open() == 0 {
            tokio::task::yield_now().await;
        }
        let since = Instant::now();
        server.stop.send(()).unwrap();
        assert_eq!(server.serving.await.unwrap(), 0);
        assert!(since.elapsed() <= PARTING + Duration::from_secs(1), "{sent:?}");
        drop(server.client);
    }
}
