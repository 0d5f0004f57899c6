//! A standby that lacks the last commits becomes the primary.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Connection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::guard::signal;
use crate::load::Load;
use crate::patroni::{Node, accepting, configure, settled};
use crate::report::{Report, seconds};
use crate::scene::{SERVERS, Scene};

/// For how long the standby gets nothing.
const BEHIND: Duration = Duration::from_secs(3);
/// How long it may take until something is noticed, or that it is not is said.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// The lease of a server that is not told another.
const LEASE_SECONDS: f64 = 30.0;
/// For how long orders are seen to be refused.
const REFUSED: Duration = Duration::from_secs(5);

/// What a server says once it has noticed a loss.
pub(crate) const NOTICED: &str = "THE DATABASE HAS LOST COMMITS";

/// What a standby says once it is the primary.
const PROMOTED: &str = "archive recovery complete";

/// An instance, and the worker that holds it.
type Held = (Uuid, Uuid);

/// Commits wait for nobody, the standby gets nothing any more, and the machine of the primary is
/// gone. Returns of which time commits are lost. The old primary is left where it is.
pub(crate) async fn commits_lost(
    scene: &mut Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<[DateTime<Utc>; 2]> {
    let (primary, standby) = scene.roles().await?;
    let asynchronous = json!({ "synchronous_mode": false });
    configure(&scene.client, &scene.nodes[primary], &asynchronous).await?;
    settled(&scene.client, &scene.nodes, "replica").await;
    nobody_is_waited_for(&scene.nodes[primary]).await?;
    let from = Utc::now();
    cut_off(&scene.nodes[primary]).await?;
    sleep(BEHIND).await;
    scene.nodes[primary].kill_patroni().await?;
    scene.nodes[primary].kill_postgres().await?;
    let to = Utc::now();
    let kept = load.since(from);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let kept = kept.iter().filter(|it| it.server == server && it.is_good()).count();
        report.at_least(&format!("commits lost: 2xx that go with them, {how}"), kept, 5);
    }

    let held = held(&scene.nodes[standby]).await?;
    report.at_least("commits lost: instances that the standby knows as held", held.len(), 1);
    let (node, accepts) = accepting(&[&scene.nodes[standby]]).await?;
    let told = format!("{:.1} s", seconds(accepts - to));
    report.told("commits lost: the standby accepts writes after", &told);
    let noticed = noticed(scene, node, to, report).await?;
    let ended = held_ends(node, &held, accepts).await?.map(|at| at - accepts);
    report.seconds("commits lost: none of them is held as before", ended, LEASE_SECONDS + 5.0);
    sleep(REFUSED).await;
    ready_says_so(scene, report).await?;
    acknowledged(scene, load, &noticed, report).await?;
    report.none("commits lost: records without an instance", &orphans(node).await?);
    Ok([from, to])
}

async fn nobody_is_waited_for(primary: &Node) -> anyhow::Result<()> {
    let mut database = primary.session().await?;
    let begin = Instant::now();
    loop {
        let names: String =
            sqlx::query_scalar("show synchronous_standby_names").fetch_one(&mut database).await?;
        if names.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "commits still wait for {names}");
        sleep(POLL).await;
    }
}

/// Stops who sends the standby what is committed. The standby waits, as for a network.
async fn cut_off(primary: &Node) -> anyhow::Result<()> {
    let mut database = primary.session().await?;
    let senders: Vec<i32> =
        sqlx::query_scalar("select pid from pg_stat_replication").fetch_all(&mut database).await?;
    ensure!(senders.len() == 1, "one standby: {senders:?}");
    signal("STOP", &[senders[0].unsigned_abs()]).await
}

