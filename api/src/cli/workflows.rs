//! `amends workflows`: what is on which version, and which versions can be removed.

use amends_api::view::{Version, Versions};
use chrono::SecondsFormat;

use super::client::{self, Client};
use super::table::{self, printable, table};

/// What `amends workflows` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: client::Arguments,
}

/// Shows the versions that a server knows of.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["workflows"], &[]).await?;
    client.tell(&body, |versions: &Versions| rendered(&versions.items))
}

fn rendered(versions: &[Version]) -> String {
    let headings = [
        "WORKFLOW",
        "RUNS HERE",
        "PENDING",
        "RUNNING",
        "WAITING",
        "COMPENSATING",
        "STUCK",
        "CHILDREN",
    ];
    let mut rows = table(Some(&headings));
    for version in versions {
        let Version { pending, running, waiting, compensating, stuck, .. } = version;
        let children = &version.completed_children;
        let counts = [pending, running, waiting, compensating, stuck, children].map(u64::to_string);
        let runs_here = if version.runnable { "yes" } else { "no" };
        rows.add_row([name(version), runs_here.to_owned()].into_iter().chain(counts));
    }
    let sentences: Vec<_> = versions.iter().map(sentence).collect();
    format!("{}\n\n{}", table::rendered(rows), sentences.join("\n"))
}

fn name(version: &Version) -> String {
    format!("{}@{}", printable(&version.workflow), version.version)
}

fn sentence(version: &Version) -> String {
    let name = name(version);
    if version.safe_to_remove {
        return format!("safe to remove {name}");
    }
    let live = match version.live {
        1 => "1 live instance".to_owned(),
        live => format!("{live} live instances"),
    };
    let oldest = version.oldest.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    let oldest = oldest.map(|at| format!(", oldest from {at}")).unwrap_or_default();
    let children = match version.completed_children {
        0 => String::new(),
        1 => "; 1 completed child that can be taken back".to_owned(),
        children => format!("; {children} completed children that can be taken back"),
    };
    let rest = match (version.starts_new, version.runnable) {
        (true, _) => "; new ones start on it",
        (false, true) => "",
        (false, false) => "; this server cannot run it",
    };
    format!("{name}: {live}{oldest}{children}{rest}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_version_is_counted_and_what_can_go_is_named() {
        let version = |version: u32, runnable: bool, starts_new: bool, waiting: u64, stuck: u64| {
            let (live, children) = (waiting + stuck, u64::from(version == 5) * 2);
            let oldest = (live > 0).then_some("2026-11-18T11:06:41Z");
            serde_json::from_value::<Version>(json!({
                "workflow": "fulfilment", "version": version, "runnable": runnable,
                "starts_new": starts_new, "safe_to_remove": live + children == 0 && !starts_new,
                "completed_children": children,
                "live": live, "pending": 0, "running": 0, "waiting": waiting,
                "compensating": 0, "stuck": stuck, "oldest": oldest,
            }))
            .expect("a version")
        };
        let versions = [
            version(1, false, false, 0, 1),
            version(2, true, false, 11, 1),
            version(3, true, false, 0, 0),
            version(4, true, true, 0, 0),
            version(5, false, false, 0, 0),
        ];
        insta::assert_snapshot!(rendered(&versions), @r#"
        WORKFLOW      RUNS HERE  PENDING  RUNNING  WAITING  COMPENSATING  STUCK  CHILDREN
        fulfilment@1  no         0        0        0        0             1      0
        fulfilment@2  yes        0        0        11       0             1      0
        fulfilment@3  yes        0        0        0        0             0      0
        fulfilment@4  yes        0        0        0        0             0      0
        fulfilment@5  no         0        0        0        0             0      2

        fulfilment@1: 1 live instance, oldest from 2026-11-18T11:06:41Z; this server cannot run it
        fulfilment@2: 12 live instances, oldest from 2026-11-18T11:06:41Z
        safe to remove fulfilment@3
        fulfilment@4: 0 live instances; new ones start on it
        fulfilment@5: 0 live instances; 2 completed children that can be taken back; this server cannot run it
        "#);
    }
}
