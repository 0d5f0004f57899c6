//! One life: the decisions of the engine's loops, made by the functions that the loops ask.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Choices;
use super::world::{Trial, World, settling_time};
use crate::attempt::next_attempt;
use crate::compensation::plan_compensation;
use crate::fake::{self, input};
use crate::history::{History, RecordedStep};
use crate::memo::{Memo, recall};
use crate::pivots::Pivots;
use crate::record::{
    AttemptOutcome, CompensationPlanned, Ended, Entry, Reason, ReasonKind, Record,
    StepAttemptFailed, StepInterrupted, StepNotFound, StepStarted, Stuck,
};
use crate::registry::{Facts, Steps};
use crate::retry::RetryPolicy;
use crate::status::{Status, Transition};
use crate::step::{Compensation, Effect, Failure, StepError};

pub(super) const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
/// Each step, and each undo, is attempted twice.
const TWICE: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(1),
    factor: 2.0,
    delay_max: Duration::from_secs(60),
    attempts_max: 2,
    jitter: 0.0,
};
/// What failures are called; nobody looks.
const CODE: &str = "FAILED";
/// More turns than any of these lives takes.
const TURNS_MAX: usize = 200;

/// What may happen in lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) steps_max: usize,
    pub(super) effects: &'static [Effect],
    /// What may become of an attempt at a step.
    pub(super) trials: &'static [Trial],
    /// What may become of an attempt at an undo.
    pub(super) undo_trials: &'static [Trial],
    /// How often a person says something, or a worker is lost.
    pub(super) disturbances: u8,
}

/// What a pass over the instance came to.
pub(super) enum Next {
    Again,
    Wait(DateTime<Utc>),
    Held,
    Person,
    Finished,
    Compensate(Reason),
    Stick(Failure),
    Undone(Reason),
    Terminate,
}

/// An instance, and the world around it.
pub(super) struct Life<'a> {
    pub(super) choices: &'a mut Choices,
    pub(super) scope: Scope,
    pub(super) kinds: Vec<Compensation>,
    pub(super) effect: Effect,
    pub(super) steps: Steps,
    pub(super) world: World,
    pub(super) history: History,
    pub(super) records: Vec<Record>,
    pub(super) status: Status,
    pub(super) past_pivot: bool,
    pub(super) pivots: Pivots,
    pub(super) now: DateTime<Utc>,
    /// When the provider of each step was last called, or asked.
    pub(super) called_at: Vec<DateTime<Utc>>,
    /// Nothing unforeseen happens any more.
    pub(super) is_calm: bool,
    /// The steps that an accepted cancel was shown to undo, latest first.
    pub(super) promised: Option<Vec<String>>,
    pub(super) walked: BTreeSet<(&'static str, String)>,
}

impl<'a> Life<'a> {
    /// Lives one of the lives in a scope to its end.
    pub(super) fn live(choices: &'a mut Choices, scope: Scope) -> Self {
        let effect = choices.one_of(scope.effects);
        let lengths: Vec<_> = (0..=scope.steps_max).collect();
        let length = choices.one_of(&lengths);
        let mut kinds = Vec::new();
        for _ in 0..length {
            // What comes after the pivot cannot be undone, and a build in which it can is refused.
            let is_past = kinds.contains(&Compensation::Pivot);
            kinds.push(if is_past {
                Compensation::Nothing
            } else {
                choices.one_of(&[Compensation::Undo, Compensation::Nothing, Compensation::Pivot])
            });
        }
        let named = NAMES.iter().copied().zip(kinds.iter().copied());
        let mut life = Self {
            steps: fake::declared(named, effect, &TWICE),
            world: World::new(effect, length),
            history: History::new(Uuid::nil()),
            records: Vec::new(),
            status: Status::Pending,
            past_pivot: false,
            pivots: Pivots::default(),
            now: DateTime::UNIX_EPOCH,
            called_at: vec![DateTime::UNIX_EPOCH; length],
            is_calm: false,
            promised: None,
            walked: BTreeSet::new(),
            choices,
            scope,
            kinds,
            effect,
        };
        life.transit(Transition::Claim);
        for _ in 0..TURNS_MAX {
            life.judge_cancel();
            life.judge_pivot();
            life.be_disturbed();
            life.world.pass(life.now);
            let next = life.next();
            if life.settle(next) {
                life.world.pass(life.now + settling_time());
                return life;
            }
        }
        panic!("no end after {TURNS_MAX} turns: {:?}", life.told());
    }

