//! A part of the money is given back by a step, and the rest by an undo.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::command::{Answer, Command, Finding, Resolution};
use amends::{
    Call, Currency, Declaration, EngineBuilder, Halt, Imbalance, InTransaction, Ledger, Moment,
    Money, Movement, MovementKind, Outcome, PgConnection, RetryPolicy, Saga, Status, Step,
    StepError, Steps, TransactionStep, TransactionUndo, Undo, Undone, Workflow,
};
use amends_tests::kit::{Kit, crash_everywhere};

const PAID: i64 = 4000;
const PART: i64 = 1000;
const MINUTE: Duration = Duration::from_secs(60);

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn movement(kind: MovementKind, amount_minor: i64, reference: &str) -> Movement {
    let money = Money { amount_minor, currency: euro() };
    Movement { kind, money, reference: reference.to_owned() }
}

/// A bank that applies a key once, refuses another amount under it, and gives back no more than it
/// has.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<BTreeMap<String, i64>>>);

impl Bank {
    fn apply(&self, call: &Call, amount: i64) -> Result<(), StepError> {
        let mut book = self.0.lock().unwrap();
        let balance: i64 = book.values().sum();
        match book.get(call.key()) {
            Some(applied) if *applied == amount => Ok(()),
            Some(_) => Err(StepError::refused("KEY_REUSED", "another amount under the same key")),
            None if balance + amount < 0 => Err(StepError::refused("TOO_MUCH", "not that much")),
            None => {
                book.insert(call.key().to_owned(), amount);
                Ok(())
            }
        }
    }

    fn balance(&self) -> i64 {
        self.0.lock().unwrap().values().sum()
    }
}

/// Takes the money; its undo gives back what is left of it.
#[derive(Clone)]
struct Capture(Bank);

impl Step for Capture {
    const NAME: &'static str = "capture";
    type Input = i64;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().settles_within(MINUTE).undo()
    }

    async fn run(&self, call: &Call, amount: &i64) -> Result<(), StepError> {
        self.0.apply(call, *amount)
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, .. } => vec![movement(MovementKind::Capture, *input, "capture")],
            Moment::Undone { undone, .. } if undone.applied => {
                let left = undone.ledger().captured_net(euro()).unwrap_or_default();
                vec![movement(MovementKind::Refund, left, "found")]
            }
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Undo for Capture {
    async fn undo(&self, call: &Call, _: &i64, _: Option<&()>) -> Result<Undone, StepError> {
        let left = call.ledger().captured_net(euro()).unwrap_or_default();
        if left == 0 {
            return Ok(Undone::nothing());
        }
        self.0.apply(call, -left)?;
        let moved = movement(MovementKind::Refund, left, "rest");
        Ok(Undone::by("rest").moved([moved]))
    }
}

/// Gives a part of the money back, for good.
#[derive(Clone)]
struct GiveBack(Bank);

impl Step for GiveBack {
    const NAME: &'static str = "give_back";
    type Input = i64;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().nothing_to_undo()
    }

    async fn run(&self, call: &Call, amount: &i64) -> Result<(), StepError> {
        self.0.apply(call, -*amount)
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, .. } => vec![movement(MovementKind::Refund, *input, "part")],
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

/// Takes money in a table of the shop; its undo gives back what is left of all.
#[derive(Clone)]
struct Deposit;

impl TransactionStep for Deposit {
    const NAME: &'static str = "deposit";
    type Input = i64;
    type Output = ();

    fn declare(&self) -> Declaration<Self, InTransaction> {
        Declaration::transaction().undo()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        _: &Call,
        amount: &i64,
    ) -> Result<(), StepError> {
        let row = sqlx::query("insert into public.deposit values ($1)").bind(*amount);
        row.execute(connection).await?;
        Ok(())
    }

