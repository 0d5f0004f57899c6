//! Commits that the database had acknowledged and does not have, and who knows of it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Pool;
use super::acknowledged::{Missing, Trace};
use crate::loss::Loss;

/// Writes down that something is missing. Safe to repeat.
pub(crate) async fn note(
    pool: &Pool,
    missing: &Missing,
    found_by: &str,
) -> Result<(), sqlx::Error> {
    let (instance_id, seq) = match &missing.trace {
        Trace::Record { instance_id, seq, .. } => (Some(*instance_id), Some(seq.cast_signed())),
        Trace::Delivery(_) | Trace::Command(_) => (None, None),
    };
    sqlx::query!(
        "insert into amends.commit_loss (loss_id, lost, instance_id, seq, found_by, found_at)
         values ($1, $2, $3, $4, $5, clock_timestamp())
         on conflict (loss_id) do nothing",
        missing.loss_id,
        missing.trace.to_string(),
        instance_id,
        seq,
        found_by,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether a loss waits for a person to acknowledge it.
pub(crate) async fn any_unacknowledged(pool: &Pool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from amends.commit_loss l where not exists (
                   select from amends.loss_acknowledgement a where a.loss_id = l.loss_id)
           ) as "any!""#
    )
    .fetch_one(pool)
    .await
}

/// Losses that wait for a person to acknowledge them, oldest first.
pub(crate) async fn unacknowledged(
    connection: &mut PgConnection,
) -> Result<Vec<Loss>, sqlx::Error> {
    sqlx::query_as!(
        Loss,
        "select loss_id, lost, instance_id, found_by, found_at from amends.commit_loss l
         where not exists (
             select from amends.loss_acknowledgement a where a.loss_id = l.loss_id)
         order by found_at, loss_id"
    )
    .fetch_all(connection)
    .await
}

/// A person acknowledges these losses. Safe to repeat.
pub(crate) async fn acknowledge(
    connection: &mut PgConnection,
    losses: &[Uuid],
    (actor, reason): (&str, &str),
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.loss_acknowledgement (loss_id, actor, reason, given_at)
         select loss_id, $2, $3, $4 from unnest($1::uuid[]) as known(loss_id) order by loss_id
         on conflict (loss_id) do nothing",
        losses,
        actor,
        reason,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
