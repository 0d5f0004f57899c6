//! Keys that are blocked, and what people ask of them.
//!
//! A key whose head could not be delivered has a block that names the head, and says when it is
//! tried again, or that it waits for a person. Nothing else of the key is read meanwhile. Once the
//! head is taken, the block names none any more: it is over, and is forgotten when everything of its
//! key has been read, from the beginning of the outbox.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::commit::shard;
use super::outbox::Row;
use crate::blocked::{AtHead, BlockedKey, KeyAnswer, KeyCommand, KeyCommandView};
use crate::lanes::{Failures, Known, Retry};
use crate::store::Pool;

/// Heads that are due, and blocks whose head is gone.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) retries: Vec<Retry>,
    pub(crate) headless: Vec<Over>,
}

/// Heads that are to be tried again by now, those that a person has asked for first, and blocks of
/// which nothing is to be tried. What is of other shards is left out.
pub(crate) async fn due(
    pool: &Pool,
    shards: &[i16],
    subscription: &str,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Due, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        with asked as materialized (
            select key, blocked_until from amends.key_block
            where subscription = $1 and commands > heard and (shard = any($2) or shard is null)
            limit $4
        ), run_out as materialized (
            select key, blocked_until from amends.key_block
            where subscription = $1 and parked_at is null and blocked_until <= $3
              and (outbox_id is not null or shard is null)
              and (shard = any($2) or shard is null)
            order by blocked_until
            limit $4
        )
        select b.key, b.attempts, b.refusals, b.commands, b.commands > b.heard as "is_asked!",
               b.is_skipped, b.tried_at, b.outbox_id as head,
               o.outbox_id as "outbox_id?", o.shard as "shard?", o.workflow as "workflow?",
               o.instance_id as "instance_id?", o.ordinal as "ordinal?",
               coalesce(r.at, c.opened_at, $3) as "at!",
               coalesce(r.events, c.events)::text as "events?"
        from (select key, blocked_until from asked union select key, blocked_until from run_out) d
        join amends.key_block b on b.subscription = $1 and b.key = d.key
        left join amends.outbox o on o.outbox_id = b.outbox_id and o.subscription = $1
        left join amends.record r on r.instance_id = o.instance_id and r.seq = o.seq
        left join amends.intake_case c on c.case_id = o.instance_id and r.seq is null
        order by b.commands > b.heard desc, d.blocked_until, b.key
        "#,
        subscription,
        shards,
        now,
        limit as i64,
    )
    .fetch_all(pool)
    .await?;
    let mut due = Due::default();
    for row in rows {
        let of = shard(&row.key);
        if !shards.contains(&of) {
            continue;
        }
        let read = (row.outbox_id, row.workflow, row.instance_id, row.ordinal);
        let (Some(outbox_id), Some(workflow), Some(instance_id), Some(ordinal)) = read else {
            due.headless.push(Over { key: row.key, head: row.head, commands: row.commands });
            continue;
        };
        let refusals = if row.is_asked { 0 } else { row.refusals.cast_unsigned() };
        let failures = Failures { attempts: row.attempts.cast_unsigned(), refusals };
        due.retries.push(Retry {
            known: Known { failures, tried_at: row.tried_at, commands: row.commands },
            is_asked: row.is_asked,
            is_skipped: row.is_skipped,
            row: Row {
                outbox_id,
                shard: of,
                workflow,
                key: row.key,
                instance_id,
                ordinal,
                at: row.at,
                events: row.events.unwrap_or_default(),
            },
        });
    }
    Ok(due)
}

/// The row at the head of a key, which could not be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) outbox_id: i64,
    pub(crate) event_id: String,
    pub(crate) instance_id: Uuid,
}

/// A key that is blocked.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) key: String,
    pub(crate) shard: i16,
    /// None: nothing of the key was tried, and all of it is to be read from the beginning.
    pub(crate) head: Option<Head>,
    /// Why, for a person.
    pub(crate) error: String,
    pub(crate) failures: Failures,
    /// When it is tried again. `None`: when a person says so.
    pub(crate) until: Option<DateTime<Utc>>,
    /// Since when.
    pub(crate) at: DateTime<Utc>,
    /// When the head was tried, by what its feed counts.
    pub(crate) tried_at: Option<DateTime<Utc>>,
    /// How many commands of people are known.
    pub(crate) heard: i32,
}