    /// The history, one word per record.
    pub(super) fn told(&self) -> Vec<String> {
        let word = |record: &Record| match &record.step {
            Some(step) => format!("{} {step}", record.kind),
            None => record.kind.to_string(),
        };
        self.records.iter().map(word).collect()
    }

    pub(super) fn transit(&mut self, transition: Transition) {
        let to = self.status.after(transition);
        self.walked.insert((self.status.as_str(), format!("{transition:?}")));
        self.status = to.unwrap_or_else(|| {
            panic!("{} has no {transition:?}: {:?}", self.status, self.told());
        });
    }

    pub(super) fn append(&mut self, step: Option<usize>, entry: Entry) {
        let step = step.map(|index| NAMES[index]);
        let record = self.history.append(step, None, entry, &[], None, self.now).unwrap();
        self.records.push(record);
    }

    fn next(&mut self) -> Next {
        if self.history.terminated().is_some() {
            Next::Terminate
        } else if self.history.is_held() {
            Next::Held
        } else if self.status == Status::Stuck && self.history.cancelled().is_none() {
            Next::Person
        } else if self.history.undoing().is_some() {
            self.backward()
        } else {
            self.forward()
        }
    }

    fn forward(&mut self) -> Next {
        if let (Some(reason), false) = (self.history.cancelled(), self.history.is_interrupted()) {
            return Next::Compensate(reason);
        }
        self.history.rewind();
        for step in 0..self.kinds.len() {
            let mut memo = self.recall(step);
            if memo.next_attempt().is_some() {
                if self.may_have_been_under_way(step) {
                    let retry_at = Some(self.now + self.quiet());
                    let interrupted = StepInterrupted { input: input(), retry_at };
                    self.append(Some(step), Entry::StepInterrupted(interrupted));
                    self.settle_pivot(step);
                    memo = self.recall(step);
                }
                if let Some(reason) = self.history.cancelled() {
                    return Next::Compensate(reason);
                }
            }
            match memo {
                Memo::Done(_) => {}
                Memo::Failed(failure) => {
                    return Next::Compensate(Reason { kind: ReasonKind::Failure, failure });
                }
                Memo::Stick(failure) => {
                    return self.history.cancelled().map_or(Next::Stick(failure), Next::Compensate);
                }
                Memo::Diverged(divergence) => panic!("{divergence:?}"),
                Memo::Attempt { due, .. } | Memo::Probe { due, .. }
                    if due.is_some_and(|due| due > self.now) =>
                {
                    return due.map_or(Next::Again, Next::Wait);
                }
                Memo::Attempt { .. } => return self.attempt(step),
                Memo::Probe { .. } => return self.probe(step),
            }
        }
        assert_eq!(self.history.unasked(), None);
        self.history.cancelled().map_or(Next::Finished, Next::Compensate)
    }

    fn recall(&mut self, step: usize) -> Memo {
        recall(self.history.ask(NAMES[step]), &input(), self.effect, self.now)
    }

    fn may_have_been_under_way(&self, step: usize) -> bool {
        let doubted = self.history.step(NAMES[step]).is_some_and(|step| step.unknown);
        self.history.is_interrupted()
            && !doubted
            && self.effect.may_leave_no_record()
            && (self.kinds[step] != Compensation::Pivot || self.past_pivot)
    }

