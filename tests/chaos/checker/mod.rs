//! The verdict: what must hold after a run, whatever was broken in it.
//!
//! Each invariant is a function that says in plain words where it does not hold.

mod evidence;

mod calls;
mod coverage;
mod effects;
mod events;
mod history;
mod orders;
mod people;
mod pivots;

use serde::Serialize;

pub(crate) use coverage::{Coverage, coverage};
pub(crate) use evidence::Evidence;

/// Where an invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// What must hold, and the function that finds where it does not.
type Invariant = (&'static str, fn(&Evidence) -> Vec<String>);

const INVARIANTS: [Invariant; 19] = [
    (
        "every accepted order has one instance, and there is no other",
        orders::accepted_but_different,
    ),
    ("every order is answered in the end", orders::never_accepted),
    (
        "the same request gets the same answer, another one under its id none",
        orders::answers_differ,
    ),
    (
        "what a shop cancels is undone, or a person is told that it was too late",
        orders::cancels_unheard,
    ),
    (
        "an instance is stuck only for a cause that a person has to look at",
        history::stuck_for_no_cause,
    ),
    ("done with all effects, or undone with none", effects::neither_done_nor_undone),
    ("nothing is applied twice under one key", effects::applied_twice),
    (
        "what was answered as done is not asked for again, unless a worker was lost",
        calls::again_after_done,
    ),
    ("no call is made twice at once, unless a worker was lost", calls::two_at_once),
    ("money is what was done, to the cent", effects::money_differs),
    ("events arrive without gaps, in order, each the same every time", events::arrivals_differ),
    ("no event arrives that was never recorded", events::phantoms),
    ("what is recorded as done is not tried again", history::goes_on_after_done),
    ("what is undone is undone in reverse order", history::undone_out_of_order),
    ("accepted signals are recorded once, and taken or listed as unread", people::signals_lost),
    ("a cancel is accepted once", people::cancelled_twice),
    (
        "a cancel is refused as too late only if the point of no return was tried",
        pivots::refused_without_cause,
    ),
    ("what people were told is what has happened", people::answers_untrue),
    ("the database holds what it must", |evidence| evidence.broken.clone()),
];

/// Everything that does not hold.
pub(crate) fn violations(evidence: &Evidence) -> Vec<Violation> {
    let found = INVARIANTS.iter().flat_map(|(invariant, find)| {
        find(evidence).into_iter().map(|what| Violation { invariant, what })
    });
    found.collect()
}
