//! Several versions at once, which of them can go, and whether a new build fits what is live.

use std::process::ExitStatus;
use std::time::Duration;

use amends::check::{Checked, Misfit, Report};
use amends::versions::Version;
use amends::{Clock, Engine, EngineBuilder, Settings, Started, Status, Steps, Workflow};
use amends_tests::http::{Api, Call};
use amends_tests::packing::{self, Build, Fate, Packing};
use amends_tests::process::command;
use amends_tests::{World, cluster};
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

/// Engines of different builds on one database, at one time.
pub(crate) struct Builds {
    options: PgConnectOptions,
    clock: Clock,
}

impl Builds {
    pub(crate) fn of(world: &World) -> Self {
        let start = chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        Self { options: world.options(), clock: Clock::manual(start) }
    }

    pub(crate) async fn open(&self, with: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
        let settings = Settings { linger: Duration::ZERO, ..Settings::default() };
        let builder = Engine::builder(self.options.clone()).clock(self.clock.clone());
        with(builder.settings(settings)).open().await.unwrap()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets what waits become due, and runs it on `engine`.
    async fn pass(&self, engine: &Engine) {
        self.clock.advance(Duration::from_secs(5));
        engine.run_until_idle().await.unwrap();
    }
}

async fn start(engine: &Engine, business_key: &str, fate: Fate) -> Uuid {
    match engine.start(packing::start(business_key, fate)).await.unwrap() {
        Started::New(id) => id,
        other => panic!("{business_key} did not start: {other:?}"),
    }
}

/// The steps that are recorded as done, in order.
async fn done(engine: &Engine, id: Uuid) -> Vec<String> {
    let records = engine.history(id).await.unwrap();
    let done = records.into_iter().filter(|record| record.kind == "step_done");
    done.filter_map(|record| record.step).collect()
}

async fn status(engine: &Engine, id: Uuid) -> Status {
    engine.instance(id).await.unwrap().unwrap().status
}

#[tokio::test]
async fn two_versions_run_side_by_side_and_new_instances_start_on_the_newest() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let (first, second) = (Packing::<1>::new(Build::Usual), Packing::<2>::new(Build::Inserted));
    let before = builds.open(|engine| engine.workflow(first.clone())).await;
    let old = start(&before, "old", Fate::Waits).await;
    before.run_until_idle().await.unwrap();
    before.shutdown().await.unwrap();

    let after = builds.open(|engine| engine.workflow(first).workflow(second)).await;
    let new = start(&after, "new", Fate::Waits).await;
    after.run_until_idle().await.unwrap();
    builds.pass(&after).await;
    let version = async |id| after.instance(id).await.unwrap().unwrap().version;
    assert_eq!((version(old).await, version(new).await), (1, 2));
    assert_eq!(done(&after, old).await, ["pick", "pack", "label"]);
    assert_eq!(done(&after, new).await, ["pick", "weigh", "pack", "label"]);
    after.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_worker_leaves_alone_what_it_cannot_run() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let first = builds.open(|engine| engine.workflow(Packing::<1>::new(Build::Usual))).await;
    let old = start(&first, "old", Fate::Waits).await;
    first.run_until_idle().await.unwrap();
    let history = first.history(old).await.unwrap().len();

    let second = builds.open(|engine| engine.workflow(Packing::<2>::new(Build::Usual))).await;
    builds.pass(&second).await;
    assert_eq!(status(&second, old).await, Status::Waiting);
    assert_eq!(second.history(old).await.unwrap().len(), history);
    first.run_until_idle().await.unwrap();
    assert_eq!(status(&second, old).await, Status::Completed);
    first.abandon();
    second.abandon();
    world.finish().await;
}

/// What a report says of the versions of packing.
fn in_short(versions: &[Version]) -> Vec<(u32, bool, u64, bool)> {
    let packing = versions.iter().filter(|it| it.workflow == "packing");
    packing.map(|it| (it.version, it.runnable, it.live.total(), it.is_safe_to_remove())).collect()
}

#[tokio::test]
async fn a_version_can_go_when_nothing_is_on_it_and_nothing_new_starts_on_it() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let first = Packing::<1>::new(Build::Usual);
    let only_first = builds.open(|engine| engine.workflow(first.clone())).await;
    assert_eq!(in_short(&only_first.versions().await.unwrap()), [(1, true, 0, false)]);
    let accepted = builds.clock.now();
    start(&only_first, "old", Fate::Waits).await;
    only_first.run_until_idle().await.unwrap();

    let second = Packing::<2>::new(Build::Usual);
    let both = builds.open(|engine| engine.workflow(first).workflow(second.clone())).await;
    let only_second = builds.open(|engine| engine.workflow(second)).await;
    let (of_both, of_second) =
        (both.versions().await.unwrap(), only_second.versions().await.unwrap());
    assert_eq!(in_short(&of_both), [(1, true, 1, false), (2, true, 0, false)]);
    assert_eq!(in_short(&of_second), [(1, false, 1, false), (2, true, 0, false)]);
    assert_eq!((of_both[0].live.waiting, of_both[0].oldest), (1, Some(accepted)));

    builds.pass(&both).await;
    assert_eq!(
        in_short(&both.versions().await.unwrap()),
        [(1, true, 0, true), (2, true, 0, false)]
    );
    // What has ended keeps no version in the list.
    assert_eq!(in_short(&only_second.versions().await.unwrap()), [(2, true, 0, false)]);
    for engine in [only_first, both, only_second] {
        engine.abandon();
    }
    world.finish().await;
}