    fn attempt(&mut self, step: usize) -> Next {
        self.pivots.announce(NAMES[step], &self.steps);
        if self.is_stopped_before(step) {
            self.take_back(step);
            return Next::Again;
        }
        self.record_intent(step);
        self.settle_pivots();
        let key = self.history.step(NAMES[step]).map_or(0, |step| step.attempts.round);
        let trial = self.trial(self.scope.trials, |world, trial| world.can(step, key, trial));
        self.world.attempt(step, key, trial, self.now);
        self.called_at[step] = self.now;
        match answered(trial) {
            None => self.lose_the_worker(),
            Some(Ok(())) => self.done(step),
            Some(Err(error)) => self.attempt_failed(step, &error),
        }
        Next::Again
    }

    /// Has the row say what is known of pivots.
    pub(super) fn settle_pivots(&mut self) {
        self.past_pivot = self.pivots.are_past(&self.history, &self.steps);
    }

    /// Records that an at-most-once call is about to leave.
    fn record_intent(&mut self, step: usize) {
        if self.effect == Effect::AtMostOnce {
            self.append(
                Some(step),
                Entry::StepStarted(StepStarted { input: input(), parked: false }),
            );
        }
    }

    /// Takes back what was announced of a step that has not begun.
    fn take_back(&mut self, step: usize) {
        self.record_intent(step);
        if self.effect == Effect::AtMostOnce {
            let failure = Failure::new(CODE, "not started");
            let (outcome, retry_at) = (AttemptOutcome::Retry, Some(self.now));
            let (input, money) = (input(), Vec::new());
            let failed = StepAttemptFailed {
                input,
                outcome,
                failure,
                began_at: None,
                parked_until: None,
                retry_at,
                money,
            };
            self.append(Some(step), Entry::StepAttemptFailed(failed));
        }
        self.settle_pivot(step);
    }

    fn settle_pivot(&mut self, step: usize) {
        self.pivots.settle(NAMES[step], &self.steps);
        self.settle_pivots();
    }

    fn done(&mut self, step: usize) {
        self.append(Some(step), Entry::StepDone(fake::step_done()));
        self.settle_pivot(step);
    }

    fn attempt_failed(&mut self, step: usize, error: &StepError) {
        let recorded = self.history.step(NAMES[step]);
        let counted = recorded.map_or(0, |step| step.attempts.counted);
        let policy = self.facts(step).retry;
        let attempted = next_attempt(error, counted + 1, policy, self.effect, 0.0, self.now);
        let (outcome, retry_at) = (attempted.outcome, attempted.retry_at);
        let (failure, money) = (error.failure().clone(), Vec::new());
        let failed = StepAttemptFailed {
            input: input(),
            outcome,
            failure,
            began_at: None,
            parked_until: None,
            retry_at,
            money,
        };
        self.append(Some(step), Entry::StepAttemptFailed(failed));
        self.settle_pivot(step);
    }

    /// What a provider shows late counts as not found the first time.
    fn probe(&mut self, step: usize) -> Next {
        self.judge_asking(step);
        self.called_at[step] = self.now;
        let asked_before = self.recorded(step).not_found > 0;
        let shows = self.world.applied[step]
            && (asked_before || self.is_calm || self.choices.one_of(&[true, false]));
        if shows {
            self.done(step);
        } else {
            let retry_at = self.now + self.quiet();
            self.append(Some(step), Entry::StepNotFound(StepNotFound { retry_at, parked: false }));
            self.settle_pivot(step);
        }
        Next::Again
    }

    /// A provider is asked when it can know.
    pub(super) fn judge_asking(&self, step: usize) {
        let asked_from = self.called_at[step] + self.quiet();
        assert!(self.now >= asked_from, "asked before it can know: {:?}", self.told());
    }

    /// What becomes of an attempt.
    pub(super) fn trial(
        &mut self,
        trials: &[Trial],
        possible: impl Fn(&World, Trial) -> bool,
    ) -> Trial {
        if self.is_calm {
            return Trial::Done;
        }
        let disturbed = self.scope.disturbances > 0;
        let crashes = Trial::CRASHES.iter().filter(|_| disturbed);
        let trials = trials.iter().chain(crashes).copied();
        let trials: Vec<_> = trials.filter(|trial| possible(&self.world, *trial)).collect();
        self.choices.one_of(&trials)
    }

