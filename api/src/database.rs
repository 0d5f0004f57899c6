//! The configured database, open for as long as some work takes.
//!
//! A private one is started, or attached to if it runs, and left again however the work ends; the
//! last to leave stops it.

use std::future::Future;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use amends::{Access, Address, Clock};
use anyhow::{Context, anyhow};
use sqlx::postgres::PgConnectOptions;
use tokio::time::{interval, timeout};

use crate::config::Database;
use crate::postgres::{Durability, Embedded, Options};

/// The oldest Postgres that is used; the same as for a private one.
const MAJOR_MIN: i32 = 14;
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often one that does not answer yet is asked.
const PAUSE: Duration = Duration::from_millis(500);

/// Does `work` with the database, once it has been looked at.
pub async fn with<T, Working>(
    database: &Database,
    work: impl FnOnce(Address) -> Working,
) -> anyhow::Result<T>
where
    Working: Future<Output = anyhow::Result<T>>,
{
    if let Database::Url(url) = database {
        let address = Address::from_str(url.expose()).context("DATABASE_URL")?;
        refuse_old(version(&address, Access::ReadOnly).await)?;
    }
    lend(database, work).await
}

/// Does `work` with the database, which is started if it is a private one.
pub async fn lend<T, Working>(
    database: &Database,
    work: impl FnOnce(Address) -> Working,
) -> anyhow::Result<T>
where
    Working: Future<Output = anyhow::Result<T>>,
{
    match database {
        Database::Url(url) => {
            let address = Address::from_str(url.expose()).context("DATABASE_URL")?;
            work(address).await
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
                Ok(options) => work(options.into()).await,
                Err(error) => Err(error).context("the private database has no readable address"),
            };
            let stopped = embedded.stop().await.context("the private database did not stop");
            worked.and_then(|done| stopped.map(|()| done))
        }
    }
}

/// Waits until there is a database that can be written to, [for so long at most](patiently).
pub async fn wait(
    database: &Database,
    patience: Duration,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<ControlFlow<()>> {
    let Database::Url(url) = database else { return Ok(ControlFlow::Continue(())) };
    let address = Address::from_str(url.expose()).context("DATABASE_URL")?;
    let answered =
        patiently(patience, shutdown, async || version(&address, Access::ReadWrite).await);
    match answered.await {
        Ok(ControlFlow::Break(())) => Ok(ControlFlow::Break(())),
        Ok(ControlFlow::Continue(version)) => refuse_old(Ok(version)).map(ControlFlow::Continue),
        Err(error) => refuse_old(Err(error)).map(ControlFlow::Continue),
    }
}

/// Attempts something until the database lets it, for so long at most: it may just then be on its
/// way from one server to another. What does not pass ends it at once. `Break`: `shutdown` has
/// completed.
pub async fn patiently<T>(
    patience: Duration,
    shutdown: impl Future<Output = ()>,
    attempt: impl AsyncFn() -> Result<T, amends::Error>,
) -> Result<ControlFlow<(), T>, amends::Error> {
    let clock = Clock::system();
    let until = clock.now() + patience;
    let mut ticks = interval(PAUSE);
    let attempting = async {
        loop {
            ticks.tick().await;
            match attempt().await {
                Err(error) if error.is_transient() && clock.now() < until => {
                    tracing::warn!(%error, "the database cannot be used yet; it is waited for");
                }
                attempted => break attempted,
            }
        }
    };
    tokio::select! {
        attempted = attempting => attempted.map(ControlFlow::Continue),
        () = shutdown => Ok(ControlFlow::Break(())),
    }
}

/// Refuses a database that has not answered, or is too old.
fn refuse_old(answered: Result<(String, i32), amends::Error>) -> anyhow::Result<()> {
    let unusable = match answered {
        Ok((_, major)) if major >= MAJOR_MIN => return Ok(()),
        // Who works with it says so, each in a way of its own.
        Err(amends::Error::UnsafeDatabase(_)) => return Ok(()),
        Ok((version, _)) => {
            anyhow!("it is Postgres {version}, and {MAJOR_MIN} is the oldest that works")
        }
        // The error says what its sources say again.
        Err(error) => anyhow!("{error}"),
    };
    Err(unusable.context("the database of DATABASE_URL cannot be used"))
}

async fn version(address: &Address, access: Access) -> Result<(String, i32), amends::Error> {
    let asked = timeout(ANSWER, amends::reach(address.clone(), access)).await;
    asked.unwrap_or(Err(amends::Error::Stalled("it does not answer".to_owned())))
}
