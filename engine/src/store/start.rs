//! Starting an instance within a transaction of the caller's.

use sqlx::PgConnection;

use super::commit::shard;
use super::missed;
use super::write::{NewInstance, Write, Written};
use crate::error::is_data_error;

/// Writes a start that nobody owns. Nothing but the caller's commit makes it durable.
pub(crate) async fn start_within(
    connection: &mut PgConnection,
    write: &Write,
    start: &NewInstance,
    subscriptions: &[String],
) -> Result<Written, sqlx::Error> {
    let Some(first) = write.records.first() else {
        return Ok(Written::Fenced);
    };
    let (record, delivery) = (&first.record, write.delivery.as_ref());
    let (names, values): (Vec<_>, Vec<_>) =
        start.attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).unzip();
    let written = sqlx::query_file_scalar!(
        "src/store/sql/start_within.sql",
        write.instance_id,
        delivery.map(|delivery| delivery.source.as_str()) as _,
        delivery.map(|delivery| delivery.external_id.as_str()) as _,
        delivery.map(|delivery| &delivery.digest[..]) as _,
        delivery.map(|delivery| delivery.body.as_slice()) as _,
        delivery.map(|delivery| delivery.received_at) as _,
        write.about.workflow,
        start.version.cast_signed(),
        write.about.business_key,
        start.created_at,
        &record.hash[..],
        start.attributes_json,
        start.priority.number(),
        &names,
        &values,
        &*record.kind,
        record.payload,
        record.events.as_deref() as _,
        shard(&write.about.business_key),
        first.events.cast_signed(),
        subscriptions,
    )
    .fetch_one(&mut *connection)
    .await;
    match written {
        Ok(true) => Ok(Written::Yes),
        Ok(false) => missed::intake(connection, write).await,
        Err(error) if is_data_error(&error) => Ok(Written::Refused(error.to_string())),
        Err(error) => Err(error),
    }
}
