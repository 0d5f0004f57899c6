//! What people read: instances, lists, histories.

use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::Error;
use crate::priority::Priority;
use crate::step::Failure;
use crate::store::Pool;
use crate::view::{Filter, InstanceView, RecordView};

/// Lists instances, newest first.
pub(crate) async fn instances(pool: &Pool, filter: &Filter) -> Result<Vec<InstanceView>, Error> {
    let (name, value) = filter.attribute.clone().unzip();
    let ids = sqlx::query_scalar!(
        r#"
        select i.instance_id
        from amends.instance i
        where ($1::text is null or i.status = $1)
          and ($2::text is null or i.workflow = $2)
          and ($3::text is null or i.business_key = $3)
          -- Not `in`: what is not known to be wanted when it is planned would look at every row.
          and ($4::text is null or i.instance_id = any (array(
                select a.instance_id from amends.attribute a where a.name = $4 and a.value = $5)))
          and ($6::timestamptz is null or i.created_at >= $6)
          and ($7::timestamptz is null or i.created_at < $7)
          and ($8::uuid is null or i.instance_id < $8)
        order by i.instance_id desc
        limit $9
        "#,
        filter.status.map(|status| status.as_str()),
        filter.workflow,
        filter.business_key,
        name,
        value,
        filter.created_from,
        filter.created_before,
        filter.before,
        i64::from(filter.limit.clamp(1, 200)),
    )
    .fetch_all(pool)
    .await?;
    let mut found: HashMap<Uuid, InstanceView> =
        by_ids(pool, &ids).await?.into_iter().map(|view| (view.instance_id, view)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// Reads one instance.
pub(crate) async fn instance(
    pool: &Pool,
    instance_id: Uuid,
) -> Result<Option<InstanceView>, Error> {
    Ok(by_ids(pool, &[instance_id]).await?.pop())
}

async fn by_ids(pool: &Pool, ids: &[Uuid]) -> Result<Vec<InstanceView>, Error> {
    let rows = sqlx::query!(
        r#"
        select i.instance_id, i.workflow, i.version, i.business_key, i.status, i.run_at,
               i.failure_code, i.failure_message, i.past_pivot, i.held, i.parked_on, i.priority,
               i.parent_id, i.created_at, i.updated_at,
               i.ended_at, last.step as "step?",
               i.attributes as "attributes: sqlx::types::Json<BTreeMap<String, String>>"
        from amends.instance i
        left join lateral (
            select r.step from amends.record r
            where r.instance_id = i.instance_id and r.step is not null
            order by r.seq desc limit 1
        ) last on true
        where i.instance_id = any($1)
        "#,
        ids,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(InstanceView {
                instance_id: row.instance_id,
                workflow: row.workflow,
                version: row.version.cast_unsigned(),
                business_key: row.business_key,
                status: row.status.parse()?,
                step: row.step,
                failure: row
                    .failure_code
                    .map(|code| Failure::new(code, row.failure_message.unwrap_or_default())),
                run_at: row.run_at,
                past_pivot: row.past_pivot,
                held: row.held,
                parked_on: row.parked_on,
                priority: Priority::read(row.priority),
                parent_id: row.parent_id,
                attributes: row.attributes.0,
                created_at: row.created_at,
                updated_at: row.updated_at,
                ended_at: row.ended_at,
            })
        })
        .collect()
}

/// Reads a history, in order.
pub(crate) async fn history(pool: &Pool, instance_id: Uuid) -> Result<Vec<RecordView>, Error> {
    let raw = |json: String| {
        RawValue::from_string(json).map_err(|error| Error::Stored(error.to_string()))
    };
    let records = super::claim::histories(pool, &[instance_id]).await?.remove(&instance_id);
    records
        .unwrap_or_default()
        .into_iter()
        .map(|record| {
            Ok(RecordView {
                seq: record.seq,
                kind: record.kind.into_owned(),
                step: record.step,
                attempt: record.attempt,
                payload: raw(record.payload)?,
                events: record.events.map(raw).transpose()?,
                actor: record.actor,
                at: record.at,
                hash: record.hash,
            })
        })
        .collect()
}

/// Instances after `after`, up to `last`, that have records but no row, each with the first of these.
pub(crate) async fn rowless(
    pool: &Pool,
    after: Uuid,
    last: Uuid,
) -> Result<Vec<(Uuid, u32)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select r.instance_id, min(r.seq) as "seq!" from amends.record r
           where r.instance_id > $1 and r.instance_id <= $2 and not exists (
               select from amends.instance i where i.instance_id = r.instance_id)
           group by r.instance_id order by r.instance_id"#,
        after,
        last,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.instance_id, row.seq.cast_unsigned())).collect())
}

/// The next instances after `after` in order of id, with the head that each row knows.
pub(crate) async fn heads(
    pool: &Pool,
    after: Uuid,
    limit: i64,
) -> Result<Vec<(Uuid, u32, Vec<u8>)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select instance_id, head_seq, head_hash from amends.instance
         where instance_id > $1 order by instance_id limit $2",
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.instance_id, row.head_seq.cast_unsigned(), row.head_hash))
        .collect())
}
