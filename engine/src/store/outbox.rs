//! The outbox: what waits to be delivered, who delivers it, and what is blocked.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

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
    pool: &PgPool,
    shards: &[i16],
    subscriptions: &[String],
    from: i64,
    limit: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select o.outbox_id, o.subscription, o.workflow, o.key, o.instance_id, o.ordinal,
               r.at, r.events::text as "events!"
        from (
            select outbox_id, subscription, workflow, key, instance_id, seq, ordinal
            from amends.outbox
            where outbox_id > $3 and shard = any($1) and subscription = any($2)
            order by outbox_id
            limit $4
        ) o
        join amends.record r on r.instance_id = o.instance_id and r.seq = o.seq
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
    pool: &PgPool,
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
    pool: &PgPool,
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

/// A key whose head could not be delivered.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) subscription: String,
    pub(crate) key: String,
    pub(crate) attempts: i32,
    pub(crate) blocked_until: DateTime<Utc>,
}

/// Every blocked key.
pub(crate) async fn blocks(pool: &PgPool) -> Result<Vec<Block>, sqlx::Error> {
    sqlx::query_as!(
        Block,
        "select subscription, key, attempts, blocked_until from amends.key_block"
    )
    .fetch_all(pool)
    .await
}

/// Blocks a key, or blocks it for longer.
pub(crate) async fn block(pool: &PgPool, block: &Block, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.key_block (subscription, key, attempts, blocked_until, error)
         values ($1, $2, $3, $4, $5)
         on conflict (subscription, key) do update
         set attempts = excluded.attempts, blocked_until = excluded.blocked_until,
             error = excluded.error",
        block.subscription,
        block.key,
        block.attempts,
        block.blocked_until,
        error,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets that a key was blocked.
pub(crate) async fn unblock(
    pool: &PgPool,
    subscription: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from amends.key_block where subscription = $1 and key = $2",
        subscription,
        key,
    )
    .execute(pool)
    .await?;
    Ok(())
}
