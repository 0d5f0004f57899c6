//! Whose locks keep a batch of the write path waiting. Nobody waits to find out.

use sqlx::PgConnection;
use uuid::Uuid;

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
