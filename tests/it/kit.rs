//! The test kit: what is written down happens, once and where it was meant; what is wrong at the
//! end is found; and no crash goes unnoticed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use amends::{
    Call, Declaration, Halt, Imbalance, Ledger, Moment, Money, Movement, MovementKind, Outcome,
    Probe, Probed, Saga, Signal, Signals, Status, Step, StepError, Steps, Undo, Undone, Workflow,
};
use amends_tests::kit::{Kit, crash_everywhere};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;
use sqlx::{ConnectOptions, PgPool};

/// A provider that counts what it has applied.
#[derive(Clone, Default)]
struct Shelf {
    is_forgetful: bool,
    applied: Arc<std::sync::Mutex<Vec<String>>>,
    calls: Arc<AtomicU32>,
}

impl Shelf {
    fn apply(&self, key: &str) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut applied = self.applied.lock().unwrap();
        if self.is_forgetful || !applied.iter().any(|other| other == key) {
            applied.push(key.to_owned());
        }
    }

    /// How often a step of this name was applied.
    fn count(&self, step: &str) -> usize {
        let ending = format!("/{step}");
        self.applied.lock().unwrap().iter().filter(|key| key.ends_with(&ending)).count()
    }
}

/// Takes a book off the shelf. Its undo may forget to account for the money.
#[derive(Clone)]
struct Lend {
    shelf: Shelf,
    refunds: bool,
}

impl Step for Lend {
    const NAME: &'static str = "lend";
    type Input = String;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        Declaration::queryable(Duration::from_secs(60)).undo()
    }

    async fn run(&self, call: &Call, _: &String) -> Result<u32, StepError> {
        self.shelf.apply(call.key());
        Ok(1)
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        let kind = match moment {
            Moment::Done { .. } => MovementKind::Capture,
            Moment::Undone { output: Some(_), .. } if self.refunds => MovementKind::Refund,
            _ => return Vec::new(),
        };
        let money = Money { amount_minor: 100, currency: "EUR".parse().unwrap() };
        vec![Movement { kind, money, reference: "fee".to_owned() }]
    }
}

impl Undo for Lend {
    async fn undo(&self, call: &Call, _: &String, _: Option<&u32>) -> Result<Undone, StepError> {
        self.shelf.apply(call.key());
        Ok(Undone::by("back on the shelf"))
    }
}

impl Probe for Lend {
    async fn probe(&self, call: &Call, _: &String) -> Result<Probed<u32>, StepError> {
        let applied = self.shelf.applied.lock().unwrap();
        let known = applied.iter().any(|key| key == call.key());
        Ok(if known { Probed::Applied(1) } else { Probed::NotFound })
    }
}

/// Writes the book's name on a card.
#[derive(Clone)]
struct Note(Shelf);

impl Step for Note {
    const NAME: &'static str = "note";
    type Input = String;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().settles_within(Duration::ZERO).undo()
    }

    async fn run(&self, call: &Call, _: &String) -> Result<u32, StepError> {
        self.0.apply(call.key());
        Ok(2)
    }
}

impl Undo for Note {
    async fn undo(&self, call: &Call, _: &String, _: Option<&u32>) -> Result<Undone, StepError> {
        self.0.apply(call.key());
        Ok(Undone::nothing())
    }
}

#[derive(Serialize, Deserialize)]
struct Returned;

impl Signal for Returned {
    const NAME: &'static str = "returned";
}

/// A book is noted, lent, and noted again when it is back.
struct Lending {
    note: Note,
    lend: Lend,
}

impl Lending {
    fn new(shelf: &Shelf) -> Self {
        Self { note: Note(shelf.clone()), lend: Lend { shelf: shelf.clone(), refunds: true } }
    }
}

impl Workflow for Lending {
    const NAME: &'static str = "lending";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = u32;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.note).step(&self.lend)
    }

    fn signals(&self) -> Signals {
        Signals::new().signal::<Returned>()
    }

    async fn run(&self, saga: &Saga, book: String) -> Result<u32, Halt> {
        saga.run(&self.note, &book).await?;
        let lent = saga.run(&self.lend, &book).await?;
        saga.wait::<Returned>(Duration::from_secs(3600)).await?;
        Ok(lent + saga.run(&self.note, &book).await?)
    }

    /// A book of this name is lent for nothing.
    fn balanced(&self, _: Outcome, book: &String, ledger: &Ledger) -> Result<(), Imbalance> {
        match ledger.movements.as_slice() {
            [_, ..] if book == "unpaid" => Err(Imbalance("money was taken".to_owned())),
            _ => Ok(()),
        }
    }
}

async fn kit(shelf: &Shelf) -> Kit {
    let shelf = shelf.clone();
    Kit::new(move |engine| engine.workflow(Lending::new(&shelf))).await
}

async fn lend(kit: &Kit, book: &str) -> uuid::Uuid {
    let id = kit.start::<Lending>(book, &book.to_owned()).await;
    kit.settle().await;
    id
}

