//! A TCP proxy that breaks connections when it is told to.
//!
//! It stands between the servers and what they talk to. Besides what any bad network does it can
//! lose the answer to a request that has been carried out, which no network does on demand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use amends_tests::chance::Chance;

const BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection that has become slow stays so.
const DELAY: Duration = Duration::from_secs(4);

/// Where connections lead.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Unix(PathBuf),
    Tcp(String),
}

/// What is done to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    /// It is reset.
    Reset,
    /// Nothing gets through any more, and after a while it is reset.
    Swallow(Duration),
    /// Everything takes so much longer, for a while.
    Delay(Duration),
    /// It is reset after so many more bytes of answers.
    CutAfter(usize),
}

/// Whether the bytes begin a request whose answer may be cut off.
pub(crate) type Marks = fn(&[u8]) -> bool;

/// A proxy. It goes on for as long as the program runs.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Upstream,
    marks: Marks,
    connections: Mutex<Vec<mpsc::UnboundedSender<Harm>>>,
    /// Answers that are still to be cut off.
    armed: AtomicU32,
    cut: AtomicU64,
}

/// How a connection ends.
enum End {
    /// As one of its ends wished.
    Closed,
    /// With a reset.
    Broken,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Proxy {
    /// Opens it on a thread of its own: a network is not slower because customers are busy.
    pub(crate) fn open(upstream: Upstream, marks: Marks) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            marks,
            connections: Mutex::default(),
            armed: AtomicU32::new(0),
            cut: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepting = accept(listener, Arc::clone(&shared));
        std::thread::spawn(move || runtime.block_on(accepting));
        Ok(Self { address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Harms so many of the connections that are open, whichever. Says how many there were.
    pub(crate) fn harm(&self, count: usize, harm: Harm, chance: &Chance) -> u64 {
        let mut open = self.shared.open_connections();
        let mut harmed = 0;
        for _ in 0..count.min(open.len()) {
            let chosen = open.swap_remove(chance.within(0..open.len() as u64) as usize);
            harmed += u64::from(chosen.send(harm).is_ok());
        }
        harmed
    }

    /// Has the answers to the next marked requests cut off.
    pub(crate) fn cut_answers(&self, count: u32) {
        self.shared.armed.fetch_add(count, Ordering::SeqCst);
    }

    /// Cuts off no more answers.
    pub(crate) fn heal(&self) {
        self.shared.armed.store(0, Ordering::SeqCst);
    }

    /// How many answers to marked requests have been cut off.
    pub(crate) fn answers_cut(&self) -> u64 {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn open_connections(&self) -> Vec<mpsc::UnboundedSender<Harm>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| !connection.is_closed());
        connections.clone()
    }

    async fn dial(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.upstream {
            Upstream::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Upstream::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }

    /// Whether this request is one whose answer is to be cut off.
    fn dooms(&self, request: &[u8]) -> bool {
        let take = |armed: u32| armed.checked_sub(1);
        (self.marks)(request)
            && self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("it is within a runtime");
    while let Ok((client, _)) = listener.accept().await {
        let (harm, harms) = mpsc::unbounded_channel();
        shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(harm);
        tokio::spawn(carry(client, Arc::clone(&shared), harms));
    }
}

/// Carries one connection to its end.
async fn carry(mut client: TcpStream, shared: Arc<Shared>, harms: mpsc::UnboundedReceiver<Harm>) {
    let end = match shared.dial().await {
        Ok(mut upstream) => {
            // An error of either end closes both.
            forward(&mut client, &mut *upstream, &shared, harms).await.unwrap_or(End::Closed)
        }
        Err(_) => End::Broken,
    };
    if matches!(end, End::Broken) {
        // Without it this is an ordinary end of the connection, which breaks nothing.
        let _ = client.set_zero_linger();
    }
}

async fn forward(
    client: &mut TcpStream,
    upstream: &mut dyn Stream,
    shared: &Shared,
    mut harms: mpsc::UnboundedReceiver<Harm>,
) -> std::io::Result<End> {
    client.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let (mut delay, mut bytes_left, mut is_doomed) = (None, None, false);
    loop {
        tokio::select! {
            harm = harms.recv() => match harm {
                None => {}
                Some(Harm::Reset) => return Ok(End::Broken),
                Some(Harm::Swallow(how_long)) => {
                    sleep(how_long).await;
                    return Ok(End::Broken);
                }
                Some(Harm::Delay(by)) => delay = Some((by, Instant::now() + DELAY)),
                Some(Harm::CutAfter(bytes)) => bytes_left = Some(bytes),
            },
            read = client.read(&mut request) => {
                let length = read?;
                if length == 0 {
                    return Ok(End::Closed);
                }
                is_doomed = is_doomed || shared.dooms(&request[..length]);
                hold_up(delay).await;
                upstream.write_all(&request[..length]).await?;
            }
            read = upstream.read(&mut answer) => {
                let length = read?;
                if length == 0 {
                    return Ok(End::Closed);
                }
                if is_doomed {
                    shared.cut.fetch_add(1, Ordering::SeqCst);
                    return Ok(End::Broken);
                }
                hold_up(delay).await;
                let passed = bytes_left.map_or(length, |left: usize| left.min(length));
                client.write_all(&answer[..passed]).await?;
                if passed < length {
                    return Ok(End::Broken);
                }
                bytes_left = bytes_left.map(|left| left - passed);
            }
        }
    }
}

/// Takes the time that a slow connection takes, until it is fast again.
async fn hold_up(delay: Option<(Duration, Instant)>) {
    if let Some((by, until)) = delay
        && Instant::now() < until
    {
        sleep(by).await;
    }
}

#[cfg(test)]
mod tests {
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
        let proxy = Proxy::open(Upstream::Tcp(address), marks).unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, client, heard)
    }

    async fn ask(client: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
        client.write_all(request).await?;
        let mut answer = vec![0; 8];
        client.read_exact(&mut answer).await.map(|_| answer)
    }

    #[tokio::test]
    async fn what_nobody_harms_gets_through() {
        let (proxy, mut client, _) = open(|_| false).await;
        proxy.cut_answers(1);
        assert_eq!(ask(&mut client, b"hello").await.unwrap(), [5; 8]);
        assert_eq!(ask(&mut client, b"you").await.unwrap(), [3; 8]);
        assert_eq!(proxy.answers_cut(), 0);
    }

    #[tokio::test]
    async fn an_answer_is_cut_off_after_its_request_was_carried_out() {
        let (proxy, mut client, heard) = open(|request| request.starts_with(b"commit")).await;
        proxy.cut_answers(1);
        assert_eq!(ask(&mut client, b"look").await.unwrap(), [4; 8]);
        let reset = ask(&mut client, b"commit").await.unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!((heard.load(Ordering::SeqCst), proxy.answers_cut()), (2, 1));
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut other, b"commit").await.unwrap(), [6; 8]);
    }

    #[tokio::test]
    async fn a_connection_is_reset_at_once_or_in_the_middle_of_an_answer() {
        let (proxy, mut client, _) = open(|_| false).await;
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
}
