//! Each harm, against a receiver that counts.

use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::*;

/// A receiver that answers each piece with its length, and counts the pieces.
async fn counting() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let counter = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut piece = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut piece).await {
                    counter.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&[length as u8; 8]).await.unwrap();
                }
            });
        }
    });
    (address.to_string(), heard)
}

async fn open(marks: Marks) -> (Proxy, TcpStream, Arc<AtomicU32>) {
    let (address, heard) = counting().await;
    let proxy = Proxy::open(Upstream::Tcp(address), marks, Duration::ZERO).unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client, heard)
}

fn commits(request: &[u8]) -> Option<Mark> {
    request.starts_with(b"commit").then_some(Mark::Commit)
}

async fn ask(client: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(request).await?;
    let mut answer = vec![0; 8];
    client.read_exact(&mut answer).await.map(|_| answer)
}

#[tokio::test]
async fn what_nobody_harms_gets_through() {
    let (proxy, mut client, _) = open(|_| None).await;
    proxy.lose_answer();
    assert_eq!(ask(&mut client, b"hello").await.unwrap(), [5; 8]);
    assert_eq!(ask(&mut client, b"you").await.unwrap(), [3; 8]);
    assert_eq!(proxy.answers_lost(), 0);
}

#[tokio::test]
async fn an_answer_is_cut_off_after_its_request_was_carried_out() {
    let (proxy, mut client, heard) = open(commits).await;
    proxy.lose_answer();
    assert_eq!(ask(&mut client, b"look").await.unwrap(), [4; 8]);
    let reset = ask(&mut client, b"commit").await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((heard.load(Ordering::SeqCst), proxy.answers_lost()), (2, 1));
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut other, b"commit").await.unwrap(), [6; 8]);
}

#[tokio::test]
async fn a_connection_is_reset_at_once_or_in_the_middle_of_an_answer() {
    let (proxy, mut client, _) = open(|_| None).await;
    ask(&mut client, b"hello").await.unwrap();
    let chance = Chance::of(7, "test", 0);
    assert_eq!(proxy.harm(9, Harm::CutAfter(5), &chance), 1);
    let mut answer = Vec::new();
    client.write_all(b"hello").await.unwrap();
    let reset = client.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(answer.len() <= 5, "{answer:?}");

    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut client, b"hello").await.unwrap();
    assert_eq!(proxy.harm(9, Harm::Reset, &chance), 1);
    let reset = client.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_request_that_is_held_back_arrives_after_its_sender_has_given_up() {
    let (proxy, mut client, heard) = open(commits).await;
    proxy.hold_back(Duration::from_millis(50));
    let reset = ask(&mut client, b"commit").await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!((heard.load(Ordering::SeqCst), proxy.held_back()), (0, 1));
    while heard.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_outage_begins_with_answers_that_are_lost_and_lets_nobody_in() {
    let (proxy, mut client, heard) = open(|_| None).await;
    ask(&mut client, b"hello").await.unwrap();
    proxy.go_down(Duration::from_secs(60), Harm::LoseAnswers);
    let reset = ask(&mut client, b"write this").await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(heard.load(Ordering::SeqCst), 2, "it was carried out");
    let asked = async { ask(&mut TcpStream::connect(proxy.address()).await?, b"hello").await };
    assert!(asked.await.is_err(), "whether it is let in and thrown out, or not let in");
    proxy.heal();
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut other, b"hello").await.unwrap(), [5; 8]);
}

#[tokio::test]
async fn a_call_goes_on_until_its_answer_is_there_or_its_connection_gone() {
    let calls = |request: &[u8]| {
        let key = request.strip_prefix(b"call ")?;
        Some(Mark::Call(String::from_utf8_lossy(key).into_owned()))
    };
    let (proxy, mut client, _) = open(calls).await;
    assert_eq!(proxy.calls(), []);
    ask(&mut client, b"call a").await.unwrap();
    ask(&mut client, b"other").await.unwrap();
    proxy.lose_answer();
    ask(&mut client, b"call b").await.unwrap_err();
    let ended = |key: &str| {
        proxy.calls().iter().find(|call| call.key == key).is_some_and(|call| call.to.is_some())
    };
    while !(ended("a") && ended("b")) {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(proxy.calls().len(), 2);
}

#[tokio::test]
async fn a_call_is_done_if_its_connection_shows_that_the_answer_was_read() {
    let calls = |request: &[u8]| {
        request.starts_with(b"call").then(|| Mark::Call(String::from_utf8_lossy(request).into()))
    };
    let (address, answering) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), b"HTTP/1.1 201 ");
    let upstream = Upstream::Tcp(address.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = address.accept().await {
            tokio::spawn(async move {
                while let Ok(1..) = stream.read(&mut [0; 64]).await {
                    let _ = stream.write_all(answering).await;
                }
            });
        }
    });
    let proxy = Proxy::open(upstream, calls, Duration::ZERO).unwrap();
    let ask = async |client: &mut TcpStream, request: &[u8]| {
        client.write_all(request).await.unwrap();
        client.read_exact(&mut [0; 13]).await.unwrap();
    };
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut client, b"call a").await;
    ask(&mut client, b"call b").await;
    drop(client);
    let is_done = |key: &str| {
        let calls = proxy.calls();
        calls.iter().find(|call| call.key == key).is_some_and(|call| call.is_done)
    };
    while is_done("call b") {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(is_done("call a"));
}
