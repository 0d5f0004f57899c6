//! Scenarios over everything that the engine does, each with a crash at every probe point, with
//! every request to the database lost, and with every answer lost: the end is the same.
//!
//! Together they reach every probe point and every statement of the engine, or this fails.

mod flows;
mod people;
mod upkeep;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use amends_tests::detour::Loss;
use amends_tests::improvised::Stage;
use amends_tests::kit::{KitBuilder, crash_everywhere, lose_both, lose_everywhere, watch};
use futures::future::LocalBoxFuture;

const COMMIT: &str = include_str!("../../engine/src/store/sql/commit.sql");
const CLAIM: &str = include_str!("../../engine/src/store/sql/claim_instances.sql");

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the outside world has seen of a scenario.
pub(crate) type Seen = Vec<String>;

pub(crate) type Scenario = fn(KitBuilder) -> LocalBoxFuture<'static, Seen>;

fn text(text: &str) -> String {
    text.to_owned()
}

/// What the steps of a stage have done, however often.
fn seen(stage: &Stage) -> Seen {
    BTreeSet::from_iter(stage.log()).into_iter().collect()
}

macro_rules! each {
    ($what:ident: $($file:ident::$name:ident)+) => {
        mod $what {
            $(#[tokio::test]
            async fn $name() {
                super::$what(|kit| Box::pin(super::$file::$name(kit))).await;
            })+
        }
    };
}

macro_rules! scenarios {
    (crash and loss: $($both:ident::$both_name:ident)+;
     loss: $($file:ident::$name:ident)+;) => {
        each! { crash: $($both::$both_name)+ }
        each! { loss: $($both::$both_name)+ $($file::$name)+ }
        pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
            $((stringify!($both_name), |kit| Box::pin($both::$both_name(kit))),)+
            $((stringify!($name), |kit| Box::pin($file::$name(kit))),)+
        ];
    };
}

// Orders crash in `crash.rs`, where more is said of them. A step that is attempted once at most may
// end otherwise after a crash. Workers that come and go in a scenario would crash together.
scenarios! {
    crash and loss:
        flows::branches flows::child flows::child_taken_back flows::transactions
        flows::lost_answers flows::family_cancelled flows::family_undone
        people::signals people::cancel people::schedules people::start_within people::duplicates
        people::cases people::kept people::questions
        upkeep::outage upkeep::delivery;
    loss:
        flows::order flows::refused_order flows::at_most_once people::stuck upkeep::successors
        upkeep::sharing upkeep::suspects upkeep::leftovers;
}

async fn crash(scenario: Scenario) {
    let points = crash_everywhere(scenario).await;
    assert!(!points.is_empty(), "no probe point was reached");
}

async fn loss(scenario: Scenario) {
    let lost = lose_everywhere(scenario).await;
    assert!(lost.contains(COMMIT) && lost.contains(CLAIM), "only these were lost: {lost:#?}");
}

/// What is asked only after something else was lost.
#[tokio::test]
async fn an_answer_that_is_looked_for_after_a_loss_can_be_lost_as_well() {
    for loss in [Loss::Request, Loss::Answer] {
        let [claimed, ended] =
            ["and claim_id = any($2)", "select pg_advisory_xact_lock"].map(stored);
        lose_both(async |kit| flows::child(kit).await, [CLAIM, &claimed], loss).await;
        lose_both(async |kit| flows::transactions(kit).await, ["COMMIT", &ended], loss).await;
    }
    let borne = stored("where claim_id = $2");
    lose_both(async |kit| flows::child(kit).await, [COMMIT, &borne], Loss::Answer).await;
}

/// The statement that holds these words.
pub(crate) fn stored(words: &str) -> String {
    let mut found: Vec<_> = stored_statements().into_iter().collect();
    found.retain(|statement| statement.contains(words));
    assert_eq!(found.len(), 1, "{words}");
    found.remove(0)
}

/// What all scenarios together reach: probe points, and statements.
async fn reached() -> (BTreeSet<&'static str>, BTreeSet<String>) {
    let (mut points, mut statements) = (BTreeSet::new(), BTreeSet::new());
    for (_, scenario) in SCENARIOS {
        let (some, others) = watch(scenario).await;
        points.extend(some);
        statements.extend(others);
    }
    (points, statements)
}

/// Words of statements that no scenario makes as it is: three are asked after a loss alone, two
/// where mail meets the birth of a child (`families.rs`), three where no test moves the clock, one
/// where keys were spelt otherwise before, four where rows are locked (`neighbours.rs`,
/// `feeds/locked.rs`), one where a worker is not there (`lease.rs`), three where the schema is changed
/// (`schema.rs`), five where somebody examines all this (`doctor.rs`), and six where the database
/// moves (`failover.rs`).
const ELSEWHERE: [&str; 27] = [
    "select stored_key",
    "and claim_id = any($2)",
    "where claim_id = $2",
    "select pg_advisory_xact_lock",
    "claim_id is not distinct from $2",
    "select mail_count from amends.instance",
    "mail_count > mail_read",
    "'full_page_writes'",
    "instance_id not in (select instance_id from free)",
    "not exists (select from free)",
    "outbox_id not in (select outbox_id from free)",
    "key not in (select key from free)",
    "where not exists (select from amends.worker where worker_id = $1)",
    "drop index concurrently",
    "pg_try_advisory_lock",
    "quote_ident",
    "as \"owns_schema!\"",
    "format('trigger %s', tgname)",
    "as \"forgotten!\"",
    "'@' || i.version",
    "as \"parked_keys!\"",
    "select database_id from amends.identity",
    "pg_stat_replication",
    "insert into amends.commit_loss",
    "as \"any!\"",
    "order by found_at, loss_id",
    "insert into amends.loss_acknowledgement",
];

#[tokio::test]
async fn every_probe_point_and_every_statement_of_the_engine_is_reached() {
    let (points, statements) = reached().await;
    let engine = root().join("engine/src");
    let named = named_points(&engine);
    assert!(named.len() > 10, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|point| !points.contains(point.as_str())).collect();
    assert!(missing.is_empty(), "no scenario reaches {missing:?}");
    let stored = stored_statements();
    let mut missing: Vec<_> = stored.difference(&statements).collect();
    missing.retain(|statement| !ELSEWHERE.iter().any(|words| statement.contains(words)));
    assert!(missing.is_empty(), "no scenario makes {missing:#?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The probe points that the engine's source names.
fn named_points(folder: &Path) -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            points.extend(named_points(&path));
        } else {
            let source = std::fs::read_to_string(path).unwrap();
            let named = source.split("reach(\"").skip(1);
            points.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    points
}

/// Every statement that the build has checked against the database.
fn stored_statements() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(".sqlx")).unwrap();
    let texts = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let query = |text: String| {
        let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        stored["query"].as_str().unwrap().to_owned()
    };
    texts.map(query).collect()
}
