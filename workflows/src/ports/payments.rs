//! The payment provider: takes money from the customer, and gives it back.

use amends::Money;

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

    /// Gives back `amount` of what was asked for under `charge_key`. None: nothing is taken under
    /// that key. Refused if less than `amount` is left of it.
    fn refund<'a>(
        &'a self,
        key: &'a str,
        charge_key: &'a str,
        amount: Money,
    ) -> Answer<'a, Option<Refund>>;
}

/// Money that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The payment provider's reference.
    pub charge_id: String,
}

/// Money that was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The payment provider's reference.
    pub refund_id: String,
    /// What was given back, as the provider says.
    pub amount: Money,
}
