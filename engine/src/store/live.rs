//! Instances that have not ended: how many are on which version.

use sqlx::PgPool;

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
