//! Transactions of more than one statement.
//!
//! They run in tasks of their own, so that nobody who stops waiting can leave one half-way, on
//! connections that serve nothing else. A connection on which anything failed is closed.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection, Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::session::{self, Expected, Purpose};
use super::{Lent, Pool, Store};
use crate::error::Error;
use crate::limits;

impl Store {
    /// Runs `work` in a transaction. It is committed if `work` succeeds, and if that is known when
    /// this returns; `work` must be safe to repeat after a transient error.
    pub(crate) async fn transact<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        self.within("begin isolation level read committed", work).await
    }

    /// Has all statements of `work` see the same moment. They lock nothing and write nothing.
    pub(crate) async fn snapshot<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        self.within("begin isolation level repeatable read read only", work).await
    }

    async fn within<T, F>(&self, begin: &'static str, work: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let pool = self.transactions.clone();
        let running = tokio::spawn(async move {
            let mut lent = pool.acquire().await?;
            // Whatever a failure leaves open ends with the session.
            let (session, watch) = lent.lend()?;
            watch.over(to_the_end(session, begin, work)).await
        });
        running.await.unwrap_or(Err(Error::Unavailable))
    }
}

async fn to_the_end<T, F>(
    connection: &mut PgConnection,
    begin: &'static str,
    work: F,
) -> Result<T, Error>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>>,
{
    connection.execute(begin).await?;
    let value = work(connection).await?;
    connection.execute("commit").await?;
    Ok(value)
}

/// A connection that a transaction step has to itself. It is closed, and what was not committed on
/// it has not happened, unless it is given back.
pub(crate) struct StepSession(Lent);

impl StepSession {
    /// Lets others have the connection: no transaction is open on it.
    pub(crate) fn give_back(self) {
        self.0.give_back();
    }
}

/// What an author's statements may have left in a session, for the next instance to find. Plans that
/// the driver has prepared stay.
const CLEAN: &str = "
    set session authorization default;
    reset all;
    close all;
    unlisten *;
    select pg_advisory_unlock_all();
    discard temp;
    discard sequences;
    do $$ declare one text; begin
        for one in select name from pg_prepared_statements where from_sql loop
            execute format('deallocate %I', one);
        end loop;
    end $$";

/// Has a connection that is given back be as it was. One that cannot be is closed.
pub(super) async fn clean(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(CLEAN).await?;
    session::prepare(connection, Purpose::Steps, &Expected::to_write()).await?;
    Ok(())
}

impl Store {
    /// A connection for a transaction step.
    pub(crate) async fn session(&self) -> Result<StepSession, Error> {
        Ok(StepSession(self.steps.acquire().await?))
    }
}

/// The transaction of a step. A transaction that is begun on it is a savepoint.
pub(crate) type Open<'a> = Transaction<'a, Postgres>;

/// What a transaction step is begun with.
pub(crate) struct Begin {
    pub(crate) worker_id: Uuid,
    pub(crate) instance_id: Uuid,
    /// By which it is held.
    pub(crate) claim_id: Option<Uuid>,
    /// A number of its own, by which its end can be waited for.
    pub(crate) ticket: i64,
    /// How long a statement of the author's may take.
    pub(crate) timeout: Duration,
}

/// Begins a transaction step of an instance that this worker holds. `None`: it does not. Until the
/// end of the transaction nobody takes this worker over.
pub(crate) async fn begin(
    session: &mut StepSession,
    begin: Begin,
) -> Result<Option<Open<'_>>, sqlx::Error> {
    let Some(connection) = session.0.session() else {
        return Err(sqlx::Error::PoolClosed);
    };
    #[expect(clippy::disallowed_methods, reason = "whoever nests another gets a savepoint")]
    let mut transaction = connection.begin().await?;
    let held = sqlx::query!(
        r#"select set_config('statement_timeout', $4, true) as "timeout",
                  set_config('amends.transaction', 'open', true) as "transaction",
                  pg_advisory_xact_lock($3)::text as "ticket"
           from amends.worker w join amends.instance i on i.worker_id = w.worker_id
           where w.worker_id = $1 and i.instance_id = $2 and i.claim_id = $5
           for key share of w"#,
        begin.worker_id,
        begin.instance_id,
        begin.ticket,
        milliseconds(begin.timeout),
        begin.claim_id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    Ok(held.map(|_| transaction))
}

/// Goes over from the author's statements to the engine's. `false`: the author has ended the
/// transaction that was begun.
pub(crate) async fn seal(transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // The write path's plan is that of `Store::connect`.
    let sealed = sqlx::query!(
        r#"select coalesce(current_setting('amends.transaction', true) = 'open', false) as "same!",
                  set_config('statement_timeout', $1, true) as "timeout",
                  set_config('plan_cache_mode', 'force_generic_plan', true) as "mode",
                  set_config('enable_seqscan', 'off', true) as "scan""#,
        milliseconds(limits::STATEMENT_TIMEOUT),
    )
    .fetch_one(transaction)
    .await?;
    Ok(sealed.same)
}

/// Waits until the transaction step of this ticket is over, also if its connection was lost.
pub(crate) async fn ended(pool: &Pool, ticket: i64) -> Result<(), Error> {
    sqlx::query!(r#"select pg_advisory_xact_lock($1)::text as "ticket""#, ticket)
        .fetch_one(pool)
        .await?;
    Ok(())
}

fn milliseconds(duration: Duration) -> String {
    // Zero would mean no limit.
    duration.as_millis().clamp(1, i32::MAX as u128).to_string()
}
