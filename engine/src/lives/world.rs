//! What providers have really applied, whatever the instance knows of it.

use crate::step::Effect;

/// What becomes of one attempt, and what the instance gets to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Applied, and answered.
    Done,
    /// Not reached.
    Down,
    /// Refused for good.
    Refused,
    /// Applied, and the answer was lost.
    LostApplied,
    /// The request was lost.
    LostUnapplied,
    /// Applied, and the worker was lost.
    CrashApplied,
    /// The worker was lost before the request left.
    CrashUnapplied,
}

impl Trial {
    pub(super) const ANSWERED: [Self; 5] =
        [Self::Done, Self::Down, Self::Refused, Self::LostApplied, Self::LostUnapplied];
    pub(super) const CRASHES: [Self; 2] = [Self::CrashApplied, Self::CrashUnapplied];

    fn applies(self) -> bool {
        matches!(self, Self::Done | Self::LostApplied | Self::CrashApplied)
    }
}

/// The effects of the steps of one instance.
#[derive(Debug, Clone)]
pub(super) struct World {
    effect: Effect,
    pub(super) applied: Vec<bool>,
    /// How often each effect was applied that was not applied at that moment.
    pub(super) applications: Vec<u32>,
    /// The steps that were undone, in this order.
    pub(super) undone: Vec<usize>,
}

impl World {
    pub(super) fn new(effect: Effect, length: usize) -> Self {
        Self { effect, applied: vec![false; length], applications: vec![0; length], undone: vec![] }
    }

    /// Whether this may become of an attempt at a step: what is applied under its key is answered
    /// with that, and what commits with its record cannot be lost.
    pub(super) fn can(&self, step: usize, trial: Trial) -> bool {
        let keyed = matches!(self.effect, Effect::Idempotent { .. });
        match trial {
            Trial::Refused | Trial::LostUnapplied | Trial::CrashUnapplied => {
                !(keyed && self.applied[step]) && (trial != Trial::LostUnapplied || self.can_lose())
            }
            Trial::LostApplied | Trial::CrashApplied => self.can_lose(),
            Trial::Done | Trial::Down => true,
        }
    }

    pub(super) fn can_lose(&self) -> bool {
        self.effect != Effect::Transaction
    }

    /// An attempt at a step.
    pub(super) fn attempt(&mut self, step: usize, trial: Trial) {
        let repeats = matches!(self.effect, Effect::Idempotent { .. }) && self.applied[step];
        if trial.applies() && !repeats {
            self.applied[step] = true;
            self.applications[step] += 1;
        }
    }

    /// An attempt at undoing a step. Only what nobody has heard of yet counts as undone.
    pub(super) fn undo(&mut self, step: usize, trial: Trial) {
        if trial.applies() {
            self.applied[step] = false;
            if !self.undone.contains(&step) {
                self.undone.push(step);
            }
        }
    }
}
