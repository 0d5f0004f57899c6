//! The configured database, open for as long as some work takes.
//!
//! A private one is started, or attached to if it runs, and left again however the work ends; the
//! last to leave stops it.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::config::Database;
use crate::postgres::{Durability, Embedded, Options};

/// The oldest Postgres that is used; the same as for a private one.
const MAJOR_MIN: i32 = 14;
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Does `work` with the database.
pub async fn with<T, Working>(
    database: &Database,
    work: impl FnOnce(PgConnectOptions) -> Working,
) -> anyhow::Result<T>
where
    Working: Future<Output = anyhow::Result<T>>,
{
    match database {
        Database::Url(url) => {
            let options = PgConnectOptions::from_str(url.expose()).context("DATABASE_URL")?;
            // A pooler refuses what it does not know, and nobody needs this.
            let options = options.extra_float_digits(None);
            refuse_old(&options).await.context("the database of DATABASE_URL cannot be used")?;
            work(options).await
        }
        Database::Embedded { data_dir, bin_dir } => {
            let embedded = Embedded::start(Options {
                data_dir: data_dir.clone(),
                bin_dir: bin_dir.clone(),
                durability: Durability::Full,
            })
            .await
            .context("there is no DATABASE_URL, and a private database cannot be started")?;
            let worked = match PgConnectOptions::from_str(embedded.url()) {
                Ok(options) => work(options).await,
                Err(error) => Err(error).context("the private database has no readable address"),
            };
            let stopped = embedded.stop().await.context("the private database did not stop");
            worked.and_then(|done| stopped.map(|()| done))
        }
    }
}

/// Refuses a database that cannot be reached, or is too old.
async fn refuse_old(options: &PgConnectOptions) -> anyhow::Result<()> {
    let asked = timeout(ANSWER, version(options)).await.context("it does not answer")?;
    // The error says what its sources say again.
    let (version, major) = asked.map_err(|error| anyhow!("{error}"))?;
    if major >= MAJOR_MIN {
        return Ok(());
    }
    bail!("it is Postgres {version}, and {MAJOR_MIN} is the oldest that works")
}

async fn version(options: &PgConnectOptions) -> Result<(String, i32), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let version = sqlx::query_as(
        "select current_setting('server_version'),
                current_setting('server_version_num')::int / 10000",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(version)
}