    /// Another worker takes it over.
    pub(super) fn lose_the_worker(&mut self) {
        let is_recorded = self.status.has_lost_its_worker(true);
        self.scope.disturbances = self.scope.disturbances.saturating_sub(1);
        if self.status == Status::Compensating && self.choices.one_of(&[false, true]) {
            // It was found out when providers had settled.
            self.now += settling_time();
        }
        self.transit(Transition::Claim);
        if is_recorded {
            self.append(None, Entry::WorkerLost);
        }
        self.pivots = Pivots::claimed(self.past_pivot, &self.history, &self.steps);
        self.settle_pivots();
    }

    fn settle(&mut self, next: Next) -> bool {
        match next {
            Next::Again => {}
            Next::Wait(due) => {
                self.transit(Transition::Wait);
                if !self.is_hurried() {
                    self.now = due;
                }
                self.transit(Transition::Claim);
            }
            Next::Held => self.release(),
            Next::Person => self.ask_a_person(),
            Next::Compensate(reason) => match plan_compensation(&self.history, &self.steps) {
                Ok(plan) => {
                    let plan_hash = plan.hash();
                    let planned = CompensationPlanned { reason, plan, plan_hash };
                    self.append(None, Entry::CompensationPlanned(planned));
                    self.transit(Transition::Compensate);
                    self.settle_pivots();
                }
                Err(failure) => self.stick(failure),
            },
            Next::Stick(failure) => self.stick(failure),
            Next::Finished => return self.end(Status::Completed, Transition::Complete),
            Next::Terminate => return self.end(Status::Terminated, Transition::Terminate),
            Next::Undone(reason) => {
                let cancelled =
                    reason.kind == ReasonKind::Cancel || self.history.cancelled().is_some();
                let (status, transition) = if cancelled {
                    (Status::Cancelled, Transition::FinishCancelled)
                } else {
                    (Status::Compensated, Transition::FinishCompensated)
                };
                return self.end(status, transition);
            }
        }
        false
    }

    fn stick(&mut self, failure: Failure) {
        self.append(None, Entry::Stuck(Stuck { failure }));
        let is_stuck = self.status == Status::Stuck;
        self.transit(if is_stuck { Transition::Claim } else { Transition::Stick });
        self.ask_a_person();
    }

    /// Ends, unless a parent takes its completed child back.
    fn end(&mut self, status: Status, transition: Transition) -> bool {
        let ended = Ended { status, unread: Vec::new(), output: None, failure: None };
        self.append(None, Entry::Ended(ended));
        self.transit(transition);
        assert_eq!(self.status, status);
        !self.is_taken_back()
    }

    pub(super) fn recorded(&self, step: usize) -> &RecordedStep {
        self.history.step(NAMES[step]).unwrap()
    }

    pub(super) fn facts(&self, step: usize) -> Facts<'_> {
        self.steps.get(NAMES[step]).unwrap().facts()
    }

    fn quiet(&self) -> TimeDelta {
        match self.effect {
            Effect::Queryable { quiet } => TimeDelta::from_std(quiet).unwrap(),
            _ => TimeDelta::zero(),
        }
    }
}

/// What the instance hears of an attempt; nothing, if its worker is lost.
pub(super) fn answered(trial: Trial) -> Option<Result<(), StepError>> {
    match trial {
        Trial::Done => Some(Ok(())),
        Trial::Down => Some(Err(StepError::retry(CODE, "not reached"))),
        Trial::Failed => Some(Err(StepError::fail(CODE, "not this one"))),
        Trial::Refused => Some(Err(StepError::refused(CODE, "no"))),
        Trial::LostApplied | Trial::LostUnapplied | Trial::LostLate => {
            Some(Err(StepError::unknown(CODE, "no answer")))
        }
        Trial::CrashApplied | Trial::CrashUnapplied => None,
    }
}
