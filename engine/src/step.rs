//! What an author writes for a step: one effect on the world, and how to take it back.
//!
//! A step declares what it is (effect, compensation, retry, time-out) as data, so that the
//! preview of a cancel, the guard before a resume and the console can be built on it.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::declaration::Declaration;
use crate::event::Event;
use crate::money::{Ledger, Movement};

/// A named unit of work with one effect on the world.
///
/// `run` may be called more than once for the same input: after a failed attempt, and after a
/// crash between the effect and its checkpoint. Every call carries the same
/// [`Call::key`], and whatever it talks to must apply that key once. The exception is a step
/// declared [`Effect::AtMostOnce`].
pub trait Step: Clone + Send + Sync + 'static {
    /// The name under which the step stands in every history. Renaming it strands live instances.
    const NAME: &'static str;
    /// What the step needs. It is recorded, and compensation gets it back.
    type Input: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// What the step found or made. It is recorded, and replay answers with it.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// States the effect, the compensation, and the limits of the step.
    fn declare(&self) -> Declaration<Self>;

    /// Applies the effect.
    fn run(
        &self,
        call: &Call,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Events published with the record of `moment`.
    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        let _ = moment;
        Vec::new()
    }

    /// Money that moved at `moment`, recorded in the ledger with the same commit.
    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        let _ = moment;
        Vec::new()
    }
}

/// A step whose effect can be taken back.
pub trait Undo: Step {
    /// Makes sure that the effect is not applied.
    ///
    /// `output` is `None` when it is unknown whether the effect was applied. Finding nothing to
    /// undo is success: answer [`Undone::nothing`]. Like `run`, it may be called more than once
    /// with the same [`Call::key`]; [`Call::forward_key`] is the key the effect was asked for with.
    fn undo(
        &self,
        call: &Call,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> impl Future<Output = Result<Undone, StepError>> + Send;
}

/// A step whose provider can be asked what became of a call.
pub trait Probe: Step {
    /// Asks whether the effect of [`Call::key`] was applied.
    fn probe(
        &self,
        call: &Call,
        input: &Self::Input,
    ) -> impl Future<Output = Result<Probed<Self::Output>, StepError>> + Send;
}

/// The way of a [`Step`]: an attempt calls something that is not this database.
#[derive(Debug)]
pub enum ByCall {}

/// What the engine needs of a step whose attempts are made in the way `How`.
///
/// Whatever is a [`Step`] or a [`crate::TransactionStep`] is this too; authors implement those.
pub trait Work<How>: Clone + Send + Sync + 'static {
    /// As the author has it.
    const NAME: &'static str;
    /// As the author has it.
    type Input: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// As the author has it.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// As the author has it.
    fn declare(&self) -> Declaration<Self, How>;
    /// As the author has it.
    fn events(&self, moment: Moment<'_, Self, How>) -> Vec<Event>;
    /// As the author has it.
    fn money(&self, moment: Moment<'_, Self, How>) -> Vec<Movement>;
}

impl<S: Step> Work<ByCall> for S {
    const NAME: &'static str = S::NAME;
    type Input = S::Input;
    type Output = S::Output;

    fn declare(&self) -> Declaration<Self> {
        Step::declare(self)
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        Step::events(self, moment)
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        Step::money(self, moment)
    }
}

/// The answer to a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed<T> {
    /// The effect was applied, with this output.
    Applied(T),
    /// The provider does not know the call.
    NotFound,
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Whether there was an effect to take back.
    pub applied: bool,
    /// The provider's reference for taking it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What it has moved, if it says so. Recorded as money of the step.
    #[serde(skip)]
    pub moved: Option<Vec<Movement>>,
    /// Money recorded before it.
    #[serde(skip)]
    pub(crate) before: Ledger,
}

impl Undone {
    /// The effect was there and has been taken back under the provider's `reference`.
    pub fn by(reference: impl Into<String>) -> Self {
        Self { applied: true, reference: Some(reference.into()), ..Self::default() }
    }

    /// There was nothing to take back.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The undo has moved exactly this. It is recorded in the place of what [`Step::money`] says of
    /// [`Moment::Undone`].
    #[must_use]
    pub fn moved(mut self, movements: impl IntoIterator<Item = Movement>) -> Self {
        self.moved = Some(movements.into_iter().collect());
        self
    }

    /// All the money that was recorded before this undo, for [`Moment::Undone`]: what
    /// [`Call::ledger`] has shown to the undo.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.before
    }

    /// The same, with this money recorded before it.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.before = ledger;
        self
    }
}

/// A point in a step's life at which it may publish events and account for money.
pub enum Moment<'a, S: Work<How>, How = ByCall> {
    /// The effect is applied.
    Done {
        /// What the step was given.
        input: &'a <S as Work<How>>::Input,
        /// What it answered.
        output: &'a <S as Work<How>>::Output,
    },
    /// The step has failed for good, and is certainly not applied.
    Failed {
        /// What the step was given.
        input: &'a <S as Work<How>>::Input,
        /// Why it failed.
        failure: &'a Failure,
    },
    /// The effect is certainly not applied any more.
    Undone {
        /// What the step was given.
        input: &'a <S as Work<How>>::Input,
        /// What it had answered, if it is known to have been applied.
        output: Option<&'a <S as Work<How>>::Output>,
        /// What the undo did.
        undone: &'a Undone,
    },
}

