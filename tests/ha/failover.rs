//! The primary moves or comes back: in order, without its Postgres, without its whole machine.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;

use crate::load::{Answer, Load, gap};
use crate::patroni::{accepting, settled, switch_over};
use crate::report::{Report, seconds};
use crate::scene::{SERVERS, Scene};

/// So long everything is watched after it is well again.
const AFTER: Duration = Duration::from_secs(10);
/// How long orders may take to flow again, before it is said that they do not.
const PATIENCE: Duration = Duration::from_secs(60);
/// Orders flow again so soon after a primary accepts writes.
const FLOW_SECONDS: f64 = 2.0;

/// The primary hands over in order.
pub(crate) async fn switchover(
    scene: &mut Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (from, to) = scene.roles().await?;
    let begin = Utc::now();
    let log = scene.folder.join("patronictl.log");
    switch_over(&scene.nodes[from], &scene.nodes[to], &log).await?;
    report.told("switchover: patronictl returns after", &since(begin, Utc::now()));
    sleep(AFTER).await;
    let answers = load.since(begin);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let bad = bad(&answers, server);
        report.none(&format!("switchover: answers other than 2xx, {how}"), &bad);
        let gap = gap(&answers, server, [begin, Utc::now()]);
        report.seconds(&format!("switchover: longest time without a 2xx, {how}"), Some(gap), 5.0);
    }
    settled(&scene.client, &scene.nodes, "sync_standby").await;
    Ok(())
}

/// The Postgres of the primary is killed, and Patroni starts it again, or has the other one take over.
pub(crate) async fn postgres_killed(
    scene: &mut Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (primary, _) = scene.roles().await?;
    let begin = Utc::now();
    scene.nodes[primary].kill_postgres().await?;
    flows_again(scene, load, report, "Postgres killed", begin).await?;
    settled(&scene.client, &scene.nodes, "sync_standby").await;
    Ok(())
}

/// The machine of the primary is gone: Patroni and Postgres are killed.
pub(crate) async fn machine_killed(
    scene: &mut Scene,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (primary, _) = scene.roles().await?;
    let begin = Utc::now();
    scene.nodes[primary].kill_patroni().await?;
    scene.nodes[primary].kill_postgres().await?;
    flows_again(scene, load, report, "machine killed", begin).await?;
    scene.nodes[primary].start(&scene.guard)?;
    settled(&scene.client, &scene.nodes, "sync_standby").await;
    Ok(())
}

/// Measures how long it takes until a primary accepts writes, and then until orders flow.
async fn flows_again(
    scene: &Scene,
    load: &Load,
    report: &mut Report,
    what: &str,
    begin: DateTime<Utc>,
) -> anyhow::Result<()> {
    let nodes: Vec<_> = scene.nodes.iter().collect();
    let (node, accepts) = accepting(&nodes).await?;
    let after = format!("{} after {}", node.name, since(begin, accepts));
    report.told(&format!("{what}: a primary accepts writes"), &after);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let kept = load.kept(server, accepts, PATIENCE).await;
        let flows = kept.map(|at| at - accepts);
        report.seconds(&format!("{what}: orders flow after that, {how}"), flows, FLOW_SECONDS);
    }
    sleep(AFTER).await;
    let answers = load.since(begin);
    for (server, (_, how)) in SERVERS.iter().enumerate() {
        let gap = gap(&answers, server, [begin, Utc::now()]);
        let bad = bad(&answers, server).len();
        let told = format!("{:.1} s, {bad} refused", seconds(gap));
        report.told(&format!("{what}: longest time without a 2xx, {how}"), &told);
    }
    Ok(())
}

/// What a server has answered other than 2xx.
fn bad(answers: &[Answer], server: usize) -> Vec<String> {
    let bad = answers.iter().filter(|it| it.server == server && !it.is_good());
    bad.map(|it| format!("order {}: {} {}", it.order, it.status, it.code)).collect()
}

fn since(begin: DateTime<Utc>, end: DateTime<Utc>) -> String {
    format!("{:.1} s", seconds(end - begin))
}