    fn money(&self, moment: Moment<'_, Self, InTransaction>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, .. } => vec![movement(MovementKind::Capture, *input, "deposit")],
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl TransactionUndo for Deposit {
    async fn undo(
        &self,
        connection: &mut PgConnection,
        call: &Call,
        _: &i64,
        (): &(),
    ) -> Result<Undone, StepError> {
        let left = call.ledger().captured_net(euro()).unwrap_or_default();
        sqlx::query("insert into public.deposit values ($1)")
            .bind(-left)
            .execute(connection)
            .await?;
        Ok(Undone::by("deposit").moved([movement(MovementKind::Refund, left, "deposit")]))
    }
}

/// Sends the goods, if they can be sent at all.
#[derive(Clone)]
struct Send;

impl Step for Send {
    const NAME: &'static str = "send";
    type Input = bool;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().pivot().retry(RetryPolicy::persistent())
    }

    async fn run(&self, _: &Call, can_be_sent: &bool) -> Result<(), StepError> {
        if *can_be_sent { Ok(()) } else { Err(StepError::refused("TOO_HEAVY", "no")) }
    }
}

struct Sale {
    deposit: Option<Deposit>,
    capture: Capture,
    give_back: GiveBack,
}

impl Workflow for Sale {
    const NAME: &'static str = "sale";
    const VERSION: u32 = 1;
    /// How much is given back, and whether the goods can be sent.
    type Input = (i64, bool);
    type Output = ();

    fn steps(&self) -> Steps {
        let steps = Steps::new();
        let steps = match &self.deposit {
            Some(deposit) => steps.transaction(deposit),
            None => steps.step(&self.capture),
        };
        steps.step(&self.give_back).step(&Send)
    }

    async fn run(&self, saga: &Saga, (part, can_be_sent): (i64, bool)) -> Result<(), Halt> {
        match &self.deposit {
            Some(deposit) => saga.transaction(deposit, &PAID).await?,
            None => saga.run(&self.capture, &PAID).await?,
        }
        if part > 0 && self.deposit.is_none() {
            saga.run(&self.give_back, &part).await?;
        }
        saga.run(&Send, &can_be_sent).await
    }

    fn balanced(
        &self,
        outcome: Outcome,
        (part, _): &(i64, bool),
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        let due = if outcome == Outcome::Completed { PAID - part } else { 0 };
        let net = ledger.captured_net(euro());
        if net == Some(due) { Ok(()) } else { Err(Imbalance(format!("{net:?} is not {due}"))) }
    }
}

fn register(engine: EngineBuilder, bank: &Bank, deposit: Option<Deposit>) -> EngineBuilder {
    let (capture, give_back) = (Capture(bank.clone()), GiveBack(bank.clone()));
    engine.workflow(Sale { deposit, capture, give_back })
}

async fn kit(bank: &Bank) -> Kit {
    let bank = bank.clone();
    Kit::new(move |engine| register(engine, &bank, None)).await
}

/// The goods cannot be sent yet.
fn busy() -> StepError {
    StepError::retry("BUSY", "later")
}

#[tokio::test]
async fn a_cancel_after_a_part_was_given_back_gives_back_the_rest() {
    for part in [0, PART, PAID] {
        let bank = Bank::default();
        let kit = kit(&bank).await;
        kit.attempt::<Send>(1).fails(busy());
        let id = kit.start::<Sale>("it", &(part, true)).await;
        kit.settle().await;
        assert_eq!(bank.balance(), PAID - part);
        assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
        kit.settle().await;
        assert_eq!(kit.status(id).await, Status::Cancelled, "{part}");
        assert_eq!(bank.balance(), 0, "{part}");
        assert_eq!(kit.ledger(id).await.captured_net(euro()), Some(0), "{part}");
        kit.finish().await;
    }
}

#[tokio::test]
async fn the_rest_is_given_back_once_wherever_the_process_dies() {
    let points = crash_everywhere(async |builder| {
        let bank = Bank::default();
        let ours = bank.clone();
        let kit = builder.build(move |engine| register(engine, &bank, None)).await;
        let id = kit.start::<Sale>("it", &(PART, false)).await;
        for _ in 0..3 {
            kit.pass(MINUTE).await;
        }
        let net = kit.ledger(id).await.captured_net(euro());
        let status = kit.status(id).await;
        kit.finish().await;
        (status.as_str(), ours.balance(), net)
    })
    .await;
    assert!(points.len() > 5);
}

#[tokio::test]
async fn an_undo_in_doubt_asks_for_the_same_amount_until_it_is_answered() {
    let bank = Bank::default();
    let kit = kit(&bank).await;
    kit.attempt::<Send>(1).fails(busy());
    kit.undo::<Capture>(1).applies_then(StepError::unknown("LOST", "no answer"));
    kit.undo::<Capture>(2).fails(StepError::fail("CLOSED", "not today"));
    let id = kit.start::<Sale>("it", &(PART, true)).await;
    kit.settle().await;
    kit.command(id, Command::Cancel).await;
    kit.settle().await;
    kit.pass(MINUTE).await;
    assert_eq!(kit.status(id).await, Status::Stuck);
    // What a person says meanwhile must not change what is asked for under the same key.
    let by_hand = vec![movement(MovementKind::Capture, 5, "by hand")];
    let said =
        Resolution { step: None, finding: None, evidence: "a letter".to_owned(), money: by_hand };
    let engine = kit.engine();
    let answer = engine.resolve(id, said, "jane", "it was found").await.unwrap();
    assert_eq!(answer, Some(Answer::Accepted));
    kit.settle().await;
    let rest = kit.ledger(id).await.movements.pop().unwrap();
    assert_eq!(rest, movement(MovementKind::Refund, PAID - PART, "rest"));
    assert_eq!(bank.balance(), 0);
    kit.finish_unbalanced().await;
}

#[tokio::test]
async fn what_a_person_has_given_back_by_hand_is_not_given_back_again() {
    let bank = Bank::default();
    let kit = kit(&bank).await;
    kit.attempt::<Send>(1).fails(busy());
    kit.undo::<Capture>(1).fails(StepError::fail("CLOSED", "not today"));
    let id = kit.start::<Sale>("it", &(0, true)).await;
    kit.settle().await;
    kit.command(id, Command::Cancel).await;
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Stuck);
    let said = Resolution {
        step: None,
        finding: None,
        evidence: "a receipt".to_owned(),
        money: vec![movement(MovementKind::Refund, PART, "by hand")],
    };
    kit.engine().resolve(id, said, "jane", "in the shop").await.unwrap();
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    assert_eq!(bank.balance(), PART, "which is in the customer's hands");
    kit.finish().await;
}

