//! What a shop's latest word about an order means for what was started. Pure.

use amends::Status;
use amends::intake_case::CaseProblem;
use amends::view::InstanceView;
use amends_workflows::order::{Change, Closed, Order};

use crate::intake::node::problem;

/// Somebody else has handed over what is to be handed over here.
const FULFILLED_ELSEWHERE: &str = "FULFILLED_ELSEWHERE";
/// What was started has ended, and this takes nothing from anybody and gives nothing to anybody.
pub(super) const ORDER_ENDED: &str = "ORDER_ENDED";

/// What a word means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that was not known.
    Nothing,
    /// Nothing that can still be done.
    Ended,
    /// Everything is to be undone.
    Cancelled,
    /// A person has to decide.
    Changed {
        /// Why, as a stable code, if it is not simply that something has changed.
        code: Option<&'static str>,
        /// What has changed.
        problems: Vec<CaseProblem>,
    },
}

/// Where what was started stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// All of it can be undone.
    Open,
    /// The point of no return is reached, and perhaps the end.
    PastPivot,
    /// All was undone, or it was stopped by force.
    Undone,
}

impl Stands {
    fn of(instance: &InstanceView) -> Self {
        match instance.status {
            Status::Compensating | Status::Compensated | Status::Cancelled | Status::Terminated => {
                Self::Undone
            }
            Status::Completed => Self::PastPivot,
            _ if instance.past_pivot => Self::PastPivot,
            Status::Pending | Status::Running | Status::Waiting | Status::Stuck => Self::Open,
        }
    }
}

/// Judges what is said of an order, given what was known of it.
pub(super) fn judge(known: Option<&Order>, said: &Order, instance: &InstanceView) -> Told {
    let was_closed = known.and_then(|known| known.closed);
    if said.closed.is_some() && said.closed == was_closed {
        return Told::Nothing;
    }
    match (said.closed, Stands::of(instance)) {
        (Some(Closed::Cancelled), _) => Told::Cancelled,
        (_, Stands::Undone) => Told::Ended,
        // What was done here is what the shop has heard of.
        (Some(Closed::Fulfilled), Stands::PastPivot) => Told::Nothing,
        (Some(Closed::Fulfilled), Stands::Open) => {
            changed(Some(FULFILLED_ELSEWHERE), "/closed", "somebody else has handed it over")
        }
        (Some(Closed::Refunded), Stands::PastPivot) => Told::Ended,
        (Some(Closed::Refunded), Stands::Open) => {
            changed(None, "/closed", "all of the money was given back, and it is not cancelled")
        }
        (Some(Closed::Voided), _) => {
            changed(None, "/closed", "the payment was called off, and it is not cancelled")
        }
        (None, stands) => match compare(known, said) {
            // A return, or what was handed over here.
            Told::Changed { .. }
                if stands == Stands::PastPivot
                    && known.is_some_and(|it| it.is_reduced_to(said)) =>
            {
                Told::Ended
            }
            told => told,
        },
    }
}

/// What has changed, wherever what was started stands.
pub(super) fn compare(known: Option<&Order>, said: &Order) -> Told {
    let Some(known) = known else {
        return changed(None, "", "what was known of it before cannot be read by this build");
    };
    let changes = known.changes(said);
    match changes.is_empty() {
        true => Told::Nothing,
        false => Told::Changed { code: None, problems: changes.into_iter().map(shown).collect() },
    }
}

fn changed(code: Option<&'static str>, pointer: &'static str, detail: &str) -> Told {
    let detail = detail.to_owned();
    Told::Changed { code, problems: vec![shown(Change { pointer, detail })] }
}

fn shown(change: Change) -> CaseProblem {
    CaseProblem { field: Some(change.pointer.to_owned()), ..problem("", &change.detail) }
}
