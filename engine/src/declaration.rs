//! What a step says of itself: its effect, its compensation, its limits.
//!
//! Effect and compensation have no default, and an undo or a probe that does not exist does not
//! compile.

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
}

impl<S: TransactionStep> Declaration<S, InTransaction> {
    /// Applied in the commit of the step's record, and so exactly once.
    #[must_use]
    pub fn transaction() -> EffectDeclared<S, InTransaction> {
        EffectDeclared { effect: Effect::Transaction, probe: None }
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
    /// and when none may, the step has failed for good (default: none).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// A declaration that still has to say how the step is compensated.
pub struct EffectDeclared<S: Work<How>, How = ByCall> {
    effect: Effect,
    probe: Option<RunProbe<S, How>>,
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
            Some(|step, _, call, input, output| Box::pin(step.undo(call, input, output))),
        )
    }
}

impl<S: TransactionStep> EffectDeclared<S, InTransaction> {
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

impl<S: Work<How>, How> EffectDeclared<S, How> {
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