/// Keeps that keys are blocked, or are so for longer, if the worker is still one. `false`: it is
/// not.
pub(crate) async fn block(
    pool: &Pool,
    worker_id: Uuid,
    subscription: &str,
    blocks: &[Block],
) -> Result<bool, sqlx::Error> {
    let head = |block: &Block| block.head.clone();
    let each = || blocks.iter();
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select worker_id from amends.worker where worker_id = $1 for key share
        ), kept as (
            insert into amends.key_block as b
                (subscription, key, shard, outbox_id, event_id, instance_id, error, attempts,
                 refusals, since, blocked_until, parked_at, heard, tried_at)
            select $2, x.key, x.shard, x.outbox_id, x.event_id, x.instance_id, x.error, x.attempts,
                   x.refusals, x.at, coalesce(x.until, x.at), case when x.until is null then x.at end,
                   x.heard, x.tried_at
            from unnest($3::text[], $4::smallint[], $5::bigint[], $6::text[], $7::uuid[],
                        $8::text[], $9::integer[], $10::integer[], $11::timestamptz[],
                        $12::timestamptz[], $13::timestamptz[], $14::integer[])
                as x(key, shard, outbox_id, event_id, instance_id, error, attempts, refusals, until,
                     at, tried_at, heard)
            where exists (select from fence)
            order by x.key
            on conflict (subscription, key) do update
            set shard = excluded.shard, outbox_id = excluded.outbox_id,
                event_id = excluded.event_id, instance_id = excluded.instance_id,
                error = excluded.error, attempts = excluded.attempts,
                refusals = excluded.refusals,
                since = case when b.outbox_id = excluded.outbox_id then b.since
                             else excluded.since end,
                blocked_until = excluded.blocked_until, parked_at = excluded.parked_at,
                heard = greatest(b.heard, excluded.heard), tried_at = excluded.tried_at,
                is_skipped = coalesce(b.is_skipped and b.outbox_id = excluded.outbox_id, false)
            -- What was not tried says nothing about a head that was.
            where excluded.outbox_id is not null or b.outbox_id is null
        )
        select exists (select from fence) as "fenced_in!"
        "#,
        worker_id,
        subscription,
        &each().map(|it| it.key.clone()).collect::<Vec<_>>(),
        &each().map(|it| it.shard).collect::<Vec<_>>(),
        &each().map(|it| head(it).map(|it| it.outbox_id)).collect::<Vec<_>>() as _,
        &each().map(|it| head(it).map(|it| it.event_id)).collect::<Vec<_>>() as _,
        &each().map(|it| head(it).map(|it| it.instance_id)).collect::<Vec<_>>() as _,
        &each().map(|it| it.error.clone()).collect::<Vec<_>>(),
        &each().map(|it| it.failures.attempts.cast_signed()).collect::<Vec<_>>(),
        &each().map(|it| it.failures.refusals.cast_signed()).collect::<Vec<_>>(),
        &each().map(|it| it.until).collect::<Vec<_>>() as _,
        &each().map(|it| it.at).collect::<Vec<_>>(),
        &each().map(|it| it.tried_at).collect::<Vec<_>>() as _,
        &each().map(|it| it.heard).collect::<Vec<_>>(),
    )
    .fetch_one(pool)
    .await
}

/// A block whose head is taken, or gone.
#[derive(Debug, Clone)]
pub(crate) struct Over {
    pub(crate) key: String,
    pub(crate) head: Option<i64>,
    /// How many commands of people are known.
    pub(crate) commands: i32,
}

/// Has blocks be over from `at` on: the other rows of their keys are brought by a sweep that is for
/// what is over at that time. A block that is about another head by now, or has a command that its relay does
/// not know, stays as it is. `false`: the worker is none any more.
pub(crate) async fn release(
    pool: &Pool,
    worker_id: Uuid,
    subscription: &str,
    over: &[Over],
    at: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select worker_id from amends.worker where worker_id = $1 for key share
        ), changed as (
            update amends.key_block b
            set shard = x.shard, outbox_id = null, event_id = null, instance_id = null,
                attempts = 0, refusals = 0, since = null, blocked_until = $7, parked_at = null,
                heard = b.commands, tried_at = null, is_skipped = false
            from unnest($3::text[], $4::smallint[], $5::bigint[], $6::integer[])
                as x(key, shard, head, commands)
            where b.subscription = $2 and b.key = x.key
              and b.outbox_id is not distinct from x.head and b.commands = x.commands
              and exists (select from fence)
        )
        select exists (select from fence) as "fenced_in!"
        "#,
        worker_id,
        subscription,
        &over.iter().map(|it| it.key.clone()).collect::<Vec<_>>(),
        &over.iter().map(|it| shard(&it.key)).collect::<Vec<_>>(),
        &over.iter().map(|it| it.head).collect::<Vec<_>>() as _,
        &over.iter().map(|it| it.commands).collect::<Vec<_>>(),
        at,
    )
    .fetch_one(pool)
    .await
}

