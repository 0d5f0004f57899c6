//! Orders through an engine, a given number at a time, each from acceptance to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amends::{Engine, Start, Started, Status};
use anyhow::{Context, bail};
use sqlx::PgConnection;
use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;

/// What came of a run.
pub(super) struct Ran {
    /// Until the last order had ended.
    pub(super) ended: Duration,
    /// When the run began, for whoever waits for more.
    pub(super) began: Instant,
    /// From acceptance to the end, in ascending order.
    latencies: Vec<Duration>,
}

impl Ran {
    /// The mean latency.
    pub(super) fn mean(&self) -> Duration {
        let count = u32::try_from(self.latencies.len()).unwrap_or(u32::MAX).max(1);
        self.latencies.iter().sum::<Duration>() / count
    }

    /// The latency that `percent` of the orders did not exceed.
    pub(super) fn latency(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (self.latencies.len() * percent / 100).min(last);
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// When orders were sent, and which have ended before anybody asked.
#[derive(Default)]
struct Board {
    sent: HashMap<Uuid, Instant>,
    early: HashMap<Uuid, Instant>,
    latencies: Vec<Duration>,
}

impl Board {
    fn end(&mut self, sent: Instant, ended: Instant) {
        self.latencies.push(ended - sent);
    }
}

/// Runs the orders of `starts`, `concurrency` at a time.
pub(super) async fn run(
    engine: &Engine,
    starts: Vec<Start>,
    concurrency: usize,
) -> anyhow::Result<Ran> {
    let count = starts.len();
    let room = Arc::new(Semaphore::new(concurrency));
    let board = Arc::new(Mutex::new(Board::default()));
    let endings =
        tokio::spawn(collect(engine.endings(), Arc::clone(&board), Arc::clone(&room), count));
    let began = now();
    for start in starts {
        room.acquire().await?.forget();
        let (engine, board) = (engine.clone(), Arc::clone(&board));
        tokio::spawn(async move {
            let sent = now();
            if let Ok(Started::New(id)) = engine.start(start).await {
                let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                match board.early.remove(&id) {
                    Some(ended) => board.end(sent, ended),
                    None => {
                        board.sent.insert(id, sent);
                    }
                }
            }
        });
    }
    let ended = endings.await?? - began;
    // The last answer may still be on its way to its sender.
    while board.lock().unwrap_or_else(PoisonError::into_inner).latencies.len() < count {
        tokio::task::yield_now().await;
    }
    let mut board = std::mem::take(&mut *board.lock().unwrap_or_else(PoisonError::into_inner));
    board.latencies.sort_unstable();
    Ok(Ran { ended, began, latencies: board.latencies })
}

/// Counts orders as they end, and makes room for the next ones. Returns when the last one ended.
async fn collect(
    mut endings: broadcast::Receiver<(Uuid, Status)>,
    board: Arc<Mutex<Board>>,
    room: Arc<Semaphore>,
    count: usize,
) -> anyhow::Result<Instant> {
    let mut last = now();
    for _ in 0..count {
        let (id, status) = match tokio::time::timeout(Duration::from_secs(60), endings.recv()).await
        {
            Ok(ending) => ending.context("endings were missed")?,
            Err(_) => bail!("no order has ended for a minute"),
        };
        last = now();
        if status != Status::Completed {
            bail!("order {id} is {status}, not completed");
        }
        {
            let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
            match board.sent.remove(&id) {
                Some(sent) => board.end(sent, last),
                None => {
                    board.early.insert(id, last);
                }
            }
        }
        room.add_permits(1);
    }
    Ok(last)
}

/// Waits until no event waits in the outbox.
pub(super) async fn drained(observer: &mut PgConnection) -> anyhow::Result<Instant> {
    loop {
        let waiting: bool = sqlx::query_scalar("select exists (select from amends.outbox)")
            .fetch_one(&mut *observer)
            .await?;
        if !waiting {
            return Ok(now());
        }
        tokio::task::yield_now().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
