//! PgBouncer before a database. It ends when it is dropped, and with this process.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::eventually;

const PATIENCE: Duration = Duration::from_secs(30);
/// Ends the program when nobody holds the other end of its input any more. It does not run as an
/// administrator: then it runs as the server does, whose socket it has to reach.
const GUARD: &str = r#"
    PATH="$PATH:/usr/sbin"
    ini=$1 socket=$2
    set -- -q "$ini"
    if [ "$(id -u)" -eq 0 ]; then set -- -u "$(stat -c %U "$socket")" "$@"; fi
    pgbouncer "$@" & bouncer=$!
    read -r _
    kill "$bouncer""#;

/// Which transactions share a session of the server.
#[derive(Debug, Clone, Copy)]
pub enum PoolMode {
    /// Those of one client.
    Session,
    /// Whichever come.
    Transaction,
}

/// The pooler.
pub struct Pooler {
    address: SocketAddr,
    database: String,
    _process: Child,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one before a database. The settings are those that it comes with.
    pub async fn start(database: &PgConnectOptions, mode: PoolMode) -> Self {
        let folder = TempDir::new().expect("a folder for its files");
        let address = free_address();
        let name = database.get_database().expect("it has a name").to_owned();
        let ini = folder.path().join("pgbouncer.ini");
        std::fs::write(&ini, configuration(database, mode, address, folder.path()))
            .expect("its configuration can be written");
        make_readable(folder.path());
        let socket = database.get_socket().expect("a private Postgres listens on a socket");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(&ini).arg(socket).stdin(Stdio::piped());
        let process = command.spawn().expect("a shell can be started");
        let pooler = Self { address, database: name, _process: process, _folder: folder };
        eventually("the pooler answers", PATIENCE, || async {
            let session = pooler.options().extra_float_digits(None).connect().await;
            session.map_err(|error| error.to_string())?.close().await.map_err(|it| it.to_string())
        })
        .await;
        pooler
    }

    /// The database, through the pooler.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new()
            .host(&self.address.ip().to_string())
            .port(self.address.port())
            .username("anybody")
            .database(&self.database)
    }
}

fn configuration(
    database: &PgConnectOptions,
    mode: PoolMode,
    address: SocketAddr,
    folder: &Path,
) -> String {
    let mode = match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    };
    format!(
        "[databases]\n{name} = host={socket} port={port} user={user} dbname={name}\n\
         [pgbouncer]\nlisten_addr = {ip}\nlisten_port = {listen}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\nmax_client_conn = 200\ndefault_pool_size = 60\n\
         logfile = {folder}/log\n",
        name = database.get_database().expect("it has a name"),
        socket = database.get_socket().expect("it has one").display(),
        port = database.get_port(),
        user = database.get_username(),
        ip = address.ip(),
        listen = address.port(),
        folder = folder.display(),
    )
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address")
}

/// It may run under another account.
fn make_readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder, all).expect("the folder is ours");
}
