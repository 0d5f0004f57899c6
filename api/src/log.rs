//! Where log lines go: standard error, on a thread of their own.
//!
//! Nobody waits for a log that nobody reads, and nobody fails over one that is closed: as many lines
//! wait as fit, and those that come then are lost, and counted.

use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How many lines wait.
const LINES_MAX: usize = 8192;
/// How long the last words of a program may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The log of the program. Lines that wait are written when this is dropped, or given up after two
/// seconds.
#[must_use]
pub struct Log {
    /// Until this is dropped.
    writer: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let writer = self.writer.take();
        // It complains on standard output, where nobody may be reading either.
        within_last_words(move || drop(writer));
    }
}

/// Starts logging, as JSON lines or as text, for the rest of the program. Panics are logged too.
pub fn start(filter: EnvFilter, is_json: bool) -> anyhow::Result<Log> {
    let lossy = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (lines, writer) = lossy.thread_name("amends-log").finish(std::io::stderr());
    let lost = lines.error_counter();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    let started = if is_json { log.json().try_init() } else { log.with_target(false).try_init() };
    started.map_err(|error| anyhow::anyhow!("cannot log: {error}"))?;
    // The log that was started first is the one that counts.
    let _ = LOST.set(lost);
    std::panic::set_hook(Box::new(panicked));
    Ok(Log { writer: Some(writer) })
}

/// How many lines nobody has taken.
pub(crate) fn lines_lost() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Tells on standard error why a program ends, if anybody listens.
pub fn last_words(words: String) {
    within_last_words(move || {
        let _ = writeln!(std::io::stderr(), "{words}");
    });
}

/// Does something that may never end, and waits for it only so long.
fn within_last_words(act: impl FnOnce() + Send + 'static) {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        act();
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(LAST_WORDS);
}

/// What panics is caught, or ends the program with its own words.
fn panicked(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("something that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(
        place,
        thread = thread.name().unwrap_or_default(),
        "panicked: {message}\n{backtrace}"
    );
}
