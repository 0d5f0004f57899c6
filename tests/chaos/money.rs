//! How an order accounts for its money: taken once, given back once or not at all.

use amends::{Imbalance, Ledger, Money, Movement, MovementKind, Outcome, Undone};

/// The money was taken.
pub(crate) fn taken(money: Money, reference: &str) -> Vec<Movement> {
    vec![movement(MovementKind::Capture, money, reference)]
}

/// The money was given back, if there was any. What was taken without an answer is in no record;
/// that it could be given back proves it.
pub(crate) fn given_back(money: Money, undone: &Undone, was_recorded: bool) -> Vec<Movement> {
    if !undone.applied {
        return Vec::new();
    }
    let reference = undone.reference.as_deref().unwrap_or_default();
    let refund = movement(MovementKind::Refund, money, reference);
    if was_recorded { vec![refund] } else { [taken(money, reference), vec![refund]].concat() }
}

/// Completed is paid for, and anything else is not.
pub(crate) fn balanced(outcome: Outcome, total: Money, ledger: &Ledger) -> Result<(), Imbalance> {
    let due_minor = match outcome {
        Outcome::Completed => total.amount_minor,
        Outcome::Compensated | Outcome::Cancelled => 0,
    };
    match ledger.captured_net(total.currency) {
        Some(net_minor) if net_minor == due_minor => Ok(()),
        net => Err(Imbalance(format!("captured less refunded is {net:?}, not {due_minor}"))),
    }
}

fn movement(kind: MovementKind, money: Money, reference: &str) -> Movement {
    Movement { kind, money, reference: reference.to_owned() }
}
