//! The program as a person runs it: real processes, real time, and no way to ask them nicely.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a process may take until it serves, with a database that recovers from a crash.
const START: Duration = Duration::from_secs(60);
/// How often [`eventually`] asks.
const POLL: Duration = Duration::from_millis(100);

/// The program, built beside the test binary.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a binary");
    let program = test.ancestors().nth(2).unwrap_or(Path::new(".")).join("amends");
    assert!(
        program.is_file(),
        "{} is missing: run `make test`, which builds it",
        program.display()
    );
    program
}

/// What `make test` has installed below the build directory, in which this test is.
#[must_use]
pub fn installed(path: &str) -> PathBuf {
    let built = binary();
    let folder = built.ancestors().nth(2).unwrap_or(Path::new("."));
    let installed = folder.join(path);
    assert!(
        installed.exists(),
        "{} is missing: run `make test`, which installs it",
        installed.display()
    );
    installed
}

/// The program with these arguments, and nothing in its environment that bends it.
#[must_use]
pub fn command(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    command_of(&binary(), arguments, settings)
}

/// Another program with these arguments, and nothing in its environment that bends Amends.
#[must_use]
pub fn command_of(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("DATABASE_URL").env_remove("AMENDS_LOG_JSON");
    command.env("AMENDS_LOG", "info").envs(settings.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A process that serves HTTP. It is killed when this is dropped.
pub struct Process {
    child: Child,
    url: String,
    /// Copies its log.
    reader: JoinHandle<()>,
    /// How many want nobody to read its log.
    stalls: watch::Sender<usize>,
}

impl Process {
    /// Starts the program and waits until it serves. Its log goes to the end of the file `log`.
    pub async fn serve(arguments: &[&str], settings: &[(&str, &str)], log: &Path) -> Self {
        let started = Self::start(command(arguments, settings), log).await;
        started.unwrap_or_else(|| {
            panic!("`amends {}` does not serve; see {}", arguments.join(" "), log.display())
        })
    }

    /// Starts a program and waits until it serves; `None` if it ends instead, or takes too long.
    pub async fn start(mut command: Command, log: &Path) -> Option<Self> {
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the program can be started");
        let stderr = child.stderr.take().expect("its standard error is piped");
        let mut lines = BufReader::new(stderr).lines();
        let opened = tokio::fs::File::options().create(true).append(true).open(log).await;
        let mut file = opened.expect("the log can be written");
        let url = timeout(START, address(&mut lines, &mut file)).await.ok()??;
        let (stalls, mut stalling) = watch::channel(0);
        let reader = tokio::spawn(async move {
            // What stalls it holds the other end.
            while stalling.wait_for(|stalls| *stalls == 0).await.is_ok()
                && copy_line(&mut lines, &mut file).await.is_some()
            {}
        });
        Some(Self { child, url, reader, stalls })
    }

    /// What the operating system knows it by, as long as it lives.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it serves, as an address to listen on.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Reads its log no more until what is returned is dropped, so that it has nowhere to go once the
    /// pipe is full.
    #[must_use]
    pub fn stall_log(&self) -> StalledLog {
        self.stalls.send_modify(|stalls| *stalls += 1);
        StalledLog(self.stalls.clone())
    }

    /// Closes its log, so that writing there fails.
    pub fn close_log(&self) {
        self.reader.abort();
    }

    /// Sends it a signal, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it lives");
        let kill = format!("kill -{name} {process}");
        let sent = Command::new("sh").args(["-c", &kill]).status().await.expect("a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.child.wait().await.expect("it can be waited for")
    }

    /// Ends it with SIGKILL.
    pub async fn kill(mut self) -> ExitStatus {
        self.child.start_kill().expect("it can be killed");
        self.child.wait().await.expect("it can be waited for")
    }
}

/// Nobody reads the log of a process for as long as this is there.
pub struct StalledLog(watch::Sender<usize>);

impl Drop for StalledLog {
    fn drop(&mut self) {
        self.0.send_modify(|stalls| *stalls -= 1);
    }
}

/// Reads until the process says where it listens. `None`: it ended instead.
async fn address(
    lines: &mut Lines<BufReader<ChildStderr>>,
    file: &mut tokio::fs::File,
) -> Option<String> {
    loop {
        let line = copy_line(lines, file).await?;
        if let Some((_, url)) = line.split_once("on http://") {
            let address = url.split_whitespace().next().unwrap_or_default();
            return Some(format!("http://{address}"));
        }
    }
}

async fn copy_line(
    lines: &mut Lines<BufReader<ChildStderr>>,
    file: &mut tokio::fs::File,
) -> Option<String> {
    let line = lines.next_line().await.ok()??;
    file.write_all(format!("{line}\n").as_bytes()).await.ok()?;
    file.flush().await.ok()?;
    Some(line)
}

/// Asks until there is an answer; each refusal says what is in the way. The only place where tests
/// wait for real time: what other processes do cannot be waited for in any other way.
pub async fn eventually<T, F>(what: &str, within: Duration, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_the_way = String::new();
    let asking = async {
        loop {
            ticks.tick().await;
            match ask().await {
                Ok(answer) => return answer,
                Err(why) => in_the_way = why,
            }
        }
    };
    let answered = timeout(within, asking).await;
    answered.unwrap_or_else(|_| panic!("not within {within:?}: {what}; {in_the_way}"))
}
