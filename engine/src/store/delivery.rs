//! Deliveries as people look at them, and what became of them later.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Pool, intake_case};
use crate::delivery::{
    Conclusion, Delivery, DeliveryFilter, DeliveryOutcome, DeliveryView, LatestNews,
};
use crate::error::Error;
use crate::worker::new_id;

/// What became of a delivery after it was received.
#[derive(Debug, Clone)]
pub(crate) struct NewOutcome {
    pub(crate) delivery_id: Uuid,
    pub(crate) conclusion: Conclusion,
    pub(crate) actor: String,
    pub(crate) note: String,
    pub(crate) at: DateTime<Utc>,
}

/// Adds what became of a delivery, and settles its cases, unless it failed again.
pub(crate) async fn conclude(connection: &mut PgConnection, new: &NewOutcome) -> Result<(), Error> {
    append(connection, new).await?;
    if new.conclusion.outcome != DeliveryOutcome::Failed {
        intake_case::settle_of_delivery(connection, new).await?;
    }
    Ok(())
}

/// Adds what became of a delivery.
pub(crate) async fn append(connection: &mut PgConnection, new: &NewOutcome) -> Result<(), Error> {
    let Conclusion { outcome, reason, instance_id, as_of } = &new.conclusion;
    sqlx::query!(
        "insert into amends.delivery_outcome
             (outcome_id, delivery_id, outcome, reason, instance_id, as_of, actor, note, decided_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new_id(),
        new.delivery_id,
        outcome.as_str(),
        reason.as_deref() as _,
        *instance_id as _,
        *as_of as _,
        new.actor,
        new.note,
        new.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of a delivery, with what became of it last.
struct Row {
    delivery_id: Uuid,
    source: String,
    external_id: String,
    business_key: Option<String>,
    outcome: String,
    reason: Option<String>,
    instance_id: Option<Uuid>,
    received_at: DateTime<Utc>,
    body_bytes: i64,
    decided_by: Option<String>,
    note: Option<String>,
    decided_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for DeliveryView {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let Row { delivery_id, source, external_id, business_key, outcome, reason, .. } = row;
        let Row { instance_id, received_at, body_bytes, decided_by, note, decided_at, .. } = row;
        let outcome = outcome.parse()?;
        Ok(Self {
            delivery_id,
            source,
            external_id,
            business_key,
            outcome,
            reason,
            instance_id,
            received_at,
            body_bytes,
            decided_by,
            note,
            decided_at,
        })
    }
}

/// Lists deliveries, newest first. Each way to look has an index to walk backwards, so that a page
/// costs what is on it.
pub(crate) async fn list(pool: &Pool, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, Error> {
    let limit = i64::from(filter.limit.clamp(1, 200));
    let found = match (&filter.about, filter.outcome) {
        (Some((workflow, key)), _) => about(pool, workflow, key).await?,
        (None, Some(outcome)) => with_outcome(pool, outcome, filter.before, limit).await?,
        (None, None) => newest(pool, filter.before, limit).await?,
    };
    let views = views(pool, &found).await?.into_iter();
    Ok(views
        .filter(|view| filter.outcome.is_none_or(|outcome| view.outcome == outcome))
        .filter(|view| filter.before.is_none_or(|before| view.delivery_id < before))
        .take(filter.limit as usize)
        .collect())
}

/// One delivery, with its body.
pub(crate) async fn show(
    pool: &Pool,
    delivery_id: Uuid,
) -> Result<Option<(DeliveryView, Vec<u8>)>, Error> {
    let Some(view) = views(pool, &[delivery_id]).await?.pop() else {
        return Ok(None);
    };
    let body = sqlx::query_scalar!(
        "select body from amends.delivery where delivery_id = $1",
        delivery_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(Some((view, body)))
}

/// The delivery of this name.
pub(crate) async fn of(
    pool: &Pool,
    source: &str,
    external_id: &str,
) -> Result<Option<DeliveryView>, Error> {
    let found = sqlx::query_scalar!(
        "select delivery_id from amends.delivery where source = $1 and external_id = $2",
        source,
        external_id,
    )
    .fetch_optional(pool)
    .await?;
    match found {
        Some(delivery_id) => Ok(views(pool, &[delivery_id]).await?.pop()),
        None => Ok(None),
    }
}

/// What was said of an instance as of the latest time, but for what one delivery said.
pub(crate) async fn latest_news(
    pool: &Pool,
    instance_id: Uuid,
    but: Uuid,
) -> Result<Option<LatestNews>, Error> {
    let latest = sqlx::query!(
        r#"
        select o.as_of as "as_of!", d.source, d.external_id, d.body, d.received_at
        from amends.delivery_outcome o
        join amends.delivery d on d.delivery_id = o.delivery_id
        where o.instance_id = $1 and o.as_of is not null and o.delivery_id <> $2
        order by o.as_of desc
        limit 1
        "#,
        instance_id,
        but,
    )
    .fetch_optional(pool)
    .await?;
    Ok(latest.map(|it| LatestNews {
        as_of: it.as_of,
        delivery: Delivery { source: it.source, external_id: it.external_id, body: it.body },
        received_at: it.received_at,
    }))
}

async fn newest(pool: &Pool, before: Option<Uuid>, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select delivery_id from amends.delivery
         where delivery_id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
         order by delivery_id desc
         limit $2",
        before as _,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// What something came to when it was received, and what became of it later.
async fn with_outcome(
    pool: &Pool,
    outcome: DeliveryOutcome,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        (select d.delivery_id as "delivery_id!" from amends.delivery d
         where d.outcome = $1
           and d.delivery_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
           and not exists (select from amends.delivery_outcome o
                           where o.delivery_id = d.delivery_id)
         order by d.delivery_id desc limit $3)
        union
        (select o.delivery_id from amends.delivery_outcome o
         where o.outcome = $1
           and o.delivery_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
           and not exists (select from amends.delivery_outcome later
                           where later.delivery_id = o.delivery_id
                             and later.outcome_id > o.outcome_id)
         order by o.delivery_id desc limit $3)
        "#,
        outcome.as_str(),
        before as _,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// What started an instance, and what came beside it.
async fn about(pool: &Pool, workflow: &str, key: &str) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select d.delivery_id as "delivery_id!" from amends.instance i
        join amends.delivery d on d.delivery_id = i.instance_id
        where i.workflow = $1 and i.business_key = $2
        union
        select delivery_id from amends.delivery where business_key = $2 and outcome is not null
        "#,
        workflow,
        key,
    )
    .fetch_all(pool)
    .await
}

/// These deliveries with what became of them, newest first: that it has started the instance of its
/// id, else what was added last, else what it came to when it was received, else that its instance
/// was there before.
async fn views(pool: &Pool, found: &[Uuid]) -> Result<Vec<DeliveryView>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select d.delivery_id, d.source, d.external_id,
               coalesce(d.business_key, i.business_key) as "business_key?",
               coalesce(case when i.instance_id is not null then 'started' end,
                        o.outcome,
                        d.outcome,
                        case when d.workflow is null then 'ignored' else 'duplicate' end)
                   as "outcome!",
               case when i.instance_id is not null then null
                    when o.outcome is not null then o.reason
                    else d.reason end as "reason?",
               coalesce(i.instance_id, o.instance_id) as "instance_id?",
               d.received_at, length(d.body)::bigint as "body_bytes!",
               o.actor as "decided_by?", o.note as "note?", o.decided_at as "decided_at?"
        from unnest($1::uuid[]) as f(delivery_id)
        join amends.delivery d on d.delivery_id = f.delivery_id
        left join amends.instance i on i.instance_id = d.delivery_id
        left join lateral (
            select o.outcome, o.reason, o.instance_id, o.actor, o.note, o.decided_at
            from amends.delivery_outcome o
            where o.delivery_id = d.delivery_id
            order by o.outcome_id desc
            limit 1
        ) o on true
        order by d.delivery_id desc
        "#,
        found,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(DeliveryView::try_from).collect()
}
