//! Workers, connections and answers that are lost in the middle of a transaction step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amends::Status;
use amends::probe::Probes;
use amends_tests::crash::Crash;
use amends_tests::detour::{Detour, Loss};
use amends_tests::scripted::Act;
use amends_tests::shop::{Shop, Take, open, start, stock};
use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{MINUTE, fails, outline, take_and_call, take_tea, taking, tea};

/// Runs one sale with a crash at probe point number `nth`. Returns how it ended, and the points.
async fn run(
    calls: Act,
    nth: Option<usize>,
) -> ((Status, (i32, i64, i64), Vec<String>), Vec<&'static str>) {
    let (crash, probes) = Crash::at(nth);
    let mut shop = Shop::default();
    shop.a = shop.a.acts((0..3).map(|_| calls.clone()));
    let mut world = open(shop.builder(take_and_call).probes(probes), 10).await;
    let ran = async {
        let _ = world.engine().start(amends_tests::shop::start_request("it")).await;
        world.settle().await;
    };
    let crashed = tokio::select! {
        () = ran => false,
        () = crash.happened() => true,
    };
    if crashed {
        world.crash().await;
        world.engine().start(amends_tests::shop::start_request("it")).await.unwrap();
        world.outlive_lease().await;
        world.pass(MINUTE).await;
    }
    let filter = amends::view::Filter { limit: 10, ..Default::default() };
    let instances = world.engine().instances(&filter).await.unwrap();
    let [instance] = instances.as_slice() else { panic!("not one instance: {instances:?}") };
    let records = world.history(instance.instance_id).await;
    let doubted = records.iter().filter(|it| it.kind == "step_interrupted");
    let mut doubted = doubted.filter_map(|it| it.step.as_deref());
    assert!(doubted.all(|step| !step.starts_with("take")), "what was not recorded did not happen");
    let outline = outline(&world, instance.instance_id).await;
    let ended = (instance.status, stock(&world).await, outline);
    world.finish().await;
    (ended, crash.reached())
}

async fn a_crash_at_every_point_changes_nothing(calls: Act, status: Status) {
    let (uninterrupted, points) = run(calls.clone(), None).await;
    assert_eq!(uninterrupted.0, status);
    for name in ["transaction.before_commit", "transaction.after_commit"] {
        assert!(points.iter().filter(|point| **point == name).count() >= 2, "{points:?}");
    }
    for (nth, point) in points.iter().enumerate() {
        let (ended, _) = run(calls.clone(), Some(nth)).await;
        assert_eq!(ended, uninterrupted, "after a crash at point {nth}, {point}");
    }
}

#[tokio::test]
async fn stock_is_taken_once_whatever_point_the_worker_is_lost_at() {
    a_crash_at_every_point_changes_nothing(Act::Succeed, Status::Completed).await;
}

#[tokio::test]
async fn stock_is_given_back_once_whatever_point_the_worker_is_lost_at() {
    a_crash_at_every_point_changes_nothing(fails(), Status::Compensated).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_to_have_happened() {
    let detour = Detour::default();
    let shop = taking(Take::default());
    let world = open(shop.builder(take_and_call).detour(&detour), 10).await;
    detour.lose_next("COMMIT", Loss::Answer);
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(detour.lost(), ["COMMIT"]);
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stock(&world).await, (8, 3, 0));
    let attempts =
        world.history(id).await.into_iter().filter(|it| it.kind == "step_attempt_failed");
    assert_eq!(attempts.count(), 0, "nothing was done twice");
    world.finish().await;
}

/// Ends every session that is in a transaction, as an administrator does.
async fn terminate_transactions(options: &sqlx::postgres::PgConnectOptions) {
    let mut database = sqlx::ConnectOptions::connect(options).await.unwrap();
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and state = 'idle in transaction'";
    sqlx::query(terminate).execute(&mut database).await.unwrap();
}

/// A commit that is held up until another branch has gone on, and then fails.
#[derive(Default)]
struct HeldUp {
    is_over: AtomicBool,
    at_commit: Notify,
    appended: Notify,
    database: std::sync::OnceLock<sqlx::postgres::PgConnectOptions>,
}

impl HeldUp {
    async fn reach(&self, point: &str) {
        if point != "transaction.before_commit" || self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        self.at_commit.notify_one();
        self.appended.notified().await;
        terminate_transactions(self.database.get().unwrap()).await;
    }
}

