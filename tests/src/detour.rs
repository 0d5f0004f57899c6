//! A way to the database on which a request, or the answer to one, can be lost: the connection
//! breaks before the server has heard of it, or after the server has done it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Interest, Ready};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

const COMMIT: &str = include_str!("../../engine/src/store/sql/commit.sql");

/// How many a detour leads to the server before it has opened to one of them. Clients who come and
/// go faster than it can look would else fill the room before its door, and keep everybody out.
const AT_THE_DOOR_MAX: usize = 16;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server never hears of the request.
    Request,
    /// The server does what it is asked; nobody hears of it.
    Answer,
    /// The server hears of the request later, when it has been asked other things, and nobody hears
    /// of the answer. Within a transaction, which ends with its connection, it never does.
    Late,
}

/// A request that is late arrives after so many others.
const LATE_BY: usize = 12;

/// A request that is on its way to the server, on a connection whose client is gone.
struct LateRequest {
    /// It arrives when so many requests have been counted.
    due: usize,
    request: Vec<u8>,
    from_server: BufReader<OwnedReadHalf>,
    to_server: OwnedWriteHalf,
}

/// How often one statement is lost in a row, before it is spared until another one is.
const IN_A_ROW_MAX: usize = 2;

/// Which requests it happens to, of those that are counted.
enum Target {
    /// These, from 0.
    These(Vec<usize>),
    /// Once, the one of this statement before which there are so many more of it.
    Nth(String, usize),
}

/// A detour. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Detour(Arc<Shared>);

#[derive(Default)]
struct Shared {
    faults: Mutex<Vec<(Target, Loss)>>,
    is_counting: AtomicBool,
    requests: Mutex<Vec<String>>,
    lost: Mutex<Vec<String>>,
    refusals: Mutex<Vec<String>>,
    notices: Mutex<Vec<String>>,
    late: Mutex<Vec<LateRequest>>,
    arriving: TaskTracker,
    /// How often everything has fallen silent.
    silences: watch::Sender<u32>,
    /// Where its socket is.
    folder: OnceLock<TempDir>,
}

impl Detour {
    /// A detour on which these requests of those that are counted, from 0, are lost, or the answers
    /// to them.
    #[must_use]
    pub fn losing(these: impl IntoIterator<Item = usize>, loss: Loss) -> Self {
        let detour = Self::default();
        held(&detour.0.faults).push((Target::These(these.into_iter().collect()), loss));
        detour
    }

    /// The next request of this statement is lost too, or its answer.
    pub fn lose_next(&self, statement: &str, loss: Loss) {
        self.lose_nth(statement, 0, loss);
    }

    /// Of the requests of this statement that are counted from now on, this one, from 0, is lost too,
    /// or its answer.
    pub fn lose_nth(&self, statement: &str, nth: usize, loss: Loss) {
        held(&self.0.faults).push((Target::Nth(statement.to_owned(), nth), loss));
    }

    /// Counts requests from now on, or does not.
    pub fn count(&self, is_counting: bool) {
        self.0.is_counting.store(is_counting, Ordering::SeqCst);
    }

