//! The shop's own platform: takes money that the customer's bank keeps for it, and gives back what
//! was paid there.

use amends::Money;

use super::Answer;
use super::payments::Refund;

/// The platform on which an order was placed and perhaps paid.
pub trait Shop: Send + Sync {
    /// Takes `total` of what is authorised under `reference`. Fails with `PAYMENT_DECLINED` if the
    /// authorisation is spent.
    fn capture<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        reference: &'a str,
        total: Money,
    ) -> Answer<'a, Capture>;

    /// Gives back `amount` of what was asked for under `capture_key`. None: nothing is taken under
    /// that key.
    fn refund_capture<'a>(
        &'a self,
        key: &'a str,
        capture_key: &'a str,
        amount: Money,
    ) -> Answer<'a, Option<Refund>>;

    /// Gives back `amount` of what the customer has paid there for an order, under `reference`.
    fn refund_payment<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        reference: &'a str,
        amount: Money,
    ) -> Answer<'a, Refund>;
}

/// Money that was taken of an authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The platform's reference.
    pub capture_id: String,
}
