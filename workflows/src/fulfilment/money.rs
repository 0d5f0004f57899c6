//! What the ledger of an order has to say when it ends.

use amends::{Imbalance, Ledger, Money};

use crate::order::{Order, Payment};

/// All that was taken is given back.
pub(super) fn is_even(order: &Order, ledger: &Ledger) -> Result<(), Imbalance> {
    is(0, order, ledger)
}

/// The customer has paid the whole order, less what the shop has given back by itself and less
/// `reduced_minor`, where the money goes through us.
pub(super) fn is_whole(
    order: &Order,
    ledger: &Ledger,
    reduced_minor: i64,
) -> Result<(), Imbalance> {
    let Money { amount_minor, currency } = order.total();
    let is_ours = match order.payment {
        Payment::ToCharge
        | Payment::Authorised { .. }
        | Payment::Paid { .. }
        | Payment::OnTerms { .. } => order.closed.is_none(),
        Payment::OnDelivery | Payment::NothingDue => false,
    };
    let outside_minor = ledger.refunded_outside(currency).unwrap_or_default();
    let due_minor = if is_ours { amount_minor - outside_minor - reduced_minor } else { 0 };
    is(due_minor, order, ledger)
}

fn is(due_minor: i64, order: &Order, ledger: &Ledger) -> Result<(), Imbalance> {
    let currency = order.total().currency;
    match ledger.captured_net(currency) {
        Some(net_minor) if net_minor == due_minor => Ok(()),
        Some(net_minor) => Err(Imbalance(format!(
            "captured less refunded is {net_minor}, and should be {due_minor} ({currency} minor units)"
        ))),
        None => Err(Imbalance(format!(
            "money moved in another currency than {currency}, or too much of it"
        ))),
    }
}
