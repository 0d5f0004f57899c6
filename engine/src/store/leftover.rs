//! Events of subscriptions that no worker has: they are taken out of the outbox, where every relay
//! would walk them, and put back when somebody has their subscription again.
//!
//! What moves or drops rows has locked the row of the subscription and asked afterwards, in
//! another statement, whether a worker has it. A worker registers before it puts rows back. So what
//! is put back stays, and nothing new is delivered before it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;
use crate::leftover::{Leftover, SubscriptionAnswer, SubscriptionCommandView};
use crate::limits;
use crate::store::Pool;

/// Puts everything back into the outbox that waits for these subscriptions, each event under its
/// old number.
pub(crate) async fn put_back(pool: &Pool, subscriptions: &[String]) -> Result<(), sqlx::Error> {
    loop {
        let found = sqlx::query_scalar!(
            r#"
            with batch as materialized (
                select outbox_id from amends.leftover
                where subscription = any($1)
                order by outbox_id
                limit $2
            ), gone as (
                delete from amends.leftover
                where outbox_id in (select outbox_id from batch)
                returning outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal
            ), back as (
                insert into amends.outbox
                    (outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal)
                overriding system value
                select outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal
                from gone
            )
            select count(*) as "found!" from batch
            "#,
            subscriptions,
            limits::LEFTOVER_BATCH,
        )
        .fetch_one(pool)
        .await?;
        if found == 0 {
            return Ok(());
        }
    }
}

/// Says of every subscription that no worker has since when that is so, and names those that have
/// been gone for so long that their events are to be taken out of the outbox.
///
/// What a worker of an earlier release has is not known: while one delivers, nothing is gone.
pub(crate) async fn gone_before(
    pool: &Pool,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with gone as materialized (
            select s.name, s.gone_since
            from amends.subscription s
            where not exists (
                select from amends.worker w
                where w.relays and (w.subscriptions is null or s.name = any(w.subscriptions))
            )
        ), noted as (
            update amends.subscription s set gone_since = $2
            from gone
            where s.name = gone.name and s.gone_since is null
        ), back as (
            update amends.subscription set gone_since = null
            where gone_since is not null and name not in (select name from gone)
        )
        select name from gone where gone_since <= $1 order by name
        "#,
        before,
        now,
    )
    .fetch_all(pool)
    .await
}

/// Locks a subscription that no worker has. `false`: one has it, or nobody has ever had it.
async fn lock_gone(connection: &mut PgConnection, subscription: &str) -> Result<bool, sqlx::Error> {
    let known = sqlx::query_scalar!(
        "select name from amends.subscription where name = $1 for update",
        subscription,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if known.is_none() {
        return Ok(false);
    }
    sqlx::query_scalar!(
        r#"
        select not exists (
            select from amends.worker w
            where w.relays and (w.subscriptions is null or $1 = any(w.subscriptions))
        ) as "gone!"
        "#,
        subscription,
    )
    .fetch_one(connection)
    .await
}

/// Takes rows of a subscription that no worker has out of the outbox, after row `from`. Returns the
/// last one, and how many they are.
pub(crate) async fn lay_aside(
    connection: &mut PgConnection,
    subscription: &str,
    from: i64,
) -> Result<(i64, i64), Error> {
    if !lock_gone(connection, subscription).await? {
        return Ok((from, 0));
    }
    let moved = sqlx::query!(
        r#"
        with gone as (
            delete from amends.outbox
            where outbox_id in (
                select outbox_id from amends.outbox
                where subscription = $1 and outbox_id > $2
                order by outbox_id
                limit $3
            )
            returning outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal
        ), kept as (
            insert into amends.leftover
                (outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal)
            select outbox_id, subscription, shard, workflow, key, instance_id, seq, ordinal
            from gone
        )
        select coalesce(max(outbox_id), $2) as "last!", count(*) as "moved!" from gone
        "#,
        subscription,
        from,
        limits::LEFTOVER_BATCH,
    )
    .fetch_one(connection)
    .await?;
    Ok((moved.last, moved.moved))
}

/// Subscriptions that no worker has and whose events wait, by name.
pub(crate) async fn leftovers(pool: &Pool) -> Result<Vec<Leftover>, sqlx::Error> {
    sqlx::query_as!(
        Leftover,
        r#"
        select s.name as "subscription!", s.gone_since as "gone_since!", waiting.events as "events!",
               coalesce(
                   (select r.at from amends.record r
                    where r.instance_id = waiting.instance_id and r.seq = waiting.seq),
                   (select c.opened_at from amends.intake_case c
                    where c.case_id = waiting.instance_id)
               ) as oldest
        from amends.subscription s
        cross join lateral (
            select count(*) as events,
                   (array_agg(e.instance_id order by e.outbox_id))[1] as instance_id,
                   (array_agg(e.seq order by e.outbox_id))[1] as seq
            from (
                select outbox_id, instance_id, seq from amends.leftover
                where subscription = s.name
                union all
                select outbox_id, instance_id, seq from amends.outbox
                where subscription = s.name
            ) e
        ) waiting
        where s.gone_since is not null and waiting.events > 0
        order by s.name
        "#,
    )
    .fetch_all(pool)
    .await
}

/// How many events wait for subscriptions that no worker has.
pub(crate) async fn count(pool: &Pool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select count(*) as "events!" from amends.leftover"#)
        .fetch_one(pool)
        .await
}

/// A command that a person gives to a subscription that no worker has.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) command_id: Uuid,
    pub(crate) subscription: String,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) now: DateTime<Utc>,
}

