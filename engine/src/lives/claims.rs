//! What holds at the end of every life.

use std::collections::BTreeSet;
use std::time::Duration;

pub(super) use super::life::Scope;
use super::life::{Life, NAMES};
use super::world::Trial;
use super::{Choices, every};
use crate::status::{Status, Transition};
use crate::step::{Compensation, Effect};

const KEYED: Effect = Effect::Idempotent { key_window: None };
const QUERYABLE: Effect = Effect::Queryable { quiet: Duration::from_secs(90) };
const EFFECTS: &[Effect] = &[KEYED, QUERYABLE, Effect::AtMostOnce, Effect::Transaction];

/// Every history of up to five steps.
pub(super) const LONG: Scope = Scope {
    steps_max: 5,
    effects: &[KEYED],
    trials: &[Trial::Done, Trial::Failed, Trial::Refused, Trial::LostApplied],
    undo_trials: &[Trial::Done],
    disturbances: 0,
};
/// Everything that can become of an attempt at a step or at its undo.
pub(super) const VARIED: Scope = Scope {
    steps_max: 2,
    effects: EFFECTS,
    trials: &Trial::ANSWERED,
    undo_trials: &[Trial::Done, Trial::Failed, Trial::Refused, Trial::LostUnapplied],
    disturbances: 0,
};
/// A person or a lost worker at any moment.
const DISTURBED: Scope = Scope {
    trials: &[Trial::Done, Trial::Failed, Trial::Refused, Trial::LostApplied],
    undo_trials: &[Trial::Done, Trial::Refused],
    disturbances: 1,
    ..VARIED
};
/// A person or a lost worker at any moment, and another one at any later moment.
const DISTURBED_TWICE: Scope = Scope { steps_max: 1, disturbances: 2, ..DISTURBED };

/// Providers that apply late, and do not remember what was undone before they had heard of it.
pub(super) const LATE: Scope = Scope {
    trials: &[Trial::Done, Trial::Failed, Trial::LostLate],
    undo_trials: &[Trial::Done, Trial::LostApplied],
    ..VARIED
};

/// Lives every life in a scope, and says how many there are.
pub(super) fn every_life(scope: Scope) -> usize {
    every(|choices: &mut Choices| check(&Life::live(choices, scope)))
}

fn all_lives(scope: Scope, lives_min: usize) {
    let lives = every_life(scope);
    assert!(lives >= lives_min, "{lives} lives");
}

/// Nothing is promised that does not happen, and nothing is left half done.
fn check(life: &Life<'_>) {
    assert!(life.status.is_terminal(), "{:?}", life.told());
    effects_are_all_or_none(life);
    undoing_mirrors_success(life);
    a_promised_cancel_has_happened(life);
}

fn effects_are_all_or_none(life: &Life<'_>) {
    let told = life.told();
    for (step, kind) in life.kinds.iter().enumerate() {
        let (applied, applications) = (life.world.applied[step], life.world.applications[step]);
        match (life.status, kind) {
            (Status::Completed, _) => {
                assert!(applied && applications == 1, "{} is not once: {told:?}", NAMES[step]);
            }
            (Status::Compensated | Status::Cancelled, Compensation::Undo | Compensation::Pivot) => {
                assert!(!applied, "{} is left over: {told:?}", NAMES[step]);
            }
            _ => {}
        }
        assert!(applications <= 1, "{} was applied again: {told:?}", NAMES[step]);
    }
}

/// What is undone is what was done or may have been, latest first, and each once.
fn undoing_mirrors_success(life: &Life<'_>) {
    let Some(undoing) = life.history.undoing() else {
        return;
    };
    let told = life.told();
    let planned: Vec<_> = undoing.plan.steps.iter().map(|it| it.step.as_str()).collect();
    let doubtful = |step: usize| {
        let recorded = life.history.step(NAMES[step]);
        recorded.is_some_and(|recorded| recorded.unknown || recorded.begun)
    };
    let expected: Vec<_> = (0..life.kinds.len())
        .rev()
        .filter(|step| life.kinds[*step] == Compensation::Undo)
        .filter(|step| life.is_done(*step) || doubtful(*step))
        .map(|step| NAMES[step])
        .collect();
    assert_eq!(planned, expected, "{told:?}");
    let pivot_is_done = (0..life.kinds.len())
        .any(|step| life.kinds[step] == Compensation::Pivot && life.is_done(step));
    assert!(!pivot_is_done, "undone past the pivot: {told:?}");
    if matches!(life.status, Status::Compensated | Status::Cancelled) {
        for step in &planned {
            let compensated = life.history.step(step).is_some_and(|step| step.compensated);
            assert!(compensated, "{step}: {told:?}");
        }
    }
}

fn a_promised_cancel_has_happened(life: &Life<'_>) {
    let Some(promised) = &life.promised else {
        return;
    };
    let told = life.told();
    if life.history.terminated().is_some() {
        assert_eq!(life.status, Status::Terminated, "{told:?}");
        return;
    }
    assert_eq!(life.status, Status::Cancelled, "{told:?}");
    let undoing = life.history.undoing().unwrap();
    let planned: Vec<_> = undoing.plan.steps.iter().map(|it| it.step.clone()).collect();
    // What a lost worker may have had under way is found out after the answer.
    let is_in_doubt = told.iter().any(|record| record == "worker_lost");
    let more = planned.len().saturating_sub(promised.len());
    assert_eq!(planned[more..], promised[..], "{told:?}");
    assert!(more <= usize::from(is_in_doubt), "{told:?}");
}

#[test]
fn every_life_of_up_to_five_steps_ends_with_everything_or_nothing() {
    all_lives(LONG, 10_000);
}

#[test]
fn every_life_ends_with_everything_or_nothing_whatever_becomes_of_its_attempts() {
    all_lives(VARIED, 8_000);
}

#[test]
fn every_life_ends_as_people_were_promised_whenever_they_speak_and_workers_are_lost() {
    all_lives(DISTURBED, 10_000);
    all_lives(DISTURBED_TWICE, 10_000);
}

#[test]
fn every_life_ends_with_everything_or_nothing_when_providers_apply_late() {
    all_lives(LATE, 400);
    all_lives(Scope { steps_max: 1, disturbances: 1, ..LATE }, 400);
}

#[test]
fn the_table_has_exactly_the_transitions_that_lives_go_through() {
    let mut walked = BTreeSet::new();
    every(|choices| walked.append(&mut Life::live(choices, DISTURBED_TWICE).walked));
    let transitions = [
        Transition::Claim,
        Transition::Wait,
        Transition::Complete,
        Transition::Compensate,
        Transition::Stick,
        Transition::Resume,
        Transition::FinishCompensated,
        Transition::FinishCancelled,
        Transition::Terminate,
    ];
    let pairs = Status::ALL.into_iter().flat_map(|status| transitions.map(|by| (status, by)));
    let admitted = pairs.filter(|(status, by)| status.after(*by).is_some());
    let admitted: BTreeSet<_> =
        admitted.map(|(status, by)| (status.as_str(), format!("{by:?}"))).collect();
    // Lives are of one build; only another one lacks a step of a child that has completed.
    walked.insert((Status::Completed.as_str(), format!("{:?}", Transition::Stick)));
    assert_eq!(walked, admitted);
}
