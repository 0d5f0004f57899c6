//! What providers have really applied, whatever the instance knows of it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::fake::SETTLES_WITHIN;
use crate::step::Effect;

/// What becomes of one attempt, and what the instance gets to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Applied, and answered.
    Done,
    /// Not reached.
    Down,
    /// Not applied, and no later attempt will be. That says nothing of earlier ones.
    Failed,
    /// Refused for good, under this key.
    Refused,
    /// Applied, and the answer was lost.
    LostApplied,
    /// No answer, and applied when the provider has had all the time that it may take.
    LostLate,
    /// The request was lost.
    LostUnapplied,
    /// Applied, and the worker was lost.
    CrashApplied,
    /// The worker was lost before the request left.
    CrashUnapplied,
}

impl Trial {
    pub(super) const ANSWERED: [Self; 6] = [
        Self::Done,
        Self::Down,
        Self::Failed,
        Self::Refused,
        Self::LostApplied,
        Self::LostUnapplied,
    ];
    pub(super) const CRASHES: [Self; 2] = [Self::CrashApplied, Self::CrashUnapplied];

    fn applies(self) -> bool {
        matches!(self, Self::Done | Self::LostApplied | Self::CrashApplied)
    }
}

/// The rounds of a step and of its undo.
pub(super) type UndoKey = (u32, u32);

/// The effects of the steps of one instance.
#[derive(Debug, Clone)]
pub(super) struct World {
    effect: Effect,
    pub(super) applied: Vec<bool>,
    /// Under which key, counted by its rounds, each effect was applied last.
    keys: Vec<u32>,
    /// What is going to be applied: when, and under which key.
    late: Vec<Option<(DateTime<Utc>, u32)>>,
    /// What was answered to undos, and under which keys: once under each key.
    undo_answers: Vec<BTreeMap<UndoKey, bool>>,
    /// How often each effect was applied that was not applied at that moment.
    pub(super) applications: Vec<u32>,
    /// The steps that were undone, in this order.
    pub(super) undone: Vec<usize>,
}

impl World {
    pub(super) fn new(effect: Effect, length: usize) -> Self {
        Self {
            effect,
            applied: vec![false; length],
            keys: vec![0; length],
            late: vec![None; length],
            undo_answers: vec![BTreeMap::new(); length],
            applications: vec![0; length],
            undone: vec![],
        }
    }

    /// Whether this may become of an attempt at a step under a key: a provider does not refuse what
    /// is applied under the same key, and what commits with its record cannot be lost.
    pub(super) fn can(&self, step: usize, key: u32, trial: Trial) -> bool {
        match trial {
            Trial::Refused | Trial::LostUnapplied | Trial::CrashUnapplied => {
                !self.repeats(step, key) && (trial != Trial::LostUnapplied || self.can_lose())
            }
            Trial::LostApplied | Trial::CrashApplied => self.can_lose(),
            Trial::LostLate => self.can_lose() && !self.repeats(step, key),
            Trial::Done | Trial::Down | Trial::Failed => true,
        }
    }

    /// Whether the provider applied this before, and knows it by its key.
    fn repeats(&self, step: usize, key: u32) -> bool {
        let keyed = matches!(self.effect, Effect::Idempotent { .. });
        keyed && self.applied[step] && self.keys[step] == key
    }

    pub(super) fn can_lose(&self) -> bool {
        self.effect != Effect::Transaction
    }

    /// An attempt at a step under a key.
    pub(super) fn attempt(&mut self, step: usize, key: u32, trial: Trial, now: DateTime<Utc>) {
        if trial.applies() {
            self.apply(step, key);
        } else if trial == Trial::LostLate {
            self.late[step] = Some((now + settling_time(), key));
        }
    }

    /// Time goes by, and what is late is applied.
    pub(super) fn pass(&mut self, now: DateTime<Utc>) {
        for step in 0..self.late.len() {
            let due = self.late[step].take_if(|(at, _)| *at <= now);
            // What was applied under the same key is not applied again, be it that it is undone.
            let was_applied = |key| self.applications[step] > 0 && self.keys[step] == key;
            if let Some((_, key)) = due.filter(|(_, key)| !was_applied(*key)) {
                self.apply(step, key);
            }
        }
    }

    fn apply(&mut self, step: usize, key: u32) {
        if !self.repeats(step, key) {
            self.applied[step] = true;
            self.keys[step] = key;
            self.applications[step] += 1;
        }
    }

    /// An attempt at undoing a step under a key. Says whether it was applied. A provider repeats
    /// what it has answered under the same key. Only what nobody has heard of yet counts as undone.
    pub(super) fn undo(&mut self, step: usize, key: UndoKey, trial: Trial) -> bool {
        let applied = self.applied[step];
        if !trial.applies() {
            return applied;
        }
        let known = self.can_lose().then(|| self.undo_answers[step].get(&key).copied()).flatten();
        if let Some(answer) = known {
            return answer;
        }
        self.undo_answers[step].insert(key, applied);
        self.undo_by_hand(step);
        applied
    }

    pub(super) fn undo_by_hand(&mut self, step: usize) {
        self.applied[step] = false;
        if !self.undone.contains(&step) {
            self.undone.push(step);
        }
    }
}

/// How long a provider may take to apply what it was sent.
pub(super) fn settling_time() -> TimeDelta {
    TimeDelta::from_std(SETTLES_WITHIN).unwrap()
}
