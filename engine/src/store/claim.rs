//! Taking up instances: due ones, with their histories and their unread mail.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::error::Error;
use crate::priority::Priority;
use crate::quarantine::Losses;
use crate::record::Record;
use crate::status::Status;
use crate::step::Failure;
use crate::store::Pool;

/// An instance that this worker now holds.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) instance_id: Uuid,
    /// The name of the claim: every write of the holder carries it.
    pub(crate) claim_id: Option<Uuid>,
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) business_key: String,
    pub(crate) priority: Priority,
    /// Its status before: an instance that still says running has lost its worker.
    pub(crate) was: Status,
    pub(crate) past_pivot: bool,
    /// It has waited for a dependency.
    pub(crate) was_parked: bool,
    /// Its holder was lost, and has not let go of it. A child that nobody has held yet says so too.
    pub(crate) was_freed: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) mail_count: i32,
    pub(crate) mail_read: i32,
    pub(crate) lost: Losses,
    /// How often its holders have changed the row.
    pub(crate) revision: i32,
    pub(crate) records: Vec<Record>,
}

/// Who claims, what, and under which name.
pub(crate) struct Claim<'a> {
    pub(crate) claim_id: Uuid,
    pub(crate) worker_id: Uuid,
    /// Names and versions of the workflows that the worker can run.
    pub(crate) workflows: &'a (Vec<String>, Vec<i32>),
    pub(crate) limit: usize,
    /// Only if the clock is moved by hand.
    pub(crate) now: Option<DateTime<Utc>>,
}

/// Claims due instances: of each priority at most so many, in that order.
///
/// The claim is one statement, the histories are another. Whatever error comes of either, what was
/// claimed is found again by [`find_claimed`].
pub(crate) async fn claim_instances(
    connection: &mut PgConnection,
    claim: &Claim<'_>,
    portions: &[(Priority, usize)],
) -> Result<Vec<Claimed>, Error> {
    let (priorities, most): (Vec<_>, Vec<_>) =
        portions.iter().map(|(priority, most)| (priority.number(), *most as i64)).unzip();
    let rows = sqlx::query_file_as!(
        Row,
        "src/store/sql/claim_instances.sql",
        claim.worker_id,
        claim.now,
        &claim.workflows.0,
        &claim.workflows.1,
        claim.limit as i64,
        claim.claim_id,
        &priorities,
        &most,
    )
    .fetch_all(&mut *connection)
    .await?;
    with_histories(connection, rows).await
}

/// Claims instances that wait for the dependency `name`: of the first `of` those that have not
/// moved for longest.
pub(crate) async fn claim_parked(
    connection: &mut PgConnection,
    claim: &Claim<'_>,
    name: &str,
    of: u32,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/store/sql/claim_parked.sql",
        claim.worker_id,
        claim.now,
        &claim.workflows.0,
        &claim.workflows.1,
        claim.limit as i64,
        claim.claim_id,
        name,
        i64::from(of),
    )
    .fetch_all(&mut *connection)
    .await?;
    with_histories(connection, rows).await
}

/// What claims took whose answers were lost. Nobody has run it since, but that is not known here:
/// it counts as interrupted.
pub(crate) async fn find_claimed(
    pool: &Pool,
    worker_id: Uuid,
    claim_ids: &[Uuid],
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select instance_id, claim_id, workflow, version, business_key, priority,
               status as "was", past_pivot, false as "was_parked!", true as "was_freed!", failure_code,
               failure_message, mail_count, mail_read, losses, trials, lost_after_seconds, revision
        from amends.instance
        where worker_id = $1 and claim_id = any($2)
        "#,
        worker_id,
        claim_ids,
    )
    .fetch_all(pool)
    .await?;
    with_histories(pool, rows).await
}

/// A claimed instance without its history.
pub(super) struct Row {
    pub(super) instance_id: Uuid,
    pub(super) claim_id: Option<Uuid>,
    pub(super) workflow: String,
    pub(super) version: i32,
    pub(super) business_key: String,
    pub(super) priority: i16,
    pub(super) was: String,
    pub(super) past_pivot: bool,
    pub(super) was_parked: bool,
    pub(super) was_freed: bool,
    pub(super) failure_code: Option<String>,
    pub(super) failure_message: Option<String>,
    pub(super) mail_count: i32,
    pub(super) mail_read: i32,
    pub(super) losses: i32,
    pub(super) trials: i32,
    pub(super) lost_after_seconds: i32,
    pub(super) revision: i32,
}

pub(super) async fn with_histories(
    database: impl PgExecutor<'_>,
    rows: Vec<Row>,
) -> Result<Vec<Claimed>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.instance_id).collect();
    let mut histories = histories(database, &ids).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                records: histories.remove(&row.instance_id).unwrap_or_default(),
                instance_id: row.instance_id,
                claim_id: row.claim_id,
                workflow: row.workflow,
                version: row.version.cast_unsigned(),
                business_key: row.business_key,
                priority: Priority::read(row.priority),
                was: row.was.parse()?,
                past_pivot: row.past_pivot,
                was_parked: row.was_parked,
                was_freed: row.was_freed,
                failure: row
                    .failure_code
                    .map(|code| Failure::new(code, row.failure_message.unwrap_or_default())),
                mail_count: row.mail_count,
                mail_read: row.mail_read,
                lost: Losses {
                    losses: row.losses,
                    level: row.trials,
                    lost_after_seconds: row.lost_after_seconds,
                },
                revision: row.revision,
            })
        })
        .collect()
}

/// Loads histories, each in order.
pub(crate) async fn histories(
    database: impl PgExecutor<'_>,
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
    .fetch_all(database)
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
