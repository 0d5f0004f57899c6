//! A server as a process: killed, stopped, continued, and always started again at its address.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amends_tests::process::{Process, command_of};
use chrono::{DateTime, Utc};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::pace::Pace;

/// How long a server that went on is left alone, so that it can do what it must not do.
const HAUNTING: Duration = Duration::from_secs(2);

/// A server. Whoever harms it waits until the one before has put it right.
pub(crate) struct Server {
    /// Builds of it, one of which has its turn at each start.
    programs: Vec<PathBuf>,
    starts: AtomicUsize,
    address: String,
    database_url: String,
    providers_url: String,
    pace: Pace,
    log: PathBuf,
    running: Mutex<Option<Process>>,
    freezes: Mutex<Vec<Freeze>>,
}

/// A process stood still, for longer than its lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freeze {
    pub(crate) process: u32,
    /// When it went on.
    pub(crate) to: DateTime<Utc>,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) async fn start(
        programs: Vec<PathBuf>,
        (database, providers): (SocketAddr, SocketAddr),
        pace: Pace,
        log: PathBuf,
    ) -> Self {
        let mut server = Self {
            programs,
            starts: AtomicUsize::new(0),
            address: "127.0.0.1:0".to_owned(),
            database_url: format!("postgres://amends@{database}/amends?sslmode=disable"),
            providers_url: format!("http://{providers}"),
            pace,
            log,
            running: Mutex::default(),
            freezes: Mutex::default(),
        };
        let process = server.launch().await;
        server.address = process.address().to_owned();
        server.running = Mutex::new(Some(process));
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it with SIGKILL, and starts it again; unless something is done to it already.
    pub(crate) async fn kill_and_start(&self) -> bool {
        let Ok(mut running) = self.running.try_lock() else { return false };
        if let Some(process) = running.take() {
            process.kill().await;
        }
        *running = Some(self.launch().await);
        true
    }

    /// Stops it in whatever it is doing, and has it go on so long after its lease is over.
    pub(crate) async fn freeze(&self, beyond: Duration) {
        let running = self.running.lock().await;
        let Some(process) = running.as_ref().and_then(Process::id) else { return };
        signal("STOP", process).await;
        sleep(self.pace.lease() + beyond).await;
        self.freezes.lock().await.push(Freeze { process, to: Utc::now() });
        signal("CONT", process).await;
        sleep(HAUNTING).await;
    }

    /// Has nobody read its log for so long.
    pub(crate) async fn stall_log(&self, how_long: Duration) {
        let stalled = self.running.lock().await.as_ref().map(Process::stall_log);
        sleep(how_long).await;
        drop(stalled);
    }

    /// When it stood still.
    pub(crate) async fn freezes(&self) -> Vec<Freeze> {
        self.freezes.lock().await.clone()
    }

    /// Ends it.
    pub(crate) async fn end(&self) {
        if let Some(process) = self.running.lock().await.take() {
            process.kill().await;
        }
    }

    /// Starts it until it serves: without a database it ends instead.
    async fn launch(&self) -> Process {
        let pace = self.pace.0.to_string();
        let arguments = [
            "serve",
            "--listen",
            &self.address,
            "--database-url",
            &self.database_url,
            "--providers-url",
            &self.providers_url,
            "--pace",
            &pace,
        ];
        let turn = self.starts.fetch_add(1, Ordering::Relaxed) % self.programs.len();
        loop {
            let mut command = command_of(&self.programs[turn], &arguments, &[]);
            // It ends when this is closed, however this process ends.
            command.stdin(Stdio::piped());
            if let Some(process) = Process::start(command, &self.log).await {
                return process;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    let sent = Command::new("sh").args(["-c", &kill]).status().await.expect("there is a shell");
    assert!(sent.success(), "{kill}");
}
