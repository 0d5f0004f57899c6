//! Commands that people give to schedules.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::error::Error;
use crate::schedule::{ScheduleAnswer, ScheduleCommand, Seen, Timetable, judge};

/// A command given by a person.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) command_id: Uuid,
    pub(crate) schedule: &'a str,
    pub(crate) command: ScheduleCommand,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    /// Only if the clock is moved by hand.
    pub(crate) now: Option<DateTime<Utc>>,
}

/// Whether a command is carried out, or only tried to see what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    CarryOut,
    Try,
}

/// A schedule whose row is locked.
struct Locked {
    timetable: Timetable,
    seen: Seen,
    revision: i64,
}

/// Judges a command under the lock of its schedule, carries it out, and keeps it, with its answer,
/// for ever. `None`: there is no such schedule.
#[expect(clippy::disallowed_methods, reason = "on a connection of its own")]
pub(crate) async fn give_command(
    connection: &mut PgConnection,
    given: Given<'_>,
    intent: Intent,
) -> Result<Option<ScheduleAnswer>, Error> {
    let mut transaction = connection.begin().await?;
    let Some(locked) = lock(&mut transaction, given).await? else {
        return Ok(None);
    };
    let answer = match judge(given.command, locked.seen, &locked.timetable) {
        Err(refusal) => refusal,
        Ok(firings) => {
            let planned = plan(&mut transaction, given, &locked, &firings).await?;
            let is_change = match given.command {
                ScheduleCommand::Pause | ScheduleCommand::Resume => true,
                ScheduleCommand::Trigger | ScheduleCommand::Backfill(_) => planned > 0,
            };
            if is_change {
                change(&mut transaction, given, locked.seen.now).await?;
            }
            match given.command {
                ScheduleCommand::Trigger if planned == 0 => ScheduleAnswer::AlreadyFired,
                _ => ScheduleAnswer::Accepted { planned, already: firings.len() - planned },
            }
        }
    };
    if intent == Intent::CarryOut {
        keep(&mut transaction, given, answer, locked.seen.now).await?;
        transaction.commit().await?;
    }
    Ok(Some(answer))
}

async fn lock(connection: &mut PgConnection, given: Given<'_>) -> Result<Option<Locked>, Error> {
    let row = sqlx::query!(
        "select cron, zone, revision from amends.schedule where name = $1 for update",
        given.schedule,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    // A statement of its own, which sees what was written while the lock was waited for.
    let seen = sqlx::query!(
        r#"
        select s.paused_at is not null as "is_paused!", clock.present as "now!",
               exists (
                   select from amends.worker w
                   where w.lease_until > clock.present and s.definition = any(w.schedules)
               ) as "is_defined!",
               s.overlap = 'skip' and (exists (
                   select from amends.instance i
                   where i.instance_id = s.last_instance_id and i.ended_at is null
               ) or exists (
                   select from amends.firing f where f.schedule = s.name and f.state = 'planned'
               )) as "would_overlap!"
        from amends.schedule s,
             (select coalesce($2::timestamptz, clock_timestamp()) as present) clock
        where s.name = $1
        "#,
        given.schedule,
        given.now,
    )
    .fetch_one(connection)
    .await?;
    let seen = Seen {
        is_paused: seen.is_paused,
        is_defined: seen.is_defined,
        would_overlap: seen.would_overlap,
        now: seen.now,
    };
    let timetable = Timetable::parse(&row.cron, &row.zone).map_err(Error::Stored)?;
    Ok(Some(Locked { timetable, seen, revision: row.revision }))
}

/// Plans firings, except those that have fired or will anyway. Returns how many it planned.
async fn plan(
    connection: &mut PgConnection,
    given: Given<'_>,
    locked: &Locked,
    firings: &[DateTime<Utc>],
) -> Result<usize, sqlx::Error> {
    let keys: Vec<_> = firings.iter().map(|at| locked.timetable.key(*at)).collect();
    let planned = sqlx::query!(
        "insert into amends.firing as known
             (schedule, fire_key, fire_at, kind, command_id, state, turn, planned_at)
         select $1, asked.fire_key, asked.fire_at, $2, $3, 'planned', $4, $5
         from unnest($6::text[], $7::timestamptz[]) as asked (fire_key, fire_at)
         on conflict (schedule, fire_key) do update
         set kind = excluded.kind, command_id = excluded.command_id, state = excluded.state,
             code = null, message = null, turn = excluded.turn, planned_at = excluded.planned_at,
             settled_at = null
         where known.state in ('skipped', 'refused')",
        given.schedule,
        given.command.as_str(),
        given.command_id,
        locked.revision + 1,
        locked.seen.now,
        &keys,
        firings,
    )
    .execute(connection)
    .await?;
    Ok(planned.rows_affected() as usize)
}

/// Changes the row of a schedule as a command wants it.
async fn change(
    connection: &mut PgConnection,
    given: Given<'_>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update amends.schedule
         set revision = revision + 1,
             paused_at = case $2 when 'pause' then $3 when 'resume' then null else paused_at end,
             paused_by = case $2 when 'pause' then $4 when 'resume' then null else paused_by end,
             paused_reason =
                 case $2 when 'pause' then $5 when 'resume' then null else paused_reason end
         where name = $1",
        given.schedule,
        given.command.as_str(),
        now,
        given.actor,
        given.reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn keep(
    connection: &mut PgConnection,
    given: Given<'_>,
    answer: ScheduleAnswer,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let span = match given.command {
        ScheduleCommand::Backfill(span) => Some((span.from, span.until)),
        _ => None,
    };
    let (from, until) = span.unzip();
    sqlx::query!(
        "insert into amends.schedule_command
             (command_id, schedule, command, backfill_from, backfill_until, actor, reason, answer,
              given_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        given.command_id,
        given.schedule,
        given.command.as_str(),
        from,
        until,
        given.actor,
        given.reason,
        answer.as_str(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}
