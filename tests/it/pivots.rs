//! A pivot that was announced and not tried leaves everything as it was.

use std::sync::Arc;
use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{
    Call, Declaration, Effect, Halt, InTransaction, PgConnection, Saga, Status, StepError, Steps,
    TransactionStep, Workflow,
};
use amends_tests::gates::Gates;
use amends_tests::improvised::{Part, Ran, Stage, packed, start_request};
use amends_tests::kit::Kit;
use amends_tests::scripted::{Act, retry};
use futures::FutureExt;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const EFFECTS: [Effect; 3] = [
    Effect::Idempotent { key_window: None },
    Effect::Queryable { quiet: MINUTE },
    Effect::AtMostOnce,
];

fn a_then_c<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.run(&stage.c, &"2".to_owned()).await
    }
    .boxed()
}

/// A stage whose step `a` succeeds at the second attempt, and whose step `c` is a pivot.
fn stage(effect: Effect) -> Stage {
    let a = Part::default().acts([retry("down")]);
    Stage::new(a, Part::default(), Part::default().effect(effect).pivot())
}

/// Has a command meet the write that announces the pivot.
async fn meet(gates: &Gates, kit: &Kit, id: Uuid, command: Command) -> Answer {
    gates.shut(&["commit.before"]);
    let meets = async {
        gates.reached("commit.before").await;
        let answer = kit.command(id, command).await;
        gates.shut(&[]);
        answer
    };
    tokio::join!(kit.pass(MINUTE), meets).1
}

async fn past_pivot(kit: &Kit, id: Uuid) -> bool {
    kit.instance(id).await.past_pivot
}

#[tokio::test]
async fn a_hold_that_meets_the_announcement_leaves_the_instance_cancellable() {
    for effect in EFFECTS {
        let (stage, gates) = (stage(effect), Gates::default());
        let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
        let id = kit.begin(start_request("it")).await;
        kit.settle().await;
        assert_eq!(meet(&gates, &kit, id, Command::Hold).await, Answer::Accepted);
        assert!(!past_pivot(&kit, id).await, "{effect:?}");
        assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted, "{effect:?}");
        kit.settle().await;
        assert_eq!(kit.status(id).await, Status::Cancelled, "{effect:?}");
        assert_eq!(stage.log(), ["a 1", "a 1", "undo a 1"], "{effect:?}");
        kit.finish().await;
    }
}

#[tokio::test]
async fn an_instance_that_was_held_at_its_pivot_tries_it_once_when_it_is_released() {
    for effect in EFFECTS {
        let (stage, gates) = (stage(effect), Gates::default());
        let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
        let id = kit.begin(start_request("it")).await;
        kit.settle().await;
        assert_eq!(meet(&gates, &kit, id, Command::Hold).await, Answer::Accepted);
        assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
        kit.settle().await;
        assert_eq!(kit.status(id).await, Status::Completed, "{effect:?}");
        assert!(past_pivot(&kit, id).await);
        assert_eq!(stage.log(), ["a 1", "a 1", "c 2"], "{effect:?}");
        kit.finish().await;
    }
}

#[tokio::test]
async fn a_cancel_or_an_end_by_force_that_meets_the_announcement_is_what_happens() {
    for effect in EFFECTS {
        for (command, end) in
            [(Command::Cancel, Status::Cancelled), (Command::Terminate, Status::Terminated)]
        {
            let (stage, gates) = (stage(effect), Gates::default());
            let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
            let id = kit.begin(start_request("it")).await;
            kit.settle().await;
            assert_eq!(meet(&gates, &kit, id, command).await, Answer::Accepted);
            assert_eq!(kit.status(id).await, end, "{effect:?}");
            assert!(!past_pivot(&kit, id).await, "{effect:?}");
            assert!(!stage.log().contains(&"c 2".to_owned()), "{effect:?}");
            kit.finish().await;
        }
    }
}

#[tokio::test]
async fn news_that_meets_the_announcement_does_not_keep_the_pivot_from_being_tried() {
    for effect in EFFECTS {
        let (stage, gates) = (stage(effect), Gates::default());
        let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
        let id = kit.begin(start_request("it")).await;
        kit.settle().await;
        gates.shut(&["commit.before"]);
        let meets = async {
            gates.reached("commit.before").await;
            kit.engine().signal(packed("it", "parcel")).await.unwrap();
            gates.shut(&[]);
        };
        tokio::join!(kit.pass(MINUTE), meets);
        assert_eq!(kit.status(id).await, Status::Completed, "{effect:?}");
        assert_eq!(stage.log(), ["a 1", "a 1", "c 2"], "{effect:?}");
        kit.finish().await;
    }
}