    /// The statements that were counted, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        held(&self.0.requests).clone()
    }

    /// The statements that were lost, or whose answers were.
    #[must_use]
    pub fn lost(&self) -> Vec<String> {
        held(&self.0.lost).clone()
    }

    /// Has every request arrive that is late, and waits until the server has answered them. Says
    /// whether there was one.
    pub async fn deliver_late(&self) -> bool {
        let is_late = !held(&self.0.late).is_empty();
        self.deliver(|_| true);
        self.0.arriving.close();
        self.0.arriving.wait().await;
        self.0.arriving.reopen();
        is_late
    }

    /// From now on nothing comes through on any connection that is open, and nobody is told. Those that
    /// are opened later work.
    pub fn fall_silent(&self) {
        self.0.silences.send_modify(|silences| *silences += 1);
    }

    /// Completes at the next silence.
    async fn silence(&self) {
        let mut silences = self.0.silences.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = silences.changed().await;
    }

    fn deliver(&self, is_due: impl Fn(&LateRequest) -> bool) {
        let arriving: Vec<_> = held(&self.0.late).extract_if(.., |late| is_due(late)).collect();
        for late in arriving {
            self.0.arriving.spawn(late.arrive());
        }
    }

    /// The codes of what the server has refused.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        held(&self.0.refusals).clone()
    }

    /// What the server has remarked since this was last asked.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.0.notices))
    }

    /// Leads to where `direct` leads.
    #[must_use]
    pub fn options(&self, direct: &PgConnectOptions) -> PgConnectOptions {
        let folder = self.0.folder.get_or_init(|| self.open(direct));
        direct.clone().socket(folder.path())
    }

    fn open(&self, direct: &PgConnectOptions) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = format!(".s.PGSQL.{}", direct.get_port());
        let target: PathBuf = direct.get_socket().expect("the cluster has a socket").join(&socket);
        let listener = UnixListener::bind(folder.path().join(&socket)).expect("a socket is made");
        // Whoever holds the folder keeps the way open; this does not.
        let shared = Arc::downgrade(&self.0);
        let door = Arc::new(Semaphore::new(AT_THE_DOOR_MAX));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(shared) = shared.upgrade() else { return };
                let (door, target) = (Arc::clone(&door), target.clone());
                tokio::spawn(async move {
                    let Ok(at_the_door) = door.acquire_owned().await else { return };
                    // Whoever says who he is and has gone by then is not led anywhere.
                    let says = client.ready(Interest::READABLE).await;
                    if says.is_ok_and(Ready::is_read_closed) {
                        return;
                    }
                    // A server that is stopped answers nobody.
                    let Ok(server) = UnixStream::connect(&target).await else { return };
                    Self(shared).lead(client, server, at_the_door).await;
                });
            }
        });
        folder
    }

    async fn lead(self, client: UnixStream, server: UnixStream, permit: OwnedSemaphorePermit) {
        let (from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let mut from_server = BufReader::new(from_server);
        let state = Conversation::default();
        let mut at_the_door = Some(permit);
        // Whichever side ends first takes the other one with it.
        let late = tokio::select! {
            late = self.there(from_client, &mut to_server, &state) => late.unwrap_or_default(),
            _ = self.back(&mut from_server, to_client, &state, &mut at_the_door) => None,
            () = self.silence() => std::future::pending().await,
        };
        if let Some(request) = late {
            let due = held(&self.0.requests).len() + LATE_BY;
            held(&self.0.late).push(LateRequest { due, request, from_server, to_server });
            return;
        }
        drop(to_server);
        // Whoever goes away before the server has opened is still in its crowd.
        if at_the_door.is_some() {
            let _ = tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await;
        }
    }

    /// Passes on requests, each as a whole. Returns one that is to be late.
    async fn there(
        &self,
        from: OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        state: &Conversation,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut from = BufReader::new(from);
        // The first message says who is there, and has no kind.
        let mut request = sized(&mut from, Vec::new()).await?;
        let mut prepared = HashMap::new();
        let mut statement = None;
        to.write_all(&request).await?;
        request.clear();
        loop {
            let start = request.len();
            let kind = from.read_u8().await?;
            request.push(kind);
            request = sized(&mut from, request).await?;
            let body = &request[start + 5..];
            let mut texts = body.split(|byte| *byte == 0).map(text);
            match kind {
                b'P' => drop(prepared.insert(texts.next(), texts.next().map(whole))),
                b'B' => statement = prepared.get(&texts.nth(1)).cloned().flatten(),
                b'Q' => statement = texts.next().map(whole),
                _ => {}
            }
            if !matches!(kind, b'S' | b'Q' | b'H' | b'X') {
                continue;
            }
            match statement.take().and_then(|statement| self.judge(statement)) {
                Some(Loss::Late) if !state.is_in_transaction.load(Ordering::SeqCst) => {
                    return Ok(Some(request));
                }
                Some(Loss::Request | Loss::Late) => return Ok(None),
                Some(Loss::Answer) => state.is_losing.store(true, Ordering::SeqCst),
                None => {}
            }
            to.write_all(&request).await?;
            request.clear();
        }
    }

    /// Passes on answers, as many at once as the server has sent. One that is lost ends the connection
    /// once the server has done its part.
    async fn back(
        &self,
        from: &mut BufReader<OwnedReadHalf>,
        mut to: OwnedWriteHalf,
        state: &Conversation,
        at_the_door: &mut Option<OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        let mut answers = Vec::new();
        loop {
            let start = answers.len();
            let kind = from.read_u8().await?;
            answers.push(kind);
            answers = sized(from, answers).await?;
            let body = &answers[start + 5..];
            match kind {
                b'Z' => {
                    drop(at_the_door.take());
                    state.is_in_transaction.store(body != b"I", Ordering::SeqCst);
                }
                b'E' => held(&self.0.refusals).extend(field(body, b'C')),
                b'N' => held(&self.0.notices).extend(field(body, b'M')),
                _ => {}
            }
            if state.is_losing.load(Ordering::SeqCst) {
                answers.truncate(start);
                if kind == b'Z' {
                    return Ok(());
                }
            }
            if from.buffer().is_empty() {
                to.write_all(&answers).await?;
                answers.clear();
            }
        }
    }

    /// A transaction that is begun again and again may come to the same statement every time that
    /// one is due.
    fn has_lost_enough_of(&self, statement: &str) -> bool {
        let lost = held(&self.0.lost);
        let in_a_row = lost.iter().rev().take_while(|lost| *lost == statement);
        in_a_row.count() >= IN_A_ROW_MAX
    }

    /// Counts a request, and says what becomes of it.
    fn judge(&self, statement: String) -> Option<Loss> {
        if !self.0.is_counting.load(Ordering::SeqCst) {
            return None;
        }
        let number = {
            let mut requests = held(&self.0.requests);
            requests.push(statement.clone());
            requests.len() - 1
        };
        self.deliver(|late| late.due <= number);
        let mut faults = held(&self.0.faults);
        let is_due = |target: &mut Target| match target {
            Target::These(these) => these.contains(&number),
            Target::Nth(of, _) if *of != statement => false,
            Target::Nth(_, 0) => true,
            Target::Nth(_, before) => {
                *before -= 1;
                false
            }
        };
        // Each of them counts.
        let due: Vec<_> = faults.iter_mut().map(|(target, _)| is_due(target)).collect();
        let fault = due.iter().position(|is_due| *is_due)?;
        let (target, loss) = &faults[fault];
        if matches!(target, Target::These(_)) && self.has_lost_enough_of(&statement) {
            return None;
        }
        let (is_once, loss) = (matches!(target, Target::Nth(..)), *loss);
        if is_once {
            faults.swap_remove(fault);
        }
        held(&self.0.lost).push(statement);
        Some(loss)
    }
}

