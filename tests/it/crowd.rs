//! How the engine finds its rows among 200,000: every statement of every scenario, by the plan that
//! was carried out. None reads a large table from its beginning, and none touches many rows.

use std::collections::BTreeSet;

use amends::Status;
use amends::view::Filter;
use amends_tests::crowd::{self, Planned, plans};
use amends_tests::detour::Detour;
use amends_tests::improvised::Stage;
use amends_tests::kit::{Kit, KitBuilder};
use futures::FutureExt;
use serde_json::Value;

use super::everywhere::SCENARIOS;

const LARGE: [&str; 9] = [
    "instance",
    "record",
    "mail",
    "attribute",
    "ledger",
    "delivery",
    "command",
    "early_signal",
    "firing",
];

/// More rows of a table than any statement has to look at.
const ROWS_MAX: f64 = 2_500.0;
/// More pages.
const PAGES_MAX: f64 = 5_000.0;

/// What is wrong with a plan, or with a part of it.
fn wrongs(plan: &Value, wrong: &mut Vec<String>) {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    if LARGE.contains(&table) {
        let kind = plan["Node Type"].as_str().unwrap_or_default();
        if kind == "Seq Scan" && number("Actual Loops") > 0.0 {
            wrong.push(format!("reads all of {table}"));
        }
        let rows = number("Actual Rows") + number("Rows Removed by Filter");
        let rows = rows * number("Actual Loops");
        if rows > ROWS_MAX {
            wrong.push(format!("looks at {rows} rows of {table}"));
        }
    }
    let parts = plan["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().for_each(|part| wrongs(part, wrong));
}

/// Panics over plans that are wrong. Returns the statements that were judged.
fn judge(planned: Vec<Planned>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut statements = BTreeSet::new();
    for Planned { statement, plan } in planned {
        let mut wrong = Vec::new();
        wrongs(&plan, &mut wrong);
        let pages = ["Shared Hit Blocks", "Shared Read Blocks"].map(|name| plan[name].as_f64());
        let pages: f64 = pages.into_iter().flatten().sum();
        if pages > PAGES_MAX {
            wrong.push(format!("touches {pages} pages"));
        }
        if !wrong.is_empty() {
            found.insert(format!("{}: {statement}", wrong.join(", ")));
        }
        statements.insert(statement);
    }
    assert!(found.is_empty(), "{found:#?}");
    // What a new session is asked comes with whichever statement opens it.
    let opens = |statement: &String| statement.contains("pg_is_in_recovery");
    statements.retain(|statement| statement.contains("amends.") && !opens(statement));
    statements
}

#[tokio::test]
async fn nothing_that_the_engine_does_grows_with_what_has_ended() {
    let mut judged = BTreeSet::new();
    // Questions are about everything on purpose, and asked below.
    for (_, scenario) in SCENARIOS.iter().filter(|(name, _)| *name != "questions") {
        let detour = Detour::default();
        let builder = KitBuilder::default().detour(&detour).on(crowd::database().await);
        scenario(builder).await;
        judged.extend(judge(plans(&detour)));
    }
    assert!(judged.len() > 60, "only {} statements were judged: {judged:#?}", judged.len());
}

#[tokio::test]
async fn what_people_look_at_is_found_without_a_look_at_the_rest() {
    let detour = Detour::default();
    let builder = Kit::builder().detour(&detour).on(crowd::database().await);
    let stage = Stage::plain();
    let kit = stage.kit(builder, |_, _| async { Ok("done".to_owned()) }.boxed()).await;
    drop(plans(&detour));
    let key = |n: usize| Some(format!("crowd/{n}"));
    let email = Some(("email".to_owned(), "crowd/7@example.com".to_owned()));
    let all = || Filter { limit: 50, ..Filter::default() };
    let of = |status| Filter { status: Some(status), ..all() };
    let by_status = Status::ALL.into_iter().map(of);
    for filter in by_status.chain([
        all(),
        Filter { workflow: Some("crowded".to_owned()), ..all() },
        Filter { workflow: Some("crowded".to_owned()), business_key: key(7), ..all() },
        Filter { attribute: email, ..all() },
    ]) {
        kit.engine().instances(&filter).await.unwrap();
        assert_eq!(judge(plans(&detour)).len(), 2, "{filter:?}");
    }
    let engine = kit.engine();
    let id = engine.instances(&of(Status::Waiting)).await.unwrap()[0].instance_id;
    assert_eq!(engine.history(id).await.unwrap().len(), 2);
    engine.versions().await.unwrap();
    engine.schedules().await.unwrap();
    engine.dependencies().await.unwrap();
    assert_eq!(judge(plans(&detour)).len(), 6);
    kit.finish().await;
}
