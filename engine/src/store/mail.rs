//! Mail to instances: what is sent, and what has not been read.
//!
//! Whoever sends holds the instance's row for the rest of his transaction, so that an end and a
//! message exclude each other: an instance cannot end with a message that it has not read.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::command::{Command, Resolution};
use crate::error::Error;
use crate::record::ChildEnded;
use crate::store::Pool;

/// A message to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Letter<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    pub(crate) body: &'a str,
    /// Who it is from.
    pub(crate) actor: &'a str,
    /// The sender's own id for it, among messages of its kind.
    pub(crate) mail_id: Option<&'a str>,
    /// Why the instance cannot take it, if that is known already.
    pub(crate) refused: Option<&'a str>,
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
    const ALL: [Self; 3] = [Self::Command, Self::Signal, Self::Child];

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
             (instance_id, mail_seq, kind, name, body, actor, sent_at, mail_id, refused)
         select $1, mail_count, $2, $3, $4::text::json, $5, $7, $6, $8
         from due",
        instance_id,
        letter.kind.as_str(),
        letter.name,
        letter.body,
        letter.actor,
        letter.mail_id,
        letter.sent_at,
        letter.refused,
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
    pub(crate) sent_at: DateTime<Utc>,
    /// The child that it tells of, as the history calls it.
    pub(crate) key: Option<String>,
    pub(crate) message: Message,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Command {
        command: Command,
        reason: String,
        resolution: Option<Resolution>,
    },
    Signal {
        name: String,
        id: Option<String>,
        body: Box<RawValue>,
    },
    ChildEnded(ChildEnded),
    /// Something that the instance cannot take, and why.
    Refused(String),
    /// Something that this build does not know; what it is.
    Unknown(String),
}

/// The body of a command's mail.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct CommandBody {
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolution: Option<Resolution>,
}

/// The mail of an instance after message number `read`.
pub(crate) async fn unread(pool: &Pool, instance_id: Uuid, read: i32) -> Result<Vec<Mail>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select mail_seq, kind, name, body::text as "body!", actor, sent_at, mail_id, refused
        from amends.mail
        where instance_id = $1 and mail_seq > $2
        order by mail_seq
        "#,
        instance_id,
        read,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Row::read).collect())
}

/// A message as it is stored.
struct Row {
    mail_seq: i32,
    kind: String,
    name: String,
    body: String,
    actor: String,
    sent_at: DateTime<Utc>,
    mail_id: Option<String>,
    refused: Option<String>,
}

impl Row {
    fn read(self) -> Mail {
        let Self { mail_seq, kind, name, body, actor, sent_at, mail_id, refused } = self;
        let key = (kind == Kind::Child.as_str()).then(|| name.clone());
        let message = match refused {
            Some(why) => Message::Refused(why),
            None => message(&kind, name, body, mail_id).unwrap_or_else(Message::Unknown),
        };
        Mail { mail_seq, actor, sent_at, key, message }
    }
}

/// What a message says, or why this build cannot tell.
fn message(kind: &str, name: String, body: String, id: Option<String>) -> Result<Message, String> {
    let Some(known) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else {
        return Err(format!("a message of the kind {kind}"));
    };
    let unread = |error: serde_json::Error| format!("{kind} {name}: {error}");
    Ok(match known {
        Kind::Command => {
            let Ok(command) = name.parse() else {
                return Err(format!("the command {name}"));
            };
            let CommandBody { reason, resolution } = serde_json::from_str(&body).map_err(unread)?;
            Message::Command { command, reason, resolution }
        }
        Kind::Child => Message::ChildEnded(serde_json::from_str(&body).map_err(unread)?),
        Kind::Signal => {
            let body = RawValue::from_string(body).map_err(unread)?;
            Message::Signal { name, id, body }
        }
    })
}

/// How much mail an instance has, once nobody is sending any to it.
pub(crate) async fn count(pool: &Pool, instance_id: Uuid) -> Result<i32, Error> {
    let count = sqlx::query_scalar!(
        "select mail_count from amends.instance where instance_id = $1 for key share",
        instance_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(count)
}

/// Held instances that have mail their worker has not recorded as read.
pub(crate) async fn waiting(pool: &Pool, worker_id: Uuid) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select instance_id, mail_count from amends.instance
         where worker_id = $1 and mail_count > mail_read",
        worker_id,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.instance_id, row.mail_count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, name: &str, body: &str) -> Result<Message, String> {
        message(kind, name.to_owned(), body.to_owned(), None)
    }

    #[test]
    fn what_a_newer_build_has_sent_is_unknown_and_no_error() {
        let known = [
            ("command", "cancel", r#"{"reason":"r"}"#),
            ("signal", "packed", "1e999"),
            (
                "child",
                "child:c",
                r#"{"instance_id":"00000000-0000-0000-0000-000000000000","status":"completed"}"#,
            ),
        ];
        for (kind, name, body) in known {
            assert!(read(kind, name, body).is_ok(), "{kind}");
        }
        for (kind, name, body) in [
            ("weather", "rain", "1"),
            ("command", "freeze", r#"{"reason":"r"}"#),
            ("command", "cancel", r#"{"why":"r"}"#),
            ("command", "resolve", r#"{"reason":"r","resolution":{"evidence":"e","since":1}}"#),
            ("child", "child:c", r#"{"status":"frozen"}"#),
        ] {
            let unknown = read(kind, name, body);
            assert!(unknown.is_err(), "{kind} {name}: {unknown:?}");
        }
    }
}
