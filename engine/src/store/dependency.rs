//! Dependencies: how they do, who may call them, and who waits for them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::interval;
use crate::dependency::health::{Health, State, TURN};
use crate::error::Error;
use crate::step::Failure;
use crate::view::DependencyView;

/// So many instances take turns at finding out whether a dependency is up again.
const TRIED_IN_TURN: u32 = 100;

/// A dependency as the database knows it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) health: Health,
    /// It has answered a call since it was last looked after.
    pub(crate) answered: bool,
    /// Instances wait for it.
    pub(crate) parked: bool,
    /// When the next call may be made, if there is a rate.
    pub(crate) next_call_at: DateTime<Utc>,
    /// The database's present.
    pub(crate) present: DateTime<Utc>,
}

/// Makes dependencies known. Those that are known stay as they are.
pub(crate) async fn declare(
    pool: &PgPool,
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

/// Every dependency.
pub(crate) async fn read(pool: &PgPool, now: Option<DateTime<Utc>>) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query!(
        r#"
        select d.name, d.state, d.since, d.pause, d.tend_at, d.admitted, d.next_call_at,
               d.answered_at is not null as "answered!",
               -- Not `exists`, which may be answered by a walk over all instances.
               (select true from amends.instance i where i.parked_on = d.name limit 1)
                   is not null as "parked!",
               coalesce($1::timestamptz, clock_timestamp()) as "present!"
        from amends.dependency d
        "#,
        now,
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
    pool: &PgPool,
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
    pool: &PgPool,
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

/// Makes instances due that wait for a dependency, the most urgent and oldest first. Returns how
/// many.
pub(crate) async fn release(
    pool: &PgPool,
    name: &str,
    count: u32,
    now: Option<DateTime<Utc>>,
) -> Result<u64, sqlx::Error> {
    let released = sqlx::query!(
        "update amends.instance
         set parked_on = null, run_at = coalesce($3::timestamptz, clock_timestamp())
         where instance_id in (
             select instance_id from amends.instance
             where parked_on = $1
             order by priority, instance_id
             limit $2
             for update skip locked
         )",
        name,
        i64::from(count),
        now,
    )
    .execute(pool)
    .await?;
    Ok(released.rows_affected())
}

/// Makes one instance due that is to find out whether a dependency is up again: of those whose turn
/// it is, the one that has not moved for longest. So none spends all its attempts on that, and one
/// whose calls always fail does not keep the others waiting.
pub(crate) async fn release_one(
    pool: &PgPool,
    name: &str,
    now: Option<DateTime<Utc>>,
) -> Result<u64, sqlx::Error> {
    let released = sqlx::query!(
        "update amends.instance
         set parked_on = null, run_at = coalesce($3::timestamptz, clock_timestamp())
         where instance_id = (
             select instance_id
             from (select instance_id, updated_at from amends.instance
                   where parked_on = $1
                   order by priority, instance_id
                   limit $2
                   for update skip locked) first
             order by updated_at, instance_id
             limit 1
         )",
        name,
        i64::from(TRIED_IN_TURN),
        now,
    )
    .execute(pool)
    .await?;
    Ok(released.rows_affected())
}

/// The place of a worker among those that work, from 0, and how many they are.
pub(crate) async fn rank(pool: &PgPool, worker_id: Uuid) -> Result<(u32, u32), sqlx::Error> {
    let row = sqlx::query!(
        r#"select count(*) filter (where worker_id < $1) as "rank!", count(*) as "workers!"
           from amends.worker where draining_since is null"#,
        worker_id,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.rank as u32, row.workers as u32))
}

/// Has a worker hold `wanted` slots, or as many as the others leave of `slots_max`.
pub(crate) async fn hold_slots(
    connection: &mut PgConnection,
    name: &str,
    worker_id: Uuid,
    wanted: u32,
    slots_max: u32,
) -> Result<u32, Error> {
    sqlx::query!("select name from amends.dependency where name = $1 for update", name)
        .fetch_one(&mut *connection)
        .await?;
    let granted = sqlx::query_scalar!(
        "insert into amends.dependency_slot (name, worker_id, slots)
         select $1, $2, greatest(least($3::int, $4::int - coalesce(sum(slots), 0)::int), 0)
         from amends.dependency_slot where name = $1 and worker_id <> $2
         on conflict (name, worker_id) do update set slots = excluded.slots
         returning slots",
        name,
        worker_id,
        wanted.cast_signed(),
        slots_max.cast_signed(),
    )
    .fetch_one(connection)
    .await?;
    Ok(granted.cast_unsigned())
}

/// Reserves `count` calls, one per `interval`, if the first of them is not further away than
/// `horizon`. Returns how far away it is.
pub(crate) async fn reserve(
    pool: &PgPool,
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
pub(crate) async fn show(pool: &PgPool) -> Result<Vec<DependencyView>, sqlx::Error> {
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
