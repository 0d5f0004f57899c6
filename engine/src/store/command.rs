//! The commands that people give, judged under the lock of the instance; those that go down to its
//! family under the locks of all of that.
//!
//! Everything is asked by statements that come after the locks, and so see what was committed while
//! a lock was waited for.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::family::{self, Descent, Member};
use super::mail::{CommandBody, Kind, Letter, send};
use crate::command::{Answer, ChildFate, ChildPolicy, Command, Resolution, Standing, answer};
use crate::error::Error;
use crate::record::Record;
use crate::sabotage::Bug;

/// A command given by a person, or by the instance's parent.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) command_id: Uuid,
    pub(crate) instance_id: Uuid,
    pub(crate) command: Command,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) resolution: Option<Resolution>,
    /// What becomes of its live children, if it is terminated.
    pub(crate) policy: Option<ChildPolicy>,
    /// It is the instance's parent who asks.
    pub(crate) by_parent: bool,
    /// The request that it comes by, if that may come again.
    pub(crate) request: Option<Request>,
    pub(crate) at: DateTime<Utc>,
}

/// A request that has the same effect however often it comes.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What the client calls it.
    pub(crate) id: String,
    /// The digest of everything that it asks for.
    pub(crate) digest: [u8; 32],
}

/// Judges a command by the instance and, where `look` wants that, its history, and keeps it with
/// its answer for ever. An accepted one becomes mail that the instance cannot end or wait without
/// reading; where it goes down to what the instance has started, that gets mail, too.
///
/// A request that has been answered gets the same answer again, and does nothing.
pub(crate) async fn give_command(
    connection: &mut PgConnection,
    given: Given,
    look: Option<Look>,
) -> Result<Option<Answer>, Error> {
    let too_early = match Bug::JudgedBeforeLock.is_on() {
        true => stand(connection, given.instance_id, &Descent::default()).await?,
        false => None,
    };
    if !lock(connection, given.instance_id).await? {
        return Ok(None);
    }
    if let Some(answer) = answered(connection, given.request.as_ref()).await? {
        return Ok(Some(answer));
    }
    let family = match given.command {
        Command::Cancel | Command::Hold | Command::Release | Command::Terminate => {
            family::lock(connection, given.instance_id).await?
        }
        Command::Resolve => family::look(connection, given.instance_id).await?,
        Command::Resume | Command::Retry | Command::Book => Vec::new(),
    };
    let descent = Descent::new(given.command, given.policy, &family);
    let stands = stand(connection, given.instance_id, &descent).await?;
    let Some((workflow, version, mut standing)) = too_early.or(stands) else {
        return Ok(None);
    };
    standing.by_parent = given.by_parent;
    let mut answer = answer(given.command, standing);
    if let (Answer::Accepted, Some(look)) = (answer, look) {
        let mut histories = super::claim::histories(&mut *connection, &[given.instance_id]).await?;
        let records = histories.remove(&given.instance_id).unwrap_or_default();
        answer = look(&workflow, version, &records, &family)?;
    }
    if !keep(connection, &given, standing, answer).await? {
        // The same request has just come for another instance.
        return answered(connection, given.request.as_ref()).await;
    }
    if answer == Answer::Accepted {
        accept(connection, &given).await?;
        let why = family::reason(given.command);
        family::tell(connection, &descent, why, given.at).await?;
    }
    Ok(Some(answer))
}

/// Has an accepted command reach the instance.
async fn accept(connection: &mut PgConnection, given: &Given) -> Result<(), Error> {
    let body = CommandBody { reason: given.reason.clone(), resolution: given.resolution.clone() };
    let body =
        serde_json::to_string(&body).map_err(|error| Error::InvalidInput(error.to_string()))?;
    let letter = Letter {
        kind: Kind::Command,
        name: given.command.as_str(),
        body: &body,
        actor: &given.actor,
        mail_id: None,
        refused: None,
        sent_at: given.at,
    };
    send(connection, given.instance_id, &letter).await?;
    set_held(connection, given.instance_id, given.command).await?;
    Ok(())
}

