//! Memory and idle load of a worker, without and with many instances that wait.

use std::time::Duration;

use amends::{Engine, Workflow};
use chrono::{TimeDelta, Utc};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::sleeper::{Sleeper, start};

/// Copies of one instance that sleeps for a day, with its history.
const COPIES: &str = "
    with pattern as (
        select i.*, gen_random_uuid() as copy_id, n
        from amends.instance i, generate_series(1, $1) n
        where i.business_key = 'pattern'
    ), copied as (
        insert into amends.instance
            (instance_id, workflow, version, business_key, status, run_at, attributes,
             head_seq, head_hash, created_at, updated_at)
        select copy_id, workflow, version, 'copy/' || n, status, run_at, attributes,
               head_seq, head_hash, created_at, updated_at
        from pattern
    )
    insert into amends.record (instance_id, seq, kind, step, payload, at, hash)
    select p.copy_id, r.seq, r.kind, r.step, r.payload, r.at, r.hash
    from pattern p join amends.record r on r.instance_id = p.instance_id";

pub(crate) async fn measure(options: PgConnectOptions, count: usize) {
    let engine = Engine::builder(options.clone()).workflow(Sleeper).open().await;
    let engine = engine.expect("the engine opens");
    let until = Utc::now() + TimeDelta::days(1);
    start(&engine, Sleeper::NAME, "pattern".to_owned(), &until).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (empty, cpu) = (resident_kib(), cpu_ticks());
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!("one waiting: {empty} KiB resident, {} ticks of 10 ms in 20 s", cpu_ticks() - cpu);
    let mut database = options.connect().await.expect("the database answers");
    sqlx::query(COPIES).bind(count as i64).execute(&mut database).await.expect("copies are made");
    sqlx::query("vacuum analyze amends.instance").execute(&mut database).await.expect("vacuumed");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cpu = cpu_ticks();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let full = resident_kib();
    println!("{count} waiting: {full} KiB resident, {} ticks of 10 ms in 20 s", cpu_ticks() - cpu);
    engine.shutdown().await.expect("it leaves");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// User and system time of this process.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11..13].iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
