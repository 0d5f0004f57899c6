//! Taking up instances: due ones, with their histories and their unread mail.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::error::Error;
use crate::record::Record;
use crate::status::Status;

/// An instance that this worker now holds.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) instance_id: Uuid,
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) business_key: String,
    /// Its status before: an instance that still says running has lost its worker.
    pub(crate) was: Status,
    pub(crate) past_pivot: bool,
    pub(crate) mail_count: i32,
    pub(crate) mail_read: i32,
    pub(crate) records: Vec<Record>,
}

/// Claims up to `limit` due instances of the given workflow versions.
///
/// The claim is one statement; the histories are one more, and belong to nobody else by then. If
/// that one fails, what was claimed is freed again by hand or by the lease.
pub(crate) async fn claim_instances(
    pool: &PgPool,
    worker_id: Uuid,
    workflows: &(Vec<String>, Vec<i32>),
    limit: usize,
    now: Option<DateTime<Utc>>,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_file!(
        "src/store/sql/claim_instances.sql",
        worker_id,
        now,
        &workflows.0,
        &workflows.1,
        limit as i64,
    )
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.instance_id).collect();
    let mut histories = match histories(pool, &ids).await {
        Ok(histories) => histories,
        Err(error) => {
            free(pool, worker_id, &ids).await?;
            return Err(error);
        }
    };
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                records: histories.remove(&row.instance_id).unwrap_or_default(),
                instance_id: row.instance_id,
                workflow: row.workflow,
                version: row.version.cast_unsigned(),
                business_key: row.business_key,
                was: row.was.parse()?,
                past_pivot: row.past_pivot,
                mail_count: row.mail_count,
                mail_read: row.mail_read,
            })
        })
        .collect()
}

/// Gives claimed instances back; they are due at once.
async fn free(pool: &PgPool, worker_id: Uuid, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update amends.instance set worker_id = null, run_at = updated_at
         where instance_id = any($1) and worker_id = $2",
        ids,
        worker_id,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Loads histories, each in order.
pub(crate) async fn histories(
    pool: &PgPool,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Record>>, Error> {
    let rows = sqlx::query!(
        r#"
        select instance_id, seq, kind, step, attempt, payload::text as "payload!",
               events::text as events, actor, at, hash
        from amends.record
        where instance_id = any($1)
        order by instance_id, seq
        "#,
        ids,
    )
    .fetch_all(pool)
    .await?;
    let mut histories: HashMap<Uuid, Vec<Record>> = HashMap::with_capacity(ids.len());
    for row in rows {
        histories.entry(row.instance_id).or_default().push(Record {
            seq: row.seq.cast_unsigned(),
            kind: row.kind.into(),
            step: row.step,
            attempt: row.attempt.map(i32::cast_unsigned),
            payload: row.payload,
            events: row.events,
            actor: row.actor,
            at: row.at,
            hash: row
                .hash
                .try_into()
                .map_err(|_| Error::Stored("a hash that is not 32 bytes".to_owned()))?,
        });
    }
    Ok(histories)
}
