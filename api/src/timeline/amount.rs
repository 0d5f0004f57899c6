//! Amounts as people write them.

use amends::Money;
use amends_workflows::order::parse_minor;

/// `59.90 MYR`. A currency that nobody knows has its amount shown in minor units, and says so.
#[must_use]
pub fn amount(money: Money) -> String {
    let Money { amount_minor, currency } = money;
    let Ok(minor_per_major) = parse_minor("1", currency).map(i64::unsigned_abs) else {
        return format!("{amount_minor} minor units of {currency}");
    };
    let sign = if amount_minor < 0 { "-" } else { "" };
    let minor = amount_minor.unsigned_abs();
    let (major, rest) = (minor / minor_per_major, minor % minor_per_major);
    match minor_per_major.ilog10() as usize {
        0 => format!("{sign}{major} {currency}"),
        decimals => format!("{sign}{major}.{rest:0decimals$} {currency}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_the_decimals_of_their_currency() {
        for (amount_minor, currency, text) in [
            (5990, "MYR", "59.90 MYR"),
            (5, "EUR", "0.05 EUR"),
            (0, "EUR", "0.00 EUR"),
            (1200, "JPY", "1200 JPY"),
            (1234, "BHD", "1.234 BHD"),
            (-150, "USD", "-1.50 USD"),
            (i64::MIN, "JPY", "-9223372036854775808 JPY"),
            (7, "ZZZ", "7 minor units of ZZZ"),
        ] {
            let money = Money { amount_minor, currency: currency.parse().expect("letters") };
            assert_eq!(amount(money), text);
        }
    }
}
