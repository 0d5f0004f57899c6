//! An order as every source hands it over: amounts in minor units, one currency.
//!
//! Nothing here is trusted before [`Order::validate`] has passed.

mod amount;
mod difference;
mod key;
mod validation;

use amends::{Currency, Money};
use serde::{Deserialize, Serialize};

pub use amount::{ParseMinorError, parse_minor};
pub use key::{InvalidKey, InvalidOrderId, InvalidShop, OrderKey, ShopName};
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
    /// What the customer pays.
    pub total_minor: i64,
    /// Who pays.
    pub customer: Customer,
    /// Where the parcel goes.
    pub recipient: Recipient,
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
    /// How many.
    pub quantity: u32,
    /// The price of one.
    pub unit_price_minor: i64,
}

/// Who pays for an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The person's or company's name.
    pub name: String,
    /// Where messages about the order go.
    pub email: String,
}

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The person's or company's name.
    pub name: String,
    /// Street and house; may have several lines.
    pub address: String,
    /// The city.
    pub city: String,
    /// The post code; empty in countries that have none.
    pub postcode: String,
    /// ISO 3166 alpha-2, such as `MY`.
    pub country: String,
}

/// What the stock system and the carrier have to know of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

    /// What the customer pays.
    #[must_use]
    pub fn total(&self) -> Money {
        Money { amount_minor: self.total_minor, currency: self.currency }
    }

    /// Articles and quantities, without prices.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let item = |line: &Line| Item { sku: line.sku.clone(), quantity: line.quantity };
        self.lines.iter().map(item).collect()
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
                unit_price_minor: 2995,
            },
            Line {
                sku: "CAP/RED".into(),
                title: "Cap".into(),
                quantity: 1,
                unit_price_minor: 1500,
            },
        ],
        shipping_minor: 500,
        tax_minor: 250,
        discount_minor: 750,
        total_minor: 7490,
        customer: Customer { name: "Jane Tan".into(), email: "jane@example.com".into() },
        recipient: Recipient {
            name: "Joe Lim".into(),
            address: "1 Jalan Satu".into(),
            city: "Kuala Lumpur".into(),
            postcode: "50480".into(),
            country: "MY".into(),
        },
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
