//! A private Postgres server for runs without `DATABASE_URL`: found, started, shared, stopped.
//!
//! The server listens on a Unix socket only and outlives this process, so that a run after a crash
//! attaches to it. Every user of a data folder holds a shared lock; the last to leave stops it.

mod account;
mod cluster;
mod connection;
mod folder;
mod locate;
mod lock;

use std::io;
use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use account::Account;
pub use account::ProgramFailed;
use cluster::Cluster;
use connection::Answer;
use folder::Folder;
use locate::{Places, Programs};

/// Which server to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the database, the socket and the lock files; created when absent.
    pub data_dir: PathBuf,
    /// The only folder in which to look for `postgres`, `initdb` and `pg_ctl`; else all known ones.
    pub bin_dir: Option<PathBuf>,
    /// What a commit survives.
    pub durability: Durability,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the machine: Postgres's own defaults, asked for explicitly.
    Full,
    /// The crash of a process, not of the machine: for test clusters that are thrown away.
    None,
}

/// How the server came to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The data folder was made and its server started.
    Initialised,
    /// The data folder was there; its server was started.
    Started,
    /// The server of the data folder was running already.
    Attached,
}

/// A user of the private server; as long as it lives, no other user stops the server.
///
/// Dropping it without [`Embedded::stop`] leaves the server running for the next run to attach to.
#[derive(Debug)]
pub struct Embedded {
    folder: Folder,
    account: Account,
    bin_dir: Option<PathBuf>,
    url: String,
    origin: Origin,
    membership: lock::Membership,
}

impl Embedded {
    /// Makes the server of `options.data_dir` answer and its database `amends` exist.
    ///
    /// Several processes may call this at the same time: one starts the server, all share it. After
    /// kill -9 of everything the start is retried for about 15 seconds, until Postgres sees that
    /// its predecessor is gone. As root the server runs as the owner of the data, as `postgres` or
    /// as `nobody`, and new data moves to `/var/lib/amends` where that account cannot reach
    /// `data_dir`. Must be called within a Tokio runtime, which also reaps the server.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] lists every place searched; all others name the file or the log to read.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { data_dir, bin_dir, durability } = options;
        let (folder, account) = folder::prepare(&data_dir).await?;
        let starting = lock::exclusive(&folder.start_lock()).await?;
        let membership = lock::join(&folder.users_lock())?;

        let (mut connection, origin) = match running(&folder).await? {
            Some(connection) => (connection, Origin::Attached),
            None => {
                let programs = find(&folder, &account, bin_dir.as_deref()).await?;
                let cluster = Cluster { folder: &folder, account: &account, programs: &programs };
                cluster.start(durability).await?
            }
        };
        let server = connection::describe(&mut connection).await?;
        if durability == Durability::Full && !server.durable {
            return Err(Error::NotDurable(folder.data()));
        }
        if !server.has_database {
            connection::create_database(&mut connection).await?;
        }
        connection::close(connection).await;
        drop(starting);

        let url = connection::url(folder.socket());
        tracing::info!(data = %folder.data().display(), ?origin, "Postgres is ready");
        Ok(Self { folder, account, bin_dir, url, origin, membership })
    }

    /// The database `amends` of this server, over its Unix socket; psql takes it as it stands.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How the server came to answer.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Leaves; the last user to leave stops the server (`pg_ctl -m fast`), which cuts connections.
    ///
    /// # Errors
    ///
    /// When `pg_ctl` is missing or fails and the server still answers.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { folder, account, bin_dir, membership, .. } = self;
        let _starting = lock::exclusive(&folder.start_lock()).await?;
        let Some(_alone) = membership.leave()? else {
            tracing::info!("Postgres is left running: another process uses it");
            return Ok(());
        };
        let programs = find(&folder, &account, bin_dir.as_deref()).await?;
        Cluster { folder: &folder, account: &account, programs: &programs }.stop().await
    }
}

/// A connection to the server of this folder if it runs and is ready.
async fn running(folder: &Folder) -> Result<Option<PgConnection>, Error> {
    match connection::probe(folder).await? {
        Answer::Ready(connection) => Ok(Some(connection)),
        Answer::Starting | Answer::Silent => Ok(None),
    }
}

async fn find(
    folder: &Folder,
    account: &Account,
    bin_dir: Option<&Path>,
) -> Result<Programs, Error> {
    let places = bin_dir.map_or_else(Places::of_this_system, Places::only);
    locate::find(&places, folder.major()?, account).await
}

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable installation; the text lists every place tried, why not, and the ways out.
    #[error("{0}")]
    NotFound(String),
    /// No account may run the server on this data folder; the text says what to change.
    #[error("{0}")]
    Account(String),
    /// A file or folder cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of the programs of Postgres failed.
    #[error(transparent)]
    Program(#[from] ProgramFailed),
    /// Another process holds the start lock for longer than any start takes.
    #[error("another process has been starting or stopping Postgres for too long: {} is locked", .0.display())]
    Busy(PathBuf),
    /// The server ended instead of starting.
    #[error("Postgres does not start (log: {}):\n{tail}", log.display())]
    Refused {
        /// The server's log.
        log: PathBuf,
        /// What it wrote in this start.
        tail: String,
    },
    /// The server runs but does not answer.
    #[error("Postgres does not answer within {seconds} seconds (log: {})", log.display())]
    NoAnswer {
        /// The server's log.
        log: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// Full durability was asked for, and the running server does without.
    #[error("the Postgres running on {} was started with fsync=off; stop it or use another data folder", .0.display())]
    NotDurable(PathBuf),
    /// The server answers with an error.
    #[error("Postgres refuses")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// Turns the error of a file operation into one that names the file.
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
