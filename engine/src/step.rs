//! What an author writes for a step: one effect on the world, and how to take it back.
//!
//! A step declares what it is (effect, compensation, retry, time-out) as data, so that the
//! preview of a cancel, the guard before a resume and the console can be built on it.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::Event;
use crate::money::Movement;
use crate::retry::RetryPolicy;

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

/// The answer to a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed<T> {
    /// The effect was applied, with this output.
    Applied(T),
    /// The provider does not know the call.
    NotFound,
}

/// What an undo did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Whether there was an effect to take back.
    pub applied: bool,
    /// The provider's reference for taking it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Undone {
    /// The effect was there and has been taken back under the provider's `reference`.
    pub fn by(reference: impl Into<String>) -> Self {
        Self { applied: true, reference: Some(reference.into()) }
    }

    /// There was nothing to take back.
    #[must_use]
    pub fn nothing() -> Self {
        Self { applied: false, reference: None }
    }
}

/// A point in a step's life at which it may publish events and account for money.
#[derive(Debug)]
pub enum Moment<'a, S: Step> {
    /// The effect is applied.
    Done {
        /// What the step was given.
        input: &'a S::Input,
        /// What it answered.
        output: &'a S::Output,
    },
    /// The step has failed for good.
    Failed {
        /// What the step was given.
        input: &'a S::Input,
        /// Why it failed.
        failure: &'a Failure,
    },
    /// The effect is certainly not applied any more.
    Undone {
        /// What the step was given.
        input: &'a S::Input,
        /// What it had answered, if it is known to have been applied.
        output: Option<&'a S::Output>,
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
    /// The effect was certainly not applied, and a later attempt may succeed.
    Retry {
        /// What went wrong.
        failure: Failure,
        /// The provider's own wish for when to try again; never sooner than the policy says.
        after: Option<Duration>,
    },
    /// The effect was certainly not applied, and never will be.
    Fail(Failure),
    /// The request left, and nobody knows what became of it.
    Unknown(Failure),
}

impl StepError {
    /// Not applied; worth another attempt.
    pub fn retry(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Retry { failure: Failure::new(code, message), after: None }
    }

    /// Not applied; no attempt will change that.
    pub fn fail(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Fail(Failure::new(code, message))
    }

    /// Perhaps applied.
    pub fn unknown(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Unknown(Failure::new(code, message))
    }

    /// The code and message, whichever way it ended.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry { failure, .. } | Self::Fail(failure) | Self::Unknown(failure) => failure,
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
        }
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
}

/// What it takes to undo a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compensation {
    /// The step's [`Undo`].
    Undo,
    /// The step changed nothing.
    Nothing,
    /// The step is the point of no return: once it is done, nothing is undone any more.
    Pivot,
}

type RunUndo<S> = for<'a> fn(
    &'a S,
    &'a Call,
    &'a <S as Step>::Input,
    Option<&'a <S as Step>::Output>,
) -> BoxFuture<'a, Result<Undone, StepError>>;
type RunProbe<S> = for<'a> fn(
    &'a S,
    &'a Call,
    &'a <S as Step>::Input,
) -> BoxFuture<'a, Result<Probed<<S as Step>::Output>, StepError>>;

/// What a step says of itself.
///
/// Built from its effect and its compensation, neither of which has a default; an undo or a probe
/// that does not exist does not compile.
pub struct Declaration<S: Step> {
    pub(crate) effect: Effect,
    pub(crate) compensation: Compensation,
    pub(crate) retry: RetryPolicy,
    pub(crate) undo_retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) dependency: Option<&'static str>,
    pub(crate) undo: Option<RunUndo<S>>,
    pub(crate) probe: Option<RunProbe<S>>,
}

impl<S: Step> Declaration<S> {
    /// The same key applies once, for ever.
    #[must_use]
    pub fn idempotent() -> EffectDeclared<S> {
        EffectDeclared { effect: Effect::Idempotent { key_window: None }, probe: None }
    }

    /// The same key applies once, as long as it is used within `key_window` of the first attempt.
    #[must_use]
    pub fn idempotent_within(key_window: Duration) -> EffectDeclared<S> {
        EffectDeclared { effect: Effect::Idempotent { key_window: Some(key_window) }, probe: None }
    }

    /// The provider can be asked, `quiet` after a lost answer.
    #[must_use]
    pub fn queryable(quiet: Duration) -> EffectDeclared<S>
    where
        S: Probe,
    {
        EffectDeclared {
            effect: Effect::Queryable { quiet },
            probe: Some(|step, call, input| Box::pin(step.probe(call, input))),
        }
    }

    /// A second application can neither be prevented nor detected.
    #[must_use]
    pub fn at_most_once() -> EffectDeclared<S> {
        EffectDeclared { effect: Effect::AtMostOnce, probe: None }
    }

    /// Replaces the default retry policy of `run`.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Replaces the default retry policy of `undo`.
    #[must_use]
    pub fn undo_retry(mut self, retry: RetryPolicy) -> Self {
        self.undo_retry = retry;
        self
    }

    /// Limits each attempt, of `run` as of `undo` (default 30 s). What has not answered by then is
    /// unknown.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Names the dependency that the step calls, of `run` as of `undo` and `probe`: its limits
    /// hold, and while it is down the step waits without spending attempts. See
    /// [`crate::EngineBuilder::dependency`].
    #[must_use]
    pub fn through(mut self, dependency: &'static str) -> Self {
        self.dependency = Some(dependency);
        self
    }

    /// Limits the step as a whole: no attempt of `run` begins later than this after its first one,
    /// and when none may, the step has failed for good (default: none).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// A declaration that still has to say how the step is compensated.
pub struct EffectDeclared<S: Step> {
    effect: Effect,
    probe: Option<RunProbe<S>>,
}

impl<S: Step> EffectDeclared<S> {
    /// The step's [`Undo`] takes the effect back.
    #[must_use]
    pub fn undo(self) -> Declaration<S>
    where
        S: Undo,
    {
        self.declare(
            Compensation::Undo,
            Some(|step, call, input, output| Box::pin(step.undo(call, input, output))),
        )
    }

    /// There is nothing to take back: the step only reads, or what it does is harmless.
    #[must_use]
    pub fn nothing_to_undo(self) -> Declaration<S> {
        self.declare(Compensation::Nothing, None)
    }

    /// The step is the point of no return.
    #[must_use]
    pub fn pivot(self) -> Declaration<S> {
        self.declare(Compensation::Pivot, None)
    }

    fn declare(self, compensation: Compensation, undo: Option<RunUndo<S>>) -> Declaration<S> {
        Declaration {
            effect: self.effect,
            compensation,
            retry: RetryPolicy::default(),
            undo_retry: RetryPolicy::persistent(),
            timeout: Duration::from_secs(30),
            deadline: None,
            dependency: None,
            undo,
            probe: self.probe,
        }
    }
}
