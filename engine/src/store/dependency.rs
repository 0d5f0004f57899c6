//! Dependencies: how they do, who may call them, and who waits for them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::interval;
use crate::dependency::health::{Health, State, TURN};
use crate::dependency::slots::Stake;
use crate::error::Error;
use crate::step::Failure;
use crate::store::Pool;
use crate::view::DependencyView;

/// A dependency as the database knows it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) health: Health,
    /// It has answered a call since it was last looked after.
    pub(crate) answered: bool,
    /// Instances wait for it that the worker that reads this can run.
    pub(crate) parked: bool,
    /// When the next call may be made, if there is a rate.
    pub(crate) next_call_at: DateTime<Utc>,
    /// The database's present.
    pub(crate) present: DateTime<Utc>,
}

/// Makes dependencies known. Those that are known stay as they are.
pub(crate) async fn declare(
    pool: &Pool,
    names: &[String],
    now: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.dependency (name, since, tend_at, next_call_at)
         select name, present, present, present
         from unnest($1::text[]) name,
              (select coalesce($2::timestamptz, clock_timestamp()) as present) clock
         order by name
         on conflict (name) do nothing",
        names,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Every dependency, as a worker sees it that can run these workflows.
pub(crate) async fn read(
    pool: &Pool,
    workflows: &(Vec<String>, Vec<i32>),
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query!(
        r#"
        select d.name, d.state, d.since, d.pause, d.tend_at, d.admitted, d.next_call_at,
               d.answered_at is not null as "answered!",
               -- Not `exists`, which may be answered by a walk over all instances.
               (select true from amends.instance i
                where i.parked_on = d.name
                  and (i.workflow, i.version) in (select * from unnest($2::text[], $3::int[]))
                limit 1) is not null as "parked!",
               coalesce($1::timestamptz, clock_timestamp()) as "present!"
        from amends.dependency d
        "#,
        now,
        &workflows.0,
        &workflows.1,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Row {
            name: row.name,
            health: Health {
                state: State::read(&row.state),
                since: row.since,
                pause: Duration::from_micros(u64::try_from(row.pause.microseconds).unwrap_or(0)),
                tend_at: row.tend_at,
                admitted: row.admitted.cast_unsigned(),
            },
            answered: row.answered,
            parked: row.parked,
            next_call_at: row.next_call_at,
            present: row.present,
        })
        .collect())
}

/// Moves a dependency from what it was to what it is. `false`: somebody else was faster.
pub(crate) async fn turn(
    pool: &Pool,
    name: &str,
    from: &Health,
    to: &Health,
    failure: Option<&Failure>,
) -> Result<bool, sqlx::Error> {
    let turned = sqlx::query!(
        "update amends.dependency
         set state = $4, since = $5, pause = $6, tend_at = $7, admitted = $8, answered_at = null,
             failure_code = case when $4 = 'up' then null else coalesce($9, failure_code) end,
             failure_message =
                 case when $4 = 'up' then null else coalesce($10, failure_message) end
         where name = $1 and state = $2 and tend_at = $3",
        name,
        from.state.as_str(),
        from.tend_at,
        to.state.as_str(),
        to.since,
        interval(to.pause),
        to.tend_at,
        to.admitted.cast_signed(),
        failure.map(|failure| &*failure.code),
        failure.map(|failure| failure.message.as_str()),
    )
    .execute(pool)
    .await?;
    Ok(turned.rows_affected() == 1)
}

/// Notes that a dependency which is not up has answered a call, and brings its next turn forward.
pub(crate) async fn note_answer(
    pool: &Pool,
    name: &str,
    now: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update amends.dependency d
         set answered_at = clock.present,
             tend_at = case when d.state = 'recovering' and d.answered_at is null
                            then least(d.tend_at, clock.present + $3::interval)
                            else d.tend_at end
         from (select coalesce($2::timestamptz, clock_timestamp()) as present) clock
         where d.name = $1 and d.state <> 'up'",
        name,
        now,
        interval(TURN),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Which workers hold slots of a dependency, and want some.
pub(crate) async fn stakes(
    database: impl PgExecutor<'_>,
    name: &str,
) -> Result<Vec<Stake>, sqlx::Error> {
    let rows = sqlx::query!(
        "select worker_id, slots, wanted from amends.dependency_slot where name = $1
         order by worker_id",
        name,
    )
    .fetch_all(database)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stake {
            worker_id: row.worker_id,
            slots: row.slots.cast_unsigned(),
            wanted: row.wanted.cast_unsigned(),
        })
        .collect())
}

/// The same, and nobody else changes them until the end of the transaction.
pub(crate) async fn lock_stakes(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Vec<Stake>, sqlx::Error> {
    sqlx::query!("select name from amends.dependency where name = $1 for update", name)
        .fetch_one(&mut *connection)
        .await?;
    stakes(connection, name).await
}

/// Has a worker hold slots, and says how many it wants.
pub(crate) async fn hold_slots(
    connection: &mut PgConnection,
    name: &str,
    stake: Stake,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.dependency_slot (name, worker_id, slots, wanted)
         values ($1, $2, $3, $4)
         on conflict (name, worker_id) do update
         set slots = excluded.slots, wanted = excluded.wanted",
        name,
        stake.worker_id,
        stake.slots.cast_signed(),
        stake.wanted.cast_signed(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reserves `count` calls, one per `interval`, if the first of them is not further away than
/// `horizon`. Returns how far away it is.
pub(crate) async fn reserve(
    pool: &Pool,
    name: &str,
    count: u32,
    spacing: Duration,
    horizon: Duration,
    now: Option<DateTime<Utc>>,
) -> Result<Option<TimeDelta>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        update amends.dependency d
        set next_call_at = greatest(d.next_call_at, clock.present) + $3::interval * $2::int
        from (select coalesce($5::timestamptz, clock_timestamp()) as present) clock
        where d.name = $1 and d.next_call_at <= clock.present + $4::interval
        returning d.next_call_at - $3::interval * $2::int as "first!", clock.present as "present!"
        "#,
        name,
        count.cast_signed(),
        interval(spacing),
        interval(horizon),
        now,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| row.first - row.present))
}

/// What people want to know of dependencies.
pub(crate) async fn show(pool: &Pool) -> Result<Vec<DependencyView>, sqlx::Error> {
    sqlx::query_as!(
        DependencyView,
        r#"
        select d.name, d.state, d.since, d.failure_code, d.failure_message,
               d.tend_at as next_try_at,
               (select count(*) from amends.instance i where i.parked_on = d.name) as "waiting!"
        from amends.dependency d
        order by d.name
        "#,
    )
    .fetch_all(pool)
    .await
}
