//! A database that has been in use for long, and what its server says of each plan that it makes.

use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::sync::OnceCell;

use crate::cluster;
use crate::detour::Detour;

static CROWDED: OnceCell<PgConnectOptions> = OnceCell::const_new();

/// How many instances there are: most have ended, one in a hundred waits.
pub const INSTANCES: usize = 200_000;

/// Each has two records, two messages, an attribute, money, a delivery and a command. Events wait
/// for nobody, since whoever wanted them has them.
const CROWD: [&str; 11] = [
    "insert into amends.instance
         (instance_id, workflow, version, business_key, status, run_at, attributes, mail_count,
          mail_read, head_seq, head_hash, created_at, updated_at, ended_at, parked_on, parent_id,
          parent_told)
     select gen_random_uuid(), 'crowded', 1, 'crowd/' || n,
            case when n % 100 = 1 then 'waiting' else 'completed' end,
            case when n % 200 = 1 then timestamptz '2100-01-01' end, '{}', 2, 2, 1, sha256('x'),
            now(), now(), case when n % 100 <> 1 then now() end,
            case when n % 200 = 101 then 'elsewhere' end,
            case when n % 10 = 5 then gen_random_uuid() end, n % 10 = 5
     from generate_series(1, 200000) n",
    "insert into amends.record (instance_id, seq, kind, step, payload, at, hash)
     select instance_id, seq, case seq when 0 then 'started' else 'ended' end, 'a', '{}', now(),
            head_hash
     from amends.instance, generate_series(0, 1) seq",
    "insert into amends.mail (instance_id, mail_seq, kind, name, body, actor, sent_at, mail_id)
     select instance_id, n, 'signal', 'packed', '{}', 'crowd', now(), n::text
     from amends.instance, generate_series(1, 2) n",
    "insert into amends.attribute (name, value, instance_id)
     select 'email', business_key || '@example.com', instance_id from amends.instance",
    "insert into amends.ledger (instance_id, seq, ordinal, kind, amount_minor, currency, reference)
     select instance_id, 1, 0, 'capture', 100, 'EUR', 'x' from amends.instance",
    "insert into amends.delivery (delivery_id, source, external_id, digest, body, received_at)
     select instance_id, 'crowd', business_key, head_hash, '', now() from amends.instance",
    "insert into amends.command
         (command_id, instance_id, command, actor, reason, status_seen, answer, given_at)
     select gen_random_uuid(), instance_id, 'resume', 'anna', 'x', 'stuck', 'accepted', now()
     from amends.instance",
    "insert into amends.early_signal
         (workflow, business_key, signal_id, name, body, sender, sent_at)
     select 'crowded', 'early/' || n, n, 'packed', '{}', 'crowd', now()
     from generate_series(1, 200000) n",
    "insert into amends.schedule (name, definition, cron, zone, workflow, gap, overlap, next_at)
     select 's' || n, 's' || n, '* * * * *', 'UTC', 'w', 'last', 'skip', '2100-01-01'
     from generate_series(1, 100) n",
    "insert into amends.firing (schedule, fire_key, fire_at, kind, state, turn, planned_at)
     select 's' || n % 100, n, now(), 'due', 'started', n, now()
     from generate_series(1, 200000) n",
    "vacuum analyze",
];

/// A crowded database whose server remarks on every plan it has carried out.
pub async fn database() -> PgConnectOptions {
    let template = CROWDED.get_or_init(crowd).await;
    let options = cluster::clone(template).await;
    let name = options.get_database().expect("it has a name");
    let mut database = options.connect().await.expect("the cluster answers");
    for setting in [
        "session_preload_libraries = auto_explain",
        "client_min_messages = log",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "auto_explain.log_timing = off",
        "auto_explain.log_format = json",
    ] {
        let set = format!("alter database {name} set {setting}");
        database.execute(AssertSqlSafe(set)).await.expect("a database can be set up");
    }
    options
}

async fn crowd() -> PgConnectOptions {
    let options = cluster::database().await;
    let mut database = options.connect().await.expect("the cluster answers");
    for statement in CROWD {
        database.execute(statement).await.expect("a crowd can be made");
    }
    database.close().await.expect("the connection closes");
    options
}

/// A statement as it was carried out.
#[derive(Debug)]
pub struct Planned {
    /// Its text.
    pub statement: String,
    /// How it was done.
    pub plan: Value,
}

/// What the server has remarked on plans since this was last asked.
#[must_use]
pub fn plans(detour: &Detour) -> Vec<Planned> {
    let remarks = detour.take_notices().into_iter();
    remarks.filter_map(|remark| planned(&remark)).collect()
}

fn planned(remark: &str) -> Option<Planned> {
    let (_, json) = remark.split_once("plan:\n")?;
    let mut said: Value = serde_json::from_str(json).expect("a plan is JSON");
    let statement = said["Query Text"].as_str().expect("it has a text").to_owned();
    Some(Planned { statement, plan: said["Plan"].take() })
}