fn lost() -> StepError {
    StepError::unknown("LOST", "the answer was lost")
}

fn refused() -> StepError {
    StepError::refused("REFUSED", "no")
}

/// The message of the panic that `test` ends with.
async fn panic(test: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(test).catch_unwind().await.unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test]
async fn a_scripted_failure_stands_in_for_one_attempt_and_the_step_is_not_called() {
    let shelf = Shelf::default();
    let kit = kit(&shelf).await;
    kit.attempt::<Note>(1).fails(StepError::retry("BUSY", "later"));
    let id = lend(&kit, "book").await;
    assert_eq!(shelf.calls.load(Ordering::SeqCst), 0);
    kit.pass(Duration::from_secs(1)).await;
    assert_eq!((shelf.count("note"), shelf.count("lend")), (1, 1));
    assert_eq!(kit.signal(id, &Returned).await, amends::Signalled::Accepted(id));
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Completed, "the second time is another attempt 1");
    assert_eq!(kit.output::<Lending>(id).await, 3);
    kit.finish().await;
}

#[tokio::test]
async fn an_occurrence_and_an_instance_can_be_meant_alone() {
    let shelf = Shelf::default();
    let kit = kit(&shelf).await;
    kit.attempt::<Note>(1).at("2").about("second").fails(refused());
    let ids = [lend(&kit, "first").await, lend(&kit, "second").await];
    for id in ids {
        kit.signal(id, &Returned).await;
    }
    kit.settle().await;
    let ends = [kit.status(ids[0]).await, kit.status(ids[1]).await];
    assert_eq!(ends, [Status::Completed, Status::Compensated]);
    assert_eq!(kit.ledger(ids[0]).await.captured_net("EUR".parse().unwrap()), Some(100));
    assert_eq!(kit.ledger(ids[1]).await.captured_net("EUR".parse().unwrap()), Some(0));
    kit.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_effect_and_the_probe_finds_it() {
    let shelf = Shelf::default();
    let kit = kit(&shelf).await;
    kit.attempt::<Lend>(1).applies_then(lost());
    kit.probe::<Lend>(1).answers(Probed::NotFound);
    let id = lend(&kit, "book").await;
    assert_eq!(shelf.count("lend"), 1);
    kit.pass(Duration::from_secs(61)).await;
    kit.pass(Duration::from_secs(61)).await;
    let history = kit.history(id).await;
    let lent = history.iter().filter(|record| record.step.as_deref() == Some("lend"));
    let kinds: Vec<_> = lent.map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["step_attempt_failed", "step_not_found", "step_done"]);
    assert_eq!(shelf.count("lend"), 1, "the second probe was the step's own");
    kit.finish().await;
}

#[tokio::test]
async fn an_answer_and_an_undo_can_be_scripted() {
    let shelf = Shelf::default();
    let kit = kit(&shelf).await;
    kit.attempt::<Note>(1).answers(40);
    kit.attempt::<Lend>(1).fails(refused());
    kit.undo::<Note>(1).fails(StepError::retry("BUSY", "later"));
    kit.undo::<Note>(2).answers(Undone::by("by hand"));
    let id = lend(&kit, "book").await;
    assert_eq!(kit.status(id).await, Status::Compensating);
    kit.pass(Duration::from_secs(1)).await;
    assert_eq!(kit.status(id).await, Status::Compensated);
    assert_eq!(shelf.calls.load(Ordering::SeqCst), 0);
    kit.finish().await;
}

#[tokio::test]
async fn an_outcome_that_no_attempt_asks_for_fails_the_test() {
    let kit = kit(&Shelf::default()).await;
    kit.attempt::<Note>(2).fails(refused());
    lend(&kit, "book").await;
    let message = panic(kit.finish()).await;
    assert!(message.contains("attempt 2 of note"), "{message}");
}

#[tokio::test]
async fn an_undo_that_forgets_the_money_fails_the_test() {
    let shelf = Shelf::default();
    let kit = Kit::new(move |engine| {
        let lending = Lending::new(&shelf);
        engine.workflow(Lending { lend: Lend { refunds: false, ..lending.lend }, ..lending })
    });
    let kit = kit.await;
    kit.attempt::<Note>(1).at("2").fails(refused());
    let id = lend(&kit, "book").await;
    kit.signal(id, &Returned).await;
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Compensated);
    let message = panic(kit.finish()).await;
    assert!(message.contains("keeps money"), "{message}");
}

#[tokio::test]
async fn an_instance_that_is_stuck_over_its_ledger_fails_the_test() {
    let kit = kit(&Shelf::default()).await;
    let id = kit.start::<Lending>("unpaid", &"unpaid".to_owned()).await;
    kit.settle().await;
    kit.signal(id, &Returned).await;
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Stuck);
    let message = panic(kit.finish()).await;
    assert!(message.contains("unpaid: LEDGER_IMBALANCE"), "{message}");
}

