//! Workers: the rows that are the right to write.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::interval;
use crate::error::is_lock_timeout;
use crate::limits::{self, SUSPECT_LOSSES};
use crate::quarantine::{is_guilty, next_level};
use crate::store::Pool;

/// A worker to be.
pub(crate) struct NewWorker<'a> {
    pub(crate) worker_id: Uuid,
    /// For people.
    pub(crate) name: &'a str,
    pub(crate) lease: Duration,
    /// Whether it delivers events.
    pub(crate) relays: bool,
    /// The versions of workflows that it runs, as [`version_name`] has them.
    pub(crate) workflows: &'a [String],
    /// Where it delivers events.
    pub(crate) subscriptions: &'a [String],
    /// The definitions of its schedules.
    pub(crate) schedules: &'a [String],
    /// The time-zone database by which it reads them.
    pub(crate) zones: &'a str,
}

/// The name of a workflow's version, which no two share.
pub(crate) fn version_name(workflow: &str, version: u32) -> String {
    format!("{workflow}@{version}")
}

/// Registers a worker, and that its subscriptions are there. `now` only if the clock is moved by
/// hand.
pub(crate) async fn register(
    pool: &Pool,
    worker: NewWorker<'_>,
    now: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with registered as (
             insert into amends.worker
                 (worker_id, name, started_at, lease_until, relays, schedules, zones, workflows,
                  subscriptions)
             select $1, $2, present, present + $4, $5, $6, $7, $8, $9
             from (select coalesce($3::timestamptz, clock_timestamp()) as present) clock
         )
         insert into amends.subscription as s (name)
         select name from unnest($9::text[]) as subscription(name) order by name
         on conflict (name) do update set gone_since = null",
        worker.worker_id,
        worker.name,
        now,
        interval(worker.lease),
        worker.relays,
        worker.schedules,
        worker.zones,
        worker.workflows,
        worker.subscriptions,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The version that an instance is on, if no worker runs it. What a worker of an earlier release
/// runs is not known: while there is one, nothing is taken to be missing.
pub(crate) async fn missing_version(
    pool: &Pool,
    instance_id: Uuid,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select i.workflow || '@' || i.version as "version!"
        from amends.instance i
        where i.instance_id = $1
          and not exists (
              select from amends.worker w
              where w.workflows is null or i.workflow || '@' || i.version = any(w.workflows)
          )
        "#,
        instance_id,
    )
    .fetch_optional(pool)
    .await
}

/// Renews a lease, and says what time it is by the database's clock, wherever that of a test stands.
/// `None`: the worker has been taken over.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    worker_id: Uuid,
    lease: Duration,
    now: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"update amends.worker set lease_until = coalesce($2::timestamptz, clock_timestamp()) + $3
           where worker_id = $1
           returning clock_timestamp() as "present!""#,
        worker_id,
        now,
        interval(lease),
    )
    .fetch_optional(connection)
    .await
}