#[tokio::test]
async fn an_undo_that_a_person_has_found_done_adds_up_with_what_was_given_back_before() {
    let bank = Bank::default();
    let kit = kit(&bank).await;
    kit.attempt::<Send>(1).fails(busy());
    kit.undo::<Capture>(1).fails(StepError::fail("CLOSED", "not today"));
    let id = kit.start::<Sale>("it", &(PART, true)).await;
    kit.settle().await;
    kit.command(id, Command::Cancel).await;
    kit.settle().await;
    let said = Resolution {
        step: Some("capture".to_owned()),
        finding: Some(Finding::Undone(Some("by hand".to_owned()))),
        evidence: "a receipt".to_owned(),
        money: Vec::new(),
    };
    kit.engine().resolve(id, said, "jane", "in the shop").await.unwrap();
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    assert_eq!(kit.ledger(id).await.captured_net(euro()), Some(0));
    kit.finish().await;
}

#[tokio::test]
async fn an_undo_in_a_transaction_sees_the_ledger_and_says_what_it_moved() {
    let bank = Bank::default();
    let kit = Kit::new(move |engine| register(engine, &bank, Some(Deposit))).await;
    let table = "create table public.deposit (amount bigint not null)";
    sqlx::query(table).execute(&mut kit.database().await).await.unwrap();
    kit.attempt::<Send>(1).fails(busy());
    let id = kit.start::<Sale>("it", &(0, true)).await;
    kit.settle().await;
    kit.command(id, Command::Cancel).await;
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    assert_eq!(kit.ledger(id).await.captured_net(euro()), Some(0));
    let sum: Option<i64> = sqlx::query_scalar("select sum(amount)::bigint from public.deposit")
        .fetch_one(&mut kit.database().await)
        .await
        .unwrap();
    assert_eq!(sum, Some(0));
    kit.finish().await;
}
