//! The handle through which a running workflow acts on the world.

mod asked;
mod attempt;
mod calls;
mod children;
mod open_call;

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;

use serde_json::value::to_raw_value;

use crate::instance::{Instance, Readiness, Verdict};
use crate::step::{ByCall, Failure, Step};
use crate::transaction_step::{InTransaction, TransactionStep};
use asked::{Asked, Recalled};
use attempt::Attemptable;
use open_call::{CallName, OpenCall};

pub use children::Child;
pub(crate) use children::child_id;

/// Why `run` must stop; pass it on with `?`.
///
/// It carries nothing: the engine knows the reason, and whether the instance waits, is undone, or
/// needs a person.
#[derive(Debug)]
pub struct Halt(());

/// The handle through which a running workflow acts on the world.
///
/// Its calls may be made side by side, with `tokio::try_join!` and the like: when one branch
/// halts, attempts that are under way in the others come to their end, and then everything that is
/// done is undone. Where branches run the same step, the author names each occurrence with
/// [`Saga::at`].
///
/// Every call that has been begun, which is to say polled, has to be awaited to its end. What drops
/// one and goes on, such as `tokio::select!`, `tokio::time::timeout` or a `FuturesUnordered` that is
/// not emptied, may hear the dropped answer first in the next replay and go another way: the
/// instance is stuck at once (`BRANCH_DROPPED`). To go on with whichever comes first, wait for one
/// signal type that tells the cases apart; to limit time, use the time-out of [`Saga::wait`], of the
/// step, or of the workflow. Holding a call and awaiting it later is fine, and so is dropping one
/// that was never polled.
pub struct Saga(pub(crate) Arc<Instance>);

/// A [`Saga`] whose next call is a named occurrence.
pub struct At<'a> {
    saga: &'a Saga,
    occurrence: String,
}

impl Saga {
    /// Runs a step, or answers from the history if it has run before.
    ///
    /// The step's record is durable before the next step's effect begins. Failed attempts are
    /// repeated as the step declares; when they are spent, or the step fails for good, the run is
    /// halted and everything done is undone.
    pub async fn run<S: Step>(&self, step: &S, input: &S::Input) -> Result<S::Output, Halt> {
        self.ask::<S, ByCall>(step, input).await
    }

    /// Runs a step whose SQL commits together with its record, or answers from the history if it
    /// has run before. All else is as in [`Saga::run`].
    pub async fn transaction<S: TransactionStep>(
        &self,
        step: &S,
        input: &S::Input,
    ) -> Result<S::Output, Halt> {
        self.ask::<S, InTransaction>(step, input).await
    }