/// Why a step did not succeed: a stable code for programs and the runbook, a message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, upper case with underscores, such as `PAYMENT_DECLINED`.
    pub code: Cow<'static, str>,
    /// One sentence for a person; never a secret, never personal data.
    pub message: String,
}

impl Failure {
    /// A failure with a stable `code` and a `message` for people.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

/// How an attempt ended if not with an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// This attempt was certainly not applied, and a later one may succeed.
    Retry {
        /// What went wrong.
        failure: Failure,
        /// The provider's own wish for when to try again; never sooner than the policy says.
        after: Option<Duration>,
    },
    /// This attempt was certainly not applied, and no later one will succeed. It says nothing about
    /// earlier attempts: one whose outcome is unknown may still have been applied.
    Fail(Failure),
    /// The provider itself has refused this key for good: no attempt under it was applied, and none
    /// will be. Only an answer that certainly comes from the provider proves that; gateways and
    /// load balancers answer too.
    Refused(Failure),
    /// The request may have left, and nobody knows what became of it.
    Unknown(Failure),
}

impl StepError {
    /// Not applied; worth another attempt.
    pub fn retry(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Retry { failure: Failure::new(code, message), after: None }
    }

    /// This attempt was not applied, and no later one will be; see [`StepError::Fail`].
    pub fn fail(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Fail(Failure::new(code, message))
    }

    /// The provider has refused the key for good; see [`StepError::Refused`].
    pub fn refused(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Refused(Failure::new(code, message))
    }

    /// Perhaps applied.
    pub fn unknown(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Unknown(Failure::new(code, message))
    }

    /// The code and message, whichever way it ended.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry { failure, .. }
            | Self::Fail(failure)
            | Self::Refused(failure)
            | Self::Unknown(failure) => failure,
        }
    }
}

/// What the engine tells an attempt about itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// The instance on whose behalf the call is made.
    pub instance_id: Uuid,
    /// The business key of that instance, such as `shop/order`.
    pub business_key: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// When the attempt began.
    pub now: DateTime<Utc>,
    pub(crate) key: String,
    pub(crate) forward_key: String,
    pub(crate) ledger: Ledger,
}

impl Call {
    /// A first attempt under this `key`, for a test that calls a step by itself. It is made on
    /// behalf of no instance; every field can be set.
    #[must_use]
    pub fn for_test(key: impl Into<String>) -> Self {
        let key = key.into();
        Self {
            instance_id: Uuid::nil(),
            business_key: "test".to_owned(),
            attempt: 1,
            now: DateTime::UNIX_EPOCH,
            forward_key: key.clone(),
            key,
            ledger: Ledger::default(),
        }
    }

    /// The same, for an instance that has moved this money.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger, ..self }
    }

    /// The call that undoes this one, for a test that calls an undo by itself.
    #[must_use]
    pub fn undoing(&self) -> Self {
        Self { key: format!("{}/undo", self.key), ..self.clone() }
    }

    /// The idempotency key of this effect: the same for every attempt, on every worker, for ever.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// In an undo, the key under which the effect to be undone was asked for; else [`Call::key`].
    #[must_use]
    pub fn forward_key(&self) -> &str {
        &self.forward_key
    }

    /// All the money that the instance is recorded to have moved before.
    ///
    /// An undo gives back what is left by it. While an earlier attempt at the same undo is in doubt,
    /// it is what that one saw, so that the same key always carries the same amount. In `run` and
    /// `probe` it may grow between attempts, where another branch moves money beside the step: what
    /// is asked for under a key must not depend on that.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// What happens to the world if an attempt is made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The same key applies once, at least for `key_window` after the first attempt
    /// (`None`: for ever). An unknown outcome is resolved by another attempt.
    Idempotent {
        /// How long the provider remembers a key.
        key_window: Option<Duration>,
    },
    /// The provider can be asked. An unknown outcome is resolved by a probe, not sooner than
    /// `quiet` after the attempt, and "not found" counts only the second time.
    Queryable {
        /// How long the provider may take to show what it applied.
        quiet: Duration,
    },
    /// Nothing protects against a second application: the intent is recorded before the call, and
    /// an attempt whose outcome is unknown is put to a person.
    AtMostOnce,
    /// Applied if and only if its record is there: both are one commit. No outcome is unknown.
    Transaction,
}

impl Effect {
    /// Whether an attempt may have been applied although nothing at all is recorded of it.
    pub(crate) fn may_leave_no_record(self) -> bool {
        match self {
            Self::Idempotent { .. } | Self::Queryable { .. } => true,
            Self::AtMostOnce | Self::Transaction => false,
        }
    }
}

/// What it takes to undo a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compensation {
    /// The step's [`Undo`].
    Undo,
    /// The step changed nothing.
    Nothing,
    /// The step is the point of no return: once it is done, nothing is undone any more.
    Pivot,
}
