//! The model tested: with a bug put back on purpose, some life has to go wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::claims::{LATE, LONG, Scope, VARIED, every_life};
use super::family::a_family_does_what_people_say;
use super::orders::{
    a_child_ends_once_and_nothing_of_it_is_forgotten, deadlines_count_what_could_be_used,
    every_message_becomes_a_record, every_month_is_charged_once,
    of_two_people_the_first_is_believed,
};
use super::{Choices, every};
use crate::sabotage::Bug;

/// Lives that notice a bug.
enum Lives {
    Of(Scope),
    Order(fn(&mut Choices)),
}
use Lives::{Of, Order};

const TWO: Scope = Scope { steps_max: 2, ..LONG };
const ONE_VARIED: Scope = Scope { steps_max: 1, ..VARIED };
const ONE_LATE: Scope = Scope { steps_max: 1, ..LATE };
const LATE_DISTURBED: Scope = Scope { disturbances: 1, ..ONE_LATE };

/// Every bug that lives can show, with lives that show it.
const BUGS: [(Bug, Lives); 21] = [
    (Bug::AtMostOnceAgain, Of(ONE_VARIED)),
    (Bug::FailSettlesDoubt, Of(ONE_VARIED)),
    (Bug::PlanForward, Of(TWO)),
    (Bug::PlanKnownOnly, Of(TWO)),
    (Bug::UndoLooksOnce, Of(ONE_LATE)),
    (Bug::UnknownIsNotDone, Of(ONE_VARIED)),
    (Bug::ChildReopened, Order(a_child_ends_once_and_nothing_of_it_is_forgotten)),
    (Bug::ChildUnheard, Order(a_child_ends_once_and_nothing_of_it_is_forgotten)),
    (Bug::ChildrenLeftOpen, Order(a_family_does_what_people_say)),
    (Bug::HoldStaysAbove, Order(a_family_does_what_people_say)),
    (Bug::StopUndecided, Order(a_family_does_what_people_say)),
    (Bug::TerminatedIsUndone, Order(a_child_ends_once_and_nothing_of_it_is_forgotten)),
    (Bug::DroppedStays, Order(every_message_becomes_a_record)),
    (Bug::LossWhileUndoing, Of(LATE_DISTURBED)),
    (Bug::MailKept, Order(every_message_becomes_a_record)),
    (Bug::RefusalAnsweredUnheard, Order(every_message_becomes_a_record)),
    (Bug::LateAttempt, Order(deadlines_count_what_could_be_used)),
    (Bug::ParkedTimeCounts, Order(deadlines_count_what_could_be_used)),
    (Bug::PeopleTimeCounts, Order(deadlines_count_what_could_be_used)),
    (Bug::PatchUnrecorded, Order(every_month_is_charged_once)),
    (Bug::ResolvedTwice, Order(of_two_people_the_first_is_believed)),
];

#[test]
fn every_bug_that_is_put_back_is_noticed() {
    let live = |lives: &Lives| match lives {
        Of(scope) => every_life(*scope),
        Order(order) => every(order),
    };
    let unnoticed: Vec<_> = BUGS
        .iter()
        .filter(|(bug, lives)| {
            bug.put_in_for(|| catch_unwind(AssertUnwindSafe(|| live(lives))).is_ok())
        })
        .map(|(bug, _)| bug)
        .collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
