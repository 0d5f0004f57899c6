//! The family of an instance: what it has started, what that has started, and so on.
//!
//! Once the instance and its family are locked nothing is born into it and nobody in it passes its
//! pivot: a child is written only under a lock of its parent's row, and a pivot is announced by a
//! write of one's own row.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::commit::commit;
use super::mail::CommandBody;
use super::write::{Write, Written};
use super::{command, missed};
use crate::command::ChildStanding;
use crate::error::Error;
use crate::sabotage::Bug;
use crate::status::Status;
use crate::worker::new_id;

/// A child of an instance, or a child's child.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Uuid,
    pub(crate) parent_id: Uuid,
    pub(crate) workflow: String,
    pub(crate) business_key: String,
    pub(crate) status: Status,
    pub(crate) standing: ChildStanding,
}

/// Locks the family of an instance whose row is locked, and says where everybody in it stands.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    instance_id: Uuid,
) -> Result<Vec<Member>, Error> {
    if Bug::FamilyUntold.is_on() || look(connection, instance_id).await?.is_empty() {
        return Ok(Vec::new());
    }
    loop {
        connection.execute("savepoint family").await?;
        let locked = sqlx::query_file_scalar!("src/store/sql/lock_family.sql", instance_id)
            .fetch_all(&mut *connection)
            .await?;
        let family = look(connection, instance_id).await?;
        let locked: HashSet<_> = locked.into_iter().collect();
        if family.iter().all(|member| locked.contains(&member.instance_id)) {
            return Ok(family);
        }
        // Who was born while a lock was waited for comes before some who are locked by now.
        connection.execute("rollback to savepoint family").await?;
    }
}

/// Where everybody in the family of an instance stands.
pub(crate) async fn look(
    connection: &mut PgConnection,
    instance_id: Uuid,
) -> Result<Vec<Member>, Error> {
    let rows =
        sqlx::query_file!("src/store/sql/family.sql", instance_id).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let status = row.status.parse()?;
            Ok(Member {
                instance_id: row.instance_id,
                parent_id: row.parent_id,
                workflow: row.workflow,
                business_key: row.business_key,
                status,
                standing: ChildStanding::judge(status, row.past_pivot, row.is_undoing),
            })
        })
        .collect()
}

/// Why a child is cancelled of which nobody has asked it.
pub(crate) const PARENT_UNDONE: &str = "its parent is being undone";

/// Cancels everybody in a locked family who is live. Says how many that are.
pub(crate) async fn tell(
    connection: &mut PgConnection,
    family: &[Member],
    at: DateTime<Utc>,
) -> Result<u64, Error> {
    let live = family.iter().filter(|member| member.standing == ChildStanding::Live);
    let live: Vec<_> = live.map(|member| member.instance_id).collect();
    if live.is_empty() {
        return Ok(0);
    }
    let command_ids: Vec<_> = live.iter().map(|_| new_id()).collect();
    let body = CommandBody { reason: PARENT_UNDONE.to_owned(), resolution: None };
    let body =
        serde_json::to_string(&body).map_err(|error| Error::InvalidInput(error.to_string()))?;
    let told = sqlx::query_file!(
        "src/store/sql/tell_family.sql",
        &live,
        &command_ids,
        PARENT_UNDONE,
        body,
        at,
    )
    .execute(connection)
    .await?;
    Ok(told.rows_affected())
}

/// Writes the plan of an instance, and cancels everything live in its family, in one transaction. What
/// is past its pivot is not told: it is found when its turn comes to be undone.
///
/// Sending the same plan twice is harmless. `None`: the worker has been taken over.
pub(crate) async fn commit_plan(
    connection: &mut PgConnection,
    worker_id: Uuid,
    write: &Write,
    subscriptions: &[String],
    now: Option<DateTime<Utc>>,
) -> Result<Option<Written>, Error> {
    if !begin_as_worker(connection, worker_id).await? {
        return Ok(None);
    }
    command::lock(connection, write.instance_id).await?;
    let family = lock(connection, write.instance_id).await?;
    let one = std::iter::once(write);
    let committed = commit(connection, worker_id, one, subscriptions, now).await?;
    if !committed.includes(write) {
        return Ok(Some(missed::held(connection, worker_id, write).await?));
    }
    if let Some(record) = write.first_record() {
        tell(connection, &family, record.at).await?;
    }
    Ok(Some(Written::Yes))
}

/// Keeps a worker from being taken over for the rest of the transaction, in which statements are
/// planned as on the write path. `false`: it is no worker any more.
async fn begin_as_worker(
    connection: &mut PgConnection,
    worker_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let fence = sqlx::query!(
        r#"select set_config('plan_cache_mode', 'force_generic_plan', true) as "mode",
                  set_config('enable_seqscan', 'off', true) as "scan"
           from amends.worker where worker_id = $1 for key share"#,
        worker_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(fence.is_some())
}