#[tokio::test]
async fn the_api_shows_what_is_on_which_version() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "down", None).await;
    world.start_order("1001").await;
    world.settle().await;
    let shown = Api::of(&world).send(Call::get("/workflows")).await;
    let version = |workflow: &str, version: u32, starts_new: bool| {
        json!({
            "workflow": workflow, "version": version, "runnable": true, "starts_new": starts_new,
            "safe_to_remove": !starts_new, "live": 0, "pending": 0, "running": 0, "waiting": 0,
            "compensating": 0, "stuck": 0, "completed_children": 0,
        })
    };
    let mut newest = version("fulfilment", 2, true);
    newest["live"] = json!(1);
    newest["waiting"] = json!(1);
    newest["oldest"] = json!("2026-11-18T11:06:40Z");
    let items = [version("fulfilment", 1, false), newest, version("parcel", 1, true)];
    assert_eq!((shown.status, shown.json()), (200, json!({ "items": items })));
    world.finish().await;
}

/// A world with an instance in each status, all made by `build`, and the engine that holds them.
async fn one_of_each(build: Build) -> (World, Engine, Packing) {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let packing = Packing::<1>::new(build);
    let engine = builds.open(|engine| engine.workflow(packing.clone())).await;
    for (key, fate) in
        [("waiting", Fate::Waits), ("stuck", Fate::Sticks), ("compensating", Fate::Undoes)]
    {
        start(&engine, key, fate).await;
    }
    engine.run_until_idle().await.unwrap();
    let full = Settings { instances_max: 0, ..Settings::default() };
    let full = builds.open(|engine| engine.workflow(packing.clone()).settings(full)).await;
    start(&full, "pending", Fate::Waits).await;
    full.abandon();
    let effects = packing.effects();
    start(&engine, "running", Fate::Runs).await;
    while packing.effects() < effects + 3 {
        tokio::task::yield_now().await;
    }
    for view in engine.instances(&Default::default()).await.unwrap() {
        assert_eq!(view.status.as_str(), view.business_key);
    }
    (world, engine, packing)
}

/// Holds a build against what is live in a world.
async fn check(builder: EngineBuilder) -> (Report, Vec<Checked>) {
    let mut all = Vec::new();
    let report = builder.check(|checked| all.push(checked.clone()));
    (report.await.unwrap(), all)
}

