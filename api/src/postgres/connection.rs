//! Talking to the private server: its address, whether it answers, its database.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::time::timeout;

use super::Error;
use super::folder::Folder;

/// Part of the socket's name only; named everywhere because PGPORT would change the default.
pub(super) const PORT: u16 = 5432;
/// The superuser of the cluster, and the database.
pub(super) const NAME: &str = "amends";

const PROBE: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(1);
/// The SQLSTATE of a server that is starting, recovering or shutting down.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// What a server says to an attempt to connect.
pub(super) enum Answer {
    /// It works.
    Ready(PgConnection),
    /// It is there and will answer, or end, by itself.
    Starting,
    /// Nothing answers.
    Silent,
}

/// What has to be known of a server before it is used.
pub(super) struct Server {
    /// Whether commits survive a crash of the machine.
    pub(super) durable: bool,
    /// Whether the database `amends` exists.
    pub(super) has_database: bool,
}

/// The file that stands for the socket in its folder.
pub(super) fn socket_file(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

/// The address of the database, complete, so that no PG* variable bends it.
pub(super) fn url(socket: &Path) -> String {
    let host = percent_encoded(socket.as_os_str().as_bytes());
    format!("postgres://{NAME}@localhost:{PORT}/{NAME}?host={host}&sslmode=disable")
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Asks the server of a folder once, for two seconds at most.
///
/// A single connection: a pool would go on trying a closed socket for half a minute.
pub(super) async fn probe(folder: &Folder) -> Result<Answer, Error> {
    // Without this file a server that answers serves another, deleted folder.
    if folder.claimant().is_none() {
        return Ok(Answer::Silent);
    }
    // The database that initdb makes; `amends` may not exist yet.
    let options = PgConnectOptions::new_without_pgpass()
        .socket(folder.socket())
        .port(PORT)
        .username(NAME)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable);
    match timeout(PROBE, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => Ok(Answer::Ready(connection)),
        Ok(Err(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(CANNOT_CONNECT_NOW) =>
        {
            Ok(Answer::Starting)
        }
        Ok(Err(sqlx::Error::Io(error))) => {
            tracing::trace!(%error, "Postgres does not answer");
            Ok(Answer::Silent)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_elapsed) => Ok(Answer::Silent),
    }
}

/// Reads what has to be known of a server before it is used.
pub(super) async fn describe(connection: &mut PgConnection) -> Result<Server, Error> {
    let row = connection
        .fetch_one(
            "select current_setting('fsync') = 'on' as durable,
                    exists (select 1 from pg_database where datname = 'amends') as has_database",
        )
        .await?;
    Ok(Server { durable: row.try_get("durable")?, has_database: row.try_get("has_database")? })
}

/// Creates the database `amends`; the caller holds the start lock.
pub(super) async fn create_database(connection: &mut PgConnection) -> Result<(), Error> {
    connection.execute("create database amends").await?;
    tracing::debug!("the database amends was created");
    Ok(())
}

/// Says goodbye; a server that does not listen any more is none of our business.
pub(super) async fn close(connection: PgConnection) {
    if let Ok(Err(error)) = timeout(CLOSE, connection.close()).await {
        tracing::debug!(%error, "the connection ended by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_socket_and_nothing_on_the_network() {
        assert_eq!(
            url(Path::new("/srv/shop/socket")),
            "postgres://amends@localhost:5432/amends?host=%2Fsrv%2Fshop%2Fsocket&sslmode=disable"
        );
    }

    #[test]
    fn every_byte_that_means_something_in_a_url_is_encoded() {
        assert_eq!(percent_encoded("/a b+c&d=é%".as_bytes()), "%2Fa%20b%2Bc%26d%3D%C3%A9%25");
        assert_eq!(percent_encoded(b"plain-_.~9"), "plain-_.~9");
    }
}
