//! What a step says of itself: its effect, its compensation, its limits.
//!
//! Effect and compensation have no default. An undo or a probe that does not exist does not compile,
//! nor does an undo of what may still be applied for nobody knows how long.

use std::marker::PhantomData;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::retry::RetryPolicy;
use crate::step::{
    ByCall, Call, Compensation, Effect, Probe, Probed, Step, StepError, Undo, Undone, Work,
};
use crate::transaction_step::{InTransaction, PgConnection, TransactionStep, TransactionUndo};

/// The connection is that of the undo's transaction, if it has one.
type RunUndo<S, How> = for<'a> fn(
    &'a S,
    Option<&'a mut PgConnection>,
    &'a Call,
    &'a <S as Work<How>>::Input,
    Option<&'a <S as Work<How>>::Output>,
) -> BoxFuture<'a, Result<Undone, StepError>>;
type RunProbe<S, How> =
    for<'a> fn(
        &'a S,
        &'a Call,
        &'a <S as Work<How>>::Input,
    ) -> BoxFuture<'a, Result<Probed<<S as Work<How>>::Output>, StepError>>;

/// What a step says of itself.
///
/// Built from its effect and its compensation, neither of which has a default; an undo or a probe
/// that does not exist does not compile.
pub struct Declaration<S: Work<How>, How = ByCall> {
    pub(crate) effect: Effect,
    /// How long a provider may still apply what it was sent.
    pub(crate) settles_within: Option<Duration>,
    pub(crate) compensation: Compensation,
    pub(crate) retry: RetryPolicy,
    pub(crate) undo_retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) dependency: Option<&'static str>,
    pub(crate) undo: Option<RunUndo<S, How>>,
    pub(crate) probe: Option<RunProbe<S, How>>,
}

impl<S: Step> Declaration<S> {
    /// The same key applies once, for ever.
    pub fn idempotent() -> EffectDeclared<S> {
        EffectDeclared::new(Effect::Idempotent { key_window: None })
    }

    /// The same key applies once, as long as it is used within `key_window` of the first attempt.
    pub fn idempotent_within(key_window: Duration) -> EffectDeclared<S> {
        EffectDeclared::new(Effect::Idempotent { key_window: Some(key_window) })
    }

    /// The provider can be asked, `quiet` after a lost answer. By then it has settled: what it has
    /// not applied yet it never will.
    pub fn queryable(quiet: Duration) -> EffectDeclared<S, ByCall, Settles>
    where
        S: Probe,
    {
        EffectDeclared {
            settles_within: Some(quiet),
            probe: Some(|step, call, input| Box::pin(step.probe(call, input))),
            ..EffectDeclared::new(Effect::Queryable { quiet })
        }
    }

    /// A second application can neither be prevented nor detected.
    pub fn at_most_once() -> EffectDeclared<S> {
        EffectDeclared::new(Effect::AtMostOnce)
    }
}

impl<S: TransactionStep> Declaration<S, InTransaction> {
    /// Applied in the commit of the step's record, and so exactly once.
    pub fn transaction() -> EffectDeclared<S, InTransaction, Settles> {
        EffectDeclared::new(Effect::Transaction)
    }
}

impl<S: Work<How>, How> Declaration<S, How> {
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
    /// unknown; what was to be done in a transaction has not happened.
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
    /// and when none may, the step has failed for good (default: none). Time for which the instance
    /// was held, stuck or parked does not count, and a resume begins anew.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// It is not declared how long a provider may still apply what it was sent.
#[derive(Debug)]
pub enum SettlesUnknown {}

/// It is declared how long a provider may still apply what it was sent.
#[derive(Debug)]
pub enum Settles {}

/// How long a provider may still apply what it was sent is known, as an undo needs it.
///
/// An undo that is not told whether there is anything to undo, and finds nothing, is made once more
/// when that time is over.
#[diagnostic::on_unimplemented(
    message = "this step can be undone, but does not say how long its provider may still apply \
               what it was sent",
    label = "`.settles_within(duration)` is missing before `.undo()`",
    note = "after an unknown outcome the effect may turn up when its undo has found nothing yet; \
            the undo looks again once `settles_within` is over"
)]
pub trait KnownToSettle: sealed::Sealed {}

