//! Signals: to the instance of a business key, or kept for it until there is one.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::mail::{Kind, Letter, send};
use crate::error::Error;
use crate::sabotage::Bug;
use crate::signal::Signalled;
use crate::status::Status;

/// A signal on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) workflow: String,
    pub(crate) business_key: String,
    pub(crate) name: String,
    pub(crate) body: String,
    pub(crate) sender: String,
    pub(crate) signal_id: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// Sends a signal, once per id. Without an instance it is kept; whoever kept one looks again with
/// [`look_again`] once that is durable.
pub(crate) async fn send_signal(
    connection: &mut PgConnection,
    sent: &Sent,
) -> Result<Signalled, Error> {
    let seen = sqlx::query!(
        "select instance_id, status from amends.instance
         where workflow = $1 and business_key = $2
         for update",
        sent.workflow,
        sent.business_key,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(seen) = seen else {
        return keep_early(connection, sent).await;
    };
    let (instance_id, ended) = (seen.instance_id, seen.status.parse::<Status>()?.is_terminal());
    // What came before the instance comes before this.
    hand_over(connection, instance_id, ended, &sent.workflow, &sent.business_key).await?;
    if is_known(connection, instance_id, sent.signal_id.as_deref()).await? {
        return Ok(Signalled::Replayed(instance_id));
    }
    if ended {
        return Ok(Signalled::AlreadyEnded(instance_id));
    }
    let letter = Letter {
        kind: Kind::Signal,
        name: &sent.name,
        body: &sent.body,
        actor: &sent.sender,
        mail_id: sent.signal_id.as_deref(),
        sent_at: sent.at,
    };
    send(connection, instance_id, &letter).await?;
    Ok(Signalled::Accepted(instance_id))
}

async fn is_known(
    connection: &mut PgConnection,
    instance_id: Uuid,
    signal_id: Option<&str>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from amends.mail where instance_id = $1 and mail_id = $2
           ) as "known!""#,
        instance_id,
        signal_id,
    )
    .fetch_one(connection)
    .await
}

async fn keep_early(connection: &mut PgConnection, sent: &Sent) -> Result<Signalled, Error> {
    sqlx::query!(
        "insert into amends.early_signal
             (workflow, business_key, signal_id, name, body, sender, sent_at)
         values ($1, $2, $3, $4, $5::text::json, $6, $7)
         on conflict (workflow, business_key, signal_id) where signal_id is not null do nothing",
        sent.workflow,
        sent.business_key,
        sent.signal_id,
        sent.name,
        sent.body,
        sent.sender,
        sent.at,
    )
    .execute(connection)
    .await?;
    Ok(Signalled::Kept)
}

/// Says what has come of a signal that was kept: its instance may have been started meanwhile, have
/// taken it, and have ended.
pub(crate) async fn look_again(
    connection: &mut PgConnection,
    sent: &Sent,
) -> Result<Signalled, Error> {
    let adopted = adopt(connection, &sent.workflow, &sent.business_key).await?;
    let Some((instance_id, ended)) = adopted else {
        return Ok(Signalled::Kept);
    };
    if ended && !is_known(connection, instance_id, sent.signal_id.as_deref()).await? {
        return Ok(Signalled::AlreadyEnded(instance_id));
    }
    Ok(Signalled::Accepted(instance_id))
}

/// Hands the signals that were kept for a business key to its instance, if there is one by now.
/// Returns which one, and whether it has ended.
pub(crate) async fn adopt(
    connection: &mut PgConnection,
    workflow: &str,
    business_key: &str,
) -> Result<Option<(Uuid, bool)>, Error> {
    let target = sqlx::query!(
        "select instance_id, status from amends.instance
         where workflow = $1 and business_key = $2
         for update",
        workflow,
        business_key,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(target) = target else {
        return Ok(None);
    };
    let (instance_id, ended) = (target.instance_id, target.status.parse::<Status>()?.is_terminal());
    hand_over(connection, instance_id, ended, workflow, business_key).await?;
    Ok(Some((instance_id, ended)))
}

/// Moves signals that were kept to the mail of their instance, whose row is locked. One that has
/// ended does not get them.
async fn hand_over(
    connection: &mut PgConnection,
    instance_id: Uuid,
    ended: bool,
    workflow: &str,
    business_key: &str,
) -> Result<(), Error> {
    let mut early = sqlx::query!(
        r#"
        delete from amends.early_signal
        where workflow = $1 and business_key = $2
        returning early_id, signal_id, name, body::text as "body!", sender, sent_at
        "#,
        workflow,
        business_key,
    )
    .fetch_all(&mut *connection)
    .await?;
    early.sort_by_key(|signal| signal.early_id);
    for signal in early {
        // The same signal may have found the instance by itself when it was repeated.
        if Bug::EarlySignalDropped.is_on()
            || ended
            || is_known(connection, instance_id, signal.signal_id.as_deref()).await?
        {
            continue;
        }
        let letter = Letter {
            kind: Kind::Signal,
            name: &signal.name,
            body: &signal.body,
            actor: &signal.sender,
            mail_id: signal.signal_id.as_deref(),
            sent_at: signal.sent_at,
        };
        send(connection, instance_id, &letter).await?;
    }
    Ok(())
}
