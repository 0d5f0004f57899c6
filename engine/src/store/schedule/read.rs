//! What people read of schedules.

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::limits::SHOWN_MAX;
use crate::priority::Priority;
use crate::schedule::{
    FiringState, FiringView, Missed, Pause, ScheduleCommandView, ScheduleView, Timetable, local,
};
use crate::step::Failure;
use crate::store::Pool;

/// The firings to come that are shown.
const NEXT_SHOWN: usize = 5;

/// All schedules, or the one of this name, by name.
pub(crate) async fn schedules(
    pool: &Pool,
    name: Option<&str>,
    now: Option<DateTime<Utc>>,
) -> Result<Vec<ScheduleView>, Error> {
    let rows = sqlx::query!(
        r#"
        select s.name, s.cron, s.zone, s.workflow, s.gap, s.overlap, s.priority, s.next_at,
               s.paused_at, s.paused_by, s.paused_reason, s.missed_from, s.missed_before, s.last_fired_at,
               s.last_instance_id,
               exists (
                   select from amends.worker w
                   where w.lease_until > coalesce($2::timestamptz, clock_timestamp())
                     and s.definition = any(w.schedules)
               ) as "is_defined!"
        from amends.schedule s
        where $1::text is null or s.name = $1
        order by s.name
        "#,
        name,
        now,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let timetable = Timetable::parse(&row.cron, &row.zone).map_err(Error::Stored)?;
            let pause = row.paused_at.zip(row.paused_by).zip(row.paused_reason);
            let fires = row.is_defined && pause.is_none();
            let next = row.next_at.filter(|_| fires).into_iter().flat_map(|next_at| {
                let following = std::iter::successors(Some(next_at), |at| timetable.after(*at));
                following.take(NEXT_SHOWN).map(|at| timetable.local(at)).collect::<Vec<_>>()
            });
            Ok(ScheduleView {
                next: next.collect(),
                missed: row.missed_from.map(|from| Missed {
                    from: timetable.local(from),
                    before: row.missed_before.map(|before| timetable.local(before)),
                }),
                paused: pause.map(|((at, by), reason)| Pause { at, by, reason }),
                name: row.name,
                cron: row.cron,
                zone: row.zone,
                workflow: row.workflow,
                gap: row.gap,
                overlap: row.overlap,
                priority: Priority::read(row.priority),
                is_defined: row.is_defined,
                last_fired_at: row.last_fired_at,
                last_instance_id: row.last_instance_id,
            })
        })
        .collect()
}

/// The latest firings of a schedule, newest first.
pub(crate) async fn firings(pool: &Pool, name: &str) -> Result<Vec<FiringView>, Error> {
    let rows = sqlx::query!(
        "select fire_key, fire_at, kind, state, instance_id, code, message, settled_at
         from amends.firing where schedule = $1 order by fire_at desc limit $2",
        name,
        SHOWN_MAX,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(FiringView {
                at: local(row.fire_at, &row.fire_key)?,
                kind: row.kind,
                state: FiringState::read(&row.state).ok_or(Error::Stored(row.state))?,
                instance_id: row.instance_id,
                failure: row.code.map(|code| Failure::new(code, row.message.unwrap_or_default())),
                settled_at: row.settled_at,
            })
        })
        .collect()
}

/// What people asked of a schedule last, newest first.
pub(crate) async fn commands(
    pool: &Pool,
    name: &str,
) -> Result<Vec<ScheduleCommandView>, sqlx::Error> {
    let rows = sqlx::query!(
        "select command, backfill_from, backfill_until, actor, reason, answer, given_at
         from amends.schedule_command where schedule = $1
         order by given_at desc, command_id desc limit $2",
        name,
        SHOWN_MAX,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ScheduleCommandView {
            command: row.command,
            span: row.backfill_from.zip(row.backfill_until),
            actor: row.actor,
            reason: row.reason,
            answer: row.answer,
            given_at: row.given_at,
        })
        .collect())
}
