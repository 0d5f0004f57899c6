//! The outbox: what waits to be delivered, and who delivers it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::limits;
use crate::store::Pool;

/// An event on its way to one subscription.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) outbox_id: i64,
    pub(crate) shard: i16,
    pub(crate) workflow: String,
    pub(crate) key: String,
    pub(crate) instance_id: Uuid,
    pub(crate) ordinal: i16,
    pub(crate) at: DateTime<Utc>,
    /// All events of the record; `ordinal` says which.
    pub(crate) events: String,
}

/// A part of the outbox, read from one row on.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// Up to which row it goes; none if there was none.
    pub(crate) last: Option<i64>,
    /// Whether there may be more behind it.
    pub(crate) is_full: bool,
}

/// Where a page begins, and how much of it is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: i64,
    /// Rows of keys whose block is [over](super::key_block::release) by then are wanted as well.
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) rows_max: usize,
}

/// Reads a page of the outbox, in order: what waits in `shards` for `subscription`, and is not
/// blocked.
#[expect(clippy::too_many_lines, reason = "one line per column of one statement")]
pub(crate) async fn scan(
    pool: &Pool,
    shards: &[i16],
    subscription: &str,
    span: Span,
) -> Result<Page, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        with page as materialized (
            select outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal
            from amends.outbox
            where outbox_id > $3
            order by outbox_id
            limit $4
        ), found as materialized (
            select p.outbox_id, p.shard, p.workflow, p.key, p.instance_id, p.seq, p.ordinal
            from page p
            where p.shard = any($1) and p.subscription = $2
              -- By its index for each row, however many are blocked.
              and (
                  select true from amends.key_block b
                  where b.subscription = p.subscription and b.key = p.key
                    and ($5::timestamptz is null or b.outbox_id is not null
                         or b.parked_at is not null or b.blocked_until > $5)
                  limit 1
              ) is null
            order by p.outbox_id
            limit $6
        ), extent as materialized (
            select case when found.rows = $6 then found.last else page.last end as last,
                   found.rows = $6 or page.rows = $4 as is_full
            from (select count(*) as rows, max(outbox_id) as last from page) page,
                 (select count(*) as rows, max(outbox_id) as last from found) found
        ), event as (
            select f.outbox_id, f.shard, f.workflow, f.key, f.instance_id, f.ordinal,
                   coalesce(r.at, (select c.opened_at from amends.intake_case c
                                   where c.case_id = f.instance_id)) as at,
                   coalesce(r.events, (select c.events from amends.intake_case c
                                       where c.case_id = f.instance_id))::text as events
            from found f
            left join amends.record r on r.instance_id = f.instance_id and r.seq = f.seq
            where r.events is not null
               -- Only of a case there is no record, so only then is one looked for.
               or exists (select from amends.intake_case c where c.case_id = f.instance_id)
        )
        select extent.last, extent.is_full as "is_full!",
               e.outbox_id as "outbox_id?", e.shard as "shard?", e.workflow as "workflow?",
               e.key as "key?", e.instance_id as "instance_id?", e.ordinal as "ordinal?",
               e.at as "at?", e.events as "events?"
        from extent left join event e on true
        order by e.outbox_id
        "#,
        shards,
        subscription,
        span.from,
        limits::PAGE_ROWS_MAX,
        span.until,
        span.rows_max as i64,
    )
    .fetch_all(pool)
    .await?;
    let extent = rows.first().map(|row| (row.last, row.is_full));
    let (last, is_full) = extent.unwrap_or_default();
    let read = rows.into_iter().filter_map(|row| {
        Some(Row {
            outbox_id: row.outbox_id?,
            shard: row.shard?,
            workflow: row.workflow?,
            key: row.key?,
            instance_id: row.instance_id?,
            ordinal: row.ordinal?,
            at: row.at?,
            events: row.events?,
        })
    });
    Ok(Page { rows: read.collect(), last, is_full })
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
