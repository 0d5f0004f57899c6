//! An order as every source hands it over: amounts in minor units, one currency.
//!
//! Nothing here is trusted before [`Order::validate`] has passed.

mod amount;
mod difference;
mod key;
mod payment;
mod validation;
mod worth;

use amends::{Currency, Money};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use amount::{ParseMinorError, parse_minor};
pub use difference::Change;
pub use key::{InvalidKey, InvalidOrderId, InvalidShop, OrderKey, ShopName};
pub use payment::Payment;
pub use validation::Problem;

/// What a customer ordered from a shop. It is the input of every order workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The shop's domain, spelt as [`ShopName`] spells it.
    pub shop: String,
    /// The shop's own id of the order; unique within the shop only.
    pub order_id: String,
    /// The number people use, such as `#1001`.
    pub number: String,
    /// The currency of every amount.
    pub currency: Currency,
    /// What was bought.
    pub lines: Vec<Line>,
    /// The price of shipping.
    #[serde(default)]
    pub shipping_minor: i64,
    /// Tax on top of the prices; 0 where prices include it.
    #[serde(default)]
    pub tax_minor: i64,
    /// What is taken off; not negative.
    #[serde(default)]
    pub discount_minor: i64,
    /// Whatever else is part of the total: tips, duties, fees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<Extra>,
    /// What the customer pays, in the currency of the order.
    pub total_minor: i64,
    /// The same in the currency that the customer was shown and has agreed to, if that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_total: Option<Money>,
    /// Who has the money.
    #[serde(default, skip_serializing_if = "Payment::is_to_charge")]
    pub payment: Payment,
    /// Who pays.
    pub customer: Customer,
    /// Where the parcel goes. None: what there is to hand over is picked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// Why nothing is to be done about the order, if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// When the shop last changed the order, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
}

/// Why nothing is to be done about an order that a shop has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// The shop or the customer has cancelled it.
    Cancelled,
    /// All of the money was given back.
    Refunded,
    /// The payment was called off.
    Voided,
    /// The customer has the goods.
    Fulfilled,
}

impl Closed {
    /// As stored, and as published.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
            Self::Fulfilled => "fulfilled",
        }
    }
}

/// A part of the total beside articles, shipping, tax and discount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    /// What it is.
    pub kind: ExtraKind,
    /// How much; negative if it makes the order cheaper.
    pub amount_minor: i64,
}

/// What a part of the total is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraKind {
    /// Given to who serves.
    Tip,
    /// Taken by the customs of the recipient's country.
    Duties,
    /// Charged for something else, such as packing.
    Fee,
    /// The difference to what can be paid in cash.
    Rounding,
    /// What nobody could explain, and a person has let pass.
    Unexplained,
}

/// One article of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The article, as the stock system names it.
    pub sku: String,
    /// The article, as people name it.
    #[serde(default)]
    pub title: String,
    /// How many were bought.
    pub quantity: u32,
    /// How many of them are to be handed over; none of what is delivered otherwise, such as a gift
    /// card or a download. All, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<u32>,
    /// The price of one.
    pub unit_price_minor: i64,
}

impl Line {
    /// How many are to be reserved and handed over.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.handed_over.unwrap_or(self.quantity)
    }
}

/// Who pays for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The person's or company's name.
    pub name: String,
    /// Where messages about the order go, if there is an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The number of a telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The person's or company's name.
    pub name: String,
    /// The company at which the person is, if that is needed to find them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Street and house; may have several lines.
    pub address: String,
    /// The city.
    pub city: String,
    /// The province or state, where an address has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub province: Option<String>,
    /// The post code; empty in countries that have none.
    pub postcode: String,
    /// ISO 3166 alpha-2, such as `MY`.
    pub country: String,
    /// Whom the carrier calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// What the stock system and the carrier have to know of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The article.
    pub sku: String,
    /// How many.
    pub quantity: u32,
}

impl Order {
    /// What names the order across all shops: `shop/order_id`, with the shop as it stands here.
    ///
    /// Recorded orders keep the spelling that they came with, since their steps were asked for under
    /// it; new ones are spelt by [`Order::with_one_name`] before they are recorded.
    #[must_use]
    pub fn business_key(&self) -> String {
        key::joined(&self.shop, &self.order_id)
    }

    /// The same order under the one name of its shop. A shop that is no name stays as it is, and
    /// does not pass [`Order::validate`].
    #[must_use]
    pub fn with_one_name(mut self) -> Self {
        if let Ok(shop) = self.shop.parse::<ShopName>() {
            self.shop = shop.to_string();
        }
        self
    }

    /// What the customer pays, in the currency that they have agreed to.
    #[must_use]
    pub fn total(&self) -> Money {
        let own = Money { amount_minor: self.total_minor, currency: self.currency };
        self.agreed_total.unwrap_or(own)
    }

    /// Articles and quantities that are to be handed over, without prices.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let item = |line: &Line| Item { sku: line.sku.clone(), quantity: line.pieces() };
        self.lines.iter().filter(|line| line.pieces() > 0).map(item).collect()
    }
}

/// A valid order whose personal data is easy to find again.
#[cfg(test)]
pub(crate) fn sample() -> Order {
    Order {
        shop: "acme".into(),
        order_id: "5940139491234".into(),
        number: "#1001".into(),
        currency: "MYR".parse().unwrap(),
        lines: vec![
            Line {
                sku: "TEE-M-BLK".into(),
                title: "Tee".into(),
                quantity: 2,
                handed_over: None,
                unit_price_minor: 2995,
            },
            Line {
                sku: "CAP/RED".into(),
                title: "Cap".into(),
                quantity: 1,
                handed_over: None,
                unit_price_minor: 1500,
            },
        ],
        shipping_minor: 500,
        tax_minor: 250,
        discount_minor: 750,
        extras: Vec::new(),
        total_minor: 7490,
        agreed_total: None,
        payment: Payment::ToCharge,
        customer: Customer {
            name: "Jane Tan".into(),
            email: Some("jane@example.com".into()),
            phone: None,
        },
        recipient: Some(Recipient {
            name: "Joe Lim".into(),
            company: None,
            address: "1 Jalan Satu".into(),
            city: "Kuala Lumpur".into(),
            province: None,
            postcode: "50480".into(),
            country: "MY".into(),
            phone: None,
        }),
        closed: None,
        changed_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sample_json() -> Value {
        serde_json::to_value(sample()).unwrap()
    }

    #[test]
    fn an_order_survives_its_json() {
        assert_eq!(serde_json::from_value::<Order>(sample_json()).unwrap(), sample());
    }

    #[test]
    fn charges_and_titles_may_be_left_out() {
        let mut order = sample_json();
        for field in ["shipping_minor", "tax_minor", "discount_minor"] {
            order.as_object_mut().unwrap().remove(field);
        }
        order["lines"][0].as_object_mut().unwrap().remove("title");
        let order: Order = serde_json::from_value(order).unwrap();
        assert_eq!((order.shipping_minor, order.tax_minor, order.discount_minor), (0, 0, 0));
        assert_eq!(order.lines[0].title, "");
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for path in ["", "/lines/0", "/customer", "/recipient"] {
            let mut order = sample_json();
            order.pointer_mut(path).unwrap()["surprise"] = json!(1);
            assert!(serde_json::from_value::<Order>(order).is_err(), "{path}");
        }
    }

    #[test]
    fn the_business_key_names_shop_and_order() {
        assert_eq!(sample().business_key(), "acme/5940139491234");
    }
}
