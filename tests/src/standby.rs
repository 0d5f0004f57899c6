//! A standby of a private Postgres: a second server, which has what the first one sends it.

use std::fs::{Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cluster::{scratch, stop_with_this_process};
use crate::durable::Durable;
use crate::process::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

/// The standby. It ends when it is dropped, and with this process.
pub struct Standby {
    options: PgConnectOptions,
    _server: Child,
    _folder: TempDir,
}

impl Standby {
    /// Makes one of everything that the primary has, and starts it under this name.
    pub async fn of(primary: &Durable, name: &str) -> Self {
        let data = primary.data_directory().await;
        let owner = data.metadata().expect("it is there");
        let folder = TempDir::new_in(scratch()).expect("a folder for its files");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("the folder is ours");
        // As in the folder of every private server: see who stops it.
        for lock in ["start.lock", "users.lock"] {
            std::fs::write(folder.path().join(lock), "").expect("the folder is ours");
        }
        let home = |name: &str| folder.path().join(name);
        for own in ["data", "socket"].map(home) {
            std::fs::create_dir(&own).expect("the folder is ours");
            std::fs::set_permissions(&own, Permissions::from_mode(0o700)).expect("it is ours");
            chown(&own, Some(owner.uid()), Some(owner.gid())).expect("it may be given away");
        }
        let bin = bin(primary).await;
        let socket = socket(&primary.options());
        let copied = program(&bin.join("pg_basebackup"), &owner, &folder)
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--username=amends"])
            .arg(format!("--dbname=application_name={name}"))
            .arg("--host")
            .arg(socket)
            .arg("--pgdata")
            .arg(home("data"))
            .status();
        assert!(copied.await.expect("it can be run").success(), "the primary is not copied");
        // A server whose data are ours alone lets its owner in, and those who see its socket.
        std::fs::set_permissions(home("socket"), Permissions::from_mode(0o755))
            .expect("the folder is ours");
        let mut server = program(&bin.join("postgres"), &owner, &folder);
        server.arg("-D").arg(home("data")).kill_on_drop(true);
        for setting in ["listen_addresses=", "port=5432", "max_connections=400"] {
            server.args(["-c", setting]);
        }
        let directories = format!("unix_socket_directories={}", home("socket").display());
        let server = server.args(["-c", &directories]).process_group(0).spawn();
        let server = server.expect("it can be run");
        stop_with_this_process(folder.path());
        let options = primary.options().socket(home("socket"));
        let standby = Self { options, _server: server, _folder: folder };
        eventually("the standby answers", PATIENCE, || async {
            let answer = standby.options.connect().await.map_err(|it| it.to_string())?;
            answer.close().await.map_err(|it| it.to_string())
        })
        .await;
        standby
    }

    /// The address of its database `amends`.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Waits until it has everything that the primary has.
    pub async fn catch_up(&self, primary: &Durable) {
        let mut primary = session(&primary.options()).await;
        let end: String = sqlx::query_scalar("select pg_current_wal_lsn()::text")
            .fetch_one(&mut primary)
            .await
            .expect("a superuser may ask");
        eventually("the standby has everything", PATIENCE, || async {
            let has = "select pg_last_wal_replay_lsn() >= $1::pg_lsn";
            let mut standby = session(&self.options).await;
            let has: Option<bool> =
                sqlx::query_scalar(has).bind(&end).fetch_one(&mut standby).await.expect("asked");
            if has == Some(true) { Ok(()) } else { Err("it has not".to_owned()) }
        })
        .await;
    }

    /// From now on the primary sends it nothing. What it was sent before it has.
    pub async fn cut_off(&self) {
        let mut standby = session(&self.options).await;
        for statement in ["alter system set primary_conninfo = ''", "select pg_reload_conf()"] {
            standby.execute(statement).await.expect("a superuser may do that");
        }
        eventually("nothing is received any more", PATIENCE, || async {
            let receives = "select exists (select from pg_stat_wal_receiver)";
            let mut standby = session(&self.options).await;
            let receives: bool =
                sqlx::query_scalar(receives).fetch_one(&mut standby).await.expect("asked");
            if receives { Err("it still is".to_owned()) } else { Ok(()) }
        })
        .await;
    }

    /// Makes it a primary.
    pub async fn promote(&self) {
        let promote = "select pg_promote()";
        session(&self.options).await.execute(promote).await.expect("a superuser may do that");
    }
}

/// What leads to these servers, in this order.
#[must_use]
pub fn url(servers: &[PgConnectOptions], more: &str) -> String {
    let hosts: Vec<_> = servers.iter().map(|it| socket(it).display().to_string()).collect();
    let hosts = hosts.join(",");
    format!("postgres://amends@localhost/amends?host={hosts}&port=5432&sslmode=disable{more}")
}

/// Changes a setting of a server while it runs.
pub async fn set(server: &PgConnectOptions, setting: &str, value: &str) {
    let mut session = session(server).await;
    let change = format!("alter system set {setting} = '{value}'");
    session.execute(AssertSqlSafe(change)).await.expect("a superuser may do that");
    session.execute("select pg_reload_conf()").await.expect("a superuser may do that");
}

async fn session(server: &PgConnectOptions) -> PgConnection {
    server.connect().await.expect("the server answers")
}

fn socket(server: &PgConnectOptions) -> PathBuf {
    server.get_socket().expect("a private Postgres listens on a socket").clone()
}

async fn bin(primary: &Durable) -> PathBuf {
    let asked = "select setting from pg_config where name = 'BINDIR'";
    let mut session = session(&primary.options()).await;
    let bin: String =
        sqlx::query_scalar(asked).fetch_one(&mut session).await.expect("a superuser may ask");
    bin.into()
}

/// A program of Postgres, as who owns its data: it does not run as an administrator.
fn program(path: &Path, owner: &Metadata, folder: &TempDir) -> Command {
    let mut command = Command::new(path);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let we = folder.path().metadata().expect("it is there").uid();
    if owner.uid() != we {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}
