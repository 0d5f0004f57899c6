//! What the customer pays for a part of an order.

use amends::Money;

use super::{Item, Order};

impl Order {
    /// What the customer pays for these articles, in the currency that was agreed: their prices with
    /// their share of tax and discount, and without shipping and extras. Never more than the whole,
    /// and rounded up, in favour of the customer.
    ///
    /// Where an article is in several lines with several prices, the dearest count first.
    #[must_use]
    pub fn worth_of(&self, items: &[Item]) -> Money {
        let total = self.total();
        let prices = |pieces: &dyn Fn(usize) -> i128| -> i128 {
            let lines = self.lines.iter().enumerate();
            lines.map(|(index, line)| pieces(index) * i128::from(line.unit_price_minor)).sum()
        };
        let counts = self.counts_of(items);
        let part = prices(&|index| i128::from(counts[index]));
        let goods = prices(&|index| i128::from(self.lines[index].quantity));
        let extras: i128 = self.extras.iter().map(|it| i128::from(it.amount_minor)).sum();
        let paid_for_goods =
            i128::from(self.total_minor) - i128::from(self.shipping_minor) - extras;
        let own = share(part, paid_for_goods, goods);
        let agreed = share(own, i128::from(total.amount_minor), i128::from(self.total_minor));
        let amount_minor = agreed.clamp(0, i128::from(total.amount_minor.max(0)));
        Money { amount_minor: i64::try_from(amount_minor).unwrap_or_default(), ..total }
    }

    /// How many pieces of each line these articles are.
    fn counts_of(&self, items: &[Item]) -> Vec<u64> {
        let mut counts = vec![0_u64; self.lines.len()];
        let mut dearest_first: Vec<_> = (0..self.lines.len()).collect();
        dearest_first.sort_by_key(|index| std::cmp::Reverse(self.lines[*index].unit_price_minor));
        for item in items {
            let mut left = u64::from(item.quantity);
            for &index in &dearest_first {
                let line = &self.lines[index];
                if line.sku == item.sku {
                    let more = left.min(u64::from(line.pieces()) - counts[index]);
                    counts[index] += more;
                    left -= more;
                }
            }
        }
        counts
    }
}

/// `of` by `part / whole`, rounded up; nothing of nothing.
fn share(part: i128, of: i128, whole: i128) -> i128 {
    if whole <= 0 || of <= 0 || part <= 0 {
        return 0;
    }
    part.saturating_mul(of).saturating_add(whole - 1) / whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Extra, ExtraKind, Line, sample};
    use proptest::prelude::*;

    fn item(sku: &str, quantity: u32) -> Item {
        Item { sku: sku.into(), quantity }
    }

    fn worth(order: &Order, items: &[Item]) -> i64 {
        order.worth_of(items).amount_minor
    }

    #[test]
    fn a_part_bears_its_share_of_tax_and_discount_and_none_of_shipping() {
        // 2 × 29.95 and 15.00; 2.50 tax, 7.50 off; 5.00 shipping.
        let order = sample();
        assert_eq!(worth(&order, &[]), 0);
        assert_eq!(worth(&order, &[item("CAP/RED", 1)]), 1400);
        assert_eq!(worth(&order, &[item("TEE-M-BLK", 1)]), 2796);
        let all = [item("TEE-M-BLK", 2), item("CAP/RED", 1)];
        assert_eq!(worth(&order, &all), 6990);
        assert_eq!(worth(&order, &[item("MUG", 1), item("CAP/RED", 9)]), 1400);
        let mut tipped = sample();
        tipped.extras.push(Extra { kind: ExtraKind::Tip, amount_minor: 300 });
        tipped.total_minor += 300;
        assert_eq!(worth(&tipped, &all), 6990);
    }

    #[test]
    fn it_is_told_in_the_currency_that_was_agreed() {
        let total = Money { amount_minor: 749, currency: "EUR".parse().unwrap() };
        let order = Order { agreed_total: Some(total), ..sample() };
        let part = order.worth_of(&[item("CAP/RED", 1)]);
        assert_eq!(part, Money { amount_minor: 140, ..total });
    }

    #[test]
    fn of_an_article_with_two_prices_the_dearer_counts_first() {
        let mut order = sample();
        let cheap = Line { unit_price_minor: 0, ..order.lines[0].clone() };
        order.lines.insert(0, cheap);
        assert_eq!(worth(&order, &[item("TEE-M-BLK", 1)]), 2796);
    }

    proptest! {
        #[test]
        fn parts_are_worth_no_less_than_the_whole_and_a_cent_each_more_at_most(
            prices in prop::collection::vec((0..100_000_i64, 1..9_u32), 1..8),
            (tax, discount, shipping) in (0..5_000_i64, 0..5_000_i64, 0..5_000_i64),
        ) {
            let mut order = sample();
            let line = order.lines[0].clone();
            order.lines = prices.iter().enumerate().map(|(index, &(unit_price_minor, quantity))| {
                Line { sku: format!("S{index}"), unit_price_minor, quantity, ..line.clone() }
            }).collect();
            let goods: i64 = prices.iter().map(|&(price, count)| price * i64::from(count)).sum();
            (order.tax_minor, order.discount_minor) = (tax, discount.min(goods));
            order.shipping_minor = shipping;
            order.total_minor = goods + tax - order.discount_minor + shipping;
            let whole = worth(&order, &order.items());
            let parts: i64 = order.items().into_iter().map(|item| worth(&order, &[item])).sum();
            prop_assert!(whole <= order.total_minor - shipping);
            prop_assert!(whole <= parts && parts <= whole + prices.len() as i64);
        }
    }
}
