//! The invoice system: issues invoices with a number, and voids them.

use amends::{Money, Undone};

use super::Answer;

/// A system that issues invoices.
pub trait Invoices: Send + Sync {
    /// Issues an invoice over `total`. The same `key` always gets the same number.
    fn issue<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        total: Money,
    ) -> Answer<'a, Invoice>;

    /// Makes sure that no invoice issued under `invoice_key` is valid. Its number stays used.
    fn void<'a>(&'a self, key: &'a str, invoice_key: &'a str) -> Answer<'a, Undone>;
}

/// An issued invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The invoice system's reference.
    pub invoice_id: String,
    /// The number printed on it.
    pub number: String,
}
