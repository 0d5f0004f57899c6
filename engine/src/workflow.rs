//! What an author writes for a workflow: ordinary async Rust forward, data backward.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Event;
use crate::money::{Imbalance, Ledger};
use crate::registry::Steps;
use crate::saga::{Halt, Saga};
use crate::signal::Signals;
use crate::step::Failure;

/// A workflow: what happens to one input, step by step.
///
/// `run` is replayed from the top whenever an instance is picked up again; steps that are recorded
/// answer from the history. Between steps it must not read clocks, draw random numbers or do I/O.
pub trait Workflow: Send + Sync + 'static {
    /// The name under which instances are stored.
    const NAME: &'static str;
    /// Instances stay on the version they started with; raise it when the order of steps changes.
    const VERSION: u32;
    /// What an instance is started with. It is the first record of its history.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What a completed instance answers. It is the last record of its history.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Every step that `run` may use, so that compensation can find its undo without `run`.
    fn steps(&self) -> Steps;

    /// Every signal that `run` may wait for. Others are refused.
    fn signals(&self) -> Signals {
        Signals::new()
    }

    /// How long an instance may take, from its start; the time for which it is held, stuck or parked
    /// does not count. When the time is over and no pivot is done, nothing more is begun and
    /// everything done is undone (`DEADLINE_EXCEEDED`).
    fn deadline(&self, input: &Self::Input) -> Option<Duration> {
        let _ = input;
        None
    }

    /// Runs the steps in order. A [`Halt`] from the saga must be passed on with `?`.
    fn run(
        &self,
        saga: &Saga,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Halt>> + Send;

    /// Events published when an instance starts and when it ends.
    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        let _ = milestone;
        Vec::new()
    }

    /// What an instance can be found by, beside its business key: (name, value).
    fn attributes(&self, input: &Self::Input) -> Vec<(&'static str, String)> {
        let _ = input;
        Vec::new()
    }

    /// States that the money adds up. Checked in the commit that would end the instance; an
    /// imbalance makes it stuck (`LEDGER_IMBALANCE`) instead.
    fn balanced(
        &self,
        outcome: Outcome,
        input: &Self::Input,
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        let _ = (outcome, input, ledger);
        Ok(())
    }

    /// States that what a completed instance answers agrees with the money, where the input alone
    /// does not say what is owed. Checked beside [`Workflow::balanced`], and as that is.
    fn answers_for(
        &self,
        input: &Self::Input,
        output: &Self::Output,
        ledger: &Ledger,
    ) -> Result<(), Imbalance> {
        let _ = (input, output, ledger);
        Ok(())
    }
}

/// How an instance ends on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every step is done.
    Completed,
    /// A step failed for good, and all that had been done is undone.
    Compensated,
    /// Somebody asked, and all that had been done is undone.
    Cancelled,
}

/// A point in an instance's life at which its workflow may publish events.
#[derive(Debug)]
pub enum Milestone<'a, W: Workflow + ?Sized> {
    /// The instance is accepted.
    Started {
        /// What it was started with.
        input: &'a W::Input,
    },
    /// Every step is done.
    Completed {
        /// What it was started with.
        input: &'a W::Input,
        /// What it answers.
        output: &'a W::Output,
    },
    /// All that had been done is undone.
    Undone {
        /// What it was started with.
        input: &'a W::Input,
        /// Compensated or cancelled.
        outcome: Outcome,
        /// Why.
        failure: &'a Failure,
    },
    /// It was stopped by force; nothing was undone.
    Terminated {
        /// What it was started with.
        input: &'a W::Input,
        /// Why.
        failure: &'a Failure,
    },
}
