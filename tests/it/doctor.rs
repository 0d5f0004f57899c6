//! What an examination finds: nothing where all is well, and each thing that is not.

use amends::doctor::{Finding, Severity, examine};
use amends_tests::booking::{Book, Booking, Order, start};
use amends_tests::cluster;
use amends_tests::durable::Durable;
use chrono::TimeDelta;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

async fn postgres() -> Durable {
    let folder = cluster::scratch().join(format!("doctor-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Durable::start(&folder).await
}

async fn server(options: &PgConnectOptions) -> amends::Engine {
    let book = Book::default();
    let builder = amends::Engine::builder(options.clone()).workflow(Booking::with(&book));
    builder.open().await.unwrap()
}

fn abouts(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|it| it.about).collect()
}

/// What is a problem.
fn problems(findings: &[Finding]) -> Vec<&'static str> {
    let problems = findings.iter().filter(|it| it.severity == Severity::Problem);
    problems.map(|it| it.about).collect()
}

#[tokio::test]
async fn an_examination_finds_nothing_where_all_is_well_and_each_thing_that_is_not() {
    let postgres = postgres().await;
    let options = postgres.options();
    amends::migrate(options.clone()).await.unwrap();
    let mut owner = options.connect().await.unwrap();
    assert_eq!(problems(&examine(options.clone()).await.unwrap()), ["workers"]);

    let engine = server(&options).await;
    let mut endings = engine.endings();
    engine.start(start("one", Order::Straight)).await.unwrap();
    endings.recv().await.unwrap();
    let well = examine(options.clone()).await.unwrap();
    assert_eq!(problems(&well), [] as [&str; 0], "{well:#?}");
    let notes = well.iter().filter(|it| it.severity == Severity::Note).map(|it| it.about);
    assert_eq!(notes.collect::<Vec<_>>(), ["rights", "durability"], "{well:#?}");
    assert!(well.iter().all(|it| it.advice.is_empty() == (it.severity == Severity::Fine)));

    // Through the server the same, and what it says of itself; its heartbeat has begun by now.
    let through = engine.examine().await;
    assert_eq!(problems(&through), [] as [&str; 0], "{through:#?}");
    assert_eq!(abouts(&through), [&["server"], &abouts(&well)[..]].concat());
    let offset = engine.clock_offset().unwrap();
    assert!(offset.ahead.abs() < TimeDelta::minutes(1), "{offset:?}: it is one machine");

    // What no server can run, what nobody holds, what is switched off, what is not applied.
    let instance = "insert into amends.instance
                        (instance_id, workflow, version, business_key, status, run_at, worker_id,
                         attributes, head_seq, head_hash, created_at, updated_at)
                    select gen_random_uuid(), 'booking', 9, '{key}', '{status}', {run_at}, {worker},
                           '{}', 0, sha256('x'), now(), now()";
    let instance = |key: &str, status: &str, run_at: &str, worker: &str| {
        let filled = instance.replace("{key}", key).replace("{status}", status);
        filled.replace("{run_at}", run_at).replace("{worker}", worker)
    };
    engine.shutdown().await.unwrap();
    assert_eq!(problems(&engine.examine().await), ["server", "workers"]);
    for (harm, found) in [
        (instance("due", "waiting", "now() - interval '1 hour'", "null"), vec!["workers", "due"]),
        (
            instance("orphan", "running", "null", "gen_random_uuid()"),
            vec!["workers", "take-over", "due"],
        ),
        (
            "alter table amends.record disable trigger record_is_append_only".to_owned(),
            vec!["objects", "workers", "take-over", "due"],
        ),
        ("delete from amends._sqlx_migrations where version = 25".to_owned(), vec!["schema"]),
    ] {
        owner.execute(AssertSqlSafe(harm.clone())).await.unwrap();
        let findings = examine(options.clone()).await.unwrap();
        assert_eq!(problems(&findings), found, "{harm}: {findings:#?}");
    }
    postgres.stop().await;
}

#[tokio::test]
async fn a_database_that_will_not_do_is_what_is_found() {
    let options = cluster::database().await;
    let findings = examine(options).await.unwrap();
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.about, finding.severity), ("database", Severity::Problem));
    assert!(finding.found.contains("fsync = off"), "{finding:?}");
}
