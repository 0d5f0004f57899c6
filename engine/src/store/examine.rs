//! What a database and those who use it are like, asked all at once: for a person who wants to know
//! whether it can be relied on.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// What all is judged by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) version: i32,
    pub(crate) now: DateTime<Utc>,
    pub(crate) autovacuum: bool,
    /// Sessions that may still be opened.
    pub(crate) sessions_left: i64,
    pub(crate) is_superuser: bool,
    pub(crate) owns_schema: bool,
    /// The age of the oldest snapshot in seconds: what has ended since cannot be cleared away.
    pub(crate) oldest_snapshot_seconds: f64,
}

pub(crate) async fn settings(connection: &mut PgConnection) -> Result<Settings, sqlx::Error> {
    sqlx::query_as!(
        Settings,
        r#"select current_setting('server_version_num')::int / 10000 as "version!",
                  clock_timestamp() as "now!",
                  current_setting('autovacuum')::bool as "autovacuum!",
                  current_setting('max_connections')::bigint
                      - current_setting('superuser_reserved_connections')::bigint
                      - (select count(*) from pg_catalog.pg_stat_activity
                         where backend_type = 'client backend') as "sessions_left!",
                  (select rolsuper from pg_catalog.pg_roles where rolname = current_user)
                      as "is_superuser!",
                  exists (select from pg_catalog.pg_class
                          where relnamespace = 'amends'::regnamespace
                            and pg_has_role(relowner, 'member')) as "owns_schema!",
                  coalesce(extract(epoch from max(clock_timestamp() - xact_start)), 0)::float8
                      as "oldest_snapshot_seconds!"
           from pg_catalog.pg_stat_activity
           where backend_xmin is not null and pid <> pg_backend_pid()"#
    )
    .fetch_one(connection)
    .await
}

/// Triggers of the schema that are switched off, and indexes that were not finished.
pub(crate) async fn broken_objects(
    connection: &mut PgConnection,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select name as "name!" from (
               select format('trigger %s', tgname) as name
               from pg_catalog.pg_trigger join pg_catalog.pg_class c on c.oid = tgrelid
               where c.relnamespace = 'amends'::regnamespace
                 and not tgisinternal and tgenabled in ('D', 'R')
               union all
               select format('index %s', indexrelid::regclass)
               from pg_catalog.pg_index join pg_catalog.pg_class c on c.oid = indrelid
               where c.relnamespace = 'amends'::regnamespace and not indisvalid
           ) as broken order by name"#
    )
    .fetch_all(connection)
    .await
}

/// Who works here.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) live: i64,
    /// Those whose leases ran out more than half a minute ago, and that nobody has taken over.
    pub(crate) forgotten: i64,
    /// Instances that are held by workers that are not there.
    pub(crate) orphans: i64,
}

pub(crate) async fn workers(connection: &mut PgConnection) -> Result<Workers, sqlx::Error> {
    sqlx::query_as!(
        Workers,
        r#"select count(*) filter (where lease_until > clock_timestamp()) as "live!",
                  count(*) filter (where lease_until < clock_timestamp() - interval '30 seconds')
                      as "forgotten!",
                  (select count(*) from amends.instance i
                   where i.worker_id is not null and not exists
                       (select from amends.worker w where w.worker_id = i.worker_id))
                      as "orphans!"
           from amends.worker"#
    )
    .fetch_one(connection)
    .await
}

/// Instances of a version that have been due for a minute, and that no live worker can run.
#[derive(Debug)]
pub(crate) struct Unclaimable {
    pub(crate) workflow: String,
    pub(crate) version: i32,
    pub(crate) count: i64,
    pub(crate) since: DateTime<Utc>,
}

pub(crate) async fn unclaimable(
    connection: &mut PgConnection,
) -> Result<Vec<Unclaimable>, sqlx::Error> {
    sqlx::query_as!(
        Unclaimable,
        r#"select workflow, version, count(*) as "count!", min(run_at) as "since!"
           from amends.instance i
           where worker_id is null and run_at < clock_timestamp() - interval '60 seconds'
             and not exists (
                 select from amends.worker w
                 where w.lease_until > clock_timestamp()
                   and (w.workflows is null
                        or i.workflow || '@' || i.version = any(w.workflows)))
           group by workflow, version order by min(run_at)"#
    )
    .fetch_all(connection)
    .await
}

/// What waits for a person, or for somebody who does not come.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) stuck: i64,
    pub(crate) cases: i64,
    /// Keys of events that wait for a person.
    pub(crate) parked_keys: i64,
    pub(crate) leftovers: i64,
}

pub(crate) async fn waiting(connection: &mut PgConnection) -> Result<Waiting, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"select (select count(*) from amends.instance where status = 'stuck') as "stuck!",
                  (select count(*) from amends.intake_case where settled_at is null) as "cases!",
                  (select count(*) from amends.key_block where parked_at is not null)
                      as "parked_keys!",
                  (select count(*) from amends.leftover) as "leftovers!""#
    )
    .fetch_one(connection)
    .await
}
