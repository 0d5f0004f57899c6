//! Schedules: their definitions, how far each has come, and what becomes of its firings.
//!
//! Whatever changes a schedule raises its revision and changes its row before its firings.

pub(crate) mod command;
pub(crate) mod read;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::schedule::{Head, Standing};
use crate::step::Failure;

/// The present by the clock that decides. `now` only if the clock is moved by hand.
pub(crate) async fn present(
    pool: &PgPool,
    now: Option<DateTime<Utc>>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce($1::timestamptz, clock_timestamp()) as "present!""#,
        now,
    )
    .fetch_one(pool)
    .await
}

/// A definition, as it is stored.
pub(crate) struct NewSchedule<'a> {
    pub(crate) name: &'a str,
    pub(crate) definition: String,
    pub(crate) cron: &'a str,
    pub(crate) zone: &'a str,
    pub(crate) workflow: &'a str,
    pub(crate) gap: String,
    pub(crate) overlap: String,
    pub(crate) next_at: Option<DateTime<Utc>>,
}

/// Stores a definition. A changed expression or zone counts from now; a pause stays.
pub(crate) async fn define(pool: &PgPool, schedule: NewSchedule<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.schedule as known
             (name, definition, cron, zone, workflow, gap, overlap, next_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (name) do update
         set definition = excluded.definition, cron = excluded.cron, zone = excluded.zone,
             workflow = excluded.workflow, gap = excluded.gap, overlap = excluded.overlap,
             next_at = case
                 when (known.cron, known.zone) = (excluded.cron, excluded.zone) then known.next_at
                 else excluded.next_at
             end,
             revision = known.revision + 1
         where known.definition <> excluded.definition",
        schedule.name,
        schedule.definition,
        schedule.cron,
        schedule.zone,
        schedule.workflow,
        schedule.gap,
        schedule.overlap,
        schedule.next_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The schedules among these definitions that have something to do, each as it stands.
pub(crate) async fn due(
    pool: &PgPool,
    definitions: &[String],
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Standing>, sqlx::Error> {
    let rows = sqlx::query_file!("src/store/sql/due_schedules.sql", definitions, now)
        .fetch_all(pool)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Standing {
            name: row.name,
            revision: row.revision,
            next_at: row.next_at,
            is_paused: row.is_paused,
            is_busy: row.is_busy,
            head: row.fire_key.zip(row.fire_at).map(|(key, at)| Head { key, at }),
            now: row.present,
        })
        .collect())
}

/// What was decided about firings that have come due.
pub(crate) struct Planned<'a> {
    pub(crate) standing: &'a Standing,
    pub(crate) next_at: Option<DateTime<Utc>>,
    /// The first firing that was let go, and the first thereafter that was not.
    pub(crate) missed: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    pub(crate) keys: Vec<String>,
    pub(crate) times: Vec<DateTime<Utc>>,
    pub(crate) skipped: Option<&'a Failure>,
}

/// Writes a plan. `false`: the schedule has changed since it was read, or the worker is lost, and
/// nothing is written.
pub(crate) async fn plan(
    pool: &PgPool,
    worker_id: Uuid,
    planned: &Planned<'_>,
) -> Result<bool, sqlx::Error> {
    let (missed_from, missed_before) = planned.missed.unzip();
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select from amends.worker where worker_id = $11 for key share
        ), changed as (
            update amends.schedule
            set revision = revision + 1, next_at = $3,
                missed_from = coalesce($4, missed_from),
                missed_before = case when $4::timestamptz is null then missed_before else $5 end
            from fence
            where name = $1 and revision = $2
            returning name, revision
        ), fired as (
            insert into amends.firing
                (schedule, fire_key, fire_at, kind, state, code, message, turn, planned_at,
                 settled_at)
            select changed.name, due.fire_key, due.fire_at, 'due',
                   case when $9::text is null then 'planned' else 'skipped' end, $9, $10,
                   changed.revision, $6::timestamptz,
                   case when $9 is not null then $6 end
            from changed, unnest($7::text[], $8::timestamptz[]) as due (fire_key, fire_at)
            on conflict (schedule, fire_key) do nothing
        )
        select exists (select from changed) as "changed!"
        "#,
        planned.standing.name,
        planned.standing.revision,
        planned.next_at,
        missed_from,
        missed_before.flatten(),
        planned.standing.now,
        &planned.keys,
        &planned.times,
        planned.skipped.map(|skipped| &*skipped.code),
        planned.skipped.map(|skipped| skipped.message.as_str()),
        worker_id,
    )
    .fetch_one(pool)
    .await
}

/// Records what has become of a planned firing. `false`: the schedule has changed since it was
/// read, or the worker is lost, and nothing is written.
pub(crate) async fn settle(
    pool: &PgPool,
    worker_id: Uuid,
    standing: &Standing,
    head: &Head,
    outcome: Result<Uuid, &Failure>,
) -> Result<bool, sqlx::Error> {
    let (instance_id, refused) = (outcome.ok(), outcome.err());
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select from amends.worker where worker_id = $8 for key share
        ), changed as (
            update amends.schedule
            set revision = revision + 1,
                last_instance_id = coalesce($5, last_instance_id),
                last_fired_at =
                    case when $5::uuid is null then last_fired_at else $4::timestamptz end
            from fence
            where name = $1 and revision = $2
            returning name
        ), settled as (
            update amends.firing f
            set state = case when $5 is null then 'refused' else 'started' end,
                instance_id = $5, code = $6, message = $7, settled_at = $4
            from changed
            where f.schedule = changed.name and f.fire_key = $3
        )
        select exists (select from changed) as "changed!"
        "#,
        standing.name,
        standing.revision,
        head.key,
        standing.now,
        instance_id,
        refused.map(|refused| &*refused.code),
        refused.map(|refused| refused.message.as_str()),
        worker_id,
    )
    .fetch_one(pool)
    .await
}