/// Drops everything that waits for a subscription, if no worker has it, and keeps the command with
/// its answer for ever. `None`: nothing waits for it.
pub(crate) async fn drop_events(
    connection: &mut PgConnection,
    given: Given,
) -> Result<Option<SubscriptionAnswer>, Error> {
    let subscription = given.subscription.as_str();
    let answer = if lock_gone(connection, subscription).await? {
        let events = delete_all(connection, subscription).await?;
        SubscriptionAnswer::Dropped { events }
    } else {
        SubscriptionAnswer::InUse
    };
    match answer {
        SubscriptionAnswer::Dropped { events: 0 } => return Ok(None),
        SubscriptionAnswer::InUse if !is_known(connection, subscription).await? => {
            return Ok(None);
        }
        _ => {}
    }
    let events = match answer {
        SubscriptionAnswer::Dropped { events } => events,
        SubscriptionAnswer::InUse => 0,
    };
    sqlx::query!(
        "insert into amends.subscription_command
             (command_id, subscription, command, actor, reason, answer, events, given_at)
         values ($1, $2, 'drop', $3, $4, $5, $6, $7)",
        given.command_id,
        subscription,
        given.actor,
        given.reason,
        answer.as_str(),
        events.cast_signed(),
        given.now,
    )
    .execute(connection)
    .await?;
    Ok(Some(answer))
}

async fn is_known(connection: &mut PgConnection, subscription: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from amends.subscription where name = $1) as "known!""#,
        subscription,
    )
    .fetch_one(connection)
    .await
}

/// Deletes all rows of a subscription, and what is kept of its blocked keys.
async fn delete_all(connection: &mut PgConnection, subscription: &str) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query_scalar!(
        r#"
        with aside as (
            delete from amends.leftover where subscription = $1 returning outbox_id
        ), waiting as (
            delete from amends.outbox where subscription = $1 returning outbox_id
        ), block as (
            delete from amends.key_block where subscription = $1
        )
        select (select count(*) from aside) + (select count(*) from waiting) as "deleted!"
        "#,
        subscription,
    )
    .fetch_one(connection)
    .await?;
    Ok(deleted.cast_unsigned())
}

/// What people asked of such subscriptions last, newest first.
pub(crate) async fn commands(
    pool: &Pool,
    limit: u32,
) -> Result<Vec<SubscriptionCommandView>, sqlx::Error> {
    sqlx::query_as!(
        SubscriptionCommandView,
        "select subscription, command, actor, reason, answer, events, given_at
         from amends.subscription_command
         order by given_at desc, command_id desc limit $1",
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
}
