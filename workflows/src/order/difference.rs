//! Whether two orders say the same, whatever doors they came through.

use std::collections::BTreeMap;

use super::{Customer, Extra, ExtraKind, Line, Order, Recipient};

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
        let Self { extras, agreed_total, payment, closed, changed_at: _, .. } = &one;
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
            ("/extras", sums(extras) == sums(&two.extras)),
            ("/total_minor", *total_minor == two.total_minor),
            ("/agreed_total", *agreed_total == two.agreed_total),
            ("/payment", *payment == two.payment),
            ("/closed", *closed == two.closed),
            ("/customer", is_same_customer(customer, &two.customer)),
            ("/recipient", is_same_recipient(recipient.as_ref(), two.recipient.as_ref())),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(pointer, _)| pointer).collect()
    }
}

/// How many pieces of each article at each price, bought and handed over.
fn articles(lines: &[Line]) -> BTreeMap<(&str, i64), (u64, u64)> {
    let mut articles = BTreeMap::new();
    for line in lines {
        let Line { sku, title: _, quantity, handed_over: _, unit_price_minor } = line;
        let (bought, handed_over): &mut (u64, u64) =
            articles.entry((sku.trim(), *unit_price_minor)).or_default();
        *bought += u64::from(*quantity);
        *handed_over += u64::from(line.pieces());
    }
    articles
}

/// How much of each kind.
fn sums(extras: &[Extra]) -> BTreeMap<ExtraKind, i128> {
    let mut sums = BTreeMap::new();
    for Extra { kind, amount_minor } in extras {
        *sums.entry(*kind).or_default() += i128::from(*amount_minor);
    }
    sums
}

fn is_same_customer(one: &Customer, two: &Customer) -> bool {
    let Customer { name, email, phone } = one;
    let folded = |email: &Option<String>| trimmed(email).to_ascii_lowercase();
    name.trim() == two.name.trim()
        && folded(email) == folded(&two.email)
        && trimmed(phone) == trimmed(&two.phone)
}

fn is_same_recipient(one: Option<&Recipient>, two: Option<&Recipient>) -> bool {
    let parts = |recipient: &Recipient| {
        let Recipient { name, company, address, city, province, postcode, country, phone } =
            recipient;
        let optional = [company, province, phone].map(|part| trimmed(part).to_owned());
        let others = [name, address, city, postcode, country].map(|part| part.trim().to_owned());
        (optional, others)
    };
    one.map(parts) == two.map(parts)
}

fn trimmed(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Closed, Payment, sample};

    fn tip(amount_minor: i64) -> Extra {
        Extra { kind: ExtraKind::Tip, amount_minor }
    }

    fn differences(change: impl FnOnce(&mut Order)) -> Vec<&'static str> {
        let mut other = sample();
        change(&mut other);
        assert_eq!(other.differences(&sample()), sample().differences(&other));
        sample().differences(&other)
    }

    fn recipient(order: &mut Order) -> &mut Recipient {
        order.recipient.as_mut().unwrap()
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
            order.customer.email = Some("Jane@Example.com ".into());
            recipient(order).city.push(' ');
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
            ("/customer", |order| order.customer.email = Some("joe@example.com".into())),
            ("/customer", |order| order.customer.email = None),
            ("/customer", |order| order.customer.phone = Some("1".into())),
            ("/recipient", |order| recipient(order).name.push('1')),
            ("/recipient", |order| recipient(order).address.push('1')),
            ("/recipient", |order| recipient(order).city.push('1')),
            ("/recipient", |order| recipient(order).postcode.push('1')),
            ("/recipient", |order| recipient(order).country = "SG".into()),
            ("/recipient", |order| recipient(order).company = Some("Tan Ltd".into())),
            ("/recipient", |order| order.recipient = None),
            ("/lines", |order| order.lines[0].handed_over = Some(1)),
            ("/extras", |order| order.extras.push(tip(1))),
            ("/agreed_total", |order| order.agreed_total = Some(order.total())),
            ("/payment", |order| order.payment = Payment::OnDelivery),
            ("/closed", |order| order.closed = Some(Closed::Cancelled)),
        ];
        for (index, (pointer, change)) in table.iter().enumerate() {
            assert_eq!(differences(change), [*pointer], "row {index}");
        }
    }
}
