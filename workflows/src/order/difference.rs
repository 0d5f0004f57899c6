//! Whether two orders say the same, whatever doors they came through.

use std::collections::BTreeMap;

use super::{Customer, Line, Order, Recipient};

impl Order {
    /// Where the two would be carried out differently, as JSON pointers; nowhere, if they say the
    /// same.
    ///
    /// One order has another shape at each door: lines come in another order or in parts, names of
    /// articles are left out, blanks surround a name. None of that counts.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (one, two) = (self.clone().with_one_name(), other.clone().with_one_name());
        let Self { shop, order_id, number, currency, lines, customer, recipient, .. } = &one;
        let Self { shipping_minor, tax_minor, discount_minor, total_minor, .. } = &one;
        let number_of = |number: &str| number.trim().trim_start_matches('#').to_owned();
        let same = [
            ("/shop", *shop == two.shop),
            ("/order_id", *order_id == two.order_id),
            ("/number", number_of(number) == number_of(&two.number)),
            ("/currency", *currency == two.currency),
            ("/lines", articles(lines) == articles(&two.lines)),
            ("/shipping_minor", *shipping_minor == two.shipping_minor),
            ("/tax_minor", *tax_minor == two.tax_minor),
            ("/discount_minor", *discount_minor == two.discount_minor),
            ("/total_minor", *total_minor == two.total_minor),
            ("/customer", is_same_customer(customer, &two.customer)),
            ("/recipient", is_same_recipient(recipient, &two.recipient)),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(pointer, _)| pointer).collect()
    }
}

/// How many pieces of each article at each price.
fn articles(lines: &[Line]) -> BTreeMap<(&str, i64), u64> {
    let mut pieces = BTreeMap::new();
    for Line { sku, title: _, quantity, unit_price_minor } in lines {
        *pieces.entry((sku.trim(), *unit_price_minor)).or_default() += u64::from(*quantity);
    }
    pieces
}

fn is_same_customer(one: &Customer, two: &Customer) -> bool {
    let Customer { name, email } = one;
    let is_same_email = email.trim().eq_ignore_ascii_case(two.email.trim());
    name.trim() == two.name.trim() && is_same_email
}

fn is_same_recipient(one: &Recipient, two: &Recipient) -> bool {
    let parts = |recipient: &Recipient| {
        let Recipient { name, address, city, postcode, country } = recipient;
        [name, address, city, postcode, country].map(|part| part.trim().to_owned())
    };
    parts(one) == parts(two)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::sample;

    fn differences(change: impl FnOnce(&mut Order)) -> Vec<&'static str> {
        let mut other = sample();
        change(&mut other);
        assert_eq!(other.differences(&sample()), sample().differences(&other));
        sample().differences(&other)
    }

    #[test]
    fn the_shape_of_an_order_is_no_difference() {
        assert_eq!(differences(|_| ()), [""; 0]);
        let same = differences(|order| {
            order.shop = "ACME.".into();
            order.number = " 1001".into();
            order.lines.reverse();
            let mut half = order.lines[1].clone();
            half.quantity = 1;
            order.lines[1] = half.clone();
            order.lines.push(half);
            order.lines.iter_mut().for_each(|line| line.title.clear());
            order.customer.email = "Jane@Example.com ".into();
            order.recipient.city.push(' ');
        });
        assert_eq!(same, [""; 0]);
    }

    #[test]
    fn whatever_changes_what_is_done_is_a_difference() {
        type Change = fn(&mut Order);
        let table: &[(&str, Change)] = &[
            ("/shop", |order| order.shop = "other".into()),
            ("/order_id", |order| order.order_id.push('1')),
            ("/number", |order| order.number = "#1002".into()),
            ("/currency", |order| order.currency = "EUR".parse().unwrap()),
            ("/lines", |order| order.lines[0].sku.push('1')),
            ("/lines", |order| order.lines[0].quantity += 1),
            ("/lines", |order| order.lines[0].unit_price_minor += 1),
            ("/lines", |order| order.lines.truncate(1)),
            ("/shipping_minor", |order| order.shipping_minor += 1),
            ("/tax_minor", |order| order.tax_minor += 1),
            ("/discount_minor", |order| order.discount_minor += 1),
            ("/total_minor", |order| order.total_minor += 1),
            ("/customer", |order| order.customer.name.push('1')),
            ("/customer", |order| order.customer.email.push('1')),
            ("/recipient", |order| order.recipient.name.push('1')),
            ("/recipient", |order| order.recipient.address.push('1')),
            ("/recipient", |order| order.recipient.city.push('1')),
            ("/recipient", |order| order.recipient.postcode.push('1')),
            ("/recipient", |order| order.recipient.country = "SG".into()),
        ];
        for (index, (pointer, change)) in table.iter().enumerate() {
            assert_eq!(differences(change), [*pointer], "row {index}");
        }
    }
}