/// When each server has noticed the loss. Its first session with the new primary is the first one
/// that was opened since that is one, by its own log; or it was open by then, and is only asked.
async fn noticed(
    scene: &Scene,
    node: &Node,
    killed: DateTime<Utc>,
    report: &mut Report,
) -> anyhow::Result<Vec<DateTime<Utc>>> {
    let promoted = node.said(PROMOTED, killed)?.context("the log says when it was promoted")?;
    let mut noticed = Vec::new();
    for (user, how) in SERVERS {
        let begin = Instant::now();
        let at = loop {
            match said(&scene.log(user), NOTICED)? {
                None if begin.elapsed() < PATIENCE => sleep(POLL).await,
                at => break at,
            }
        };
        let authorized = format!("connection authorized: user={user} ");
        let opened = node.said(&authorized, promoted)?;
        let took = at.map(|at| at - opened.unwrap_or(at).min(at));
        report.seconds(
            &format!("commits lost: noticed after the first reconnect, {how}"),
            took,
            1.0,
        );
        let after = at.map_or("never".to_owned(), |at| format!("{:.1} s", seconds(at - promoted)));
        report.told(&format!("commits lost: the same, after the promotion, {how}"), &after);
        noticed.extend(at);
    }
    Ok(noticed)
}

/// When a server has said something for the first time.
pub(crate) fn said(log: &Path, what: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
    let log = std::fs::read_to_string(log)?;
    let Some(line) = log.lines().find(|line| line.contains(what)) else { return Ok(None) };
    let at = line.split_whitespace().next().context("a line of a log begins with a time")?;
    Ok(Some(DateTime::parse_from_rfc3339(at)?.to_utc()))
}

/// What the servers held, as far as the standby knows.
async fn held(node: &Node) -> anyhow::Result<Vec<Held>> {
    let held = sqlx::query_as(
        "select instance_id, worker_id from amends.instance where worker_id is not null",
    );
    Ok(held.fetch_all(&mut node.session().await?).await?)
}

/// When nothing of it is held as it was; `None`: it still is.
async fn held_ends(
    node: &Node,
    held: &[Held],
    accepts: DateTime<Utc>,
) -> anyhow::Result<Option<DateTime<Utc>>> {
    let (instances, workers): (Vec<_>, Vec<_>) = held.iter().copied().unzip();
    let mut database = node.session().await?;
    while seconds(Utc::now() - accepts) < 2.0 * LEASE_SECONDS {
        let left: i64 = sqlx::query_scalar(
            "select count(*) from amends.instance join unnest($1, $2)
             as held (instance_id, worker_id) using (instance_id, worker_id)
             where ended_at is null",
        )
        .bind(&instances)
        .bind(&workers)
        .fetch_one(&mut database)
        .await?;
        if left == 0 {
            return Ok(Some(Utc::now()));
        }
        sleep(POLL).await;
    }
    database.close().await?;
    Ok(None)
}

async fn ready_says_so(scene: &Scene, report: &mut Report) -> anyhow::Result<()> {
    let mut others = Vec::new();
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let health = scene.health(server).await?;
        if health != (503, "commits_lost".to_owned()) {
            others.push(format!("{how}: {health:?}"));
        }
    }
    report.none("commits lost: servers whose ready is not 503 commits_lost", &others);
    Ok(())
}

/// Orders are refused until a person lets them in.
async fn acknowledged(
    scene: &Scene,
    load: &Load,
    noticed: &[DateTime<Utc>],
    report: &mut Report,
) -> anyhow::Result<()> {
    let acknowledge = ["acknowledge-loss", "--actor", "anna", "--reason", "pg1 is gone"];
    let before = Utc::now();
    let done = scene.amends(&acknowledge).await?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let answers = load.since(noticed.iter().min().copied().unwrap_or(before));
    let meanwhile = answers.iter().filter(|it| it.at <= before);
    let (kept, refused): (Vec<_>, Vec<_>) = meanwhile.partition(|it| it.is_good());
    let kept: Vec<_> = kept.into_iter().map(|it| format!("{it:?}")).collect();
    report.none("commits lost: 2xx before a person knows", &kept);
    report.at_least("commits lost: orders refused until then", refused.len(), 10);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let flows = load.kept(server, before, PATIENCE).await.map(|it| seconds(it - before));
        let flows = flows.map_or("never".to_owned(), |it| format!("{it:.1} s"));
        report.told(&format!("commits lost: orders flow after that, {how}"), &flows);
    }
    Ok(())
}

async fn orphans(node: &Node) -> anyhow::Result<Vec<String>> {
    let orphans = sqlx::query_scalar(
        "select r.instance_id || '/' || r.seq from amends.record r
         where not exists (select from amends.instance i where i.instance_id = r.instance_id)",
    );
    Ok(orphans.fetch_all(&mut node.session().await?).await?)
}
