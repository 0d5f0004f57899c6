//! Turns connections away: says why, once there is a request to say it to, and closes.
//!
//! A few are told at a time. The others are closed without a word: to tell them would cost as much
//! as to let them in.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::places::Full;
use crate::problem::{Code, PROBLEM_JSON, Problem};

/// How many are told at once.
const TOLD_MAX: usize = 64;
/// How long it may take to tell somebody.
const TELLING: Duration = Duration::from_secs(1);
/// How often it is logged that somebody was turned away.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Whom there is no room for.
pub(super) struct Refusals {
    telling: Arc<Semaphore>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    written: Option<Instant>,
    refused: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { telling: Arc::new(Semaphore::new(TOLD_MAX)), log: Mutex::default() }
    }
}

impl Refusals {
    /// Turns a connection away, in a task of its own.
    pub(super) fn refuse(&self, stream: TcpStream, address: IpAddr, full: Full) {
        self.log(address, full);
        if let Ok(permit) = Arc::clone(&self.telling).try_acquire_owned() {
            tokio::spawn(async move {
                // A client that does not listen need not be told.
                let _ = timeout(TELLING, tell(stream, full)).await;
                drop(permit);
            });
        }
    }

    fn log(&self, address: IpAddr, full: Full) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.refused += 1;
        let now = Instant::now();
        if log.written.is_some_and(|written| now < written + LOG_PAUSE) {
            return;
        }
        log.written = Some(now);
        let refused = std::mem::take(&mut log.refused);
        match full {
            Full::All => tracing::warn!(
                refused, %address,
                "refused {refused} connections: as many are open as there may be"
            ),
            Full::Address => tracing::warn!(
                refused, %address,
                "refused {refused} connections: {address} has as many as one address may have"
            ),
        }
    }
}

/// Waits for a request, so that the answer is taken for one to it, answers, and reads on until the
/// client has closed: what closes with something unread in it is reset, and its answer lost.
async fn tell(mut stream: TcpStream, full: Full) -> std::io::Result<()> {
    let mut thrown_away = [0; 1024];
    if stream.read(&mut thrown_away).await? == 0 {
        return Ok(());
    }
    stream.write_all(answer(full).as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut thrown_away).await? > 0 {}
    Ok(())
}

fn answer(full: Full) -> String {
    let problem = match full {
        Full::All => {
            let detail =
                "as many connections are open as there may be; send the same request again";
            Problem::new(Code::Overloaded, detail)
        }
        Full::Address => {
            let detail = "as many connections are open from this address as one may have";
            Problem::new(Code::TooManyConnections, detail)
        }
    };
    let (status, body) = (problem.code().status(), problem.body());
    let after = problem.code().retry_after().unwrap_or_default().as_secs();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\nretry-after: {after}\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}",
        length = body.len(),
    )
}