impl KnownToSettle for Settles {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Settles {}
    impl Sealed for super::SettlesUnknown {}
}

/// A declaration that still has to say how the step is compensated.
#[must_use = "say how the step is compensated: `.undo()`, `.nothing_to_undo()` or `.pivot()`"]
pub struct EffectDeclared<S: Work<How>, How = ByCall, Settling = SettlesUnknown> {
    effect: Effect,
    settles_within: Option<Duration>,
    probe: Option<RunProbe<S, How>>,
    settling: PhantomData<Settling>,
}

impl<S: Step> EffectDeclared<S> {
    /// How long a provider may still apply what it was sent, counted from when the answer was given
    /// up: its own time-outs and queues, and those of everything in between. There is no default.
    ///
    /// It is needed for an undo, and for nothing else: one that does not know whether there is
    /// anything to undo, and finds nothing sooner than this, looks once more after it. Without it an
    /// undo does not compile:
    ///
    /// ```
    /// # use amends::{Declaration, Undo};
    /// fn declare<S: Undo>(minute: std::time::Duration) -> Declaration<S> {
    ///     Declaration::idempotent().settles_within(minute).undo()
    /// }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use amends::{Declaration, Undo};
    /// fn declare<S: Undo>() -> Declaration<S> {
    ///     Declaration::idempotent().undo()
    /// }
    /// ```
    pub fn settles_within(self, time: Duration) -> EffectDeclared<S, ByCall, Settles> {
        EffectDeclared {
            effect: self.effect,
            settles_within: Some(time),
            probe: self.probe,
            settling: PhantomData,
        }
    }
}

impl<S: Step, Settling> EffectDeclared<S, ByCall, Settling> {
    /// The step's [`Undo`] takes the effect back.
    #[must_use]
    pub fn undo(self) -> Declaration<S>
    where
        S: Undo,
        Settling: KnownToSettle,
    {
        self.declare(
            Compensation::Undo,
            Some(|step, _, call, input, output| Box::pin(step.undo(call, input, output))),
        )
    }
}

impl<S: TransactionStep> EffectDeclared<S, InTransaction, Settles> {
    /// The step's [`TransactionUndo`] takes the effect back.
    #[must_use]
    pub fn undo(self) -> Declaration<S, InTransaction>
    where
        S: TransactionUndo,
    {
        self.declare(
            Compensation::Undo,
            Some(|step, connection, call, input, output| {
                Box::pin(async move {
                    // Only a version whose step was no transaction can have left a doubt.
                    let (Some(connection), Some(output)) = (connection, output) else {
                        let message = "nobody knows whether the step was applied";
                        return Err(StepError::fail("OUTCOME_UNKNOWN", message));
                    };
                    step.undo(connection, call, input, output).await
                })
            }),
        )
    }
}

impl<S: Work<How>, How, Settling> EffectDeclared<S, How, Settling> {
    fn new(effect: Effect) -> Self {
        Self { effect, settles_within: None, probe: None, settling: PhantomData }
    }

    /// There is nothing to take back: the step only reads, or what it does is harmless.
    #[must_use]
    pub fn nothing_to_undo(self) -> Declaration<S, How> {
        self.declare(Compensation::Nothing, None)
    }

    /// The step is the point of no return.
    #[must_use]
    pub fn pivot(self) -> Declaration<S, How> {
        self.declare(Compensation::Pivot, None)
    }

    fn declare(
        self,
        compensation: Compensation,
        undo: Option<RunUndo<S, How>>,
    ) -> Declaration<S, How> {
        Declaration {
            effect: self.effect,
            settles_within: self.settles_within,
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
