//! Signals: to the instance of a business key, or kept for it until there is one.
//!
//! A signal is known by its name, its sender and the sender's id, within its instance.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::mail::{Kind, Letter, send};
use crate::error::Error;
use crate::registry::Registry;
use crate::sabotage::Bug;
use crate::signal::Signalled;
use crate::status::Status;

/// A signal on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) business_key: String,
    pub(crate) name: String,
    pub(crate) body: String,
    pub(crate) sender: String,
    pub(crate) signal_id: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// Says which signals the instances of a workflow take, each by its own version.
#[derive(Clone)]
pub(crate) struct Judge {
    registry: Arc<Registry>,
    workflow: String,
}

impl Judge {
    /// For the instances of this workflow.
    pub(crate) fn new(registry: &Arc<Registry>, workflow: &str) -> Self {
        Self { registry: Arc::clone(registry), workflow: workflow.to_owned() }
    }

    /// Refuses a signal that an instance of this version does not take; without one, that the next
    /// instance would not take.
    fn judge(&self, version: Option<u32>, sent: &Sent) -> Result<(), Error> {
        let refused = match version {
            Some(version) => self.misfit(version, &sent.name, &sent.body)?,
            None => {
                let newest = self.registry.newest(&self.workflow);
                let newest = newest.ok_or_else(|| Error::UnknownWorkflow(self.workflow.clone()))?;
                newest.signals().refuse(&sent.name, &sent.body)
            }
        };
        refused.map_or(Ok(()), |why| Err(Error::InvalidInput(why)))
    }

    /// Why an instance of this version does not take a signal, if it does not.
    fn misfit(&self, version: u32, name: &str, body: &str) -> Result<Option<String>, Error> {
        let known = self.registry.get(&self.workflow, version);
        let unknown = || Error::UnknownVersion { workflow: self.workflow.clone(), version };
        Ok(known.ok_or_else(unknown)?.signals().refuse(name, body))
    }
}

/// The instance of a business key, whose row is locked.
struct Target {
    instance_id: Uuid,
    version: u32,
    ended: bool,
}

async fn lock(
    connection: &mut PgConnection,
    workflow: &str,
    business_key: &str,
) -> Result<Option<Target>, Error> {
    let row = sqlx::query!(
        "select instance_id, version, status from amends.instance
         where workflow = $1 and business_key = $2
         for update",
        workflow,
        business_key,
    )
    .fetch_optional(connection)
    .await?;
    let target = row.map(|row| {
        let ended = row.status.parse::<Status>()?.is_terminal();
        let (instance_id, version) = (row.instance_id, row.version.cast_unsigned());
        Ok(Target { instance_id, version, ended })
    });
    target.transpose()
}

/// Sends a signal, once per id. Without an instance it is kept; whoever kept one looks again with
/// [`look_again`] once that is durable.
pub(crate) async fn send_signal(
    connection: &mut PgConnection,
    judge: &Judge,
    sent: &Sent,
) -> Result<Signalled, Error> {
    let Some(target) = lock(connection, &judge.workflow, &sent.business_key).await? else {
        judge.judge(None, sent)?;
        return keep_early(connection, &judge.workflow, sent).await;
    };
    // What came before the instance comes before this.
    hand_over(connection, judge, &target, &sent.business_key).await?;
    let instance_id = target.instance_id;
    match is_known(connection, instance_id, sent).await? {
        Some(Content::Same) => return Ok(Signalled::Replayed(instance_id)),
        Some(Content::Other) => return Err(Error::SignalIdReused),
        None => {}
    }
    if target.ended {
        return Ok(Signalled::AlreadyEnded(instance_id));
    }
    judge.judge(Some(target.version), sent)?;
    post(connection, instance_id, sent, None).await?;
    Ok(Signalled::Accepted(instance_id))
}

/// Puts a signal into the mail of an instance whose row is locked.
async fn post(
    connection: &mut PgConnection,
    instance_id: Uuid,
    sent: &Sent,
    refused: Option<&str>,
) -> Result<(), sqlx::Error> {
    let letter = Letter {
        kind: Kind::Signal,
        name: &sent.name,
        body: &sent.body,
        actor: &sent.sender,
        mail_id: sent.signal_id.as_deref(),
        refused,
        sent_at: sent.at,
    };
    send(connection, instance_id, &letter).await
}

/// What a signal says that is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Other,
}

impl Content {
    fn of(same: bool) -> Self {
        if same { Self::Same } else { Self::Other }
    }
}

/// Whether an instance had this signal before. One without an id is always another one.
async fn is_known(
    connection: &mut PgConnection,
    instance_id: Uuid,
    sent: &Sent,
) -> Result<Option<Content>, sqlx::Error> {
    let same = sqlx::query_scalar!(
        r#"select body::text = $5 as "same!" from amends.mail
           where instance_id = $1 and kind = 'signal' and mail_id = $2 and name = $3 and actor = $4"#,
        instance_id,
        sent.signal_id,
        sent.name,
        sent.sender,
        sent.body,
    )
    .fetch_optional(connection)
    .await?;
    Ok(same.map(Content::of))
}