/// When the last of the blocks began to be over that are so.
pub(crate) async fn latest_over(
    pool: &Pool,
    subscription: &str,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "select max(blocked_until) from amends.key_block
         where subscription = $1 and outbox_id is null and parked_at is null",
        subscription,
    )
    .fetch_one(pool)
    .await
}

/// Forgets blocks of these shards that were over at `until`, everything of whose keys has been read
/// since. What somebody else has locked is left for the next sweep. Returns how many there were, up
/// to a limit, or `None` if the worker is none any more.
pub(crate) async fn unblock(
    pool: &Pool,
    worker_id: Uuid,
    subscription: &str,
    shards: &[i16],
    until: DateTime<Utc>,
    limit: usize,
) -> Result<Option<usize>, sqlx::Error> {
    let gone = sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select worker_id from amends.worker where worker_id = $1 for key share
        ), free as materialized (
            select key from amends.key_block
            where subscription = $2 and outbox_id is null and parked_at is null
              and shard = any($3) and blocked_until <= $4 and commands = heard
              and exists (select from fence)
            limit $5
            for update skip locked
        ), gone as (
            delete from amends.key_block
            where subscription = $2 and key in (select key from free)
              and outbox_id is null and parked_at is null and blocked_until <= $4
              and commands = heard
            returning key
        )
        select case when exists (select from fence) then (select count(*) from gone) end as gone
        "#,
        worker_id,
        subscription,
        shards,
        until,
        limit as i64,
    )
    .fetch_one(pool)
    .await?;
    Ok(gone.map(|gone| gone as usize))
}

/// Keys whose oldest event could not be delivered, those that wait for a person first.
pub(crate) async fn blocked(
    pool: &Pool,
    instance_id: Option<Uuid>,
    limit: u32,
) -> Result<Vec<BlockedKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select subscription, key, event_id as "event_id!", instance_id as "instance_id!", attempts,
               since as "since!", error,
               case when parked_at is null or commands > heard then blocked_until end as next_try_at
        from amends.key_block b
        where exists (select from amends.outbox o where o.outbox_id = b.outbox_id)
          and ($1::uuid is null or instance_id = $1)
        order by parked_at is null, since, subscription, key
        limit $2
        "#,
        instance_id,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await?;
    let read = rows.into_iter().map(|row| BlockedKey {
        subscription: row.subscription,
        key: row.key,
        event_id: row.event_id,
        instance_id: row.instance_id,
        attempts: row.attempts.cast_unsigned(),
        since: row.since,
        error: row.error,
        next_try_at: row.next_try_at,
    });
    Ok(read.collect())
}

/// A command that a person gives to a key.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) command_id: Uuid,
    pub(crate) event: AtHead<'a>,
    pub(crate) command: KeyCommand,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) now: DateTime<Utc>,
}

/// Has a relay do what a person asks, if it is about the event that blocks the key, and keeps the
/// command with its answer for ever. `None`: the key is not blocked.
pub(crate) async fn give_command(
    pool: &Pool,
    given: Given<'_>,
) -> Result<Option<KeyAnswer>, sqlx::Error> {
    let accepted = sqlx::query_scalar!(
        r#"
        with block as materialized (
            select event_id = $4 as accepted from amends.key_block
            where subscription = $2 and key = $3 and event_id is not null
            for update
        ), changed as (
            update amends.key_block
            set blocked_until = $8, parked_at = null, refusals = 0, commands = commands + 1,
                is_skipped = is_skipped or $5 = 'skip'
            where subscription = $2 and key = $3 and (select accepted from block)
        ), kept as (
            insert into amends.key_command
                (command_id, subscription, key, event_id, command, actor, reason, answer, given_at)
            select $1, $2, $3, $4, $5, $6, $7, case when accepted then $9 else $10 end, $8
            from block
        )
        select accepted as "accepted!" from block
        "#,
        given.command_id,
        given.event.subscription,
        given.event.key,
        given.event.event_id,
        given.command.as_str(),
        given.actor,
        given.reason,
        given.now,
        KeyAnswer::Accepted.as_str(),
        KeyAnswer::OtherEvent.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(accepted.map(|it| if it { KeyAnswer::Accepted } else { KeyAnswer::OtherEvent }))
}

/// What people asked of keys last, newest first.
pub(crate) async fn key_commands(
    pool: &Pool,
    instance_id: Option<Uuid>,
    limit: u32,
) -> Result<Vec<KeyCommandView>, sqlx::Error> {
    sqlx::query_as!(
        KeyCommandView,
        "select subscription, key, event_id, command, actor, reason, answer, given_at
         from amends.key_command
         where $1::uuid is null or starts_with(event_id, $1::text || '/')
         order by given_at desc, command_id desc limit $2",
        instance_id,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
}
