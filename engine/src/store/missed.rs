//! Why writes that did not go in did not.

use sqlx::PgConnection;
use uuid::Uuid;

use super::write::{Bearer, NewInstance, Write, Written};

/// Judges writes of held instances.
pub(crate) async fn held(
    connection: &mut PgConnection,
    worker_id: Uuid,
    write: &Write,
) -> Result<Written, sqlx::Error> {
    let record = write.first_record();
    let seen = sqlx::query!(
        r#"
        select i.worker_id, i.claim_id, i.revision, i.mail_count,
               exists (
                   select from amends.record r
                   where r.instance_id = i.instance_id and r.seq = $2 and r.hash = $3
               ) as "recorded!",
               exists (
                   select from amends.early_signal e
                   where e.workflow = i.workflow and e.business_key = i.business_key
               ) as "early!"
        from amends.instance i
        where i.instance_id = $1
        "#,
        write.instance_id,
        record.map_or(-1, |record| record.seq.cast_signed()),
        record.map_or(&[][..], |record| &record.hash[..]),
    )
    .fetch_optional(connection)
    .await?;
    let Some(seen) = seen else {
        return Ok(Written::Fenced);
    };
    // An earlier send of the same batch went in; its answer was lost. Only the holder counts the
    // revision up, and it does not go on before it has this answer.
    let went_in = match (record, &write.change) {
        (Some(_), _) => seen.recorded,
        (None, Some(change)) => seen.revision >= change.revision,
        (None, None) => true,
    };
    let is_held = seen.worker_id == Some(worker_id) && seen.claim_id == write.claim_id;
    Ok(match &write.change {
        _ if went_in => Written::Yes,
        Some(change)
            if is_held
                && !change.leaves_mail
                && (seen.early || seen.mail_count != change.mail_read) =>
        {
            Written::UnreadMail
        }
        _ => Written::Fenced,
    })
}

/// Judges deliveries and starts.
pub(crate) async fn intake(
    connection: &mut PgConnection,
    write: &Write,
) -> Result<Written, sqlx::Error> {
    let mut about = write.start.is_some().then(|| write.about.business_key.clone());
    if let Some(delivery) = &write.delivery {
        let known = sqlx::query!(
            "select delivery_id, digest, business_key from amends.delivery
             where source = $1 and external_id = $2",
            delivery.source,
            delivery.external_id,
        )
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(known) = &known
            && known.delivery_id == write.instance_id
            && write.start.is_none()
        {
            return Ok(Written::Yes);
        }
        if let Some(known) = known
            && known.delivery_id != write.instance_id
        {
            if known.digest != delivery.digest {
                return Ok(Written::Conflict);
            }
            about = known.business_key;
            let first = existing(connection, write, about.as_deref()).await?;
            // A delivery that started nothing has no instance; its own id stands for it.
            return Ok(Written::Replayed(first.unwrap_or(known.delivery_id)));
        }
    }
    let first = existing(connection, write, about.as_deref()).await?;
    Ok(match first {
        Some(first) if first == write.instance_id && is_ours(connection, write).await? => {
            Written::Yes
        }
        Some(first) => Written::Duplicate(first),
        None => match write.start.as_ref().and_then(|start| start.bearer.as_ref()) {
            Some(bearer) if is_held_by(connection, bearer).await? => Written::UnreadMail,
            _ => Written::Fenced,
        },
    })
}

/// Whether the parent of a child that was not written is held as its bearer believes: then it has
/// mail, or is being sent some.
async fn is_held_by(connection: &mut PgConnection, bearer: &Bearer) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from amends.instance
               where instance_id = $1 and claim_id is not distinct from $2
                 and worker_id is not null
           ) as "held!""#,
        bearer.parent_id,
        bearer.claim_id,
    )
    .fetch_one(connection)
    .await
}

/// Whether an instance with the id of this write was written by it. Others may use that id as well: a
/// child has the same one however often it is borne, and so has what is started for a delivery that
/// was kept. So only its claim tells whose it is, and who drives it. A child that is not claimed is
/// nobody's; for any other that is not, it makes no difference.
async fn is_ours(connection: &mut PgConnection, write: &Write) -> Result<bool, sqlx::Error> {
    let is_driven = |start: &&NewInstance| start.bearer.is_some() || start.claim_id.is_some();
    let Some(start) = write.start.as_ref().filter(is_driven) else {
        return Ok(true);
    };
    sqlx::query_scalar!(
        r#"select exists (
               select from amends.instance where claim_id = $2 and instance_id = $1
           ) as "ours!""#,
        write.instance_id,
        start.claim_id,
    )
    .fetch_one(connection)
    .await
}

async fn existing(
    connection: &mut PgConnection,
    write: &Write,
    business_key: Option<&str>,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select instance_id from amends.instance where workflow = $1 and business_key = $2",
        write.about.workflow,
        business_key,
    )
    .fetch_optional(connection)
    .await
}
