//! The life of the server: made, started so that it outlives us, waited for, stopped.
//!
//! Everything here runs under the start lock of the data folder.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::process::{Child, Command};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::account::Account;
use super::connection::{self, Answer};
use super::folder::{self, Folder};
use super::locate::Programs;
use super::{Durability, Error, Origin};

/// Recovery after a crash replays a gigabyte or so of log before the server answers.
const ANSWER: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);
/// Together about 15 seconds: as long as a killed predecessor can linger unreaped.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
const REFUSALS_MAX: u32 = 60;
const TAIL_BYTES_MAX: u64 = 4096;

/// A cluster and what it takes to run it.
pub(super) struct Cluster<'a> {
    pub(super) folder: &'a Folder,
    pub(super) account: &'a Account,
    pub(super) programs: &'a Programs,
}

impl Cluster<'_> {
    /// Makes the cluster if there is none, and its server run and answer.
    pub(super) async fn start(
        &self,
        durability: Durability,
    ) -> Result<(PgConnection, Origin), Error> {
        self.sweep();
        let origin = if self.folder.has_cluster() {
            Origin::Started
        } else {
            self.initialise(durability).await?;
            Origin::Initialised
        };
        let answered = timeout(ANSWER, self.answer(durability)).await;
        let (connection, child) = answered.map_err(|_elapsed| Error::NoAnswer {
            log: self.folder.log(),
            seconds: ANSWER.as_secs(),
        })??;
        let Some(child) = child else {
            return Ok((connection, Origin::Attached));
        };
        tokio::spawn(reap(child));
        Ok((connection, origin))
    }

    /// Removes what killed runs left half made.
    ///
    /// The initdb of such a run may still be writing; then the next start removes the rest.
    fn sweep(&self) {
        let leftovers = self.folder.leftovers().unwrap_or_default();
        for leftover in leftovers {
            if let Err(error) = fs::remove_dir_all(&leftover) {
                tracing::debug!(%error, folder = %leftover.display(), "a leftover stays for now");
            }
        }
    }

    /// Makes an empty cluster; either all of it is there afterwards, or nothing.
    async fn initialise(&self, durability: Durability) -> Result<(), Error> {
        let unfinished = self.folder.unfinished();
        folder::make_private(&unfinished, self.account)?;
        tracing::info!(
            data = %self.folder.data().display(),
            major = self.programs.major(),
            "creating a Postgres database cluster"
        );
        let mut arguments = vec!["--pgdata".into(), unfinished.clone().into_os_string()];
        let username = format!("--username={}", connection::NAME);
        let access = ["--auth-local=trust", "--auth-host=reject"];
        let content = ["--data-checksums", "--encoding=UTF8", "--no-locale"];
        arguments.push(username.into());
        arguments.extend(access.into_iter().chain(content).map(Into::into));
        if durability == Durability::None {
            arguments.push("--no-sync".into());
        }
        self.account.run(&self.programs.path("initdb"), arguments).await?;
        let data = self.folder.data();
        fs::rename(&unfinished, &data).map_err(Error::file("create", &data))?;
        // A rename is durable once its folder is.
        let home = File::open(self.folder.home()).and_then(|home| home.sync_all());
        home.map_err(Error::file("sync", self.folder.home()))
    }

    /// Starts the server until it runs, and waits until it answers.
    ///
    /// Without a child the server that answers is somebody else's.
    async fn answer(&self, durability: Durability) -> Result<(PgConnection, Option<Child>), Error> {
        let mut polls = ticks(POLL);
        let mut pauses = ticks(REFUSED_PAUSE);
        let mut refusals = 0;
        tracing::info!(
            bin = %self.programs.bin().display(),
            account = self.account.name(),
            "starting Postgres"
        );
        let mut attempt = self.launch(durability)?;
        loop {
            polls.tick().await;
            match connection::probe(self.folder).await? {
                Answer::Ready(connection) => {
                    let ours = self.folder.claimant() == attempt.child.id();
                    return Ok((connection, ours.then_some(attempt.child)));
                }
                Answer::Starting => continue,
                Answer::Silent => {}
            }
            let ended =
                attempt.child.try_wait().map_err(Error::file("watch", self.folder.home()))?;
            let Some(status) = ended else { continue };
            let tail = self.tail(attempt.log_start);
            refusals += 1;
            if !is_claimed_by_another(&tail) || refusals > REFUSALS_MAX {
                let tail = format!("{tail}(ended with {status})");
                return Err(Error::Refused { log: self.folder.log(), tail });
            }
            if refusals == 1 {
                tracing::info!("the data folder still looks in use by another Postgres: retrying");
            }
            pauses.tick().await;
            attempt = self.launch(durability)?;
        }
    }

    /// Starts the server process, in a group of its own so that Ctrl-C reaches only us.
    fn launch(&self, durability: Durability) -> Result<Attempt, Error> {
        let log = self.folder.log();
        let log_start = fs::metadata(&log).map_or(0, |found| found.len());
        // The shell opens the log as the server's account and then becomes the server: root must
        // not open files in a folder of that account, and the process id stays that of the child.
        let mut command = self.account.command(Path::new("/bin/sh"));
        command.arg("-c").arg("exec \"$@\" >>\"$0\" 2>&1").arg(&log);
        command.arg(self.programs.path("postgres")).arg("-D").arg(self.folder.data());
        configure(&mut command, self.folder.socket(), durability);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().map_err(Error::file("run", Path::new("/bin/sh")))?;
        Ok(Attempt { child, log_start })
    }

    /// What the server wrote to its log since it was that long.
    fn tail(&self, log_start: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.folder.log()).and_then(|mut log| {
            let end = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(log_start.max(end.saturating_sub(TAIL_BYTES_MAX))))?;
            log.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(the log cannot be read: {error})\n"),
        }
    }

    /// Stops the server; it is fine if it does not run any more.
    pub(super) async fn stop(&self) -> Result<(), Error> {
        let data = self.folder.data();
        let mut arguments = vec!["stop".into(), "--pgdata".into(), data.into_os_string()];
        arguments.extend(["--mode=fast", "--wait", "--timeout=120"].map(Into::into));
        match self.account.run(&self.programs.path("pg_ctl"), arguments).await {
            Ok(_) => {
                tracing::info!("Postgres is stopped");
                Ok(())
            }
            Err(failed) => match connection::probe(self.folder).await? {
                Answer::Silent => {
                    tracing::warn!(%failed, "Postgres was not running any more");
                    Ok(())
                }
                Answer::Ready(_) | Answer::Starting => Err(failed.into()),
            },
        }
    }
}

