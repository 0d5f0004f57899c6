//! The schema: which migrations are missing, how they are applied, and who may do what afterwards.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{Purpose, Store};
use crate::clock::Clock;
use crate::error::{Error, has_code, is_lock_timeout};

/// Held while migrations are applied. Nobody waits for it within a statement: an index that is built
/// concurrently waits for every statement that is older.
const LOCK: i64 = 0x616d_656e_6473;
const PAUSE: Duration = Duration::from_millis(200);
/// How often a migration is tried that does not get its locks.
const TRIES: u32 = 30;

/// What servers change, and what they delete. Everything else only grows.
const CHANGED: [&str; 11] = [
    "dependency",
    "dependency_slot",
    "firing",
    "instance",
    "intake_case",
    "key_block",
    "outbox_shard",
    "schedule",
    "stock",
    "subscription",
    "worker",
];
const DELETED: [&str; 7] = [
    "dependency_slot",
    "early_signal",
    "key_block",
    "leftover",
    "outbox",
    "stock_reservation",
    "worker",
];

const INSUFFICIENT_PRIVILEGE: &str = "42501";

impl Store {
    /// Applies the migrations that are missing, if any are. Where none is, nothing is written and no
    /// right to create anything is needed.
    pub(crate) async fn migrate(&self, clock: Clock) -> Result<(), Error> {
        let mut lent = self.pool().acquire().await?;
        let (session, watch) = lent.lend()?;
        let missing = watch.over(missing(session)).await?;
        if missing.is_empty() {
            return Ok(());
        }
        drop(lent);
        let mut connection = self.connect(Purpose::Migrating).await?;
        lock(&mut connection, &clock).await?;
        let applied = apply(&mut connection, &clock).await;
        applied.map_err(|error| explain(error, &missing))?;
        Ok(connection.close().await?)
    }

    /// Lets a role do what servers do, and nothing else: it creates nothing, and what is append-only
    /// it can neither change nor delete.
    pub(crate) async fn grant(&self, role: &str) -> Result<(), Error> {
        let mut connection = self.connect(Purpose::Migrating).await?;
        let quoted = sqlx::query_scalar!(r#"select quote_ident($1) as "role!""#, role);
        let role = quoted.fetch_one(&mut *connection).await?;
        let tables = |names: &[&str]| {
            names.iter().map(|name| format!("amends.{name}")).collect::<Vec<_>>().join(", ")
        };
        for statement in [
            format!("revoke all on all tables in schema amends from {role}"),
            format!("revoke all on schema amends from {role}"),
            format!("grant usage on schema amends to {role}"),
            format!("grant select, insert on all tables in schema amends to {role}"),
            format!("revoke insert on amends._sqlx_migrations from {role}"),
            format!("grant update on {} to {role}", tables(&CHANGED)),
            format!("grant delete on {} to {role}", tables(&DELETED)),
        ] {
            connection.execute(AssertSqlSafe(statement)).await?;
        }
        Ok(connection.close().await?)
    }
}

/// Those of this build. One that is not among them is of a newer build, and changes nothing that
/// this one relies on.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// The numbers of the migrations of this build that are not applied.
pub(crate) async fn missing(connection: &mut PgConnection) -> Result<Vec<i64>, Error> {
    let table = sqlx::query_scalar!(
        r#"select to_regclass('amends._sqlx_migrations') is not null as "is_there!""#
    );
    if !table.fetch_one(&mut *connection).await? {
        return Ok(migrator().iter().map(|migration| migration.version).collect());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from amends._sqlx_migrations where success")
            .fetch_all(connection)
            .await?;
    let applied: HashMap<_, _> = applied.into_iter().collect();
    let mut missing = Vec::new();
    for migration in migrator().iter() {
        match applied.get(&migration.version) {
            None => missing.push(migration.version),
            Some(checksum) if *checksum == *migration.checksum => {}
            Some(_) => return Err(MigrateError::VersionMismatch(migration.version).into()),
        }
    }
    Ok(missing)
}

async fn lock(connection: &mut PgConnection, clock: &Clock) -> Result<(), sqlx::Error> {
    loop {
        let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, LOCK);
        if locked.fetch_one(&mut *connection).await? {
            return Ok(());
        }
        clock.sleep(PAUSE).await;
    }
}

/// Applies what is missing. A migration that would have to wait for a lock lets others pass before it
/// is tried again: everybody who comes after it would wait behind it.
async fn apply(connection: &mut PgConnection, clock: &Clock) -> Result<(), MigrateError> {
    let migrator = migrator();
    let mut tries = 0;
    loop {
        prepare(connection).await?;
        tries += 1;
        // What `run` does, in a way that any task may.
        match migrator.run_direct(None, connection, false).await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
                if is_lock_timeout(&error) && tries < TRIES =>
            {
                tracing::warn!(%error, "a migration waits for a lock; it is tried again");
                clock.sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn explain(error: MigrateError, missing: &[i64]) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if has_code(&error, INSUFFICIENT_PRIVILEGE) =>
        {
            Error::UnsafeDatabase(format!(
                "lacks the migrations {missing:?}, and this role may not apply them: run \
                 `amends migrate` as the owner of the schema"
            ))
        }
        error => error.into(),
    }
}

/// Makes the schema, and clears away what an index that was not finished has left behind.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("create schema if not exists amends").await?;
    let unfinished = sqlx::query_scalar!(
        r#"select format('drop index concurrently %s', indexrelid::regclass) as "drop!"
           from pg_catalog.pg_index
           where not indisvalid and indrelid in
               (select oid from pg_catalog.pg_class where relnamespace = 'amends'::regnamespace)"#
    );
    for drop in unfinished.fetch_all(&mut *connection).await? {
        connection.execute(AssertSqlSafe(drop)).await?;
    }
    Ok(())
}
