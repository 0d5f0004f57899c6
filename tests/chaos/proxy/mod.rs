//! A TCP proxy that breaks connections when it is told to.
//!
//! It stands between the servers and what they talk to. Besides what any bad network does it can
//! lose the answer to a request that has been carried out, and hold a request back until long after
//! its sender has gone; no network does either on demand. It also writes down when each call to a
//! provider began and ended, as its sender saw it.

mod calls;
mod carry;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use amends_tests::chance::Chance;

pub(crate) use calls::Called;
use calls::Calls;

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
    /// Requests get through for a moment, answers do not; then it is reset.
    LoseAnswers,
    /// Everything takes so much longer, for a while.
    Delay(Duration),
    /// It is reset after so many more bytes of answers.
    CutAfter(usize),
}

/// What a request is, seen from its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A commit of the engine.
    Commit,
    /// A call that changes something at a provider, under this key.
    Call(String),
}

/// What becomes of a marked request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// Its sender is told at once that the connection is gone; it arrives so much later.
    HeldBack(Duration),
}

/// Knows requests that carry weight.
pub(crate) type Marks = fn(&[u8]) -> Option<Mark>;

/// A proxy. It goes on for as long as the program runs; clones are the same one.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Upstream,
    marks: Marks,
    /// How long a call is on its way.
    latency: Duration,
    connections: Mutex<Vec<mpsc::UnboundedSender<Harm>>>,
    /// What becomes of the next marked requests.
    fates: Mutex<Vec<Fate>>,
    /// Until when nobody gets through.
    down_until: Mutex<Option<Instant>>,
    answers_lost: AtomicU64,
    held_back: AtomicU64,
    calls: Calls,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Proxy {
    /// Opens it on a thread of its own: a network is not slower because customers are busy.
    pub(crate) fn open(
        upstream: Upstream,
        marks: Marks,
        latency: Duration,
    ) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            marks,
            latency,
            connections: Mutex::default(),
            fates: Mutex::default(),
            down_until: Mutex::default(),
            answers_lost: AtomicU64::default(),
            held_back: AtomicU64::default(),
            calls: Calls::default(),
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

    /// Has the next marked request carried out, and its answer lost.
    pub(crate) fn lose_answer(&self) {
        locked(&self.shared.fates).push(Fate::AnswerLost);
    }

    /// Has the next marked request arrive so much later than its sender hears that it is lost.
    pub(crate) fn hold_back(&self, by: Duration) {
        locked(&self.shared.fates).push(Fate::HeldBack(by));
    }

    /// Has nobody get through for so long. It begins with this harm to all connections.
    pub(crate) fn go_down(&self, how_long: Duration, harm: Harm) {
        *locked(&self.shared.down_until) = Some(Instant::now() + how_long);
        self.harm_all(harm);
    }

    /// Harms all connections that are open.
    pub(crate) fn harm_all(&self, harm: Harm) {
        for connection in self.shared.open_connections() {
            // One that has just ended cannot be harmed any more.
            let _ = connection.send(harm);
        }
    }

    /// Whether nobody gets through at this moment.
    pub(crate) fn is_down(&self) -> bool {
        self.shared.is_down()
    }

    /// Has everything get through again.
    pub(crate) fn heal(&self) {
        locked(&self.shared.fates).clear();
        *locked(&self.shared.down_until) = None;
    }

    /// How many answers to marked requests have been lost on purpose.
    pub(crate) fn answers_lost(&self) -> u64 {
        self.shared.answers_lost.load(Ordering::SeqCst)
    }

    /// How many marked requests were held back on purpose.
    pub(crate) fn held_back(&self) -> u64 {
        self.shared.held_back.load(Ordering::SeqCst)
    }

    /// Whether a call whose key begins so is on its way.
    pub(crate) fn is_calling(&self, key: &str) -> bool {
        self.shared.calls.is_open(key)
    }

    /// The calls that went through it.
    pub(crate) fn calls(&self) -> Vec<Called> {
        self.shared.calls.so_far()
    }
}

impl Shared {
    fn open_connections(&self) -> Vec<mpsc::UnboundedSender<Harm>> {
        let mut connections = locked(&self.connections);
        connections.retain(|connection| !connection.is_closed());
        connections.clone()
    }

    fn is_down(&self) -> bool {
        locked(&self.down_until).is_some_and(|until| Instant::now() < until)
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

    /// What is to become of a marked request, if it is not to get through as any other.
    fn fate(&self) -> Option<Fate> {
        let fate = locked(&self.fates).pop()?;
        let count = match fate {
            Fate::AnswerLost => &self.answers_lost,
            Fate::HeldBack(_) => &self.held_back,
        };
        count.fetch_add(1, Ordering::SeqCst);
        Some(fate)
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("it is within a runtime");
    while let Ok((client, _)) = listener.accept().await {
        let (harm, harms) = mpsc::unbounded_channel();
        locked(&shared.connections).push(harm);
        tokio::spawn(carry::carry(client, Arc::clone(&shared), harms));
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
