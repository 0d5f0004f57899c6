//! Schedules: their definitions, how far each has come, and what becomes of its firings.
//!
//! Whatever changes a schedule raises its revision and changes its row before its firings.

pub(crate) mod command;
pub(crate) mod read;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::schedule::{Adopted, Definition, Definitions, Head, Plan, Standing, Timetable, ZONES};
use crate::step::Failure;
use crate::store::Pool;

/// The present by the clock that decides. `now` only if the clock is moved by hand.
pub(crate) async fn present(
    pool: &Pool,
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
pub(crate) struct Stored<'a> {
    name: &'a str,
    definition: String,
    cron: &'a str,
    zone: &'a str,
    workflow: &'a str,
    gap: String,
    overlap: String,
    priority: i16,
}

impl<'a> Stored<'a> {
    /// As a definition of this build is stored.
    pub(crate) fn of(definition: &'a Definition) -> Self {
        let schedule = &definition.schedule;
        Self {
            name: schedule.name,
            definition: definition.text(),
            cron: schedule.cron,
            zone: schedule.zone,
            workflow: definition.workflow,
            gap: schedule.gap.to_string(),
            overlap: schedule.overlap.to_string(),
            priority: definition.priority.number(),
        }
    }
}

/// Makes a definition known, and the schedule too if there is none of this name; that one counts
/// from now.
pub(crate) async fn introduce(
    pool: &Pool,
    stored: &Stored<'_>,
    now: DateTime<Utc>,
    next_at: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with known as (
             insert into amends.schedule_definition (definition, schedule) values ($2, $1)
             on conflict (definition) do nothing
         )
         insert into amends.schedule
             (name, definition, cron, zone, workflow, gap, overlap, priority, decided_until, next_at,
              derived_next_at, zones)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)
         on conflict (name) do nothing",
        stored.name,
        stored.definition,
        stored.cron,
        stored.zone,
        stored.workflow,
        stored.gap,
        stored.overlap,
        stored.priority,
        now,
        next_at,
        ZONES,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Stores a definition in the place of another, or what this build's time zones make of it.
/// `false`: the schedule has changed since it was read, or the worker is lost, and nothing is
/// written.
pub(crate) async fn adopt(
    pool: &Pool,
    worker_id: Uuid,
    standing: &Standing,
    stored: &Stored<'_>,
    adopted: &Adopted,
) -> Result<bool, sqlx::Error> {
    let (missed_from, missed_before) = adopted.missed.unzip();
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select from amends.worker where worker_id = $15 for key share
        ), changed as (
            update amends.schedule
            set revision = revision + 1, definition = $3, cron = $4, zone = $5, workflow = $6,
                gap = $7, overlap = $8, priority = $9, decided_until = $10, next_at = $11,
                derived_next_at = $11, zones = $12, missed_from = coalesce($13, missed_from),
                missed_before = case when $13::timestamptz is null then missed_before else $14 end
            from fence
            where name = $1 and revision = $2
            returning name
        )
        select exists (select from changed) as "changed!"
        "#,
        standing.name,
        standing.revision,
        stored.definition,
        stored.cron,
        stored.zone,
        stored.workflow,
        stored.gap,
        stored.overlap,
        stored.priority,
        adopted.decided_until,
        adopted.next_at,
        ZONES,
        missed_from,
        missed_before.flatten(),
        worker_id,
    )
    .fetch_one(pool)
    .await
}

/// The schedules that this process answers for and that have something to do, each as it stands;
/// with `all`, also those that have not.
pub(crate) async fn due(
    pool: &Pool,
    definitions: &Definitions,
    all: bool,
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Standing>, sqlx::Error> {
    let names: Vec<_> = definitions.iter().map(|it| it.schedule.name.to_owned()).collect();
    let texts = definitions.texts();
    let query =
        sqlx::query_file!("src/store/sql/due_schedules.sql", &names, &texts, ZONES, now, all);
    let rows = query.fetch_all(pool).await?;
    let standing = rows.into_iter().map(|row| {
        let defined = definitions.get(&row.name).map(|it| (it.schedule.cron, it.schedule.zone));
        let is_changed = defined != Some((row.cron.as_str(), row.zone.as_str()));
        let before = is_changed.then(|| Timetable::parse(&row.cron, &row.zone));
        let (before, decided_until) = match before {
            None => (None, row.decided_until),
            Some(Ok(timetable)) => (Some(timetable), row.decided_until),
            // Only a build that can read it knows what was due by it.
            Some(Err(_)) => (None, row.decided_until.max(row.present)),
        };
        Standing {
            name: row.name,
            revision: row.revision,
            is_ours: row.is_ours,
            before,
            decided_until,
            next_at: row.next_at,
            is_paused: row.is_paused,
            is_busy: row.is_busy,
            head: row.fire_key.zip(row.fire_at).map(|(key, at)| Head { key, at }),
            now: row.present,
        }
    });
    Ok(standing.collect())
}

/// Writes a plan. `false`: the schedule has changed since it was read, or the worker is lost, and
/// nothing is written.
pub(crate) async fn plan(
    pool: &Pool,
    worker_id: Uuid,
    standing: &Standing,
    plan: &Plan,
) -> Result<bool, sqlx::Error> {
    let (missed_from, missed_before) = plan.missed.unzip();
    let (keys, times): (Vec<_>, Vec<_>) =
        plan.firings.iter().map(|firing| (firing.key.clone(), firing.at)).unzip();
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select from amends.worker where worker_id = $11 for key share
        ), changed as (
            update amends.schedule
            set revision = revision + 1, decided_until = $6, next_at = $3, derived_next_at = $3,
                zones = $12, missed_from = coalesce($4, missed_from),
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
        standing.name,
        standing.revision,
        plan.next_at,
        missed_from,
        missed_before.flatten(),
        plan.decided_until,
        &keys,
        &times,
        plan.skipped.as_ref().map(|skipped| &*skipped.code),
        plan.skipped.as_ref().map(|skipped| skipped.message.as_str()),
        worker_id,
        ZONES,
    )
    .fetch_one(pool)
    .await
}

/// Records what has become of a planned firing. `false`: the schedule has changed since it was
/// read, or the worker is lost, and nothing is written.
pub(crate) async fn settle(
    pool: &Pool,
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
