//! Commits and sessions that nobody answers: the standby is away that every commit waits for, and
//! everything that is open leads to nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use amends_tests::orders;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use crate::guard::signal;
use crate::load::Load;
use crate::patroni::{configure, settled};
use crate::report::{Report, seconds};
use crate::scene::{SERVERS, Scene};

/// How long the standby is away.
const AWAY: Duration = Duration::from_secs(60);
/// How long sessions stay silent.
const SILENT: Duration = Duration::from_secs(30);
/// How often sessions are counted, and for how long before anything happens.
const COUNT: Duration = Duration::from_millis(500);
const BEFORE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// What Patroni takes at most to do what it is told.
const PATRONI: Duration = Duration::from_secs(7);
/// How many sessions more there may be than before.
const MORE_MAX: usize = 4;

/// An event, as it arrived.
#[derive(Debug, Deserialize)]
struct Arrival {
    subject: String,
    at: DateTime<Utc>,
}

/// The standby is away, and commits wait for it.
pub(crate) async fn standby_away(
    scene: &mut Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (primary, standby) = scene.roles().await?;
    let strict = |is_strict: bool| json!({ "synchronous_mode_strict": is_strict });
    configure(&scene.client, &scene.nodes[primary], &strict(true)).await?;
    let mut database = scene.nodes[primary].session().await?;
    sleep(PATRONI).await;
    let before = sessions_max(&mut database, BEFORE).await?;
    let begin = Utc::now();
    scene.nodes[standby].kill_patroni().await?;
    scene.nodes[standby].kill_postgres().await?;
    let during = sessions_max(&mut database, AWAY).await?;
    let kept = load.since(begin).iter().filter(|it| it.is_good()).count();
    report.told("standby away: 2xx in 60 s", &kept.to_string());
    report.told("standby away: sessions before", &before.to_string());
    report.at_most("standby away: most sessions meanwhile", during, before + MORE_MAX);
    scene.nodes[standby].start(&scene.guard)?;
    settled(&scene.client, &scene.nodes, "sync_standby").await;
    let back = Utc::now();
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let flows = load.kept(server, back, PATIENCE).await.map(|at| at - back);
        let flows = flows.map_or("never".to_owned(), |it| format!("{:.1} s", seconds(it)));
        report.told(&format!("standby away: orders flow after it is back, {how}"), &flows);
    }
    configure(&scene.client, &scene.nodes[primary], &strict(false)).await
}

/// Every session of our servers is silent, as if the network had swallowed it.
pub(crate) async fn black_hole(
    scene: &Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut database = scene.database().await?;
    let silent = silence(&mut database).await?;
    let begin = Utc::now();
    report.at_least("black hole: sessions that are silent", silent.len(), 10);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let kept = load.kept(server, begin, PATIENCE).await.map(|at| at - begin);
        report.seconds(&format!("black hole: orders are accepted again, {how}"), kept, 10.0);
    }
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let moves = moves(scene, load, server, begin).await?.map(|at| at - begin);
        report.seconds(&format!("black hole: their events arrive, {how}"), moves, 15.0);
    }
    if let Ok(rest) = (begin + SILENT - Utc::now()).to_std() {
        sleep(rest).await;
    }
    signal("CONT", &silent).await?;
    Ok(())
}

/// When the first event arrived of an order that a server has accepted since then.
async fn moves(
    scene: &Scene,
    load: &Load,
    server: usize,
    since: DateTime<Utc>,
) -> anyhow::Result<Option<DateTime<Utc>>> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let accepted = load.since(since);
        let accepted = accepted.iter().filter(|it| it.server == server && it.is_good());
        let keys = accepted.map(|it| orders::order(&it.order.to_string()).business_key());
        let keys: BTreeSet<_> = keys.collect();
        let arrivals: Vec<Arrival> = scene.witness("/events", "events").await?;
        let theirs = arrivals.iter().filter(|it| it.at >= since && keys.contains(&it.subject));
        if let Some(at) = theirs.map(|it| it.at).min() {
            return Ok(Some(at));
        }
        sleep(COUNT).await;
    }
    Ok(None)
}

/// Stops every process of the database that serves one of ours. One that is in the middle of a
/// statement goes on until it has ended it: behind a network that swallows everything it would, too.
async fn silence(database: &mut PgConnection) -> anyhow::Result<Vec<u32>> {
    let mut silent = BTreeSet::new();
    loop {
        let busy: Vec<(i32, bool)> = sqlx::query_as(
            "select pid, state <> 'idle' from pg_stat_activity
             where usename = any($1) and backend_type = 'client backend'",
        )
        .bind(SERVERS.map(|(user, _)| user))
        .fetch_all(&mut *database)
        .await?;
        let new = busy.iter().map(|(pid, _)| pid.unsigned_abs());
        let new: Vec<_> = new.filter(|pid| !silent.contains(pid)).collect();
        if new.is_empty() {
            let busy = busy.iter().filter(|(_, is_busy)| *is_busy);
            let busy: Vec<_> = busy.map(|(pid, _)| pid.unsigned_abs()).collect();
            if busy.is_empty() {
                return Ok(silent.into_iter().collect());
            }
            signal("CONT", &busy).await?;
            silent.retain(|pid| !busy.contains(pid));
            continue;
        }
        signal("STOP", &new).await?;
        silent.extend(new);
    }
}

/// The most sessions that our servers have at once, within such a time.
async fn sessions_max(database: &mut PgConnection, within: Duration) -> anyhow::Result<usize> {
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < within {
        let count: i64 =
            sqlx::query_scalar("select count(*) from pg_stat_activity where usename = any($1)")
                .bind(SERVERS.map(|(user, _)| user))
                .fetch_one(&mut *database)
                .await?;
        most = most.max(usize::try_from(count)?);
        sleep(COUNT).await;
    }
    Ok(most)
}
