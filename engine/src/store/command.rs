//! The commands that people give, judged under the lock of the instance.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::mail::{CommandBody, Kind, Letter, send};
use crate::command::{Answer, Command, Resolution, Standing, answer};
use crate::error::Error;
use crate::record::Record;

/// A command given by a person.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) command_id: Uuid,
    pub(crate) instance_id: Uuid,
    pub(crate) command: Command,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) resolution: Option<Resolution>,
    /// It is the instance's parent who asks.
    pub(crate) by_parent: bool,
    pub(crate) at: DateTime<Utc>,
}

/// Judges a command by the instance and, where `look` wants that, its history, and keeps it with
/// its answer for ever. An accepted one becomes mail that the instance cannot end or wait without
/// reading.
pub(crate) async fn give_command(
    connection: &mut PgConnection,
    given: Given,
    look: Option<Look>,
) -> Result<Option<Answer>, Error> {
    let Some((workflow, version, mut standing)) = stand(connection, given.instance_id).await?
    else {
        return Ok(None);
    };
    standing.by_parent = given.by_parent;
    let mut answer = answer(given.command, standing);
    if let (Answer::Accepted, Some(look)) = (answer, look) {
        let mut histories = super::claim::histories(&mut *connection, &[given.instance_id]).await?;
        let records = histories.remove(&given.instance_id).unwrap_or_default();
        answer = look(&workflow, version, &records)?;
    }
    keep(connection, &given, standing, answer).await?;
    if answer == Answer::Accepted {
        let body = CommandBody { reason: given.reason.clone(), resolution: given.resolution };
        let body =
            serde_json::to_string(&body).map_err(|error| Error::InvalidInput(error.to_string()))?;
        let letter = Letter {
            kind: Kind::Command,
            name: given.command.as_str(),
            body: &body,
            actor: &given.actor,
            mail_id: None,
            sent_at: given.at,
        };
        send(connection, given.instance_id, &letter).await?;
        set_held(connection, given.instance_id, given.command).await?;
    }
    Ok(Some(answer))
}

/// An instance as a command would find it, and its records: of one moment.
pub(crate) async fn see(
    connection: &mut PgConnection,
    instance_id: Uuid,
) -> Result<Option<(String, u32, Standing, Vec<Record>)>, Error> {
    let Some((workflow, version, standing)) = stand(connection, instance_id).await? else {
        return Ok(None);
    };
    let mut histories = super::claim::histories(&mut *connection, &[instance_id]).await?;
    let records = histories.remove(&instance_id).unwrap_or_default();
    Ok(Some((workflow, version, standing, records)))
}

/// Looks at the records of a workflow's version before a command is accepted.
pub(crate) type Look = Box<dyn FnOnce(&str, u32, &[Record]) -> Result<Answer, Error> + Send>;

/// Locks an instance, and says where it stands.
async fn stand(
    connection: &mut PgConnection,
    instance_id: Uuid,
) -> Result<Option<(String, u32, Standing)>, Error> {
    let seen = sqlx::query!(
        r#"
        select workflow, version, status, past_pivot, held,
               exists (
                   select from amends.mail m
                   where m.instance_id = i.instance_id and m.kind = 'command' and m.name = 'cancel'
               ) as "cancelled!",
               exists (
                   select from amends.record r
                   where r.instance_id = i.instance_id and r.kind = 'compensation_planned'
               ) as "compensating!"
        from amends.instance i
        where instance_id = $1
        for update
        "#,
        instance_id,
    )
    .fetch_optional(connection)
    .await?;
    let Some(seen) = seen else {
        return Ok(None);
    };
    let standing = Standing {
        status: seen.status.parse()?,
        past_pivot: seen.past_pivot,
        cancelled: seen.cancelled,
        compensating: seen.compensating,
        held: seen.held,
        by_parent: false,
    };
    Ok(Some((seen.workflow, seen.version.cast_unsigned(), standing)))
}

/// Keeps a command with its answer.
async fn keep(
    connection: &mut PgConnection,
    given: &Given,
    standing: Standing,
    answer: Answer,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into amends.command
             (command_id, instance_id, command, actor, reason, status_seen, answer, given_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        given.command_id,
        given.instance_id,
        given.command.as_str(),
        given.actor,
        given.reason,
        standing.status.as_str(),
        answer.as_str(),
        given.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a command says of the hold on an instance whose row is locked.
async fn set_held(
    connection: &mut PgConnection,
    instance_id: Uuid,
    command: Command,
) -> Result<(), sqlx::Error> {
    let held = match command {
        Command::Hold => true,
        Command::Release | Command::Cancel => false,
        Command::Resume | Command::Retry | Command::Resolve | Command::Terminate => return Ok(()),
    };
    sqlx::query!("update amends.instance set held = $2 where instance_id = $1", instance_id, held)
        .execute(connection)
        .await?;
    Ok(())
}
