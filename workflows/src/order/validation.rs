//! What must be true of an order before a workflow may see it.
//!
//! Every problem is reported, so that a sender can mend an order in one go.

use std::fmt::Arguments;

use super::amount::decimals;
use super::key::check_order_id;
use super::{Line, Order, Payment, Recipient, ShopName};

const LINES_MAX: usize = 500;
const QUANTITY_MAX: u32 = 100_000;
const ID_CHARACTERS_MAX: usize = 200;
const SKU_CHARACTERS_MAX: usize = 255;
const EMAIL_CHARACTERS_MAX: usize = 320;
const TEXT_CHARACTERS_MAX: usize = 1_000;

/// Something in an order that must be mended before it can be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a JSON pointer such as `/lines/0/quantity`.
    pub pointer: String,
    /// What must be true there; never the value itself.
    pub detail: String,
}

impl Order {
    /// Checks everything about the order that can be known without asking anybody.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut findings = Findings::default();
        findings.key(self);
        findings.label(format_args!("/number"), &self.number, ID_CHARACTERS_MAX);
        findings.people(self);
        findings.payment(&self.payment);
        findings.lines(&self.lines);
        findings.amounts(self);
        if findings.problems.is_empty() { Ok(()) } else { Err(findings.problems) }
    }

    /// By how much the total is more than its parts; None if they do not fit.
    #[must_use]
    pub fn remainder_minor(&self) -> Option<i64> {
        self.total_minor.checked_sub(sum_minor(self)?)
    }
}

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn must(&mut self, holds: bool, pointer: Arguments<'_>, detail: Arguments<'_>) {
        if !holds {
            self.problems
                .push(Problem { pointer: pointer.to_string(), detail: detail.to_string() });
        }
    }

    /// The parts of the business key.
    fn key(&mut self, order: &Order) {
        let shop = format_args!("/shop");
        match order.shop.parse::<ShopName>() {
            Ok(name) => {
                let detail = format_args!("must be in its one spelling, {name}");
                self.must(name.as_str() == order.shop, shop, detail);
            }
            Err(invalid) => self.must(false, shop, format_args!("{invalid}")),
        }
        if let Err(invalid) = check_order_id(&order.order_id) {
            self.must(false, format_args!("/order_id"), format_args!("{invalid}"));
        }
    }

    fn label(&mut self, pointer: Arguments<'_>, text: &str, characters_max: usize) {
        self.must(!text.is_empty(), pointer, format_args!("must not be empty"));
        self.single_line(pointer, text, characters_max);
    }

    fn single_line(&mut self, pointer: Arguments<'_>, text: &str, characters_max: usize) {
        let control = text.contains(char::is_control);
        self.must(!control, pointer, format_args!("must not contain control characters"));
        self.bounded(pointer, text, characters_max);
    }

    /// Text for people, who write line breaks and tabs into names and addresses.
    fn text(&mut self, pointer: Arguments<'_>, text: &str) {
        self.must(!text.contains('\0'), pointer, format_args!("must not contain NUL"));
        self.bounded(pointer, text, TEXT_CHARACTERS_MAX);
    }

    fn bounded(&mut self, pointer: Arguments<'_>, text: &str, characters_max: usize) {
        let fits = text.chars().nth(characters_max).is_none();
        self.must(fits, pointer, format_args!("must have at most {characters_max} characters"));
    }

    fn people(&mut self, order: &Order) {
        let customer = &order.customer;
        self.text(format_args!("/customer/name"), &customer.name);
        if let Some(address) = &customer.email {
            let email = format_args!("/customer/email");
            self.must(address.contains('@'), email, format_args!("must contain '@'"));
            self.single_line(email, address, EMAIL_CHARACTERS_MAX);
        }
        self.optional("/customer/phone", customer.phone.as_deref());
        if let Some(recipient) = &order.recipient {
            self.recipient(recipient);
        }
    }

    /// A line that may be left out, but not left empty.
    fn optional(&mut self, pointer: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.label(format_args!("{pointer}"), text, TEXT_CHARACTERS_MAX);
        }
    }

    fn recipient(&mut self, recipient: &Recipient) {
        for (name, text) in [("name", &recipient.name), ("address", &recipient.address)] {
            let pointer = format_args!("/recipient/{name}");
            self.must(!text.is_empty(), pointer, format_args!("must not be empty"));
            self.text(pointer, text);
        }
        self.text(format_args!("/recipient/city"), &recipient.city);
        self.text(format_args!("/recipient/postcode"), &recipient.postcode);
        self.optional("/recipient/company", recipient.company.as_deref());
        self.optional("/recipient/province", recipient.province.as_deref());
        self.optional("/recipient/phone", recipient.phone.as_deref());
        let country = recipient.country.as_bytes();
        self.must(
            country.len() == 2 && country.iter().all(u8::is_ascii_uppercase),
            format_args!("/recipient/country"),
            format_args!("must be two capital letters"),
        );
    }

    fn lines(&mut self, lines: &[Line]) {
        let count = lines.len();
        self.must(
            (1..=LINES_MAX).contains(&count),
            format_args!("/lines"),
            format_args!("must have 1 to {LINES_MAX} entries"),
        );
        // Beyond the limit there is one problem, not one per line.
        for (index, line) in lines.iter().take(LINES_MAX).enumerate() {
            let sku = format_args!("/lines/{index}/sku");
            // What is not handed over needs no name that a stock system knows.
            if line.pieces() > 0 {
                self.label(sku, &line.sku, SKU_CHARACTERS_MAX);
            } else {
                self.single_line(sku, &line.sku, SKU_CHARACTERS_MAX);
            }
            self.must(
                line.pieces() <= line.quantity,
                format_args!("/lines/{index}/handed_over"),
                format_args!("must not be more than were bought"),
            );
            self.text(format_args!("/lines/{index}/title"), &line.title);
            self.must(
                (1..=QUANTITY_MAX).contains(&line.quantity),
                format_args!("/lines/{index}/quantity"),
                format_args!("must be 1 to {QUANTITY_MAX}"),
            );
            self.not_negative(
                format_args!("/lines/{index}/unit_price_minor"),
                line.unit_price_minor,
            );
        }
    }

    fn not_negative(&mut self, pointer: Arguments<'_>, amount_minor: i64) {
        self.must(amount_minor >= 0, pointer, format_args!("must not be negative"));
    }

    fn amounts(&mut self, order: &Order) {
        let known = decimals(order.currency).is_some();
        let detail = format_args!("must be a currency of ISO 4217 that has minor units");
        self.must(known, format_args!("/currency"), detail);
        self.not_negative(format_args!("/shipping_minor"), order.shipping_minor);
        self.not_negative(format_args!("/tax_minor"), order.tax_minor);
        self.not_negative(format_args!("/discount_minor"), order.discount_minor);

        let total = format_args!("/total_minor");
        self.not_negative(total, order.total_minor);
        if let Some(agreed) = order.agreed_total {
            self.not_negative(format_args!("/agreed_total/amount_minor"), agreed.amount_minor);
            let known = decimals(agreed.currency).is_some();
            self.must(known, format_args!("/agreed_total/currency"), detail);
        }
        // What became of the parts of an order that is closed is not ours to say.
        if order.closed.is_some() {
            return;
        }
        match sum_minor(order) {
            Some(sum) => self.must(
                sum == order.total_minor,
                total,
                format_args!("must be {sum}: lines, shipping, tax and extras less discount"),
            ),
            None => self.must(
                false,
                total,
                format_args!("the parts of the total add up to more than can be stored"),
            ),
        }
    }

    fn payment(&mut self, payment: &Payment) {
        if let Payment::Authorised { reference } | Payment::Paid { reference } = payment {
            self.label(format_args!("/payment/reference"), reference, ID_CHARACTERS_MAX);
        }
    }
}

