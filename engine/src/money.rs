//! Money that steps moved: minor units, ISO 4217 currency, the provider's reference.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount in minor units (cents, sen, yen) of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; how many make a major unit depends on the currency.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} (minor units)", self.amount_minor, self.currency)
    }
}

/// Three capital letters, as in ISO 4217. Whether the currency exists is the workflow's business.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("???")
    }
}

/// The text is not three capital letters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a currency is three capital letters")]
pub struct NotACurrency;

impl FromStr for Currency {
    type Err = NotACurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(NotACurrency),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = NotACurrency;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Money that a step moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Which way.
    pub kind: MovementKind,
    /// How much; never negative.
    #[serde(flatten)]
    pub money: Money,
    /// The provider's reference.
    pub reference: String,
}

/// The ways in which money moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// Held, not taken.
    Authorise,
    /// Taken from the customer.
    Capture,
    /// Given back to the customer.
    Refund,
    /// A hold let go.
    Void,
}

impl MovementKind {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Capture => "capture",
            Self::Refund => "refund",
            Self::Void => "void",
        }
    }
}

/// All the money that an instance has moved, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// One entry per movement.
    pub movements: Vec<Movement>,
    /// Those of them that no step has made: they happened outside, and were booked.
    pub booked: Vec<Movement>,
}

impl Ledger {
    /// Of movements that steps have made.
    #[must_use]
    pub fn of(movements: Vec<Movement>) -> Self {
        Self { movements, booked: Vec::new() }
    }

    /// How much was given back outside, or `None` if it does not fit or is in another currency.
    #[must_use]
    pub fn refunded_outside(&self, currency: Currency) -> Option<i64> {
        let refunds = self.booked.iter().filter(|it| it.kind == MovementKind::Refund);
        refunds.map(|it| it.money).try_fold(0_i64, |sum, Money { amount_minor, currency: of }| {
            (of == currency).then(|| sum.checked_add(amount_minor)).flatten()
        })
    }

    /// Captured less refunded, or `None` if it does not fit or another currency has moved too.
    #[must_use]
    pub fn captured_net(&self, currency: Currency) -> Option<i64> {
        self.movements.iter().try_fold(0_i64, |net, movement| {
            if movement.money.currency != currency {
                return None;
            }
            match movement.kind {
                MovementKind::Capture => net.checked_add(movement.money.amount_minor),
                MovementKind::Refund => net.checked_sub(movement.money.amount_minor),
                MovementKind::Authorise | MovementKind::Void => Some(net),
            }
        })
    }
}

/// The money does not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Imbalance(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn movements() -> impl Strategy<Value = Vec<Movement>> {
        let kind = prop::sample::select(vec![
            MovementKind::Authorise,
            MovementKind::Capture,
            MovementKind::Refund,
            MovementKind::Void,
        ]);
        let amount = prop_oneof![0..1000_i64, Just(i64::MAX)];
        let movement = (kind, amount).prop_map(|(kind, amount_minor)| {
            let currency = "MYR".parse().unwrap();
            Movement { kind, money: Money { amount_minor, currency }, reference: "r".to_owned() }
        });
        prop::collection::vec(movement, 0..8)
    }

    proptest! {
        #[test]
        fn a_sum_is_exact_or_none(movements in movements()) {
            let sign = |kind| match kind {
                MovementKind::Capture => 1,
                MovementKind::Refund => -1,
                MovementKind::Authorise | MovementKind::Void => 0,
            };
            let sums: Vec<i128> = movements
                .iter()
                .scan(0, |sum, it| {
                    *sum += sign(it.kind) * i128::from(it.money.amount_minor);
                    Some(*sum)
                })
                .collect();
            let exact = sums.last().copied().unwrap_or_default();
            let fits = sums.iter().all(|sum| i64::try_from(*sum).is_ok());
            let expected = fits.then(|| i64::try_from(exact).unwrap());
            let ledger = Ledger::of(movements);
            prop_assert_eq!(ledger.captured_net("MYR".parse().unwrap()), expected);
            let other = ledger.captured_net("EUR".parse().unwrap());
            prop_assert_eq!(other, ledger.movements.is_empty().then_some(0));
        }

        #[test]
        fn a_currency_is_three_capital_letters(text in "[A-Za-zÄß0-9]{0,5}") {
            let is_one = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
            let currency = text.parse::<Currency>();
            prop_assert_eq!(currency.is_ok(), is_one);
            prop_assert_eq!(currency.map_or(text.clone(), String::from), text);
        }
    }
}
