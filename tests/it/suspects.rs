//! Instances that kill their workers are found, and those beside them that take their time are not
//! taken for them, whatever else kills workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use amends::command::Command;
use amends::{
    Call, Declaration, Halt, Saga, Start, Started, Status, Step, StepError, Steps, Undo, Undone,
    Workflow,
};
use amends_tests::kit::Kit;
use tokio::sync::Notify;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(31);

/// What becomes of the steps of a test. Clones share it.
#[derive(Clone, Default)]
struct Ward {
    /// Slow steps come to their end.
    is_open: Arc<AtomicBool>,
    /// Slow steps that have been begun.
    begun: Arc<AtomicUsize>,
    /// A guilty one has done its worst: its worker is as good as dead.
    killed: Arc<Notify>,
}

#[derive(Clone)]
struct Slow(Ward);

impl Step for Slow {
    const NAME: &'static str = "slow";
    type Input = String;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().settles_within(Duration::ZERO).undo()
    }

    async fn run(&self, _: &Call, who: &String) -> Result<(), StepError> {
        if who == "guilty" {
            self.0.killed.notify_one();
            std::future::pending::<()>().await;
        }
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        // Longer than a guilty one takes to kill its worker.
        for _ in 0..if who == "short" { 0 } else { 3_000 } {
            tokio::task::yield_now().await;
        }
        while !self.0.is_open.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl Undo for Slow {
    async fn undo(&self, _: &Call, _: &String, _: Option<&()>) -> Result<Undone, StepError> {
        Ok(Undone::nothing())
    }
}

struct Patient(Slow);

impl Workflow for Patient {
    const NAME: &'static str = "patient";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, who: String) -> Result<(), Halt> {
        if who == "guilty before any record" {
            self.0.0.killed.notify_one();
            std::future::pending::<()>().await;
        }
        saga.run(&self.0, &who).await
    }
}

