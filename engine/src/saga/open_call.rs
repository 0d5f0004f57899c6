//! A call of the run that has begun and has not ended yet.

use std::fmt::{self, Display};

use crate::history::BRANCH_DROPPED;
use crate::instance::{Guard, Instance, Verdict};
use crate::step::Failure;

/// What a call is called, such as `step charge` or `wait:packed`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallName<'a> {
    kind: &'static str,
    name: &'a str,
}

impl<'a> CallName<'a> {
    pub(super) fn step(key: &'a str) -> Self {
        Self { kind: "step ", name: key }
    }

    /// A call that is recorded under such a key.
    pub(super) const fn note(kind: &'static str, name: &'a str) -> Self {
        Self { kind, name }
    }
}

impl Display for CallName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.kind, self.name)
    }
}

/// Counts a call among the branches of its run, and notices if the run drops it.
///
/// A run that goes on without an answer that it has asked for might hear it first in its next
/// replay, and go another way. So it is stopped. The engine itself drops runs as a whole.
pub(super) struct OpenCall<'a> {
    instance: &'a Instance,
    name: CallName<'a>,
    is_answered: bool,
    _counted: Guard<'a>,
}

impl<'a> OpenCall<'a> {
    pub(super) fn new(instance: &'a Instance, name: CallName<'a>) -> Self {
        let _counted = instance.branches.call();
        Self { instance, name, is_answered: false, _counted }
    }

    /// The run has its answer.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        // A panic is told as what it is.
        if self.is_answered || std::thread::panicking() {
            return;
        }
        let mut state = self.instance.state();
        if !state.is_replaying || state.halt.is_some() {
            return;
        }
        let wanted = self.instance.obstacle_in(&state).filter(Verdict::is_wanted);
        state.halt_for(wanted.unwrap_or_else(|| Verdict::Stick(dropped(self.name))));
    }
}

fn dropped(name: CallName<'_>) -> Failure {
    let message = format!(
        "{name} was begun and then dropped before it had ended, as tokio::select! or a time-out \
         around it does; join branches with tokio::try_join!, wait for several things with one \
         signal type that tells them apart, and limit time with the time-out of saga.wait, of the \
         step or of the workflow"
    );
    Failure::new(BRANCH_DROPPED, message)
}