#[tokio::test]
async fn a_deadline_counts_again_when_the_announcement_is_taken_back() {
    for effect in EFFECTS {
        let c = Part::default().effect(effect).pivot().acts([retry("down")]);
        let stage = Stage::new(Part::default().acts([retry("down")]), Part::default(), c);
        let (stage, gates) = (stage.deadline(HOUR), Gates::default());
        let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
        let id = kit.begin(start_request("it")).await;
        kit.settle().await;
        assert_eq!(meet(&gates, &kit, id, Command::Hold).await, Answer::Accepted);
        kit.pass(2 * HOUR).await;
        assert!(!past_pivot(&kit, id).await, "{effect:?}");
        assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
        kit.settle().await;
        assert_eq!(kit.status(id).await, Status::Waiting, "the time of the hold does not count");
        kit.pass(2 * HOUR).await;
        let ended = kit.instance(id).await;
        assert_eq!(ended.status, Status::Compensated, "{effect:?}");
        assert_eq!(ended.failure.unwrap().code, "DEADLINE_EXCEEDED");
        assert_eq!(stage.log(), ["a 1", "a 1", "c 2", "undo a 1"], "{effect:?}");
        kit.finish().await;
    }
}

/// The first occurrence is done; that the second one was stopped changes nothing about that.
#[tokio::test]
async fn a_pivot_that_is_done_stays_so_when_another_occurrence_is_taken_back_or_refused() {
    let c = Part::default().pivot().acts([Act::Succeed, retry("down")]);
    let (stage, gates) = (Stage::new(Part::default(), Part::default(), c), Gates::default());
    let kit = stage
        .kit(Kit::builder().probes(gates.probes()), |saga, stage| {
            async {
                saga.at("first").run(&stage.c, &"1".to_owned()).await?;
                saga.at("second").run(&stage.c, &"2".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    // The second one certainly has not happened, and waits for its next attempt.
    assert!(past_pivot(&kit, id).await);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
    kit.pass(MINUTE).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
}

/// What an earlier attempt left in doubt is not settled by an announcement that is taken back.
#[tokio::test]
async fn a_pivot_in_doubt_stays_in_doubt_when_its_next_attempt_is_stopped() {
    let unknown = Act::Err(StepError::unknown("LOST", "lost"));
    let c = Part::default().pivot().acts([unknown]);
    let (stage, gates) = (Stage::new(Part::default(), Part::default(), c), Gates::default());
    let kit = stage.kit(Kit::builder().probes(gates.probes()), a_then_c).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    assert!(past_pivot(&kit, id).await);
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.pass(MINUTE).await;
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
    kit.pass(MINUTE).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
}

/// A pivot whose effect is SQL: it waits for the test in the middle. Beside it, another branch starts
/// an instance when the test says so.
#[derive(Clone, Default)]
struct Seal {
    begun: Arc<Notify>,
    may_go_on: Arc<Notify>,
    may_start: Arc<watch::Sender<bool>>,
    has_started: Arc<Notify>,
}

impl TransactionStep for Seal {
    const NAME: &'static str = "seal";
    type Input = ();
    type Output = ();

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().pivot()
    }

    async fn run(&self, database: &mut PgConnection, _: &Call, (): &()) -> Result<(), StepError> {
        sqlx::query("select 1").execute(database).await?;
        self.begun.notify_one();
        self.may_go_on.notified().await;
        Ok(())
    }
}

struct Sealing(Seal);

impl Workflow for Sealing {
    const NAME: &'static str = "sealing";
    const VERSION: u32 = 1;
    type Input = bool;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().transaction(&self.0)
    }

    async fn run(&self, saga: &Saga, seals: bool) -> Result<(), Halt> {
        if !seals {
            return Ok(());
        }
        let starts = async {
            let mut may_start = self.0.may_start.subscribe();
            let _ = may_start.wait_for(|may_start| *may_start).await;
            let started = saga.start_child::<Self>("beside", &false).await;
            self.0.has_started.notify_one();
            started?.output().await
        };
        tokio::try_join!(saga.transaction(&self.0, &()), starts).map(drop)
    }
}

async fn sealing(seal: &Seal) -> Kit {
    let registered = seal.clone();
    Kit::new(move |engine| engine.workflow(Sealing(registered.clone()))).await
}

/// It has begun, and is rolled back: what was announced is not there, and nothing is in doubt.
#[tokio::test]
async fn a_hold_in_the_middle_of_a_pivot_in_a_transaction_leaves_the_instance_cancellable() {
    let seal = Seal::default();
    let kit = sealing(&seal).await;
    let id = kit.start::<Sealing>("it", &true).await;
    let holds = async {
        seal.begun.notified().await;
        assert!(past_pivot(&kit, id).await);
        assert_eq!(kit.command(id, Command::Cancel).await, Answer::PastPivot);
        assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
        // The other branch reads the hold when it is to start its child.
        seal.may_start.send_replace(true);
        seal.has_started.notified().await;
        seal.may_go_on.notify_one();
    };
    tokio::join!(kit.settle(), holds);
    let held = kit.instance(id).await;
    assert_eq!((held.status, held.held, held.past_pivot), (Status::Waiting, true, false));
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    kit.finish().await;
}

/// What is not recorded of a transaction has not happened, whatever was announced.
#[tokio::test]
async fn a_lost_worker_leaves_no_doubt_about_a_pivot_in_a_transaction() {
    let seal = Seal::default();
    let mut kit = sealing(&seal).await;
    let id = kit.start::<Sealing>("it", &true).await;
    let engine = kit.engine();
    let running = tokio::spawn(async move { engine.run_until_idle().await });
    seal.begun.notified().await;
    kit.crash().await;
    running.abort();
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.outlive_lease().await;
    assert!(!past_pivot(&kit, id).await);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    kit.finish().await;
}