impl Ward {
    async fn kit(&self) -> Kit {
        let ward = self.clone();
        Kit::new(move |engine| engine.workflow(Patient(Slow(ward.clone())))).await
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// Waits until so many slow steps are under way.
    async fn begins(&self, count: usize) {
        while self.begun.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    /// Kills the worker in the middle of `count` slow steps, and lets its lease run out.
    async fn kill_in_the_middle_of(&self, kit: &mut Kit, count: usize) {
        tokio::select! {
            () = kit.settle() => {}
            () = self.begins(count) => {}
        }
        kit.crash().await;
        kit.advance(LEASE);
        self.begun.store(0, Ordering::SeqCst);
    }

    /// Goes on, with another worker whenever one is killed, until nothing but what is stuck is
    /// left. Returns how many were killed.
    async fn outlive(&self, kit: &mut Kit) -> usize {
        let mut killed = 0;
        for _ in 0..200 {
            tokio::select! {
                biased;
                () = self.killed.notified() => {
                    killed += 1;
                    kit.crash().await;
                }
                () = kit.settle() => {}
            }
            if left(kit).await == 0 {
                return killed;
            }
            kit.advance(LEASE);
        }
        panic!("after {killed} lost workers {} are left", left(kit).await);
    }
}

async fn start(kit: &Kit, number: usize, who: &str) -> Uuid {
    let start = Start {
        workflow: Patient::NAME,
        business_key: format!("{who} {number}"),
        input: serde_json::to_string(who).unwrap(),
        delivery: None,
        priority: amends::Priority::Normal,
    };
    match kit.engine().start(start).await.unwrap() {
        Started::New(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn starts(kit: &Kit, count: usize, who: &str) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(start(kit, number, who).await);
    }
    ids
}

async fn left(kit: &Kit) -> i64 {
    let left = "select count(*) from amends.instance
                where ended_at is null and status <> 'stuck'";
    sqlx::query_scalar(left).fetch_one(&mut kit.database().await).await.unwrap()
}

async fn completed(kit: &Kit, ids: &[Uuid]) {
    for id in ids {
        assert_eq!(kit.instance(*id).await.status, Status::Completed, "{id}");
    }
}

async fn poisoned(kit: &Kit, ids: &[Uuid]) {
    for id in ids {
        let instance = kit.instance(*id).await;
        assert_eq!(instance.status, Status::Stuck, "{id}");
        assert_eq!(instance.failure.unwrap().code, "POISONED");
    }
}

async fn levels(kit: &Kit) -> Vec<(i32, i32)> {
    sqlx::query_as("select losses, trials from amends.instance order by instance_id")
        .fetch_all(&mut kit.database().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn forty_in_a_slow_step_outlive_eight_workers() {
    let ward = Ward::default();
    let mut kit = ward.kit().await;
    let ids = starts(&kit, 40, "innocent").await;
    for _ in 0..8 {
        ward.kill_in_the_middle_of(&mut kit, 40).await;
    }
    ward.open();
    ward.outlive(&mut kit).await;
    completed(&kit, &ids).await;
    kit.finish().await;
}

#[tokio::test]
async fn workers_that_die_young_try_no_suspect() {
    let ward = Ward::default();
    let mut kit = ward.kit().await;
    let id = start(&kit, 0, "innocent").await;
    for _ in 0..2 {
        ward.kill_in_the_middle_of(&mut kit, 1).await;
    }
    // A build that does not live for long, with each worker taken over by the next.
    for _ in 0..8 {
        kit.crash().await;
        kit.pass(LEASE / 2).await;
        assert_eq!(levels(&kit).await, [(2, 0)]);
    }
    ward.open();
    kit.pass(LEASE).await;
    completed(&kit, &[id]).await;
    assert_eq!(levels(&kit).await[0].0, 0);
    kit.finish().await;
}

#[tokio::test]
async fn the_guilty_one_among_forty_is_found_and_the_others_complete() {
    let ward = Ward::default();
    ward.open();
    let mut kit = ward.kit().await;
    let mut ids = starts(&kit, 20, "innocent").await;
    let guilty = start(&kit, 0, "guilty").await;
    ids.extend(starts(&kit, 20, "innocent too").await);
    let killed = ward.outlive(&mut kit).await;
    assert!(killed <= 7, "{killed} workers");
    poisoned(&kit, &[guilty]).await;
    completed(&kit, &ids).await;
    // A person has found out why: it is tried like everything else.
    kit.command(guilty, Command::Resume).await;
    let again = ward.outlive(&mut kit).await;
    assert!((5..=7).contains(&again), "{again} workers");
    poisoned(&kit, &[guilty]).await;
    kit.finish().await;
}

#[tokio::test]
async fn several_guilty_ones_are_found_and_the_others_complete() {
    let ward = Ward::default();
    ward.open();
    let mut kit = ward.kit().await;
    let ids = starts(&kit, 20, "innocent").await;
    let mut guilty = starts(&kit, 2, "guilty").await;
    guilty.extend(starts(&kit, 1, "guilty before any record").await);
    let killed = ward.outlive(&mut kit).await;
    assert!(killed <= 2 + 3 * 5, "{killed} workers");
    poisoned(&kit, &guilty).await;
    completed(&kit, &ids).await;
    kit.finish().await;
}

#[tokio::test]
async fn one_that_kills_before_it_has_a_record_is_found() {
    let ward = Ward::default();
    let mut kit = ward.kit().await;
    let guilty = start(&kit, 0, "guilty before any record").await;
    assert_eq!(ward.outlive(&mut kit).await, 5);
    poisoned(&kit, &[guilty]).await;
    kit.finish().await;
}

#[tokio::test]
async fn a_slow_one_on_trial_is_cleared_when_its_worker_outlives_the_trial() {
    let ward = Ward::default();
    let mut kit = ward.kit().await;
    let id = start(&kit, 0, "innocent").await;
    for _ in 0..2 {
        ward.kill_in_the_middle_of(&mut kit, 1).await;
    }
    // Killed by something else while it was on trial, once.
    ward.kill_in_the_middle_of(&mut kit, 1).await;
    kit.settle().await;
    assert_eq!(levels(&kit).await, [(2, 3)], "it waits for a worker that has lived for longer");
    kit.advance(4 * LEASE);
    ward.begun.store(0, Ordering::SeqCst);
    tokio::select! {
        () = kit.settle() => {}
        () = ward.begins(1) => {}
    }
    kit.advance(LEASE / 2);
    kit.engine().try_suspects().await.unwrap();
    assert_eq!(levels(&kit).await, [(2, 3)]);
    kit.advance(LEASE / 2);
    kit.engine().try_suspects().await.unwrap();
    assert_eq!(levels(&kit).await, [(1, 3)]);
    ward.open();
    kit.settle().await;
    completed(&kit, &[id]).await;
    kit.finish().await;
}

#[tokio::test]
async fn who_is_beside_a_suspect_loses_nothing_with_it() {
    let ward = Ward::default();
    let mut kit = ward.kit().await;
    let guilty = start(&kit, 0, "guilty").await;
    let killed = async |kit: &Kit| {
        tokio::select! {
            () = kit.settle() => panic!("it has killed nobody"),
            () = ward.killed.notified() => {}
        }
    };
    for _ in 0..2 {
        killed(&kit).await;
        kit.crash().await;
        kit.advance(LEASE);
    }
    killed(&kit).await;
    let beside = start(&kit, 1, "innocent").await;
    for level in 3..6 {
        ward.begun.store(0, Ordering::SeqCst);
        kit.crash().await;
        kit.advance(LEASE);
        tokio::select! {
            () = kit.settle() => panic!("there is one in a slow step"),
            () = ward.begins(1) => {}
        }
        if level == 5 {
            break;
        }
        assert_eq!(levels(&kit).await, [(2, level), (0, 0)]);
        kit.advance(5 * LEASE);
        kit.engine().try_suspects().await.unwrap();
        ward.killed.notified().await;
    }
    ward.open();
    kit.settle().await;
    poisoned(&kit, &[guilty]).await;
    completed(&kit, &[beside]).await;
    kit.finish().await;
}

#[tokio::test]
async fn of_two_servers_each_takes_over_what_a_guilty_one_has_killed() {
    let ward = Ward::default();
    ward.open();
    let mut kit = ward.kit().await;
    let mut fleet = vec![kit.engine()];
    drop(kit.succeed().await);
    fleet.push(kit.engine());
    let guilty = start(&kit, 0, "guilty").await;
    let ids = starts(&kit, 5, "innocent").await;
    let mut killed = 0;
    for turn in 0.. {
        if left(&kit).await == 0 {
            break;
        }
        assert!(turn < 200 && killed < 8, "{killed} workers after {turn} turns");
        for engine in &mut fleet {
            let is_killed = tokio::select! {
                biased;
                () = ward.killed.notified() => true,
                ran = engine.run_until_idle() => { ran.unwrap(); false }
            };
            if is_killed {
                killed += 1;
                engine.abandon();
                drop(kit.succeed().await);
                *engine = kit.engine();
            }
        }
        kit.advance(LEASE / 2);
    }
    poisoned(&kit, &[guilty]).await;
    completed(&kit, &ids).await;
    fleet.iter().for_each(amends::Engine::abandon);
    kit.finish().await;
}
