//! Whose locks keep what is to be written waiting. Nobody waits to find out.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::Pool;

/// Those of these instances whose rows somebody else has locked.
pub(crate) async fn locked_instances(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with free as materialized (
               select instance_id from amends.instance
               where instance_id = any($1) order by instance_id
               for no key update skip locked)
           select instance_id from amends.instance
           where instance_id = any($1) and instance_id not in (select instance_id from free)"#,
        ids,
    )
    .fetch_all(connection)
    .await
}

/// Whether somebody else has locked the row of a worker, which its every write needs.
pub(crate) async fn is_worker_locked(
    connection: &mut PgConnection,
    worker_id: Uuid,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with free as materialized (
               select worker_id from amends.worker where worker_id = $1
               for key share skip locked)
           select exists (select from amends.worker where worker_id = $1)
               and not exists (select from free) as "is_locked!""#,
        worker_id,
    )
    .fetch_one(connection)
    .await
}

/// Those of these rows of the outbox that somebody else has locked.
pub(crate) async fn locked_events(pool: &Pool, ids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with free as materialized (
               select outbox_id from amends.outbox
               where outbox_id = any($1) order by outbox_id
               for update skip locked)
           select outbox_id from amends.outbox
           where outbox_id = any($1) and outbox_id not in (select outbox_id from free)"#,
        ids,
    )
    .fetch_all(pool)
    .await
}

/// Those of these keys of a subscription whose blocks somebody else has locked.
pub(crate) async fn locked_blocks(
    pool: &Pool,
    subscription: &str,
    keys: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with free as materialized (
               select key from amends.key_block
               where subscription = $1 and key = any($2) order by key
               for no key update skip locked)
           select key from amends.key_block
           where subscription = $1 and key = any($2) and key not in (select key from free)"#,
        subscription,
        keys,
    )
    .fetch_all(pool)
    .await
}
