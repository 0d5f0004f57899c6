//! An order as Shopify describes it, made into a draft of ours.
//!
//! Nearly everything may be null. What is read is what decides what is to be done: what is in the
//! order now, not what was when it was placed; who has the money; who gets the goods.

use amends::Currency;
use amends::intake_case::CaseProblem;
use amends_workflows::order::parse_minor;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::intake::draft::{Doubt, Draft};
use crate::intake::news::Refund;
use crate::intake::node::{Flaws, Node};
use total::{Parts, settle};

mod people;
mod total;

/// A part of the money was paid, and not all of it.
const PARTIALLY_PAID: &str = "PARTIALLY_PAID";
/// The authorisation has run out.
const AUTHORISATION_EXPIRED: &str = "AUTHORISATION_EXPIRED";
/// The shop has a word for the payment that we do not know.
const PAYMENT_UNKNOWN: &str = "PAYMENT_UNKNOWN";
/// The shop has not confirmed the order.
const ORDER_UNCONFIRMED: &str = "ORDER_UNCONFIRMED";
/// The amounts are in a currency that cannot be counted in minor units.
const UNKNOWN_CURRENCY: &str = "UNKNOWN_CURRENCY";

/// What an order of Shopify comes to.
#[derive(Debug)]
pub(super) enum Read {
    /// An order.
    Order {
        /// As far as it can be read.
        draft: Box<Draft>,
        /// What was given back of it.
        refunds: Vec<Refund>,
        /// When it was placed.
        placed_at: Option<DateTime<Utc>>,
    },
    /// It was made to try something out; its id, if it has one.
    Test(Option<String>),
}

/// Reads an order of `shop` that was received then.
pub(super) fn read(text: &str, shop: &str, received_at: DateTime<Utc>) -> Read {
    let flaws = Flaws::default();
    let Some(root) = Node::read(text, &flaws) else {
        let draft = Draft { problems: flaws.into_vec(), ..Draft::default() };
        return Read::Order { draft: Box::new(draft), refunds: Vec::new(), placed_at: None };
    };
    if root.member("test").is_some_and(|test| test.is_true()) {
        return Read::Test(root.member("id").and_then(|id| id.text()));
    }
    let mut reader =
        Reader { root: root.clone(), order: Map::new(), lacking: Vec::new(), doubt: None };
    reader.read(shop, received_at);
    let placed_at = reader.time("created_at");
    let Reader { order, mut lacking, doubt, .. } = reader;
    drop(root);
    lacking.extend(flaws.into_vec());
    let draft = Draft { order: Value::Object(order), problems: lacking, doubt };
    Read::Order { draft: Box::new(draft), refunds: refunds(text), placed_at }
}

/// What was given back of an order. What cannot be read of that keeps no order from being carried out:
/// refunds are told of by themselves, too.
fn refunds(text: &str) -> Vec<Refund> {
    let flaws = Flaws::default();
    let refunds = Node::read(text, &flaws).and_then(|root| root.member("refunds"));
    let refunds = refunds.map(|refunds| refunds.entries()).unwrap_or_default();
    refunds.iter().flat_map(super::refunds::of).collect()
}