/// The answer that a request was given before. Refused if that asked for something else.
async fn answered(
    connection: &mut PgConnection,
    request: Option<&Request>,
) -> Result<Option<Answer>, Error> {
    let Some(request) = request else {
        return Ok(None);
    };
    let kept = sqlx::query!(
        r#"select answer, request_digest as "digest!" from amends.command where request_id = $1"#,
        request.id,
    )
    .fetch_optional(connection)
    .await?;
    let Some(kept) = kept else {
        return Ok(None);
    };
    if kept.digest != request.digest {
        return Err(Error::RequestIdReused);
    }
    serde_json::from_value(kept.answer.into())
        .map(Some)
        .map_err(|error| Error::Stored(error.to_string()))
}

/// An instance as a command would find it.
pub(crate) struct Seen {
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) standing: Standing,
    pub(crate) family: Vec<(Member, ChildFate)>,
    pub(crate) records: Vec<Record>,
}

/// An instance, its family and its records. Of one moment, if the transaction has one snapshot.
pub(crate) async fn see(
    connection: &mut PgConnection,
    instance_id: Uuid,
    command: Command,
    policy: Option<ChildPolicy>,
) -> Result<Option<Seen>, Error> {
    let family = family::look(connection, instance_id).await?;
    let descent = Descent::new(command, policy, &family);
    let Some((workflow, version, standing)) = stand(connection, instance_id, &descent).await?
    else {
        return Ok(None);
    };
    let family = family.iter().cloned().zip(descent.fates()).collect();
    let mut histories = super::claim::histories(&mut *connection, &[instance_id]).await?;
    let records = histories.remove(&instance_id).unwrap_or_default();
    Ok(Some(Seen { workflow, version, standing, family, records }))
}

/// Looks at a workflow's version, and at the records and the family of an instance of it, before a
/// command is accepted.
pub(crate) type Look =
    Box<dyn FnOnce(&str, u32, &[Record], &[Member]) -> Result<Answer, Error> + Send>;

/// Locks an instance. Says whether there is one.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    instance_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query_scalar!(
        "select instance_id from amends.instance where instance_id = $1 for update",
        instance_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(locked.is_some())
}

/// Where an instance stands, given what a command means for its family.
async fn stand(
    connection: &mut PgConnection,
    instance_id: Uuid,
    descent: &Descent,
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
               ) as "compensating!",
               exists (
                   select from amends.mail m
                   where m.instance_id = i.instance_id and m.mail_seq > i.mail_read
                     and m.kind = 'command' and m.name in ('resume', 'resolve')
               ) as "resumed!",
               coalesce((
                   with recursive ancestor as (
                       select p.parent_id, p.status from amends.instance p
                       where p.instance_id = i.parent_id
                       union all
                       select p.parent_id, p.status
                       from ancestor a join amends.instance p on p.instance_id = a.parent_id
                   )
                   select bool_and(status in ('completed', 'compensated', 'cancelled', 'terminated'))
                   from ancestor
               ), false) as "ancestors_ended!"
        from amends.instance i
        where instance_id = $1
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
        resumed: seen.resumed,
        held: seen.held,
        by_parent: false,
        ancestors_ended: seen.ancestors_ended,
        child_past_pivot: descent.includes(ChildFate::Refuse),
        children_undecided: descent.includes(ChildFate::Undecided),
    };
    Ok(Some((seen.workflow, seen.version.cast_unsigned(), standing)))
}

/// Keeps a command with its answer. `false`: its request has been kept already.
async fn keep(
    connection: &mut PgConnection,
    given: &Given,
    standing: Standing,
    answer: Answer,
) -> Result<bool, sqlx::Error> {
    let request = given.request.as_ref();
    let kept = sqlx::query!(
        "insert into amends.command
             (command_id, instance_id, command, actor, reason, status_seen, answer, given_at,
              request_id, request_digest)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (request_id) where request_id is not null do nothing",
        given.command_id,
        given.instance_id,
        given.command.as_str(),
        given.actor,
        given.reason,
        standing.status.as_str(),
        answer.as_str(),
        given.at,
        request.map(|request| request.id.as_str()) as _,
        request.map(|request| &request.digest[..]) as _,
    )
    .execute(connection)
    .await?;
    Ok(kept.rows_affected() > 0)
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
        Command::Resume
        | Command::Retry
        | Command::Resolve
        | Command::Book
        | Command::Terminate => return Ok(()),
    };
    sqlx::query!("update amends.instance set held = $2 where instance_id = $1", instance_id, held)
        .execute(connection)
        .await?;
    Ok(())
}