/// What a check has found, an instance a line.
fn told(all: &[Checked]) -> String {
    let lines = all.iter().map(|checked| {
        let why = match &checked.misfit {
            None => "fits".to_owned(),
            Some(misfit) => format!("{misfit:?}"),
        };
        format!("{}: {why}", checked.business_key)
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn told_of(world: &World, build: Build) -> String {
    let packing = Packing::<1>::new(build);
    let builder = Engine::builder(world.options()).workflow(packing.clone());
    let told = told(&check(builder).await.1);
    assert_eq!(packing.effects(), 0, "{build:?}");
    told
}

/// Everything that is stored of what runs, as one text.
async fn rows(world: &World) -> String {
    sqlx::query_scalar(
        "select concat_ws(E'\\n',
             (select string_agg(w::text, E'\\n' order by worker_id) from amends.worker w),
             (select string_agg(i::text, E'\\n' order by instance_id) from amends.instance i),
             (select string_agg(r::text, E'\\n' order by instance_id, seq) from amends.record r),
             (select string_agg(m::text, E'\\n' order by instance_id) from amends.mail m),
             (select string_agg(o::text, E'\\n' order by outbox_id) from amends.outbox o))",
    )
    .fetch_one(&mut world.database().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_build_that_made_them_fits_every_live_instance_and_only_reads() {
    let (world, engine, packing) = one_of_each(Build::Usual).await;
    let (before, effects) = (rows(&world).await, packing.effects());
    // Somebody who may read, and nothing else.
    let options = world.options().options([("role", "pg_read_all_data")]);
    let (report, all) = check(Engine::builder(options).workflow(packing.clone())).await;
    assert_eq!(all.len(), 5, "{}", told(&all));
    assert_eq!(report, Report { fits: 5, ..Report::default() }, "{}", told(&all));
    assert_eq!(rows(&world).await, before);
    assert_eq!(packing.effects(), effects);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn another_build_is_told_where_each_instance_departs_from_its_history() {
    let (world, engine, _) = one_of_each(Build::Usual).await;
    let before = rows(&world).await;
    let mut report = String::new();
    for build in [
        Build::Inserted,
        Build::OtherInput,
        Build::Renamed,
        Build::Shortened,
        Build::Panics,
        Build::Hangs,
        Build::Unlisted,
    ] {
        report.push_str(&format!("{build:?}\n{}\n\n", told_of(&world, build).await));
    }
    insta::assert_snapshot!(report);
    assert_eq!(rows(&world).await, before);
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_branch_that_waits_does_not_hide_what_another_has_done() {
    let (world, engine, _) = one_of_each(Build::Parallel).await;
    let told = told_of(&world, Build::Parallel).await;
    assert!(told.lines().all(|line| line.ends_with(": fits")), "{told}");
    engine.abandon();
    world.finish().await;
}

/// A build whose parcels are plain numbers.
struct Numbers;

impl Workflow for Numbers {
    const NAME: &'static str = "packing";
    const VERSION: u32 = 1;
    type Input = u32;
    type Output = u32;

    fn steps(&self) -> Steps {
        Packing::<1>::new(Build::Usual).steps()
    }

    async fn run(&self, _: &amends::Saga, grams: u32) -> Result<u32, amends::Halt> {
        Ok(grams)
    }
}

#[tokio::test]
async fn what_a_build_lacks_or_cannot_read_is_named() {
    let (world, engine, _) = one_of_each(Build::Usual).await;
    let newer = Engine::builder(world.options()).workflow(Packing::<2>::new(Build::Usual));
    let (report, all) = check(newer).await;
    assert_eq!((report.fits, report.misfits["cannot_be_run"]), (0, 5));
    let missing = Misfit::CannotBeRun("packing@1 is not in this build".to_owned());
    assert!(all.iter().all(|checked| checked.misfit.as_ref() == Some(&missing)));

    let (report, all) = check(Engine::builder(world.options()).workflow(Numbers)).await;
    // What is being undone is not run any more; at its end it accounts for its input.
    assert_eq!((report.fits, report.misfits["unreadable"]), (0, 5), "{}", told(&all));
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn more_instances_than_a_page_holds_are_all_checked() {
    let world = World::new().await;
    let builds = Builds::of(&world);
    let packing = Packing::<1>::new(Build::Usual);
    let engine = builds.open(|engine| engine.workflow(packing.clone())).await;
    for number in 0..1201 {
        start(&engine, &number.to_string(), Fate::Waits).await;
    }
    engine.run_until_idle().await.unwrap();
    let (report, all) = check(Engine::builder(world.options()).workflow(packing)).await;
    assert_eq!(report, Report { fits: 1201, ..Report::default() });
    let order = |checked: &Checked| checked.business_key.parse::<u32>().unwrap();
    assert!(all.iter().map(order).eq(0..1201));
    engine.abandon();
    world.finish().await;
}

/// Runs `amends check` against a database.
async fn run_check(url: &str) -> (ExitStatus, String) {
    let data_dir = cluster::scratch().join("nowhere").to_string_lossy().into_owned();
    let settings = [("AMENDS_DATA_DIR", data_dir.as_str())];
    let output = command(&["check", "--against", url], &settings).output().await.unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8(told).unwrap())
}

#[tokio::test]
async fn the_program_exits_by_whether_the_build_fits() {
    let world = World::new().await;
    world.providers().fault("payment", "charge", "down", None).await;
    world.start_order("1001").await;
    world.settle().await;
    let url = world.options().to_url_lossy().to_string();
    let (status, told) = run_check(&url).await;
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(told.starts_with("1 live instance checked in "), "{told}");

    let builds = Builds::of(&world);
    let engine = builds.open(|engine| engine.workflow(Packing::<1>::new(Build::Usual))).await;
    let id = start(&engine, "parcel", Fate::Waits).await;
    engine.run_until_idle().await.unwrap();
    let (status, told) = run_check(&url).await;
    assert_eq!(status.code(), Some(1), "{told}");
    let misfit = format!("instance {id} (parcel, packing@1) cannot be run: packing@1 is not in");
    assert!(told.starts_with(&misfit), "{told}");
    engine.abandon();

    let empty = unused_database(&world).await;
    for unusable in [empty.as_str(), "postgres://nobody@127.0.0.1:1/nothing", "nonsense"] {
        let (status, told) = run_check(unusable).await;
        assert_eq!(status.code(), Some(2), "{told}");
    }
    world.finish().await;
}

/// A database that was never used by the engine.
async fn unused_database(world: &World) -> String {
    world.options().database("postgres").to_url_lossy().to_string()
}