/// Closes the claim of a worker that is shutting down, in the database and not only in memory.
pub(crate) async fn begin_drain(pool: &Pool, worker_id: Uuid) -> Result<(), sqlx::Error> {
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
    pool: &Pool,
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

/// Workers that are not there and hold instances all the same. There are none, unless the database has
/// lost what it had acknowledged, or somebody has changed it by hand. A worker that is not there itself
/// finds none.
pub(crate) async fn vanished(pool: &Pool, worker_id: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with recursive holder (worker_id) as (
               (select worker_id from amends.instance where worker_id is not null
                order by worker_id limit 1)
               union all
               select (select i.worker_id from amends.instance i
                       where i.worker_id > holder.worker_id order by i.worker_id limit 1)
               from holder where holder.worker_id is not null
           )
           select worker_id as "worker_id!" from holder
           where worker_id is not null
             and not exists (select from amends.worker w where w.worker_id = holder.worker_id)
             and exists (select from amends.worker w where w.worker_id = $1)"#,
        worker_id,
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
    /// One that is not there.
    Vanished,
}

/// Ends a worker and frees what it held. Returns how many instances that were, or `None` if the
/// worker is alive or gone already, or cannot be taken over yet.
///
/// Deleting the row waits for the worker's batches in flight, which share a lock on it. Only the
/// next statement, under a fresh snapshot, sees what they wrote. What another worker has in flight
/// is waited for no longer than [`limits::TAKE_OVER_WAIT`]: others are to be taken over as well.
///
/// The loss of a worker is that of the suspects that were on trial; if there were none, of all that
/// it held.
pub(crate) async fn take_over(
    connection: &mut PgConnection,
    worker_id: Uuid,
    which: TakeOver,
    now: Option<DateTime<Utc>>,
) -> Result<Option<u64>, sqlx::Error> {
    match take_over_now(connection, worker_id, which, now).await {
        Err(error) if is_lock_timeout(&error) => {
            tracing::warn!(worker.id = %worker_id, "worker {worker_id} has lost its lease, and something is still under way that locks its rows");
            Ok(None)
        }
        taken_over => taken_over,
    }
}

#[expect(clippy::disallowed_methods, reason = "on a connection of its own")]
async fn take_over_now(
    connection: &mut PgConnection,
    worker_id: Uuid,
    which: TakeOver,
    now: Option<DateTime<Utc>>,
) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if which != TakeOver::Leaving {
        let wait = limits::TAKE_OVER_WAIT.as_millis().to_string();
        sqlx::query!(r#"select set_config('lock_timeout', $1, true) as "timeout""#, wait)
            .fetch_one(&mut *transaction)
            .await?;
    }
    let ended = sqlx::query!(
        r#"delete from amends.worker
           where worker_id = $1
             and ($2 or lease_until < coalesce($3::timestamptz, clock_timestamp()))
           returning started_at, greatest(lease_until, started_at) as "ended_at!""#,
        worker_id,
        which == TakeOver::Leaving,
        now,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let ended = match ended {
        Some(ended) => Some((ended.started_at, ended.ended_at)),
        None if which == TakeOver::Vanished => {
            found_missing(&mut transaction, worker_id, now).await?.map(|at| (at, at))
        }
        None => None,
    };
    let Some((started_at, ended_at)) = ended else { return Ok(None) };
    let life = Life { worker_id, started_at, ended_at };
    let on_trial = lock_held(&mut transaction, worker_id).await?;
    let tried = match (which, on_trial) {
        (TakeOver::Lapsed, Some(on_trial)) => {
            blame_suspects(&mut transaction, &life, on_trial, now).await?
        }
        (TakeOver::Lapsed, None) | (TakeOver::Leaving | TakeOver::Vanished, _) => 0,
    };
    let everybody = which == TakeOver::Lapsed && tried == 0;
    let freed = free(&mut transaction, &life, now, everybody).await?;
    sqlx::query!("update amends.outbox_shard set worker_id = null where worker_id = $1", worker_id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Some(tried + freed))
}

/// The present, if a worker is not there.
async fn found_missing(
    connection: &mut PgConnection,
    worker_id: Uuid,
    now: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce($2::timestamptz, clock_timestamp()) as "present!"
           where not exists (select from amends.worker where worker_id = $1)"#,
        worker_id,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// A worker that has ended.
struct Life {
    worker_id: Uuid,
    started_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
}

/// The suspects that a worker had on trial.
struct OnTrial {
    level: i32,
    count: i64,
}

/// Locks what a worker held, in the order in which everybody locks instances, and says who of it
/// was on trial.
async fn lock_held(
    connection: &mut PgConnection,
    worker_id: Uuid,
) -> Result<Option<OnTrial>, sqlx::Error> {
    let tried = sqlx::query!(
        r#"with held as materialized (
               select on_trial and losses >= 2 as is_tried, trials
               from amends.instance
               where worker_id = $1
               order by instance_id
               for no key update
           )
           select count(*) as "count!", coalesce(max(trials), 0) as "level!"
           from held where is_tried"#,
        worker_id,
    )
    .fetch_one(connection)
    .await?;
    let on_trial = OnTrial { level: tried.level, count: tried.count };
    Ok((tried.count > 0).then_some(on_trial))
}

/// Frees the suspects on trial, to whose account the loss of their worker goes. Returns how many.
async fn blame_suspects(
    connection: &mut PgConnection,
    life: &Life,
    on_trial: OnTrial,
    now: Option<DateTime<Utc>>,
) -> Result<u64, sqlx::Error> {
    let level = next_level(on_trial.level, on_trial.count);
    // What is found guilty is taken up like everything else: it is not run again.
    let losses = if is_guilty(level) { 1 } else { SUSPECT_LOSSES };
    let blamed = sqlx::query!(
        "update amends.instance
         set worker_id = null, claim_id = null,
             run_at = coalesce($2::timestamptz, clock_timestamp()),
             claimed_at = null, on_trial = false, trials = $5, losses = $6,
             lost_after_seconds = greatest(lost_after_seconds, 1,
                 ceil(extract(epoch from $4 - coalesce(claimed_at, $3)))::int)
         where worker_id = $1 and on_trial and losses >= 2",
        life.worker_id,
        now,
        life.started_at,
        life.ended_at,
        level,
        losses,
    )
    .execute(connection)
    .await?;
    Ok(blamed.rows_affected())
}

/// Frees what a worker still holds; to the account of everybody or of nobody. Returns how many.
async fn free(
    connection: &mut PgConnection,
    life: &Life,
    now: Option<DateTime<Utc>>,
    everybody: bool,
) -> Result<u64, sqlx::Error> {
    let freed = sqlx::query!(
        "update amends.instance
         set worker_id = null, claim_id = null,
             run_at = coalesce($2::timestamptz, clock_timestamp()),
             claimed_at = null, on_trial = false,
             losses = losses + case when $5 then 1 else 0 end,
             trials = case when losses = 0 then 0 else trials end,
             -- Before the first loss there may have been progress while it was held.
             lost_after_seconds = case
                 when losses = 0 then 0
                 when $5 then greatest(lost_after_seconds, 1,
                     ceil(extract(epoch from $4 - coalesce(claimed_at, $3)))::int)
                 else lost_after_seconds
             end
         where worker_id = $1",
        life.worker_id,
        now,
        life.started_at,
        life.ended_at,
        everybody,
    )
    .execute(connection)
    .await?;
    Ok(freed.rows_affected())
}
