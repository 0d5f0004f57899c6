//! Amounts as people and platforms write them, turned into minor units exactly.

use std::iter;

use amends::Currency;

/// Why a text is no amount of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseMinorError {
    /// Not digits with at most one point between them; signs, blanks and exponents count as such.
    #[error("an amount is written in digits with at most one point between them")]
    NotADecimal,
    /// The currency has no such small unit.
    #[error("the amount has more decimals than its currency")]
    TooPrecise,
    /// The amount does not fit.
    #[error("the amount is too large")]
    TooLarge,
    /// ISO 4217 has no such currency, or gives it no minor unit.
    #[error("the currency is unknown")]
    UnknownCurrency,
}

/// The minor units of a decimal: `"59.90"` MYR is 5990, `"1200"` JPY is 1200.
///
/// Zeros after the currency's last decimal are allowed, since some platforms write two decimals
/// for every currency.
pub fn parse_minor(decimal: &str, currency: Currency) -> Result<i64, ParseMinorError> {
    let decimals = decimals(currency).ok_or(ParseMinorError::UnknownCurrency)?;
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(ParseMinorError::NotADecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    let padding = decimals.checked_sub(fraction.len()).ok_or(ParseMinorError::TooPrecise)?;
    let digits = whole.bytes().chain(fraction.bytes()).chain(iter::repeat_n(b'0', padding));
    digits
        .into_iter()
        .try_fold(0_i64, |amount, digit| {
            amount.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
        })
        .ok_or(ParseMinorError::TooLarge)
}

/// How many decimals a currency has; `None` if ISO 4217 does not know it or gives it none, as gold.
pub(super) fn decimals(currency: Currency) -> Option<usize> {
    iso_currency::Currency::from_code(currency.as_str())?.exponent().map(usize::from)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    #[test]
    fn amounts_become_minor_units_exactly() {
        for (decimal, code, minor) in [
            ("59.90", "MYR", 5990),
            ("59.9", "MYR", 5990),
            ("59", "MYR", 5900),
            ("59.9000", "MYR", 5990),
            ("0.01", "EUR", 1),
            ("0", "EUR", 0),
            ("0.00", "EUR", 0),
            ("007.10", "EUR", 710),
            ("1200", "JPY", 1200),
            ("1200.00", "JPY", 1200),
            ("250000", "VND", 250_000),
            ("15000.00", "IDR", 1_500_000),
            ("1.234", "BHD", 1234),
            ("92233720368547758.07", "USD", i64::MAX),
            ("9223372036854775807", "JPY", i64::MAX),
        ] {
            assert_eq!(parse_minor(decimal, currency(code)), Ok(minor), "{decimal} {code}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_the_reason() {
        use ParseMinorError::{NotADecimal, TooLarge, TooPrecise, UnknownCurrency};
        for (decimal, code, error) in [
            ("", "MYR", NotADecimal),
            (".", "MYR", NotADecimal),
            (".5", "MYR", NotADecimal),
            ("5.", "MYR", NotADecimal),
            ("-1", "MYR", NotADecimal),
            ("+1", "MYR", NotADecimal),
            (" 1", "MYR", NotADecimal),
            ("1 ", "MYR", NotADecimal),
            ("1,5", "MYR", NotADecimal),
            ("1_000", "MYR", NotADecimal),
            ("1e3", "MYR", NotADecimal),
            ("1.2.3", "MYR", NotADecimal),
            ("NaN", "MYR", NotADecimal),
            ("١", "MYR", NotADecimal),
            ("0.001", "MYR", TooPrecise),
            ("1.5", "JPY", TooPrecise),
            ("1.2345", "BHD", TooPrecise),
            ("92233720368547758.08", "USD", TooLarge),
            ("9223372036854775808", "JPY", TooLarge),
            ("1", "ZZZ", UnknownCurrency),
            ("1", "XAU", UnknownCurrency),
            ("1", "XXX", UnknownCurrency),
        ] {
            assert_eq!(parse_minor(decimal, currency(code)), Err(error), "{decimal:?} {code}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            minor in 0..=i64::MAX,
            code in prop::sample::select(vec!["JPY", "MYR", "BHD", "CLF"]),
            zeros in 0_usize..4,
        ) {
            let decimals = decimals(currency(code)).unwrap();
            let digits = format!("{minor:0>width$}", width = decimals + 1);
            let (whole, fraction) = digits.split_at(digits.len() - decimals);
            let point = if decimals + zeros == 0 { "" } else { "." };
            let decimal = format!("{whole}{point}{fraction}{}", "0".repeat(zeros));
            prop_assert_eq!(parse_minor(&decimal, currency(code)), Ok(minor), "{}", decimal);
        }

        #[test]
        fn no_text_makes_it_panic_or_answer_a_negative_amount(decimal in "[-+0-9.eE ]{0,40}|.*") {
            if let Ok(minor) = parse_minor(&decimal, currency("EUR")) {
                prop_assert!(minor >= 0);
            }
        }
    }
}
