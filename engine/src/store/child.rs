//! What passes between an instance and its children.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::mail::{Kind, Letter, send};
use crate::error::Error;
use crate::record::{ChildEnded, Ended, Parent, Started};
use crate::status::Status;
use crate::store::Pool;

/// Children that have ended and whose parents have not been told, from the one after this id on.
pub(crate) async fn untold(pool: &Pool, after: Uuid, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select instance_id from amends.instance
         where parent_id is not null and ended_at is not null and not parent_told
           and instance_id > $1
         order by instance_id
         limit $2",
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Tells the parent of a child how the child has ended, once per end. A parent that has ended is
/// not interested.
pub(crate) async fn tell_parent(
    connection: &mut PgConnection,
    child_id: Uuid,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let parent_id = sqlx::query_scalar!(
        "select parent_id from amends.instance where instance_id = $1",
        child_id
    )
    .fetch_one(&mut *connection)
    .await?;
    let Some(parent_id) = parent_id else {
        return Ok(());
    };
    // The parent first: whoever locks both locks them in this order.
    let parent = sqlx::query_scalar!(
        "select status from amends.instance where instance_id = $1 for update",
        parent_id,
    )
    .fetch_one(&mut *connection)
    .await?;
    let told = sqlx::query!(
        "update amends.instance set parent_told = true
         where instance_id = $1 and ended_at is not null and not parent_told
         returning status",
        child_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if told.is_none() || parent.parse::<Status>()?.is_terminal() {
        return Ok(());
    }
    let (parent, ended, seq) = last_words(connection, child_id).await?;
    let said = ChildEnded {
        instance_id: child_id,
        status: ended.status,
        output: ended.output,
        failure: ended.failure,
        parked: false,
    };
    let body = serde_json::to_string(&said).map_err(|error| Error::Stored(error.to_string()))?;
    let letter = Letter {
        kind: Kind::Child,
        name: &parent.key,
        body: &body,
        actor: "child",
        mail_id: Some(&format!("{child_id}#{seq}")),
        refused: None,
        sent_at: at,
    };
    Ok(send(connection, parent_id, &letter).await?)
}

/// What a child's history begins and ends with.
async fn last_words(
    connection: &mut PgConnection,
    child_id: Uuid,
) -> Result<(Parent, Ended, i32), Error> {
    let row = sqlx::query!(
        r#"
        select first.payload::text as "started!", last.payload::text as "ended!", last.seq
        from amends.record first, lateral (
            select r.payload, r.seq from amends.record r
            where r.instance_id = first.instance_id and r.kind = 'ended'
            order by r.seq desc limit 1
        ) last
        where first.instance_id = $1 and first.seq = 0
        "#,
        child_id,
    )
    .fetch_one(connection)
    .await?;
    let stored = |error: serde_json::Error| Error::Stored(error.to_string());
    let started: Started = serde_json::from_str(&row.started).map_err(stored)?;
    let ended = serde_json::from_str(&row.ended).map_err(stored)?;
    let parent = started.parent.ok_or_else(|| Error::Stored("a child without a parent".into()))?;
    Ok((parent, ended, row.seq))
}

/// Where an instance stands.
pub(crate) async fn status(pool: &Pool, instance_id: Uuid) -> Result<Option<Status>, Error> {
    let status = sqlx::query_scalar!(
        "select status from amends.instance where instance_id = $1",
        instance_id
    )
    .fetch_optional(pool)
    .await?;
    Ok(status.map(|status| status.parse()).transpose()?)
}
