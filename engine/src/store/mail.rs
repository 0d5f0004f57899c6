//! Mail to instances: what is sent, and what has not been read.
//!
//! Whoever sends holds the instance's row for the rest of his transaction, so that an end and a
//! message exclude each other: an instance cannot end with a message that it has not read.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::command::{Command, Resolution};
use crate::error::Error;
use crate::record::ChildEnded;

/// A message to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Letter<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    pub(crate) body: &'a str,
    /// Who it is from.
    pub(crate) actor: &'a str,
    /// The sender's own id for it.
    pub(crate) mail_id: Option<&'a str>,
    pub(crate) sent_at: DateTime<Utc>,
}

/// The sorts of mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Command,
    Signal,
    Child,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Signal => "signal",
            Self::Child => "child",
        }
    }
}

/// Appends to the mail of an instance whose row is locked, and makes it due.
pub(crate) async fn send(
    connection: &mut PgConnection,
    instance_id: Uuid,
    letter: &Letter<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with due as (
             update amends.instance
             set mail_count = mail_count + 1,
                 run_at = case when worker_id is null then least(run_at, $7) end
             where instance_id = $1
             returning mail_count
         )
         insert into amends.mail
             (instance_id, mail_seq, kind, name, body, actor, sent_at, mail_id)
         select $1, mail_count, $2, $3, $4::text::json, $5, $7, $6
         from due",
        instance_id,
        letter.kind.as_str(),
        letter.name,
        letter.body,
        letter.actor,
        letter.mail_id,
        letter.sent_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A message that an instance has not read.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) mail_seq: i32,
    pub(crate) actor: String,
    pub(crate) message: Message,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Command { command: Command, reason: String, resolution: Option<Resolution> },
    Signal { name: String, id: Option<String>, body: Box<RawValue> },
    ChildEnded { key: String, ended: ChildEnded },
}

/// The body of a command's mail.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct CommandBody {
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolution: Option<Resolution>,
}

/// The mail of an instance after message number `read`.
pub(crate) async fn unread(
    pool: &PgPool,
    instance_id: Uuid,
    read: i32,
) -> Result<Vec<Mail>, Error> {
    let rows = sqlx::query!(
        r#"
        select mail_seq, kind, name, body::text as "body!", actor, mail_id
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
            let stored = |error: serde_json::Error| Error::Stored(error.to_string());
            let message = if row.kind == Kind::Command.as_str() {
                let body: CommandBody = serde_json::from_str(&row.body).map_err(stored)?;
                Message::Command {
                    command: row.name.parse().map_err(|_| Error::Stored(row.name))?,
                    reason: body.reason,
                    resolution: body.resolution,
                }
            } else if row.kind == Kind::Child.as_str() {
                let ended = serde_json::from_str(&row.body).map_err(stored)?;
                Message::ChildEnded { key: row.name, ended }
            } else {
                let body = RawValue::from_string(row.body).map_err(stored)?;
                Message::Signal { name: row.name, id: row.mail_id, body }
            };
            Ok(Mail { mail_seq: row.mail_seq, actor: row.actor, message })
        })
        .collect()
}

/// How much mail an instance has, once nobody is sending any to it.
pub(crate) async fn count(pool: &PgPool, instance_id: Uuid) -> Result<i32, Error> {
    let count = sqlx::query_scalar!(
        "select mail_count from amends.instance where instance_id = $1 for key share",
        instance_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(count)
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
