//! Instances that have not ended, and children of theirs that have completed: how many are on which
//! version, and their histories in pages.

use sqlx::PgConnection;
use uuid::Uuid;

use super::claim::{Claimed, Row, with_histories};
use crate::error::Error;
use crate::store::Pool;
use crate::versions::{Live, LiveVersion};

/// Counts live instances by workflow and version, and the children that they can take back.
pub(crate) async fn live_versions(pool: &Pool) -> Result<Vec<LiveVersion>, sqlx::Error> {
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
            completed_children: row.completed_children.cast_unsigned(),
            oldest: row.oldest,
        })
        .collect())
}

/// An instance as a claim would find it. Nothing is claimed.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) claimed: Claimed,
    /// The dependency that it waits for.
    pub(crate) parked_on: Option<String>,
}

/// What a statement returns for one.
struct FoundRow {
    instance_id: Uuid,
    claim_id: Option<Uuid>,
    workflow: String,
    version: i32,
    business_key: String,
    priority: i16,
    was: String,
    past_pivot: bool,
    failure_code: Option<String>,
    failure_message: Option<String>,
    mail_count: i32,
    mail_read: i32,
    losses: i32,
    trials: i32,
    lost_after_seconds: i32,
    revision: i32,
    parked_on: Option<String>,
}

impl FoundRow {
    fn split(self) -> (Row, Option<String>) {
        let row = Row {
            instance_id: self.instance_id,
            claim_id: self.claim_id,
            workflow: self.workflow,
            version: self.version,
            business_key: self.business_key,
            priority: self.priority,
            was: self.was,
            past_pivot: self.past_pivot,
            was_parked: self.parked_on.is_some(),
            was_freed: false,
            failure_code: self.failure_code,
            failure_message: self.failure_message,
            mail_count: self.mail_count,
            mail_read: self.mail_read,
            losses: self.losses,
            trials: self.trials,
            lost_after_seconds: self.lost_after_seconds,
            revision: self.revision,
        };
        (row, self.parked_on)
    }
}

/// The next live instances after `after`, oldest first, each with its history.
pub(crate) async fn live_instances(
    connection: &mut PgConnection,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Found>, Error> {
    let rows =
        sqlx::query_file_as!(FoundRow, "src/store/sql/live_instances.sql", after, limit as i64)
            .fetch_all(&mut *connection)
            .await?;
    found(connection, rows).await
}

/// The next completed children after `after` that some live instances can still take back, oldest
/// first, each with its history.
pub(crate) async fn completed_children(
    connection: &mut PgConnection,
    of: &[Uuid],
    after: Uuid,
    limit: usize,
) -> Result<Vec<Found>, Error> {
    let rows = sqlx::query_file_as!(
        FoundRow,
        "src/store/sql/completed_children.sql",
        of,
        after,
        limit as i64
    )
    .fetch_all(&mut *connection)
    .await?;
    found(connection, rows).await
}

async fn found(connection: &mut PgConnection, rows: Vec<FoundRow>) -> Result<Vec<Found>, Error> {
    let (rows, parked): (Vec<_>, Vec<_>) = rows.into_iter().map(FoundRow::split).unzip();
    let claimed = with_histories(connection, rows).await?;
    let found = claimed.into_iter().zip(parked);
    Ok(found.map(|(claimed, parked_on)| Found { claimed, parked_on }).collect())
}
