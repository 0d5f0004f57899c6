//! Somebody who is no server and has rights in its database: locks, rules and settings of his own.

use std::time::Duration;

use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::sleep;
use uuid::Uuid;

use crate::scene::Scene;
use amends_tests::chance::Chance;

/// What is refused at present, and how.
pub(crate) const TABLE: &str = "
    create table chaos.refused (instance_id uuid primary key, code text not null);
    create function chaos.refuse() returns trigger language plpgsql as $$
        declare found text; begin
            select code into found from chaos.refused where instance_id = new.instance_id;
            if found is not null then
                raise exception 'chaos wants none of it' using errcode = found;
            end if;
            return new;
        end $$;";
/// Once there is a table of records.
pub(crate) const RULE: &str = "
    create trigger chaos before insert on amends.record
    for each row execute function chaos.refuse()";

/// Errors of every class that a statement may end with.
const CODES: [&str; 24] = [
    "08006", "0A000", "0L000", "20000", "21000", "22003", "23514", "25006", "28000", "2BP01",
    "38000", "39000", "40001", "42501", "42703", "53100", "54000", "55000", "57014", "58030",
    "F0000", "HV000", "P0001", "XX001",
];

/// What others may lock without a thought.
const TABLES: [&str; 6] = ["instance", "record", "ledger", "mail", "outbox", "delivery"];

/// Settings of a database that nobody had the engine in mind for.
const SETTINGS: [(&str, &str); 11] = [
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "'20ms'"),
    ("lock_timeout", "'5ms'"),
    ("idle_session_timeout", "'300ms'"),
    ("search_path", "pg_catalog"),
    ("synchronous_commit", "off"),
    ("client_encoding", "'LATIN1'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("plan_cache_mode", "force_custom_plan"),
    ("row_security", "on"),
];

/// What he does, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Act {
    /// Locks the row of an instance that is not over, as somebody does who has forgotten to commit.
    LockRow { salt: u64 },
    /// Locks a table of the engine's.
    LockTable { salt: u64 },
    /// Has the database refuse every record of an instance that is not over, with an error of one kind
    /// or another.
    RefuseRecords { salt: u64 },
    /// Has sessions begin with settings that the engine cannot work with.
    ForeignSettings,
}

impl Act {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::LockRow { .. } => "rows locked by strangers",
            Self::LockTable { .. } => "tables locked by strangers",
            Self::RefuseRecords { .. } => "instances whose records were refused for a while",
            Self::ForeignSettings => "times that sessions began with foreign settings",
        }
    }
}

/// Does it, and takes it back after so long. Says whether there was something to do it to: not, while
/// there is no database.
pub(crate) async fn perform(scene: &Scene, act: Act, how_long: Duration) -> bool {
    let done = match act {
        Act::LockRow { salt } => {
            lock(scene, &format!("{} for update", living(salt)), how_long).await
        }
        Act::LockTable { salt } => {
            let statement =
                format!("lock table amends.{} in access exclusive mode", one_of(&TABLES, salt));
            lock(scene, &statement, how_long).await.map(|_| true)
        }
        Act::RefuseRecords { salt } => refuse_records(scene, how_long, salt).await,
        Act::ForeignSettings => set_foreign_settings(scene, how_long).await,
    };
    done.unwrap_or(false)
}

fn one_of<'a>(these: &[&'a str], salt: u64) -> &'a str {
    these[Chance::of(salt, "one of these", 0).within(0..these.len() as u64) as usize]
}

/// Says whether there was a row, if it is one that is locked.
async fn lock(scene: &Scene, statement: &str, how_long: Duration) -> sqlx::Result<bool> {
    let mut database = scene.database().await?;
    let mut transaction = database.begin().await?;
    transaction.execute("set local lock_timeout = '1s'").await?;
    let locked = transaction.fetch_optional(AssertSqlSafe(statement)).await?;
    sleep(how_long).await;
    transaction.rollback().await?;
    Ok(locked.is_some())
}

async fn refuse_records(scene: &Scene, how_long: Duration, salt: u64) -> sqlx::Result<bool> {
    let chosen = sqlx::query_scalar::<_, Uuid>(AssertSqlSafe(living(salt)));
    let chosen = chosen.fetch_optional(&mut scene.database().await?).await?;
    let Some(instance_id) = chosen else { return Ok(false) };
    let code = one_of(&CODES, salt);
    let refuse = format!(
        "insert into chaos.refused values ('{instance_id}', '{code}') on conflict do nothing"
    );
    let refused = scene.database().await?.execute(AssertSqlSafe(refuse)).await;
    if refused.is_ok() {
        sleep(how_long).await;
    }
    // Also if the answer was lost: it may be refused all the same.
    let allow = format!("delete from chaos.refused where instance_id = '{instance_id}'");
    until_done(scene, &[allow]).await;
    refused.map(|done| done.rows_affected() == 1)
}

async fn set_foreign_settings(scene: &Scene, how_long: Duration) -> sqlx::Result<bool> {
    let mut database = scene.database().await?;
    for (name, value) in SETTINGS {
        let set = format!("alter database amends set {name} = {value}");
        if database.execute(AssertSqlSafe(set)).await.is_err() {
            break;
        }
    }
    sleep(how_long).await;
    let reset = SETTINGS.map(|(name, _)| format!("alter database amends reset {name}"));
    until_done(scene, &reset).await;
    Ok(true)
}

/// Whatever happens to the database meanwhile, nothing is left behind.
async fn until_done(scene: &Scene, statements: &[String]) {
    loop {
        if let Ok(mut database) = scene.database().await
            && all(&mut database, statements).await.is_ok()
        {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn all(database: &mut PgConnection, statements: &[String]) -> sqlx::Result<()> {
    for statement in statements {
        database.execute(AssertSqlSafe(statement.as_str())).await?;
    }
    Ok(())
}

/// Selects an instance that is not over, by chance.
fn living(salt: u64) -> String {
    format!(
        "select instance_id from amends.instance where ended_at is null
         order by md5(instance_id::text || '{salt}') limit 1"
    )
}
