//! Transactions of more than one statement.
//!
//! They run in tasks of their own, so that nobody who stops waiting can leave one half-way, on
//! connections that serve nothing else. A connection on which anything failed is closed.

use futures::future::BoxFuture;
use sqlx::{Connection, Executor, PgConnection};

use super::Store;
use crate::error::Error;

impl Store {
    /// Runs `work` in a transaction. It is committed if `work` succeeds, and if that is known when
    /// this returns; `work` must be safe to repeat after a transient error.
    pub(crate) async fn transact<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let pool = self.transactions.clone();
        let running = tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            let done = to_the_end(&mut connection, work).await;
            if done.is_err() {
                // Whatever is left open ends with the session.
                let _ = connection.detach().close_hard().await;
            }
            done
        });
        running.await.unwrap_or(Err(Error::Unavailable))
    }
}

async fn to_the_end<T, F>(connection: &mut PgConnection, work: F) -> Result<T, Error>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>>,
{
    connection.execute("begin").await?;
    let value = work(connection).await?;
    connection.execute("commit").await?;
    Ok(value)
}