/// What the order should cost; `None` if that, or anything on the way to it, does not fit.
fn sum_minor(order: &Order) -> Option<i64> {
    let mut extras = order.extras.iter().map(|extra| extra.amount_minor);
    let extras = extras.try_fold(0_i64, i64::checked_add)?;
    let lines = order.lines.iter().try_fold(0_i64, |sum, line| {
        sum.checked_add(line.unit_price_minor.checked_mul(i64::from(line.quantity))?)
    })?;
    lines
        .checked_add(order.shipping_minor)?
        .checked_add(order.tax_minor)?
        .checked_add(extras)?
        .checked_sub(order.discount_minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::sample;
    use amends::Money;
    use proptest::prelude::*;

    fn recipient(order: &mut Order) -> &mut Recipient {
        order.recipient.as_mut().unwrap()
    }

    fn paid(reference: &str) -> Payment {
        Payment::Paid { reference: reference.to_owned() }
    }

    fn agreed(amount_minor: i64, currency: &str) -> Money {
        Money { amount_minor, currency: currency.parse().unwrap() }
    }

    /// The pointers of all problems of the sample order after `spoil`.
    fn pointers(spoil: impl FnOnce(&mut Order)) -> Vec<String> {
        let mut order = sample();
        spoil(&mut order);
        match order.validate() {
            Ok(()) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| problem.pointer).collect(),
        }
    }

    #[test]
    fn a_sound_order_passes() {
        assert_eq!(sample().validate(), Ok(()));
    }

    #[test]
    fn each_rule_is_reported_where_it_is_broken() {
        type Spoil = fn(&mut Order);
        let table: &[(&str, Spoil)] = &[
            ("/shop", |order| order.shop.clear()),
            ("/shop", |order| order.shop = "a/b".into()),
            ("/shop", |order| order.shop = "a\0b".into()),
            ("/shop", |order| order.shop = "a".repeat(201)),
            ("/shop", |order| order.shop = "Acme".into()),
            ("/shop", |order| order.shop = "acme.".into()),
            ("/shop", |order| order.shop = "bücher.example".into()),
            ("/order_id", |order| order.order_id.clear()),
            ("/order_id", |order| order.order_id = "1/2".into()),
            ("/order_id", |order| order.order_id = "1\n2".into()),
            ("/order_id", |order| order.order_id = "1 ".into()),
            ("/order_id", |order| order.order_id = "1\u{200b}".into()),
            ("/number", |order| order.number.clear()),
            ("/number", |order| order.number = "\u{7f}".into()),
            ("/currency", |order| order.currency = "ZZZ".parse().unwrap()),
            ("/currency", |order| order.currency = "XAU".parse().unwrap()),
            ("/customer/name", |order| order.customer.name = "\0".into()),
            ("/customer/name", |order| order.customer.name = "x".repeat(1001)),
            ("/customer/email", |order| order.customer.email = Some("jane".into())),
            ("/customer/email", |order| order.customer.email = Some("jane@x\r\nBcc: all".into())),
            ("/customer/email", |order| order.customer.email = Some("@".repeat(321))),
            ("/customer/phone", |order| order.customer.phone = Some(String::new())),
            ("/recipient/name", |order| recipient(order).name.clear()),
            ("/recipient/address", |order| recipient(order).address.clear()),
            ("/recipient/address", |order| recipient(order).address = "x".repeat(1001)),
            ("/recipient/city", |order| recipient(order).city = "\0".into()),
            ("/recipient/postcode", |order| recipient(order).postcode = "0".repeat(1001)),
            ("/recipient/country", |order| recipient(order).country = "my".into()),
            ("/recipient/country", |order| recipient(order).country = "MYS".into()),
            ("/recipient/country", |order| recipient(order).country = "É".into()),
            ("/recipient/company", |order| recipient(order).company = Some("a\nb".into())),
            ("/lines/0/handed_over", |order| order.lines[0].handed_over = Some(3)),
            ("/payment/reference", |order| order.payment = paid("")),
            ("/agreed_total/amount_minor", |order| order.agreed_total = Some(agreed(-1, "USD"))),
            ("/agreed_total/currency", |order| order.agreed_total = Some(agreed(1, "XAU"))),
            ("/lines/1/sku", |order| order.lines[1].sku.clear()),
            ("/lines/1/sku", |order| order.lines[1].sku = "\t".into()),
            ("/lines/0/title", |order| order.lines[0].title = "\0".into()),
            ("/total_minor", |order| order.total_minor += 1),
            ("/total_minor", |order| order.shipping_minor += 1),
            ("/total_minor", |order| order.tax_minor += 1),
            ("/total_minor", |order| order.discount_minor += 1),
            ("/total_minor", |order| order.lines[0].quantity += 1),
        ];
        for (index, (pointer, spoil)) in table.iter().enumerate() {
            assert_eq!(pointers(spoil), [*pointer], "row {index}");
        }
    }

    #[test]
    fn limits_themselves_are_allowed() {
        let none = pointers(|order| {
            order.shop = "a".repeat(200);
            order.customer.name.clear();
            recipient(order).address = "1 Jalan Satu\n50480".into();
            recipient(order).postcode.clear();
            recipient(order).province = Some("Selangor".into());
            order.lines[1].handed_over = Some(0);
            order.lines[1].sku.clear();
            order.lines[0].quantity = 100_000;
            order.lines[0].unit_price_minor = 0;
            order.total_minor = 1500;
        });
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn an_order_has_1_to_500_lines_of_1_to_100_000_pieces() {
        let lines = |count: usize| {
            move |order: &mut Order| {
                order.lines = vec![order.lines[0].clone(); count];
                order.lines.iter_mut().for_each(|line| line.quantity = 1);
                order.total_minor = 2995 * i64::try_from(count).unwrap();
            }
        };
        assert!(pointers(lines(500)).is_empty());
        assert_eq!(pointers(lines(501)), ["/lines"]);
        assert_eq!(pointers(lines(0)), ["/lines"]);
        for quantity in [0, 100_001] {
            let found = pointers(|order| order.lines[0].quantity = quantity);
            assert_eq!(found, ["/lines/0/quantity", "/total_minor"]);
        }
    }

    #[test]
    fn negative_amounts_are_refused_even_where_they_add_up() {
        let found = pointers(|order| {
            order.lines[0].unit_price_minor = -2995;
            order.shipping_minor = -1;
            order.tax_minor = -1;
            order.discount_minor = -1;
            order.total_minor = 1;
            order.lines[1].unit_price_minor = 5990 + 1 + 1 - 1 + 1;
        });
        let charges = ["/shipping_minor", "/tax_minor", "/discount_minor"];
        assert_eq!(found, [&["/lines/0/unit_price_minor"], &charges[..]].concat());
    }

    #[test]
    fn an_overflow_is_a_problem_and_not_a_panic() {
        assert_eq!(pointers(|order| order.lines[0].unit_price_minor = i64::MAX), ["/total_minor"]);
        assert_eq!(pointers(|order| order.shipping_minor = i64::MAX), ["/total_minor"]);
        assert_eq!(
            pointers(|order| order.discount_minor = i64::MIN),
            ["/discount_minor", "/total_minor"]
        );
    }

    #[test]
    fn every_problem_is_reported_and_none_repeats_a_value() {
        let mut order = sample();
        order.shop = format!("secret/\0{}", "x".repeat(200));
        order.customer.email = Some("secret".into());
        recipient(&mut order).country = "secret".into();
        order.lines[1].quantity = 0;
        order.total_minor = 0;
        let problems = order.validate().unwrap_err();
        let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/shop", "/customer/email", "/recipient/country", "/lines/1/quantity", "/total_minor"]
        );
        assert!(problems.iter().all(|problem| !problem.detail.contains("secret")));
    }

    proptest! {
        #[test]
        fn no_amounts_make_it_panic(
            amounts in proptest::array::uniform5(any::<i64>()), quantity in any::<u32>(),
        ) {
            let [price, shipping, tax, discount, total] = amounts;
            pointers(|order| {
                order.lines[0].unit_price_minor = price;
                order.lines[0].quantity = quantity;
                order.shipping_minor = shipping;
                order.tax_minor = tax;
                order.discount_minor = discount;
                order.total_minor = total;
            });
        }
    }
}
