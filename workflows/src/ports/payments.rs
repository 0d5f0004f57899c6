//! The payment provider: takes money from the customer, and gives it back.

use amends::{Money, Undone};

use super::Answer;

/// A provider that moves the customer's money.
pub trait Payments: Send + Sync {
    /// Takes `total`. Fails with `PAYMENT_DECLINED` if the customer's bank or card says no.
    fn charge<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        total: Money,
    ) -> Answer<'a, Charge>;

    /// Makes sure that nothing of what was asked for under `charge_key`, which was `total`, stays
    /// taken. A provider that gives back any other amount makes it fail, so that the ledger never
    /// holds an amount that did not move.
    fn refund<'a>(&'a self, key: &'a str, charge_key: &'a str, total: Money) -> Answer<'a, Undone>;
}

/// Money that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The payment provider's reference.
    pub charge_id: String,
}