/// Reads an order, and keeps what was there and what was not.
struct Reader<'a> {
    root: Node<'a>,
    order: Map<String, Value>,
    lacking: Vec<CaseProblem>,
    doubt: Option<Doubt>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, shop: &str, received_at: DateTime<Utc>) {
        self.set("shop", json!(shop));
        let id = self.text("id");
        self.needed("order_id", "/id", id.clone());
        let number = self.text("name").or_else(|| Some(format!("#{}", self.text("order_number")?)));
        self.needed("number", "/name", number.or_else(|| id.clone()));
        if let Some(changed_at) = self.time("updated_at").or_else(|| self.time("created_at")) {
            self.set("changed_at", json!(changed_at));
        }
        let closed = self.closed();
        self.people(closed.is_some());
        if let Some(closed) = closed {
            self.set("closed", json!(closed));
        }
        let Some(currency) = self.currency() else { return };
        self.amounts(currency, closed.is_some());
        if closed.is_none() {
            self.payment(id, received_at);
        }
    }

    /// Why nothing is to be done about the order, if nothing is.
    fn closed(&self) -> Option<&'static str> {
        let is = |member: &str, word: &str| {
            self.text(member).is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        if self.root.member("cancelled_at").is_some() {
            Some("cancelled")
        } else if is("financial_status", "refunded") {
            Some("refunded")
        } else if is("financial_status", "voided") {
            Some("voided")
        } else if is("fulfillment_status", "fulfilled") {
            Some("fulfilled")
        } else {
            None
        }
    }

    fn currency(&mut self) -> Option<Currency> {
        let Some(text) = self.text("currency") else {
            self.needed("currency", "/currency", None);
            return None;
        };
        let currency = text.parse().ok().filter(|currency| parse_minor("0", *currency).is_ok());
        if currency.is_none() {
            let detail =
                "is no currency of ISO 4217 that has minor units, so nothing can be charged";
            self.doubt = Some(Doubt { code: UNKNOWN_CURRENCY, pointer: "/currency", detail });
            self.lacks("/currency", None, detail);
        }
        let currency = currency?;
        self.set("currency", json!(currency));
        Some(currency)
    }

    /// What is in the order now, and what it costs.
    fn amounts(&mut self, currency: Currency, is_closed: bool) {
        // What has become of the amounts of a closed order is not ours to say.
        let now = |name: &str| {
            let current = format!("current_{name}");
            (!is_closed)
                .then(|| self.root.member(&current))
                .flatten()
                .or_else(|| self.root.member(name))
        };
        let (total, tax, discount) = (now("total_price"), now("total_tax"), now("total_discounts"));
        let total_minor = match total {
            Some(total) => self.minor(&total, currency),
            None => {
                self.lacks("/total_price", Some("/total_minor"), "is needed, and missing");
                None
            }
        };
        let is_included = self.root.member("taxes_included").is_some_and(|it| it.is_true());
        let tax_minor = match tax.filter(|_| !is_included) {
            Some(tax) => self.minor(&tax, currency),
            None => Some(0),
        };
        let discount_minor = discount.map_or(Some(0), |discount| self.minor(&discount, currency));
        let shipping_minor = self.shipping(currency);
        let lines_minor = self.lines(currency, is_closed);
        for (name, amount) in [
            ("total_minor", total_minor),
            ("tax_minor", tax_minor),
            ("discount_minor", discount_minor),
            ("shipping_minor", shipping_minor),
        ] {
            if let Some(amount) = amount {
                self.set(name, json!(amount));
            }
        }
        let known =
            [lines_minor, tax_minor.map(i128::from), discount_minor.map(|it| -i128::from(it))];
        let known = known.into_iter().sum::<Option<i128>>();
        if let (Some(total), Some(known), Some(shipping)) = (total_minor, known, shipping_minor) {
            self.settle(currency, total, known, shipping);
        }
        self.agreed(currency);
    }

    /// Duties, fees, tips and roundings, and which way of telling the price of shipping counts.
    fn settle(&mut self, currency: Currency, total_minor: i64, known: i128, shipping_minor: i64) {
        let mut amount = |names: &[&str]| {
            let in_set = |name: &&str| self.root.at(&[name, "shop_money", "amount"]);
            let found = names.iter().find_map(in_set);
            found.and_then(|amount| self.signed_minor(&amount, currency)).filter(|it| *it != 0)
        };
        let certain = [
            ("duties", amount(&["current_total_duties_set", "original_total_duties_set"])),
            (
                "fee",
                amount(&[
                    "current_total_additional_fees_set",
                    "original_total_additional_fees_set",
                ]),
            ),
        ];
        let rounding = amount(&["total_cash_rounding_payment_adjustment_set"]);
        let left_of_shipping =
            self.root.at(&["current_shipping_price_set", "shop_money", "amount"]);
        let left_of_shipping = left_of_shipping.and_then(|it| self.minor(&it, currency));
        let tip = self.root.member("total_tip_received");
        let tip = tip.and_then(|tip| self.minor(&tip, currency)).filter(|tip| *tip > 0);

        let there = |(kind, minor): (&'static str, Option<i64>)| Some((kind, minor?));
        let mut extras: Vec<_> = certain.into_iter().filter_map(there).collect();
        let certain: i128 = extras.iter().map(|(_, minor)| i128::from(*minor)).sum();
        let parts = Parts {
            certain: known + certain,
            shipping: [shipping_minor].into_iter().chain(left_of_shipping).collect(),
            possible: [("tip", tip), ("rounding", rounding)]
                .into_iter()
                .filter_map(there)
                .collect(),
        };
        let (shipping_minor, besides) = settle(total_minor, &parts);
        extras.extend(besides);
        self.set("shipping_minor", json!(shipping_minor));
        if !extras.is_empty() {
            let extra = |(kind, minor): &(&str, i64)| json!({"kind": kind, "amount_minor": minor});
            self.set("extras", extras.iter().map(extra).collect());
        }
    }

    /// What the customer was shown, where that is in another currency than the shop's.
    fn agreed(&mut self, currency: Currency) {
        let Some(shown) = self.text("presentment_currency").and_then(|text| text.parse().ok())
        else {
            return;
        };
        if shown == currency {
            return;
        }
        let set = self.root.member("current_total_price_set");
        let set = set.or_else(|| self.root.member("total_price_set"));
        let amount = set.and_then(|set| set.at(&["presentment_money", "amount"]));
        match amount {
            Some(amount) => {
                if let Some(minor) = self.minor(&amount, shown) {
                    self.set("agreed_total", json!({"amount_minor": minor, "currency": shown}));
                }
            }
            None => self.lacks(
                "/total_price_set/presentment_money/amount",
                Some("/agreed_total"),
                "is needed, since the customer has agreed to another currency, and missing",
            ),
        }
    }

    fn shipping(&mut self, currency: Currency) -> Option<i64> {
        let lines = self.root.member("shipping_lines").map(|lines| lines.entries());
        let mut sum = Some(0_i64);
        for line in lines.unwrap_or_default() {
            if line.member("is_removed").is_some_and(|removed| removed.is_true()) {
                continue;
            }
            let price = match line.member("price") {
                Some(price) => self.minor(&price, currency),
                None => {
                    let pointer = format!("{}/price", line.pointer());
                    self.lacks(&pointer, Some("/shipping_minor"), "is needed, and missing");
                    None
                }
            };
            sum = sum.zip(price).and_then(|(sum, price)| sum.checked_add(price));
        }
        sum
    }

    /// The articles that are still in the order. Returns what they cost.
    fn lines(&mut self, currency: Currency, is_closed: bool) -> Option<i128> {
        let items = self.root.member("line_items").map(|items| items.entries());
        let (mut lines, mut sum) = (Vec::new(), Some(0_i128));
        for item in items.unwrap_or_default() {
            let current = item.member("current_quantity").filter(|_| !is_closed);
            let quantity = match current.or_else(|| item.member("quantity")) {
                Some(quantity) => quantity.count(),
                None => {
                    let field = format!("/lines/{}/quantity", lines.len());
                    let pointer = format!("{}/quantity", item.pointer());
                    self.lacks(&pointer, Some(&field), "is needed, and missing");
                    None
                }
            };
            if quantity == Some(0) {
                continue;
            }
            let mut line = self.line(&item, lines.len(), quantity, is_closed);
            let price = self.unit_price(&item, lines.len(), currency);
            if let Some(price) = price {
                line.insert("unit_price_minor".to_owned(), json!(price));
            }
            lines.push(Value::Object(line));
            sum = sum
                .zip(quantity.zip(price))
                .map(|(sum, (quantity, price))| sum + i128::from(quantity) * i128::from(price));
        }
        self.set("lines", Value::Array(lines));
        sum
    }

    /// One article, without its price.
    fn line(
        &mut self,
        item: &Node<'a>,
        index: usize,
        quantity: Option<u32>,
        is_closed: bool,
    ) -> Map<String, Value> {
        let text = |name: &str| item.member(name).and_then(|it| it.text());
        let needs_shipping =
            !is_closed && item.member("requires_shipping").is_none_or(|it| it.is_true());
        let open = item.member("fulfillable_quantity").and_then(|it| it.count());
        let pieces = match (needs_shipping, open, quantity) {
            (false, ..) => Some(0),
            (true, Some(open), Some(quantity)) if open < quantity => Some(open),
            (true, ..) => None,
        };
        // What names the article where it has no number of its own.
        let sku = text("sku")
            .or_else(|| Some(format!("variant:{}", text("variant_id")?)))
            .or_else(|| Some(format!("product:{}", text("product_id")?)));
        let (pointer, field) = (format!("{}/sku", item.pointer()), format!("/lines/{index}/sku"));
        if sku.is_none() && pieces != Some(0) {
            self.lacks(&pointer, Some(&field), "is needed for what is shipped, and missing");
        }
        let mut line = Map::new();
        line.insert("sku".to_owned(), json!(sku.unwrap_or_default()));
        line.insert("title".to_owned(), json!(text("title").unwrap_or_default()));
        for (name, value) in [("quantity", quantity), ("handed_over", pieces)] {
            if let Some(value) = value {
                line.insert(name.to_owned(), json!(value));
            }
        }
        line
    }

    fn unit_price(&mut self, item: &Node<'a>, index: usize, currency: Currency) -> Option<i64> {
        match item.member("price") {
            Some(price) => self.minor(&price, currency),
            None => {
                let pointer = format!("{}/price", item.pointer());
                let field = format!("/lines/{index}/unit_price_minor");
                self.lacks(&pointer, Some(&field), "is needed, and missing");
                None
            }
        }
    }

    /// Who has the money.
    fn payment(&mut self, id: Option<String>, received_at: DateTime<Utc>) {
        let status = self.text("financial_status").map(|status| status.to_lowercase());
        let reference = json!(id);
        let is_free = self.order.get("total_minor") == Some(&json!(0));
        let doubt = |code, detail| Some(Doubt { code, pointer: "/financial_status", detail });
        if self.root.member("confirmed").is_some_and(|it| !it.is_true()) {
            let detail = "says that the shop has not confirmed the order";
            self.doubt = Some(Doubt { code: ORDER_UNCONFIRMED, pointer: "/confirmed", detail });
        }
        let payment = match status.as_deref() {
            _ if is_free => json!({"state": "nothing_due"}),
            Some("paid" | "partially_refunded") => json!({"state": "paid", "reference": reference}),
            Some("authorized") => json!({"state": "authorised", "reference": reference}),
            None | Some("pending") => match self.pending(received_at) {
                Some(payment) => payment,
                None => return,
            },
            Some(other) => {
                self.doubt = match other {
                    "partially_paid" => doubt(
                        PARTIALLY_PAID,
                        "says that a part was paid; charged anyway, it is all",
                    ),
                    "expired" => {
                        doubt(AUTHORISATION_EXPIRED, "says that the authorisation has run out")
                    }
                    _ => doubt(PAYMENT_UNKNOWN, "is a word that is not known here"),
                };
                return;
            }
        };
        self.set("payment", payment);
    }

    /// What was agreed about money that nobody has yet. None: it is to be charged now.
    fn pending(&self, received_at: DateTime<Utc>) -> Option<Value> {
        if let Some(terms) = self.root.member("payment_terms") {
            let due_at = due_at(&terms, self.time("created_at").unwrap_or(received_at));
            return Some(json!({"state": "on_terms", "due_at": due_at}));
        }
        let gateways = self.root.member("payment_gateway_names").map(|names| names.entries());
        let is_on_delivery = |name: &Node<'_>| {
            let name = name.text().unwrap_or_default().to_lowercase();
            name.contains("cash on delivery") || name == "cod"
        };
        gateways
            .is_some_and(|names| names.iter().any(is_on_delivery))
            .then(|| json!({"state": "on_delivery"}))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.root.member(name)?.text()
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        time(&self.root.member(name)?)
    }

    /// An amount, not negative, to the minor unit.
    fn minor(&mut self, amount: &Node<'a>, currency: Currency) -> Option<i64> {
        match parse_minor(&amount.text()?, currency) {
            Ok(minor) => Some(minor),
            Err(error) => {
                amount.wrong(&error.to_string());
                None
            }
        }
    }

    /// The same of an amount that may be negative.
    fn signed_minor(&mut self, amount: &Node<'a>, currency: Currency) -> Option<i64> {
        let text = amount.text()?;
        match text.strip_prefix('-') {
            Some(positive) => parse_minor(positive, currency).ok().map(|minor| -minor),
            None => parse_minor(&text, currency).ok(),
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        self.order.insert(name.to_owned(), value);
    }

    fn needed(&mut self, field: &str, pointer: &str, text: Option<String>) {
        match text {
            Some(text) => self.set(field, json!(text)),
            None => self.lacks(pointer, Some(&format!("/{field}")), "is needed, and missing"),
        }
    }

    fn lacks(&mut self, pointer: &str, field: Option<&str>, detail: &str) {
        self.lacking.push(CaseProblem {
            pointer: pointer.to_owned(),
            field: field.map(str::to_owned),
            detail: detail.to_owned(),
        });
    }
}

pub(super) fn time(node: &Node<'_>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(&node.text()?).ok().map(|time| time.to_utc())
}

/// When what is owed is due; None: once the goods are handed over.
fn due_at(terms: &Node<'_>, placed_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let schedule = terms.member("payment_schedules").map(|schedules| schedules.entries());
    let first = schedule.and_then(|schedules| schedules.first()?.member("due_at"));
    first.as_ref().and_then(time).or_else(|| {
        let days = terms.member("due_in_days")?.count()?;
        placed_at.checked_add_signed(TimeDelta::days(i64::from(days)))
    })
}
