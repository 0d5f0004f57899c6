//! A Postgres as durable as in production, which is killed as a whole and comes back.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use amends_api::postgres::{Durability, Embedded, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::process::Command;

use crate::cluster::{bin_dir, stop_with_this_process};

/// The server of a folder. It stops with this process.
pub struct Durable {
    folder: PathBuf,
    embedded: Embedded,
}

impl Durable {
    /// Starts the server of a folder that exists.
    pub async fn start(folder: &Path) -> Self {
        let durable = Self { folder: folder.to_owned(), embedded: embedded(folder).await };
        stop_with_this_process(folder);
        durable
    }

    /// The address of its database `amends`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.embedded.url()
    }

    /// The same, as options of a connection.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::from_str(self.url()).expect("the launcher's url is valid")
    }

    /// Where its data are.
    pub async fn data_directory(&self) -> PathBuf {
        let mut database: PgConnection = self.options().connect().await.expect("it answers");
        let asked = sqlx::query_scalar("show data_directory").fetch_one(&mut database).await;
        let path: String = asked.expect("a superuser may ask");
        path.into()
    }

    /// Ends it with SIGKILL, and starts it again.
    pub async fn kill_and_start(&mut self) {
        self.kill().await;
        self.embedded = embedded(&self.folder).await;
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&self) {
        let pid_file = self.data_directory().await.join("postmaster.pid");
        let pid_file = std::fs::read_to_string(pid_file).expect("it runs");
        let group = pid_file.lines().next().expect("the pid is the first line");
        let group: u32 = group.parse().expect("a number");
        // The processes below it are groups of their own, and end when it does.
        let kill = format!("kill -KILL -{group}");
        let killed = Command::new("sh").args(["-c", &kill]).status().await.expect("a shell");
        assert!(killed.success(), "Postgres cannot be killed: {kill}");
    }

    /// Stops it.
    pub async fn stop(self) {
        self.embedded.stop().await.expect("it stops");
    }
}

async fn embedded(folder: &Path) -> Embedded {
    let data_dir = folder.to_owned();
    let options = Options { data_dir, bin_dir: bin_dir(), durability: Durability::Full };
    Embedded::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}