    async fn ask<S: Attemptable<How>, How: 'static>(
        &self,
        step: &S,
        input: &S::Input,
    ) -> Result<S::Output, Halt> {
        self.call(CallName::step(S::NAME), async {
            let _single = self.single(S::NAME)?;
            let key = self.0.occurrence(S::NAME.to_owned());
            self.drive(step, input, &key).await
        })
        .await
    }

    /// Names the occurrence of the step that is run next, such as the parcel it is about: required
    /// where branches that run side by side run the same step. A name is used once per step.
    #[must_use]
    pub fn at(&self, occurrence: impl Into<String>) -> At<'_> {
        At { saga: self, occurrence: occurrence.into() }
    }

    /// One call of the run: counted among its branches, and halted with its verdict.
    async fn call<T>(
        &self,
        name: CallName<'_>,
        call: impl Future<Output = Result<T, Verdict>>,
    ) -> Result<T, Halt> {
        let open = OpenCall::new(&self.0, name);
        // What a branch has been halted for holds for all.
        if self.0.state().halt.is_some() && !self.0.is_in_doubt() {
            return Err(Halt(()));
        }
        let mut call = std::pin::pin!(call);
        let asked = futures::poll!(call.as_mut());
        // Others may have waited until this was asked for.
        let unasked_from = self.0.state().history.unasked_from();
        self.0.branches.wake(unasked_from);
        let answer = match asked {
            Poll::Ready(answer) => answer,
            Poll::Pending => call.await,
        };
        match answer {
            Ok(answer) => {
                open.answered();
                Ok(answer)
            }
            Err(verdict) => {
                self.0.state().halt_for(verdict);
                self.0.let_the_others_speak().await;
                Err(Halt(()))
            }
        }
    }

    /// Refuses an unnamed repetition of a step that is under way in another branch: which is which
    /// would depend on who comes first.
    fn single(&self, name: &'static str) -> Result<Single<'_>, Verdict> {
        if self.0.state().under_way.insert(name) {
            return Ok(Single { saga: self, name });
        }
        Err(Verdict::Stick(Failure::new(
            "OCCURRENCE_UNNAMED",
            format!("{name} runs in two branches at once; name its occurrences with saga.at(..)"),
        )))
    }

    async fn drive<S: Attemptable<How>, How: 'static>(
        &self,
        step: &S,
        input: &S::Input,
        key: &str,
    ) -> Result<S::Output, Verdict> {
        let instance = &self.0;
        let erased = instance.workflow.steps().get(S::NAME).ok_or_else(|| {
            Verdict::Stick(Failure::new(
                "STEP_NOT_REGISTERED",
                format!("{} is not among the steps of {}", S::NAME, instance.workflow.name()),
            ))
        })?;
        let raw = to_raw_value(input)
            .map_err(|error| Verdict::Unrecordable(format!("input of {}: {error}", S::NAME)))?;
        let asked = Asked { instance, erased: erased.as_ref(), key, input: &raw };
        loop {
            // While there is doubt, a run that is halted goes on to where its history ends, and each
            // step there says that it may have been under way.
            let recalled = asked.recall();
            let goes_on = matches!(recalled, Ok(Recalled::Done(..))) && instance.is_in_doubt();
            let halt = instance.state().halt.clone().filter(|_| !goes_on);
            if let Some(halt) = halt {
                return Err(halt);
            }
            let (attempt, due, probe) = match recalled? {
                Recalled::Done(_, seq) if !instance.is_turn(&instance.state(), seq) => {
                    instance.turn(seq).await;
                    continue;
                }
                Recalled::Done(output, _) => {
                    return serde_json::from_str(output.get()).map_err(|error| {
                        let message = format!("output of {key}: {error}");
                        Verdict::Stick(Failure::new("RECORD_UNREADABLE", message))
                    });
                }
                Recalled::Next { attempt, due, probe } => (attempt, due, probe),
            };
            instance.leave_history(key).await;
            if due.is_some_and(|due| due > instance.worker.clock.now()) {
                instance.pause_until(due).await?;
                continue;
            }
            if !probe && asked.is_late() {
                return Err(asked.give_up(step, input)?);
            }
            let Some(pass) = instance.enter(asked.erased.facts().dependency).await? else {
                continue;
            };
            let mut announcement = asked.announcement(attempt);
            let ready = instance.ready_for_effect(|| announcement.make()).await?;
            // Another branch may have read what stops this one.
            if ready == Readiness::ThinkAgain || instance.obstacle().is_some() {
                continue;
            }
            let output = if probe {
                asked.probe(step, input, attempt, pass).await?
            } else {
                announcement.come_true();
                asked.attempt(step, input, attempt, pass).await?
            };
            if let Some(output) = output {
                return Ok(output);
            }
        }
    }
}

impl At<'_> {
    /// Runs a step as [`Saga::run`] does, as this occurrence of it.
    pub async fn run<S: Step>(&self, step: &S, input: &S::Input) -> Result<S::Output, Halt> {
        self.ask::<S, ByCall>(step, input).await
    }

    /// Runs a step as [`Saga::transaction`] does, as this occurrence of it.
    pub async fn transaction<S: TransactionStep>(
        &self,
        step: &S,
        input: &S::Input,
    ) -> Result<S::Output, Halt> {
        self.ask::<S, InTransaction>(step, input).await
    }

    async fn ask<S: Attemptable<How>, How: 'static>(
        &self,
        step: &S,
        input: &S::Input,
    ) -> Result<S::Output, Halt> {
        let key = format!("{}#{}", S::NAME, self.occurrence);
        self.saga
            .call(CallName::step(&key), async {
                self.take(S::NAME, &key)?;
                self.saga.drive(step, input, &key).await
            })
            .await
    }

    /// Uses the occurrence, once.
    fn take(&self, name: &str, key: &str) -> Result<(), Verdict> {
        let occurrence = &self.occurrence;
        let is_number = occurrence.bytes().all(|byte| byte.is_ascii_digit());
        let refused = is_number || occurrence.contains(['/', '#', '~', '\0']);
        if refused || self.saga.0.occurrence(key.to_owned()) != key {
            return Err(Verdict::Stick(Failure::new(
                "OCCURRENCE_UNNAMED",
                format!("{occurrence:?} does not name one occurrence of {name}"),
            )));
        }
        Ok(())
    }
}

/// Step names that a run has under way without an occurrence.
pub(crate) type UnderWay = HashSet<&'static str>;

/// A step that is under way without an occurrence.
struct Single<'a> {
    saga: &'a Saga,
    name: &'static str,
}

impl Drop for Single<'_> {
    fn drop(&mut self) {
        self.saga.0.state().under_way.remove(self.name);
    }
}
