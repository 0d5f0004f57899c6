//! Workers: the rows that are the right to write.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::interval;

/// A worker to be.
pub(crate) struct NewWorker<'a> {
    pub(crate) worker_id: Uuid,
    /// For people.
    pub(crate) name: &'a str,
    pub(crate) lease: Duration,
    /// Whether it delivers events.
    pub(crate) relays: bool,
    /// The definitions of its schedules.
    pub(crate) schedules: &'a [String],
}

/// Registers a worker. `now` only if the clock is moved by hand.
pub(crate) async fn register(
    pool: &PgPool,
    worker: NewWorker<'_>,
    now: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.worker (worker_id, name, started_at, lease_until, relays, schedules)
         select $1, $2, present, present + $4, $5, $6
         from (select coalesce($3::timestamptz, clock_timestamp()) as present) clock",
        worker.worker_id,
        worker.name,
        now,
        interval(worker.lease),
        worker.relays,
        worker.schedules,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Renews a lease. `false`: the worker has been taken over.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    worker_id: Uuid,
    lease: Duration,
    now: Option<DateTime<Utc>>,
) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query!(
        "update amends.worker set lease_until = coalesce($2::timestamptz, clock_timestamp()) + $3
         where worker_id = $1",
        worker_id,
        now,
        interval(lease),
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Closes the claim of a worker that is shutting down, in the database and not only in memory.
pub(crate) async fn begin_drain(pool: &PgPool, worker_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update amends.worker set draining_since = clock_timestamp() where worker_id = $1",
        worker_id,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Other workers whose lease has lapsed.
pub(crate) async fn lapsed(
    pool: &PgPool,
    worker_id: Uuid,
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select worker_id from amends.worker
         where worker_id <> $1 and lease_until < coalesce($2::timestamptz, clock_timestamp())",
        worker_id,
        now,
    )
    .fetch_all(pool)
    .await
}

/// Which workers may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeOver {
    /// Only one whose lease has lapsed.
    Lapsed,
    /// One that leaves of its own accord.
    Leaving,
}

/// Ends a worker and frees what it held. Returns how many instances that were, or `None` if the
/// worker is alive or gone already.
///
/// Deleting the row waits for the worker's batches in flight, which share a lock on it. Only the
/// next statement, under a fresh snapshot, sees what they wrote.
#[expect(clippy::disallowed_methods, reason = "on a connection of its own")]
pub(crate) async fn take_over(
    connection: &mut PgConnection,
    worker_id: Uuid,
    which: TakeOver,
    now: Option<DateTime<Utc>>,
) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let ended = sqlx::query!(
        "delete from amends.worker
         where worker_id = $1
           and ($2 or lease_until < coalesce($3::timestamptz, clock_timestamp()))",
        worker_id,
        which == TakeOver::Leaving,
        now,
    )
    .execute(&mut *transaction)
    .await?;
    if ended.rows_affected() == 0 {
        return Ok(None);
    }
    let freed = sqlx::query!(
        "with held as materialized (
             select instance_id from amends.instance
             where worker_id = $1
             order by instance_id
             for no key update
         )
         update amends.instance i
         set worker_id = null, run_at = coalesce($2::timestamptz, clock_timestamp()),
             losses = losses + $3
         from held
         where i.instance_id = held.instance_id",
        worker_id,
        now,
        i32::from(which == TakeOver::Lapsed),
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("update amends.outbox_shard set worker_id = null where worker_id = $1", worker_id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Some(freed.rows_affected()))
}
