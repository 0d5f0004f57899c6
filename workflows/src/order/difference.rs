//! Whether two orders say the same, whatever doors they came through.

use std::collections::{BTreeMap, BTreeSet};

use super::{Customer, Extra, ExtraKind, Line, Order, Recipient};

/// Where an order says something else than before, and what; nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, as a JSON pointer.
    pub pointer: &'static str,
    /// What has become of it, in words.
    pub detail: String,
}

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

    /// What a later word about this order changes; nothing, if money has come as was expected.
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let is_as_expected = self.payment.leads_to(&later.payment);
        self.differences(later)
            .into_iter()
            .filter(|pointer| !(*pointer == "/payment" && is_as_expected))
            .map(|pointer| Change { pointer, detail: self.detail(later, pointer) })
            .collect()
    }

    /// Whether a later word about this order only takes away from it: pieces, and what they cost.
    #[must_use]
    pub fn is_reduced_to(&self, later: &Self) -> bool {
        let amounts = [
            "/lines",
            "/shipping_minor",
            "/tax_minor",
            "/discount_minor",
            "/extras",
            "/total_minor",
            "/agreed_total",
        ];
        let before = articles(&self.lines);
        let has_been = |(article, (bought, handed_over)): (&(&str, i64), &(u64, u64))| {
            before.get(article).is_some_and(|(b, h)| bought <= b && handed_over <= h)
        };
        self.changes(later).iter().all(|change| amounts.contains(&change.pointer))
            && articles(&later.lines).iter().all(has_been)
            && later.total_minor <= self.total_minor
    }

    fn detail(&self, later: &Self, pointer: &str) -> String {
        let became = |before: i64, after: i64| format!("{before} became {after}");
        match pointer {
            "/lines" => line_changes(&self.lines, &later.lines),
            "/shipping_minor" => became(self.shipping_minor, later.shipping_minor),
            "/tax_minor" => became(self.tax_minor, later.tax_minor),
            "/discount_minor" => became(self.discount_minor, later.discount_minor),
            "/total_minor" => became(self.total_minor, later.total_minor),
            "/closed" => match later.closed {
                Some(closed) => format!("is {}", closed.as_str()),
                None => "is open again".to_owned(),
            },
            _ => "has changed".to_owned(),
        }
    }
}

/// What has become of which article.
fn line_changes(before: &[Line], after: &[Line]) -> String {
    let (before, after) = (articles(before), articles(after));
    let articles: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changes = articles.into_iter().filter_map(|article| {
        let of = |lines: &BTreeMap<_, _>| lines.get(article).copied().unwrap_or_default();
        let ((bought, to_ship), (bought_now, to_ship_now)) = (of(&before), of(&after));
        let (sku, _) = article;
        match () {
            () if bought != bought_now => Some(format!("{sku}: {bought} became {bought_now}")),
            () if to_ship != to_ship_now => {
                Some(format!("{sku}: {to_ship} to hand over became {to_ship_now}"))
            }
            () => None,
        }
    });
    changes.collect::<Vec<_>>().join(", ")
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

    fn changes(change: impl FnOnce(&mut Order)) -> Vec<String> {
        let mut later = sample();
        change(&mut later);
        let changes = sample().changes(&later);
        changes.into_iter().map(|it| format!("{} {}", it.pointer, it.detail)).collect()
    }

    #[test]
    fn a_person_is_told_what_became_of_what() {
        assert_eq!(
            changes(|order| {
                order.lines[0].quantity = 1;
                order.lines[1].handed_over = Some(0);
                order.lines.push(Line { sku: "MUG".into(), ..order.lines[0].clone() });
                order.total_minor = 7_000;
                order.customer.name = "Joe".into();
            }),
            [
                "/lines CAP/RED: 1 to hand over became 0, MUG: 0 became 1, TEE-M-BLK: 2 became 1",
                "/total_minor 7490 became 7000",
                "/customer has changed",
            ]
        );
        assert_eq!(changes(|order| order.closed = Some(Closed::Voided)), ["/closed is voided"]);
    }

    #[test]
    fn money_that_has_come_is_no_change() {
        let mut paid = sample();
        paid.payment = Payment::Paid { reference: "1".into() };
        let authorised =
            Order { payment: Payment::Authorised { reference: "1".into() }, ..paid.clone() };
        assert_eq!(authorised.changes(&paid), []);
        assert_eq!(sample().changes(&paid).len(), 1);
    }

    #[test]
    fn what_only_takes_away_is_known_from_what_adds_or_changes() {
        type Change = fn(&mut Order);
        let reduces = |change: Change| {
            let mut later = sample();
            change(&mut later);
            sample().is_reduced_to(&later)
        };
        let less: [Change; 3] = [
            |_| (),
            |order| {
                order.lines.truncate(1);
                order.total_minor -= 1_500;
            },
            |order| order.lines[0].handed_over = Some(1),
        ];
        let other: [Change; 5] = [
            |order| order.lines[1].quantity += 1,
            |order| order.lines[0].sku.push('1'),
            |order| order.total_minor += 1,
            |order| order.recipient = None,
            |order| order.closed = Some(Closed::Cancelled),
        ];
        assert!(less.into_iter().all(reduces));
        assert!(!other.into_iter().any(reduces));
    }
}
