//! The ledger: an append-only file of JSON lines, and the book that is read from it.
//!
//! One thread writes. It takes all that waits, decides it, makes it durable with one write and
//! one sync, and only then answers; readers wait as long, so nothing is ever seen that a crash
//! could take back. If the file cannot be written the ledger closes for good: what a failed sync
//! left on the disk is unknown, and only reading the file again tells.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use chrono::{DateTime, Utc};
use tokio::sync::{RwLock, RwLockReadGuard, mpsc, oneshot};

use super::Error;
use super::book::{Book, Change, Verdict};
use super::problem::Problem;
use super::record::Answer;

const WAITING_CHANGES_MAX: usize = 1024;
const BATCH_CHANGES_MAX: usize = 256;

/// Tells the time.
pub(super) type Clock = fn() -> DateTime<Utc>;

/// What a change is answered with: an answer that is durable, or a no that changed nothing.
type Reply = Result<Answer, Problem>;

/// The one ledger of a sandbox. Dropping it waits for the writer and frees the file.
pub(super) struct Ledger {
    book: SharedBook,
    /// Gone only while the ledger is dropped.
    queue: Option<mpsc::Sender<Waiting>>,
    writer: Option<thread::JoinHandle<()>>,
}

/// The book; none once the file could not be written.
type SharedBook = Arc<RwLock<Option<Book>>>;

struct Waiting {
    change: Change,
    reply: oneshot::Sender<Reply>,
}

impl Ledger {
    /// Opens the file, creates it if it is missing, and reads it. Blocks.
    ///
    /// A torn last line was never answered and is cut off. Fails on any other line that cannot
    /// be read, and when another sandbox has the file open.
    pub(super) fn open(path: &Path, clock: Clock) -> Result<Ledger, Error> {
        let failed = |source| Error::Ledger { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse { path: path.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        let book = Arc::new(RwLock::new(Some(read(&file, path)?)));
        make_durable(&file, path).map_err(failed)?;
        let (queue, waiting) = mpsc::channel(WAITING_CHANGES_MAX);
        let writer = Writer { file, book: book.clone(), waiting, clock };
        let thread = thread::Builder::new().name("sandbox-ledger".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(failed)?;
        Ok(Ledger { book, queue: Some(queue), writer: Some(writer) })
    }

    /// Decides a change and makes it durable. A change that was submitted is carried out even if
    /// nobody waits for the reply.
    pub(super) async fn submit(&self, change: Change) -> Reply {
        let (reply, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(Problem::ledger_unavailable)?;
        let closed = || Problem::ledger_unavailable();
        queue.send(Waiting { change, reply }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// The book as it is on disk.
    pub(super) async fn read(&self) -> Result<RwLockReadGuard<'_, Book>, Problem> {
        let book = self.book.read().await;
        RwLockReadGuard::try_map(book, Option::as_ref).map_err(|_| Problem::ledger_unavailable())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // The writer ends when its queue is closed and empty, which takes one sync at most.
        self.queue.take();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported by the panic hook.
            let _ = writer.join();
        }
    }
}

struct Writer {
    file: File,
    book: SharedBook,
    waiting: mpsc::Receiver<Waiting>,
    clock: Clock,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_CHANGES_MAX);
        while self.waiting.blocking_recv_many(&mut batch, BATCH_CHANGES_MAX) > 0 {
            // Held across the sync, so that readers see only what is durable.
            let mut shared = self.book.blocking_write();
            let Some(book) = shared.as_mut() else { return };
            match commit(&mut self.file, book, self.clock, &mut batch) {
                Ok(replies) => {
                    drop(shared);
                    for (reply, answer) in replies {
                        // A caller that hung up finds the answer under its key.
                        let _ = reply.send(answer);
                    }
                }
                Err(error) => {
                    *shared = None;
                    tracing::error!(%error, "the sandbox ledger closed: {error}");
                    return;
                }
            }
        }
    }
}

type Replies = Vec<(oneshot::Sender<Reply>, Reply)>;

fn commit(
    file: &mut File,
    book: &mut Book,
    clock: Clock,
    batch: &mut Vec<Waiting>,
) -> io::Result<Replies> {
    let mut lines = Vec::new();
    let mut replies = Vec::with_capacity(batch.len());
    for Waiting { change, reply } in batch.drain(..) {
        match book.decide(change, clock()) {
            Verdict::Known(answer) => replies.push((reply, answer)),
            Verdict::Fresh(record) => {
                serde_json::to_writer(&mut lines, &record)?;
                lines.push(b'\n');
                replies.push((reply, Ok(record.answer())));
                book.add(record).map_err(io::Error::other)?;
            }
        }
    }
    if !lines.is_empty() {
        file.write_all(&lines)?;
        file.sync_data()?;
    }
    Ok(replies)
}

fn read(file: &File, path: &Path) -> Result<Book, Error> {
    let failed = |source| Error::Ledger { path: path.to_owned(), source };
    let mut book = Book::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut length_bytes = 0;
    for number in 1.. {
        line.clear();
        let line_bytes = reader.read_until(b'\n', &mut line).map_err(failed)?;
        if line_bytes == 0 {
            break;
        }
        if !line.ends_with(b"\n") {
            let path = path.display();
            tracing::warn!(%path, line = number, "cut a torn last line of {line_bytes} bytes off");
            file.set_len(length_bytes).map_err(failed)?;
            break;
        }
        let corrupt = |detail| Error::Corrupt { path: path.to_owned(), line: number, detail };
        let record = serde_json::from_slice(&line).map_err(|error| corrupt(error.to_string()))?;
        book.add(record).map_err(|error| corrupt(error.to_string()))?;
        length_bytes += line_bytes as u64;
    }
    Ok(book)
}

/// Syncs what was read, which a killed process may have written but not synced, and the name
/// of a file that was just created.
fn make_durable(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