/// What is known of a client and the server while they talk.
#[derive(Default)]
struct Conversation {
    is_losing: AtomicBool,
    is_in_transaction: AtomicBool,
}

impl LateRequest {
    /// Has the server do what it was asked.
    async fn arrive(mut self) {
        let ended = async {
            self.to_server.write_all(&self.request).await?;
            while self.from_server.read_u8().await? != b'Z' {
                sized(&mut self.from_server, Vec::new()).await?;
            }
            io::Result::Ok(())
        };
        // A server that was stopped meanwhile has nothing to do any more.
        let _ = ended.await;
    }
}

/// Reads the rest of a message, its length and what it says, to the end of what was read of it.
async fn sized(from: &mut (impl AsyncRead + Unpin), mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(message)
}

/// A field of what the server says of an error, or remarks.
fn field(body: &[u8], code: u8) -> Option<String> {
    let mut fields = body.split(|byte| *byte == 0);
    fields.find(|field| field.first() == Some(&code)).map(|field| text(&field[1..]))
}

/// The commit is one statement, whichever of its parts a batch has nothing for. So is what a new session
/// is asked, whatever this process was told before.
fn whole(statement: String) -> String {
    if statement.lines().next() == COMMIT.lines().next() {
        return COMMIT.to_owned();
    }
    match statement.split_once(", exists (select from amends.") {
        Some((asked, _)) if asked.contains("pg_is_in_recovery") => asked.to_owned(),
        _ => statement,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while he holds this")
}
