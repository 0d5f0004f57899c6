//! A workflow whose one step does what a test has written down for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amends::{
    Call, Currency, Declaration, Effect, Failure, Halt, Imbalance, Ledger, Moment, Movement,
    MovementKind, Outcome, Probe, Probed, RetryPolicy, Saga, Start, Step, StepError, Steps, Undo,
    Undone, Workflow,
};
use serde::{Deserialize, Serialize};

/// What an attempt, an undo or a probe does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers.
    Succeed,
    /// Fails like this.
    Err(StepError),
    /// Panics.
    Panic,
    /// Never answers.
    Hang,
    /// Answers after a while, by the clock on the wall.
    Take(Duration),
}

impl Act {
    /// Does it, and answers with `output`.
    #[expect(clippy::disallowed_methods, reason = "a provider outside keeps time of its own")]
    pub(crate) async fn perform<T>(self, output: T) -> Result<T, StepError> {
        match self {
            Self::Succeed => Ok(output),
            Self::Err(error) => Err(error),
            Self::Panic => panic!("as the test says"),
            Self::Hang => std::future::pending().await,
            Self::Take(time) => {
                tokio::time::sleep(time).await;
                Ok(output)
            }
        }
    }
}

/// A script, and how often it was followed. Clones share both.
#[derive(Clone)]
pub struct Script {
    effect: Effect,
    runs: Arc<Mutex<VecDeque<Act>>>,
    probes: Arc<Mutex<VecDeque<Option<u32>>>>,
    ran: Arc<AtomicU32>,
    probed: Arc<AtomicU32>,
    undone: Arc<AtomicU32>,
    replays: Arc<AtomicU32>,
    unstable: bool,
    money: Option<&'static str>,
    panics: bool,
}

impl Script {
    /// A step of this effect; attempts after the last written one succeed.
    #[must_use]
    pub fn new(effect: Effect, runs: impl IntoIterator<Item = Act>) -> Self {
        Self {
            effect,
            runs: Arc::new(Mutex::new(runs.into_iter().collect())),
            probes: Arc::default(),
            ran: Arc::default(),
            probed: Arc::default(),
            undone: Arc::default(),
            replays: Arc::default(),
            unstable: false,
            money: None,
            panics: false,
        }
    }

    /// What probes answer, one after the other; `None` is "not found".
    #[must_use]
    pub fn probes(self, probes: impl IntoIterator<Item = Option<u32>>) -> Self {
        *self.probes.lock().expect("no test panics here") = probes.into_iter().collect();
        self
    }

    /// Every replay asks for the step with another input.
    #[must_use]
    pub fn unstable(mut self) -> Self {
        self.unstable = true;
        self
    }

    /// The step takes money that the workflow does not account for, under this reference.
    #[must_use]
    pub fn takes_money_under(mut self, reference: &'static str) -> Self {
        self.money = Some(reference);
        self
    }

    /// The workflow panics after its step.
    #[must_use]
    pub fn panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// How often the step has run.
    #[must_use]
    pub fn ran(&self) -> u32 {
        self.ran.load(Ordering::SeqCst)
    }

    /// How often the provider was asked.
    #[must_use]
    pub fn probed(&self) -> u32 {
        self.probed.load(Ordering::SeqCst)
    }

    /// How often the step was undone.
    #[must_use]
    pub fn undone(&self) -> u32 {
        self.undone.load(Ordering::SeqCst)
    }
}

impl Step for Script {
    const NAME: &'static str = "act";
    type Input = u32;
    type Output = u32;

    fn declare(&self) -> Declaration<Self> {
        let declared = match self.effect {
            Effect::Idempotent { .. } => Declaration::idempotent().settles_within(Duration::ZERO),
            Effect::Queryable { quiet } => Declaration::queryable(quiet),
            Effect::AtMostOnce => Declaration::at_most_once().settles_within(Duration::ZERO),
            Effect::Transaction => panic!("this step is none"),
        };
        declared.undo().retry(RetryPolicy { jitter: 0.0, ..RetryPolicy::default() })
    }

    async fn run(&self, _: &Call, input: &u32) -> Result<u32, StepError> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        let act = self.runs.lock().expect("no test panics here").pop_front();
        act.unwrap_or(Act::Succeed).perform(*input).await
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match (moment, self.money) {
            (Moment::Done { .. }, Some(reference)) => vec![Movement {
                kind: MovementKind::Capture,
                money: amends::Money { amount_minor: 100, currency: euro() },
                reference: reference.to_owned(),
            }],
            _ => Vec::new(),
        }
    }
}

impl Undo for Script {
    async fn undo(&self, _: &Call, _: &u32, output: Option<&u32>) -> Result<Undone, StepError> {
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(output.map_or_else(Undone::nothing, |_| Undone::by("undo_1")))
    }
}

impl Probe for Script {
    async fn probe(&self, _: &Call, _: &u32) -> Result<Probed<u32>, StepError> {
        self.probed.fetch_add(1, Ordering::SeqCst);
        let answer = self.probes.lock().expect("no test panics here").pop_front().flatten();
        Ok(answer.map_or(Probed::NotFound, Probed::Applied))
    }
}

/// What the scripted workflow answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Acted {
    /// The step's output.
    pub output: u32,
}

/// The workflow around the step.
pub struct Scripted(pub Script);

impl Workflow for Scripted {
    const NAME: &'static str = "scripted";
    const VERSION: u32 = 1;
    type Input = u32;
    type Output = Acted;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.0)
    }

    async fn run(&self, saga: &Saga, input: u32) -> Result<Acted, Halt> {
        let replay = self.0.replays.fetch_add(1, Ordering::SeqCst);
        let input = if self.0.unstable { input + replay } else { input };
        let output = saga.run(&self.0, &input).await?;
        assert!(!self.0.panics, "as the script says");
        Ok(Acted { output })
    }

    fn balanced(&self, _: Outcome, _: &u32, ledger: &Ledger) -> Result<(), Imbalance> {
        if ledger.captured_net(euro()) == Some(0) {
            Ok(())
        } else {
            Err(Imbalance("money moved that nobody expected".to_owned()))
        }
    }
}

fn euro() -> Currency {
    "EUR".parse().expect("three letters")
}

/// A request to start the scripted workflow.
#[must_use]
pub fn start(business_key: &str) -> Start {
    Start {
        workflow: Scripted::NAME,
        business_key: business_key.to_owned(),
        input: "7".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    }
}

/// An effect that any number of attempts applies once.
pub const ONCE: Effect = Effect::Idempotent { key_window: None };

/// An effect that can be asked for after a minute.
pub const QUERYABLE: Effect = Effect::Queryable { quiet: Duration::from_secs(60) };

/// A failure that is worth another attempt, with this message.
#[must_use]
pub fn retry(message: &str) -> Act {
    Act::Err(StepError::Retry { failure: Failure::new("TRY_AGAIN", message), after: None })
}

/// An outcome that nobody knows.
#[must_use]
pub fn unknown() -> Act {
    Act::Err(StepError::unknown("LOST", "the answer was lost"))
}
