//! Several versions at once, and which of them can go.

use std::time::Duration;

use amends::versions::Version;
use amends::{Clock, Engine, EngineBuilder, Settings, Started, Status};
use amends_tests::World;
use amends_tests::http::{Api, Call};
use amends_tests::packing::{self, Build, Fate, Packing};

use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

/// Engines of different builds on one database, at one time.
struct Builds {
    options: PgConnectOptions,
    clock: Clock,
}

impl Builds {
    fn of(world: &World) -> Self {
        let start = chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        Self { options: world.options(), clock: Clock::manual(start) }
    }

    async fn open(&self, with: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
        let settings = Settings { linger: Duration::ZERO, ..Settings::default() };
        let builder = Engine::builder(self.options.clone()).clock(self.clock.clone());
        with(builder.settings(settings)).open().await.unwrap()
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
    let version = json!({
        "workflow": "fulfilment", "version": 1, "runnable": true, "starts_new": true,
        "safe_to_remove": false, "live": 1, "pending": 0, "running": 0, "waiting": 1,
        "compensating": 0, "stuck": 0, "oldest": "2026-11-18T11:06:40Z",
    });
    assert_eq!((shown.status, shown.json()), (200, json!({ "items": [version] })));
    world.finish().await;
}
