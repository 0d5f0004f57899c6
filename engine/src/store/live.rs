//! Instances that have not ended: how many are on which version, and their histories in pages.

use sqlx::PgPool;
use uuid::Uuid;

use super::claim::{Claimed, Row, with_histories};
use crate::error::Error;
use crate::versions::{Live, LiveVersion};

/// Counts live instances by workflow and version.
pub(crate) async fn live_versions(pool: &PgPool) -> Result<Vec<LiveVersion>, sqlx::Error> {
    let rows = sqlx::query_file!("src/store/sql/live_versions.sql").fetch_all(pool).await?;
    Ok(rows
        .into_iter()
        .map(|row| LiveVersion {
            workflow: row.workflow,
            version: row.version.cast_unsigned(),
            live: Live {
                pending: row.pending.cast_unsigned(),
                running: row.running.cast_unsigned(),
                waiting: row.waiting.cast_unsigned(),
                compensating: row.compensating.cast_unsigned(),
                stuck: row.stuck.cast_unsigned(),
            },
            oldest: row.oldest,
        })
        .collect())
}

/// The next live instances after `after`, oldest first, each with its history, as a claim would
/// find them. Nothing is claimed.
///
/// Histories are read after the rows and may be longer than those know.
pub(crate) async fn live_instances(
    pool: &PgPool,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_file_as!(Row, "src/store/sql/live_instances.sql", after, limit as i64)
        .fetch_all(pool)
        .await?;
    with_histories(pool, rows).await
}
