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
use crate::command::{ChildFate, ChildPolicy, ChildStanding, Command, Relative, fate};
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
    pub(crate) is_held: bool,
}

/// What a command to an instance means for each in its family.
#[derive(Debug, Default)]
pub(crate) struct Descent {
    fates: Vec<(Uuid, ChildFate)>,
}

impl Descent {
    /// Judges a family, in which children come after their parents.
    pub(crate) fn new(command: Command, policy: Option<ChildPolicy>, family: &[Member]) -> Self {
        let mut undone = HashSet::new();
        let judge = |member: &Member| {
            let relative = Relative {
                status: member.status,
                standing: member.standing,
                is_held: member.is_held,
                is_undone_by_parent: undone.contains(&member.parent_id),
            };
            let fate = fate(command, policy, relative);
            let is_undone = matches!(fate, ChildFate::Cancel | ChildFate::TakeBack)
                || member.standing == ChildStanding::BeingUndone;
            if is_undone {
                undone.insert(member.instance_id);
            }
            (member.instance_id, fate)
        };
        Self { fates: family.iter().map(judge).collect() }
    }

    /// Whether it means this for somebody.
    pub(crate) fn includes(&self, fate: ChildFate) -> bool {
        self.fates.iter().any(|(_, it)| *it == fate)
    }

    /// What it means for each, in the order of the family.
    pub(crate) fn fates(&self) -> impl Iterator<Item = ChildFate> {
        self.fates.iter().map(|(_, fate)| *fate)
    }

    /// Who is given this command with it.
    fn given(&self, command: Command) -> Vec<Uuid> {
        let given = self.fates.iter().filter(|(_, fate)| fate.command() == Some(command));
        given.map(|(instance_id, _)| *instance_id).collect()
    }
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
                is_held: row.held,
            })
        })
        .collect()
}

/// Why a child is cancelled of which nobody has asked it.
pub(crate) const PARENT_UNDONE: &str = "its parent is being undone";

/// Why a child is given a command of which nobody has asked it: its parent was given this one.
pub(crate) fn reason(command: Command) -> &'static str {
    match command {
        Command::Hold => "its parent is held",
        Command::Release => "its parent is released",
        Command::Terminate => "its parent is stopped by force",
        Command::Cancel | Command::Resume | Command::Retry | Command::Resolve | Command::Book => {
            PARENT_UNDONE
        }
    }
}

/// Gives everybody in a locked family the command that is meant for them.
pub(crate) async fn tell(
    connection: &mut PgConnection,
    descent: &Descent,
    reason: &str,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    for (command, held) in [
        (Command::Cancel, Some(false)),
        (Command::Hold, Some(true)),
        (Command::Release, Some(false)),
        (Command::Terminate, None),
    ] {
        let told = descent.given(command);
        if told.is_empty() {
            continue;
        }
        let command_ids: Vec<_> = told.iter().map(|_| new_id()).collect();
        let body = CommandBody { reason: reason.to_owned(), resolution: None };
        let body =
            serde_json::to_string(&body).map_err(|error| Error::InvalidInput(error.to_string()))?;
        sqlx::query_file!(
            "src/store/sql/tell_family.sql",
            &told,
            &command_ids,
            reason,
            body,
            at,
            command.as_str(),
            held as _,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
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
        let descent = Descent::new(Command::Cancel, None, &family);
        tell(connection, &descent, PARENT_UNDONE, record.at).await?;
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
