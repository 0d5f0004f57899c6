//! Who has the money of an order, and what is still to be done about it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Who has the money of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Payment {
    /// Nobody: it is to be charged.
    #[default]
    ToCharge,
    /// The customer's bank keeps it for the shop, which is to take it.
    Authorised {
        /// What the shop's platform knows the authorisation by.
        reference: String,
    },
    /// The shop: it was paid through the shop's own platform.
    Paid {
        /// What the shop's platform knows the payment by.
        reference: String,
    },
    /// Nobody yet: it is taken when the goods are handed over.
    OnDelivery,
    /// Nobody yet: the customer owes it.
    OnTerms {
        /// When it is to be charged. None: a person decides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_at: Option<DateTime<Utc>>,
    },
    /// There is nothing to pay.
    NothingDue,
}

impl Payment {
    /// Whether this is what a shop may say next without anything having changed for us: money that
    /// was on its way has come.
    #[must_use]
    pub fn leads_to(&self, next: &Self) -> bool {
        let was_on_its_way =
            matches!(self, Self::Authorised { .. } | Self::OnDelivery | Self::OnTerms { .. });
        self == next || (was_on_its_way && matches!(next, Self::Paid { .. }))
    }

    /// Whether it is to be charged, as where nothing else is said.
    #[must_use]
    pub fn is_to_charge(&self) -> bool {
        *self == Self::ToCharge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_that_comes_as_was_expected_changes_nothing() {
        let paid = || Payment::Paid { reference: "1".into() };
        let authorised = Payment::Authorised { reference: "1".into() };
        let on_terms = Payment::OnTerms { due_at: None };
        for before in [authorised.clone(), Payment::OnDelivery, on_terms, paid()] {
            assert!(before.leads_to(&paid()), "{before:?}");
        }
        for before in [Payment::ToCharge, Payment::NothingDue] {
            assert!(!before.leads_to(&paid()), "{before:?}");
        }
        assert!(!paid().leads_to(&authorised));
        assert!(!paid().leads_to(&Payment::Paid { reference: "2".into() }));
    }
}