/// Keeps a signal for an instance that is not there.
async fn keep_early(
    connection: &mut PgConnection,
    workflow: &str,
    sent: &Sent,
) -> Result<Signalled, Error> {
    // What is in the way may be handed over in between.
    loop {
        if insert_early(connection, workflow, sent).await? {
            return Ok(Signalled::Kept);
        }
        match is_kept(connection, workflow, sent).await? {
            Some(Content::Same) => return Ok(Signalled::Kept),
            Some(Content::Other) => return Err(Error::SignalIdReused),
            None => {}
        }
    }
}

/// `false`: something that is kept is in the way.
async fn insert_early(
    connection: &mut PgConnection,
    workflow: &str,
    sent: &Sent,
) -> Result<bool, sqlx::Error> {
    // Releases that know no `sender_id` find a signal by `signal_id`, in which an id stands once.
    let inserted = sqlx::query!(
        "insert into amends.early_signal
             (workflow, business_key, sender_id, signal_id, name, body, sender, sent_at)
         values ($1, $2, $3,
                 case when not exists (
                     select from amends.early_signal
                     where workflow = $1 and business_key = $2 and signal_id = $3
                 ) then $3 end,
                 $4, $5::text::json, $6, $7)
         on conflict do nothing",
        workflow,
        sent.business_key,
        sent.signal_id,
        sent.name,
        sent.body,
        sent.sender,
        sent.at,
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

async fn is_kept(
    connection: &mut PgConnection,
    workflow: &str,
    sent: &Sent,
) -> Result<Option<Content>, sqlx::Error> {
    let same = sqlx::query_scalar!(
        r#"select body::text = $6 as "same!" from amends.early_signal
           where workflow = $1 and business_key = $2 and coalesce(sender_id, signal_id) = $3
             and name = $4 and sender = $5"#,
        workflow,
        sent.business_key,
        sent.signal_id,
        sent.name,
        sent.sender,
        sent.body,
    )
    .fetch_optional(connection)
    .await?;
    Ok(same.map(Content::of))
}

/// Says what has come of a signal that was kept: its instance may have been started meanwhile, have
/// taken it, and have ended.
pub(crate) async fn look_again(
    connection: &mut PgConnection,
    judge: &Judge,
    sent: &Sent,
) -> Result<Signalled, Error> {
    let Some(target) = adopt(connection, judge, &sent.business_key).await? else {
        return Ok(Signalled::Kept);
    };
    match is_known(connection, target.instance_id, sent).await? {
        // Another one had come to the instance under this id before this one could be seen there.
        Some(Content::Other) => Err(Error::SignalIdReused),
        None if target.ended => Ok(Signalled::AlreadyEnded(target.instance_id)),
        Some(Content::Same) | None => Ok(Signalled::Accepted(target.instance_id)),
    }
}

/// Hands the signals that were kept for a business key to its instance, if there is one by now.
async fn adopt(
    connection: &mut PgConnection,
    judge: &Judge,
    business_key: &str,
) -> Result<Option<Target>, Error> {
    let target = lock(connection, &judge.workflow, business_key).await?;
    if let Some(target) = &target {
        hand_over(connection, judge, target, business_key).await?;
    }
    Ok(target)
}

/// The same, for the instance itself.
pub(crate) async fn adopt_early(
    connection: &mut PgConnection,
    judge: &Judge,
    business_key: &str,
) -> Result<(), Error> {
    adopt(connection, judge, business_key).await.map(drop)
}

/// Moves signals that were kept to the mail of their instance, whose row is locked. One that has
/// ended does not get them.
async fn hand_over(
    connection: &mut PgConnection,
    judge: &Judge,
    target: &Target,
    business_key: &str,
) -> Result<(), Error> {
    let mut early = sqlx::query!(
        r#"
        delete from amends.early_signal
        where workflow = $1 and business_key = $2
        returning early_id, coalesce(sender_id, signal_id) as signal_id, name,
                  body::text as "body!", sender, sent_at
        "#,
        judge.workflow,
        business_key,
    )
    .fetch_all(&mut *connection)
    .await?;
    early.sort_by_key(|signal| signal.early_id);
    for signal in early {
        let sent = Sent {
            business_key: business_key.to_owned(),
            name: signal.name,
            body: signal.body,
            sender: signal.sender,
            signal_id: signal.signal_id,
            at: signal.sent_at,
        };
        // The same signal may have found the instance by itself when it was repeated.
        if Bug::EarlySignalDropped.is_on()
            || target.ended
            || is_known(connection, target.instance_id, &sent).await?.is_some()
        {
            continue;
        }
        // It was held against the newest version. Where this build does not have that of the
        // instance, nobody knows better.
        let misfit = judge.misfit(target.version, &sent.name, &sent.body).unwrap_or_default();
        let misfit = misfit.map(|why| format!("{why}, in version {}", target.version));
        post(connection, target.instance_id, &sent, misfit.as_deref()).await?;
    }
    Ok(())
}