/// A server process that was started, and how long the log was before.
struct Attempt {
    child: Child,
    log_start: u64,
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A server of ours opens up to 35, and several may share a private Postgres.
const CONNECTIONS_MAX: &str = "max_connections=400";

/// Settings beyond the server's defaults: where it listens, for how many, and how durable it is.
fn configure(command: &mut Command, socket: &Path, durability: Durability) {
    // A list in which a comma separates and quotes protect.
    let socket = socket.to_string_lossy().replace('"', "\"\"");
    let listen = [
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories=\"{socket}\""),
        format!("port={}", connection::PORT),
        CONNECTIONS_MAX.to_owned(),
    ];
    let durable = match durability {
        Durability::Full => ["fsync=on", "full_page_writes=on"].as_slice(),
        Durability::None => &["fsync=off", "full_page_writes=off", "synchronous_commit=off"],
    };
    for setting in listen.iter().map(String::as_str).chain(durable.iter().copied()) {
        command.args(["-c", setting]);
    }
}

/// Whether the server gave way to a predecessor that runs, or whose remains are still visible.
fn is_claimed_by_another(log: &str) -> bool {
    log.contains("already exists") || log.contains("still in use")
}

/// Waits for the end of the server for as long as the runtime lives, so that no zombie of it makes
/// the next start believe that it still runs.
async fn reap(mut child: Child) {
    match child.wait().await.as_ref().map(ExitStatus::success) {
        Ok(true) => tracing::debug!("the Postgres process has ended"),
        Ok(false) => tracing::warn!("the Postgres process has ended abnormally; see its log"),
        Err(error) => tracing::debug!(%error, "the Postgres process cannot be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claim_by_another_process_is_worth_a_retry() {
        assert!(is_claimed_by_another("FATAL:  lock file \"postmaster.pid\" already exists"));
        assert!(is_claimed_by_another(
            "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use"
        ));
        assert!(!is_claimed_by_another("FATAL:  could not access directory \"data\""));
    }

    #[test]
    fn full_durability_is_asked_for_and_room_for_many_and_nothing_else_is_changed() {
        let mut command = Command::new("postgres");
        configure(&mut command, Path::new("/srv/a,b"), Durability::Full);
        let arguments: Vec<_> = command.as_std().get_args().filter(|it| *it != "-c").collect();
        assert_eq!(
            arguments,
            [
                "listen_addresses=",
                "unix_socket_directories=\"/srv/a,b\"",
                "port=5432",
                "max_connections=400",
                "fsync=on",
                "full_page_writes=on",
            ]
        );
    }
}
