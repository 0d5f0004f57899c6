//! Mail to instances, and the commands that people give.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::command::{Answer, Command, Standing, answer};
use crate::error::Error;

/// A command given by a person.
#[derive(Debug, Clone)]
pub(crate) struct Given<'a> {
    pub(crate) command_id: Uuid,
    pub(crate) instance_id: Uuid,
    pub(crate) command: Command,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) at: DateTime<Utc>,
}

/// Judges a command under the lock of its instance, and keeps it, with its answer, for ever.
/// An accepted one becomes mail that the instance cannot end or wait without reading.
#[expect(clippy::disallowed_methods, reason = "on a connection of its own")]
pub(crate) async fn give_command(
    connection: &mut PgConnection,
    given: Given<'_>,
) -> Result<Option<Answer>, Error> {
    let mut transaction = connection.begin().await?;
    let seen = sqlx::query!(
        r#"
        select status, past_pivot,
               exists (
                   select from amends.mail m
                   where m.instance_id = i.instance_id and m.name = 'cancel'
               ) as "cancelled!",
               exists (
                   select from amends.record r
                   where r.instance_id = i.instance_id and r.kind = 'compensation_planned'
               ) as "compensating!"
        from amends.instance i
        where instance_id = $1
        for update
        "#,
        given.instance_id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(seen) = seen else {
        return Ok(None);
    };
    let answer = answer(
        given.command,
        Standing {
            status: seen.status.parse()?,
            past_pivot: seen.past_pivot,
            cancelled: seen.cancelled,
            compensating: seen.compensating,
        },
    );
    sqlx::query!(
        "insert into amends.command
             (command_id, instance_id, command, actor, reason, status_seen, answer, given_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        given.command_id,
        given.instance_id,
        given.command.as_str(),
        given.actor,
        given.reason,
        seen.status,
        answer.as_str(),
        given.at,
    )
    .execute(&mut *transaction)
    .await?;
    if answer == Answer::Accepted {
        send(&mut transaction, &given).await?;
    }
    transaction.commit().await?;
    Ok(Some(answer))
}

/// Appends to the mail of an instance whose row is locked, and makes it due.
async fn send(connection: &mut PgConnection, given: &Given<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with due as (
             update amends.instance
             set mail_count = mail_count + 1,
                 run_at = case when worker_id is null then least(run_at, $5) end
             where instance_id = $1
             returning mail_count
         )
         insert into amends.mail (instance_id, mail_seq, kind, name, body, actor, sent_at)
         select $1, mail_count, 'command', $2, json_build_object('reason', $3::text), $4, $5
         from due",
        given.instance_id,
        given.command.as_str(),
        given.reason,
        given.actor,
        given.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A message that an instance has not read.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) mail_seq: i32,
    pub(crate) command: Command,
    pub(crate) reason: String,
    pub(crate) actor: String,
}

/// The mail of an instance after message number `read`.
pub(crate) async fn unread(
    pool: &PgPool,
    instance_id: Uuid,
    read: i32,
) -> Result<Vec<Mail>, Error> {
    let rows = sqlx::query!(
        r#"
        select mail_seq, name, coalesce(body ->> 'reason', '') as "reason!", actor
        from amends.mail
        where instance_id = $1 and mail_seq > $2
        order by mail_seq
        "#,
        instance_id,
        read,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Mail {
                mail_seq: row.mail_seq,
                command: row.name.parse().map_err(|_| Error::Stored(row.name))?,
                reason: row.reason,
                actor: row.actor,
            })
        })
        .collect()
}

/// Held instances that have mail their worker has not recorded as read.
pub(crate) async fn waiting(
    pool: &PgPool,
    worker_id: Uuid,
) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select instance_id, mail_count from amends.instance
         where worker_id = $1 and mail_count > mail_read",
        worker_id,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.instance_id, row.mail_count)).collect())
}
