//! One connection, from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::calls::{Done, OpenCall};
use super::{Fate, Harm, Mark, Shared, Stream};
use crate::wire;

const BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection that has become slow stays so.
const DELAY: Duration = Duration::from_secs(4);
/// How long requests still get through whose answers are lost.
const LOSING: Duration = Duration::from_millis(300);
/// How long the receiver of a request that was held back may take for it.
const HELD_BACK: Duration = Duration::from_secs(5);

/// How a connection ends.
enum End {
    /// As one of its ends wished.
    Closed,
    /// With a reset.
    Broken,
    /// With a reset for its client, and a request that has yet to arrive.
    HeldBack { request: Vec<u8>, by: Duration },
}

/// A connection, and what has been done to it.
struct Carried<'a> {
    shared: &'a Shared,
    delay: Option<(Duration, Instant)>,
    /// How long the request that has just been read takes besides.
    latency: Duration,
    /// So many more bytes of answers get through.
    bytes_left: Option<usize>,
    /// The next answer does not get through.
    is_doomed: bool,
    /// The call whose answer has not come yet.
    call: Option<OpenCall>,
    /// The call that was answered last.
    done: Option<Done>,
}

/// Carries one connection to its end.
pub(super) async fn carry(
    mut client: TcpStream,
    shared: Arc<Shared>,
    harms: mpsc::UnboundedReceiver<Harm>,
) {
    let upstream = if shared.is_down() { None } else { shared.dial().await.ok() };
    let Some(mut upstream) = upstream else {
        return reset(&client);
    };
    // An error of either end closes both.
    let end = forward(&mut client, &mut *upstream, &shared, harms).await.unwrap_or(End::Closed);
    match end {
        End::Closed => {}
        End::Broken => reset(&client),
        End::HeldBack { request, by } => {
            reset(&client);
            drop(client);
            sleep(by).await;
            // Nobody waits for what comes of it.
            let _ = timeout(HELD_BACK, deliver(&mut *upstream, &request)).await;
        }
    }
}

/// Has the connection end with a reset once it is dropped.
fn reset(client: &TcpStream) {
    // Without it this is an ordinary end of the connection, which breaks nothing.
    let _ = client.set_zero_linger();
}

/// Delivers a request to its end: an answer has come.
async fn deliver(upstream: &mut dyn Stream, request: &[u8]) -> std::io::Result<()> {
    upstream.write_all(request).await?;
    upstream.read_u8().await.map(drop)
}

async fn forward(
    client: &mut TcpStream,
    upstream: &mut dyn Stream,
    shared: &Shared,
    mut harms: mpsc::UnboundedReceiver<Harm>,
) -> std::io::Result<End> {
    client.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut carried = Carried {
        shared,
        delay: None,
        latency: Duration::ZERO,
        bytes_left: None,
        is_doomed: false,
        call: None,
        done: None,
    };
    loop {
        tokio::select! {
            harm = harms.recv() => match harm {
                None => {}
                Some(Harm::Reset) => return Ok(End::Broken),
                Some(Harm::Swallow(how_long)) => {
                    sleep(how_long).await;
                    return Ok(End::Broken);
                }
                Some(Harm::LoseAnswers) => {
                    let losing = lose_answers(client, upstream);
                    // However it ends, it ends.
                    let _ = timeout(LOSING, losing).await;
                    return Ok(End::Broken);
                }
                Some(Harm::Delay(by)) => carried.delay = Some((by, Instant::now() + DELAY)),
                Some(Harm::CutAfter(bytes)) => carried.bytes_left = Some(bytes),
            },
            read = client.read(&mut request) => {
                let length = read?;
                if length == 0 {
                    return Ok(End::Closed);
                }
                carried.done.take().into_iter().for_each(Done::read);
                let request = &request[..length];
                if let Some(by) = carried.see(request) {
                    return Ok(End::HeldBack { request: request.to_vec(), by });
                }
                sleep(std::mem::take(&mut carried.latency)).await;
                hold_up(carried.delay).await;
                upstream.write_all(request).await?;
            }
            read = upstream.read(&mut answer) => {
                let length = read?;
                if length == 0 {
                    return Ok(End::Closed);
                }
                if carried.is_doomed {
                    return Ok(End::Broken);
                }
                hold_up(carried.delay).await;
                let passed = carried.bytes_left.map_or(length, |left| left.min(length));
                client.write_all(&answer[..passed]).await?;
                if passed < length {
                    return Ok(End::Broken);
                }
                carried.bytes_left = carried.bytes_left.map(|left| left - passed);
                if let Some(call) = carried.call.take()
                    && wire::is_done(&answer[..length])
                {
                    carried.done = Some(call.answered());
                }
            }
        }
    }
}

impl Carried<'_> {
    /// Takes note of a request. Says by how long it is held back, if it is.
    fn see(&mut self, request: &[u8]) -> Option<Duration> {
        let mark = (self.shared.marks)(request)?;
        let fate = self.shared.fate();
        if let Mark::Call(key) = mark {
            self.call = Some(self.shared.calls.begin(key));
            self.latency = self.shared.latency;
        }
        match fate? {
            Fate::AnswerLost => {
                self.is_doomed = true;
                None
            }
            Fate::HeldBack(by) => Some(by),
        }
    }
}

/// Passes on requests, and no answers.
async fn lose_answers(client: &mut TcpStream, upstream: &mut dyn Stream) -> std::io::Result<()> {
    let (mut request, mut answer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read? {
                0 => return Ok(()),
                length => upstream.write_all(&request[..length]).await?,
            },
            read = upstream.read(&mut answer) => {
                if read? == 0 {
                    return Ok(());
                }
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
