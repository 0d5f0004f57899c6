//! Suspects: instances whose workers were lost one after the other, tried a few at a time.

use sqlx::PgConnection;
use uuid::Uuid;

use super::claim::{Claim, Claimed, Row, with_histories};
use crate::error::Error;
use crate::store::Pool;

/// The lowest level at which there are suspects that a worker may try that has lived for so long.
pub(crate) async fn next_level(
    pool: &Pool,
    workflows: &(Vec<String>, Vec<i32>),
    lived_seconds: i32,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        "select i.trials from amends.instance i
         where i.losses >= 2 and i.worker_id is null and i.run_at is not null
           and i.lost_after_seconds::bigint * (i.trials + 1) <= $3::int
           and (i.workflow, i.version) in (select * from unnest($1::text[], $2::int[]))
         order by i.trials
         limit 1",
        &workflows.0,
        &workflows.1,
        lived_seconds,
    )
    .fetch_optional(pool)
    .await
}

/// Claims suspects of one level that were held for at most so long when their workers were lost.
pub(crate) async fn claim_suspects(
    connection: &mut PgConnection,
    claim: &Claim<'_>,
    level: i32,
    lost_after_seconds: i32,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/store/sql/claim_suspects.sql",
        claim.worker_id,
        claim.now,
        &claim.workflows.0,
        &claim.workflows.1,
        claim.limit as i64,
        claim.claim_id,
        level,
        lost_after_seconds,
    )
    .fetch_all(&mut *connection)
    .await?;
    with_histories(connection, rows).await
}

/// Clears held instances: those that made progress of every loss, and those that have outlived
/// their trial of all but one.
pub(crate) async fn clear(
    pool: &Pool,
    worker_id: Uuid,
    progressed: &[Uuid],
    survived: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update amends.instance
         set losses = case when instance_id = any($2) then 0 else 1 end, on_trial = false
         where worker_id = $1 and losses > 0 and instance_id = any($2 || $3::uuid[])",
        worker_id,
        progressed,
        survived,
    )
    .execute(pool)
    .await?;
    Ok(())
}
