//! The outbox: what waits to be delivered, who delivers it, and what is blocked.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::blocked::{AtHead, BlockedKey, KeyAnswer, KeyCommand, KeyCommandView};
use crate::lanes::{Blocked, Failures, Lane};
use crate::store::Pool;

/// An event on its way to one subscription.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) outbox_id: i64,
    pub(crate) subscription: String,
    pub(crate) workflow: String,
    pub(crate) key: String,
    pub(crate) instance_id: Uuid,
    pub(crate) ordinal: i16,
    pub(crate) at: DateTime<Utc>,
    /// All events of the record; `ordinal` says which.
    pub(crate) events: String,
}

/// Reads waiting rows of `shards` after `from`, in order.
pub(crate) async fn scan(
    pool: &Pool,
    shards: &[i16],
    subscriptions: &[String],
    from: i64,
    limit: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select o.outbox_id, o.subscription, o.workflow, o.key, o.instance_id, o.ordinal,
               coalesce(r.at, (select c.opened_at from amends.intake_case c
                               where c.case_id = o.instance_id)) as "at!",
               coalesce(r.events, (select c.events from amends.intake_case c
                                   where c.case_id = o.instance_id))::text as "events!"
        from (
            select outbox_id, subscription, workflow, key, instance_id, seq, ordinal
            from amends.outbox
            where outbox_id > $3 and shard = any($1) and subscription = any($2)
            order by outbox_id
            limit $4
        ) o
        left join amends.record r on r.instance_id = o.instance_id and r.seq = o.seq
        where r.events is not null
           -- Only of a case there is no record, so only then is one looked for.
           or exists (select from amends.intake_case c where c.case_id = o.instance_id)
        order by o.outbox_id
        "#,
        shards,
        subscriptions,
        from,
        limit as i64,
    )
    .fetch_all(pool)
    .await
}

/// Forgets delivered rows, if the worker is still one. `false`: it is not.
pub(crate) async fn delete(
    pool: &Pool,
    worker_id: Uuid,
    delivered: &[i64],
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with fence as materialized (
            select worker_id from amends.worker where worker_id = $1 for key share
        ), gone as (
            delete from amends.outbox
            where outbox_id = any($2) and exists (select from fence)
        )
        select exists (select from fence) as "fenced_in!"
        "#,
        worker_id,
        delivered,
    )
    .fetch_one(pool)
    .await
}

/// Takes free shards up to this worker's fair share, gives back what is beyond it, and returns
/// what it holds.
pub(crate) async fn balance_shards(
    pool: &Pool,
    worker_id: Uuid,
    give_back: &[i16],
) -> Result<Shards, sqlx::Error> {
    if !give_back.is_empty() {
        sqlx::query!(
            "update amends.outbox_shard set worker_id = null
             where shard = any($1) and worker_id = $2",
            give_back,
            worker_id,
        )
        .execute(pool)
        .await?;
    }
    let row = sqlx::query!(
        r#"
        with fence as materialized (
            select worker_id from amends.worker where worker_id = $1 for key share
        ), share as (
            select ceil((select count(*) from amends.outbox_shard)::numeric
                        / greatest(count(*), 1))::int as fair
            from amends.worker where relays and draining_since is null
        ), held as (
            select shard from amends.outbox_shard where worker_id = $1
        ), free as materialized (
            select s.shard
            from amends.outbox_shard s cross join fence
            where s.worker_id is null
            order by s.shard
            limit greatest((select fair from share) - (select count(*) from held), 0)
            for update of s skip locked
        ), taken as (
            update amends.outbox_shard s set worker_id = $1 from free where s.shard = free.shard
            returning s.shard
        )
        select array(select shard from held union select shard from taken) as "held!: Vec<i16>",
               (select fair from share) as "fair!"
        "#,
        worker_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(Shards { held: row.held, fair: row.fair.max(0) as usize })
}

/// The shards of a worker.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    pub(crate) held: Vec<i16>,
    /// How many it ought to hold.
    pub(crate) fair: usize,
}

/// Every blocked key.
pub(crate) async fn blocks(pool: &Pool) -> Result<Vec<(Lane, Blocked)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select subscription, key, attempts, refusals, commands,
               case when parked_at is null then blocked_until end as until,
               case when is_skipped then outbox_id end as skipped
        from amends.key_block
        "#,
    )
    .fetch_all(pool)
    .await?;
    let read = rows.into_iter().map(|row| {
        let (attempts, refusals) = (row.attempts.cast_unsigned(), row.refusals.cast_unsigned());
        let failures = Failures { attempts, refusals };
        let (until, skipped, heard) = (row.until, row.skipped, row.commands);
        let lane = Lane { subscription: row.subscription, key: row.key };
        (lane, Blocked { failures, until, skipped, heard })
    });
    Ok(read.collect())
}

/// What people have asked of a blocked key.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) lane: Lane,
    /// How many commands there have been.
    pub(crate) commands: i32,
    /// The row that is not to be delivered.
    pub(crate) skipped: Option<i64>,
}

/// What people have asked that no relay has heard.
pub(crate) async fn commanded(pool: &Pool) -> Result<Vec<Asked>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select subscription, key, commands, case when is_skipped then outbox_id end as skipped
        from amends.key_block
        where commands > heard
        "#,
    )
    .fetch_all(pool)
    .await?;
    let read = rows.into_iter().map(|row| Asked {
        lane: Lane { subscription: row.subscription, key: row.key },
        commands: row.commands,
        skipped: row.skipped,
    });
    Ok(read.collect())
}

/// The row at the head of a key, which could not be delivered.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) outbox_id: i64,
    pub(crate) event_id: String,
    pub(crate) instance_id: Uuid,
    /// Why, for a person.
    pub(crate) error: String,
}

/// Keeps that a key is blocked, or is so for longer, if the worker is still one.
pub(crate) async fn block(
    pool: &Pool,
    worker_id: Uuid,
    (lane, head): (&Lane, &Head),
    blocked: &Blocked,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into amends.key_block as b
            (subscription, key, outbox_id, event_id, instance_id, error, attempts, refusals, since,
             blocked_until, parked_at, heard)
        select $2, $3, $4, $5, $6, $7, $8, $9, $10::timestamptz,
               coalesce($11, $10::timestamptz),
               case when $11::timestamptz is null then $10::timestamptz end, $12
        from amends.worker where worker_id = $1 for key share
        on conflict (subscription, key) do update
        set outbox_id = excluded.outbox_id, event_id = excluded.event_id,
            instance_id = excluded.instance_id, error = excluded.error,
            attempts = excluded.attempts, refusals = excluded.refusals,
            since = case when b.outbox_id = excluded.outbox_id then b.since else excluded.since end,
            blocked_until = excluded.blocked_until, parked_at = excluded.parked_at,
            heard = excluded.heard,
            is_skipped = b.is_skipped and b.outbox_id = excluded.outbox_id
        "#,
        worker_id,
        lane.subscription,
        lane.key,
        head.outbox_id,
        head.event_id,
        head.instance_id,
        head.error,
        blocked.failures.attempts.cast_signed(),
        blocked.failures.refusals.cast_signed(),
        now,
        blocked.until,
        blocked.heard,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets that a key was blocked.
pub(crate) async fn unblock(pool: &Pool, lane: &Lane) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from amends.key_block where subscription = $1 and key = $2",
        lane.subscription,
        lane.key,
    )
    .execute(pool)
    .await?;
    Ok(())
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
