//! The bug [`crate::sabotage::Bug::ClaimUnfenced`]: a write that its worker's row alone fences.

use sqlx::PgConnection;
use uuid::Uuid;

use super::write::Write;

/// The write as it would go in if it named no claim and no revision, and if records that are there
/// already were passed over.
pub(crate) async fn unfenced(
    connection: &mut PgConnection,
    worker_id: Uuid,
    write: &Write,
) -> Result<Write, sqlx::Error> {
    let mut write = write.clone();
    let seen: Option<(Option<Uuid>, i32, i32)> = sqlx::query_as(
        "select claim_id, revision,
                (select max(seq) from amends.record r where r.instance_id = i.instance_id)
         from amends.instance i
         where instance_id = $1 and worker_id = $2",
    )
    .bind(write.instance_id)
    .bind(worker_id)
    .fetch_optional(connection)
    .await?;
    if let Some((claim_id, revision, last_seq)) = seen.filter(|_| !write.is_intake()) {
        write.claim_id = claim_id;
        write.change.iter_mut().for_each(|change| change.revision = revision + 1);
        write.records.retain(|new| new.record.seq.cast_signed() > last_seq);
    }
    Ok(write)
}