#[tokio::test]
async fn a_ledger_that_says_another_amount_than_the_records_fails_the_test() {
    let kit = kit(&Shelf::default()).await;
    lend(&kit, "book").await;
    // With triggers on it would be refused.
    let forge =
        "set session_replication_role = replica; update amends.ledger set amount_minor = 99";
    sqlx::raw_sql(forge).execute(&mut kit.database().await).await.unwrap();
    let message = panic(kit.finish()).await;
    assert!(message.contains("ledger does not say what the records say"), "{message}");
}

/// A scenario with a retry, a lost answer, a probe, a signal, a refusal and an undo.
async fn scenario(kit: Kit, shelf: &Shelf) -> Vec<usize> {
    kit.attempt::<Note>(1).fails(StepError::retry("BUSY", "later"));
    kit.attempt::<Lend>(1).applies_then(lost());
    kit.attempt::<Note>(1).at("2").fails(refused());
    let id = lend(&kit, "book").await;
    for _ in 0..4 {
        kit.pass(Duration::from_secs(61)).await;
    }
    kit.signal(id, &Returned).await;
    for _ in 0..4 {
        kit.pass(Duration::from_secs(61)).await;
    }
    assert_eq!(kit.status(id).await, Status::Compensated);
    kit.finish().await;
    ["note", "lend", "note/undo", "lend/undo"].map(|step| shelf.count(step)).to_vec()
}

#[tokio::test]
async fn a_crash_is_made_at_every_point_and_makes_no_difference() {
    let points = crash_everywhere(async |builder| {
        let shelf = Shelf::default();
        let workflow = shelf.clone();
        let kit = builder.build(move |engine| engine.workflow(Lending::new(&workflow))).await;
        scenario(kit, &shelf).await
    });
    let crashed = points.await;
    let shelf = Shelf::default();
    let (watch, probes) = amends_tests::crash::Crash::at(None);
    let workflow = shelf.clone();
    let builder = Kit::builder().probes(probes);
    let kit = builder.build(move |engine| engine.workflow(Lending::new(&workflow))).await;
    assert_eq!(scenario(kit, &shelf).await, [1, 1, 1, 1]);
    assert_eq!(crashed, watch.reached(), "every point that is reached, in turn");
    for point in [
        "start.before",
        "start.after",
        "commit.before",
        "commit.after",
        "claim.after",
        "effect.before",
        "effect.after",
        "undo.after",
        "close.before",
    ] {
        assert!(crashed.contains(&point), "{point} was not reached: {crashed:?}");
    }
}

#[tokio::test]
async fn a_step_that_applies_twice_for_one_key_is_noticed() {
    let message = panic(async {
        crash_everywhere(async |builder| {
            let shelf = Shelf { is_forgetful: true, ..Shelf::default() };
            let workflow = shelf.clone();
            let kit = builder.build(move |engine| engine.workflow(Lending::new(&workflow))).await;
            lend(&kit, "book").await;
            kit.finish().await;
            shelf.count("note")
        })
        .await;
    });
    let message = message.await;
    assert!(message.contains("effect.after, makes a difference"), "{message}");
}

#[tokio::test]
async fn what_a_scenario_asserts_has_to_hold_after_a_crash_too() {
    let message = panic(async {
        crash_everywhere(async |builder| {
            let shelf = Shelf::default();
            let workflow = shelf.clone();
            let kit = builder.build(move |engine| engine.workflow(Lending::new(&workflow))).await;
            lend(&kit, "book").await;
            assert_eq!(shelf.calls.load(Ordering::SeqCst), 2, "calls");
            kit.finish().await;
        })
        .await;
    });
    let message = message.await;
    assert!(message.starts_with("with a crash at point"), "{message}");
    assert!(message.contains("calls"), "{message}");
}

#[tokio::test]
async fn a_step_can_be_tested_by_itself() {
    let shelf = Shelf::default();
    let step = Note(shelf.clone());
    let call = Call::for_test("book/note");
    assert_eq!(step.run(&call, &"book".to_owned()).await, Ok(2));
    assert_eq!(step.run(&call, &"book".to_owned()).await, Ok(2));
    assert_eq!(shelf.count("note"), 1);
    let undoing = call.undoing();
    assert_eq!((undoing.key(), undoing.forward_key()), ("book/note/undo", "book/note"));
}

#[tokio::test]
async fn a_database_that_was_deafened_passes_on_no_hint() {
    let options = amends_tests::cluster::database().await;
    let is_deaf = "select exists (select from pg_proc where proname = 'pg_notify_aloud')";
    let mut database = options.connect().await.unwrap();
    if !sqlx::query_scalar::<_, bool>(is_deaf).fetch_one(&mut database).await.unwrap() {
        amends_tests::cluster::deafen(&options).await;
    }
    let pool = PgPool::connect_with(options).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("amends").await.unwrap();
    for send in ["select pg_notify('amends', 'hint')", "select pg_notify_aloud('amends', 'aloud')"]
    {
        sqlx::query(send).execute(&mut database).await.unwrap();
    }
    assert_eq!(listener.recv().await.unwrap().payload(), "aloud", "it came first");
}