#[tokio::test]
async fn a_commit_that_fails_takes_back_its_record_and_nothing_of_other_branches() {
    let held_up = Arc::new(HeldUp::default());
    let (hook, branch) = (Arc::clone(&held_up), Arc::clone(&held_up));
    let probes = Probes::new(move |point| {
        let hook = Arc::clone(&hook);
        Box::pin(async move { hook.reach(point).await })
    });
    let shop = Shop::default();
    let builder = shop.builder(move |saga, shop, _| {
        let branch = Arc::clone(&branch);
        async move {
            let tea = "tea".to_owned();
            let other = async {
                branch.at_commit.notified().await;
                // What is recorded here comes after the record whose commit is under way.
                saga.publish(amends::Event::new("MEANWHILE", &1)).await?;
                let drawn = saga.now().await?.to_string();
                branch.appended.notify_one();
                branch.at_commit.notify_one();
                saga.run(&shop.a, &drawn).await
            };
            tokio::try_join!(saga.transaction(&shop.take, &tea), other)?;
            Ok("done".to_owned())
        }
        .boxed()
    });
    let world = open(builder.probes(probes), 10).await;
    held_up.database.set(world.options()).unwrap();
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stock(&world).await, (9, 1, 0));
    let expected = [
        "started",
        "step_attempt_failed take SQL_INTERRUPTED",
        "noted event:MEANWHILE +MEANWHILE",
        "noted value:now",
        "step_done a",
        "step_done take +TAKEN",
        "ended completed",
    ];
    assert_eq!(outline(&world, id).await, expected);
    let arrived = world.recorder().arrived();
    let arrived: Vec<_> = arrived.iter().map(|it| (it.number, it.kind.as_str())).collect();
    assert_eq!(arrived, [(1, "MEANWHILE"), (2, "TAKEN")]);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_was_taken_over_in_the_middle_takes_no_stock() {
    for point in ["effect.before", "transaction.before_commit"] {
        let (_, points) = run(Act::Succeed, None).await;
        let nth = points.iter().position(|reached| *reached == point);
        let (crash, probes) = Crash::at(nth);
        let mut world = open(taking(Take::default()).builder(take_tea).probes(probes), 10).await;
        let id = start(&world, "it").await;
        tokio::select! {
            () = world.settle() => panic!("{point} is not reached"),
            () = crash.happened() => {}
        }
        let zombie = world.succeed().await;
        // At the commit the take-over comes back until the database has ended the session.
        for _ in 0..20 {
            world.outlive_lease().await;
            if stock(&world).await == (9, 1, 0) {
                break;
            }
        }
        assert_eq!(stock(&world).await, (9, 1, 0));
        let before = outline(&world, id).await;
        crash.release();
        zombie.run_dry().await;
        assert_eq!(stock(&world).await, (9, 1, 0), "after it woke up at {point}");
        assert_eq!(outline(&world, id).await, before);
        assert_eq!(world.instance(id).await.status, Status::Completed);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_worker_that_leaves_finishes_its_transaction_first() {
    let (taken, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (said, heard) = (Arc::clone(&taken), Arc::clone(&go_on));
    let take = Take::default().also(move |_, _| {
        let (said, heard) = (Arc::clone(&said), Arc::clone(&heard));
        async move {
            said.notify_one();
            heard.notified().await;
        }
        .boxed()
    });
    let mut world = tea(take, 10).await;
    let id = start(&world, "it").await;
    taken.notified().await;
    let goes = async {
        while world_is_not_draining(&world.options()).await {
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
    };
    let engine = world.engine().clone();
    let (left, ()) = tokio::join!(engine.shutdown(), goes);
    left.unwrap();
    assert_eq!(stock(&world).await, (9, 1, 0));
    world.crash().await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stock(&world).await, (9, 1, 0));
    let kinds = world.history(id).await.into_iter().map(|record| record.kind);
    assert!(!kinds.into_iter().any(|kind| kind == "worker_lost"));
    world.finish().await;
}

async fn world_is_not_draining(options: &sqlx::postgres::PgConnectOptions) -> bool {
    let mut database = sqlx::ConnectOptions::connect(options).await.unwrap();
    let draining = "select not exists (select from amends.worker where draining_since is not null)";
    sqlx::query_scalar(draining).fetch_one(&mut database).await.unwrap()
}

/// How long the statement of a step takes whose worker is lost meanwhile.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_lost_worker_is_taken_over_while_its_statement_still_runs() {
    let is_first = Arc::new(AtomicBool::new(true));
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let take = Take::default().timeout(LONG * 2).also(move |connection, _| {
        let (is_first, begins) = (is_first.swap(false, Ordering::SeqCst), Arc::clone(&begins));
        async move {
            if is_first {
                begins.notify_one();
                let sleep = sqlx::query("select pg_sleep($1)").bind(LONG.as_secs_f64());
                let _ = sleep.execute(connection).await;
            }
        }
        .boxed()
    });
    let mut world = tea(take, 10).await;
    let id = start(&world, "it").await;
    tokio::select! {
        () = world.settle() => panic!("the statement runs"),
        () = begun.notified() => {}
    }
    let lost = Instant::now();
    world.crash().await;
    world.outlive_lease().await;
    while world.instance(id).await.status != Status::Completed {
        assert!(lost.elapsed() < LONG / 2, "not taken over after {:?}", lost.elapsed());
        world.pass(MINUTE).await;
    }
    assert_eq!(stock(&world).await, (9, 1, 0));
    world.finish().await;
}
