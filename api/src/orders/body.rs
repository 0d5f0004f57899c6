//! The body of `POST /orders`, for the OpenAPI document. What is read is the workflow's `Order`;
//! a test holds the two together.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// What a customer ordered from a shop. Amounts are in minor units of one currency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The shop's domain; case and a final dot make no difference.
    #[schema(example = "acme.myshopify.com", min_length = 1, max_length = 200)]
    pub(crate) shop: &'static str,
    /// The shop's own id of the order; unique within the shop only; visible ASCII without `/`.
    #[schema(example = "5940139491234", pattern = "^[!-.0-~]{1,200}$")]
    pub(crate) order_id: &'static str,
    /// The number people use.
    #[schema(example = "#1001", min_length = 1, max_length = 200)]
    pub(crate) number: &'static str,
    /// The currency of every amount: three capital letters, as in ISO 4217.
    #[schema(example = "MYR", pattern = "^[A-Z]{3}$")]
    pub(crate) currency: &'static str,
    /// What was bought.
    #[schema(min_items = 1, max_items = 500)]
    pub(crate) lines: Vec<Line>,
    /// The price of shipping.
    #[schema(example = 0, minimum = 0, required = false)]
    pub(crate) shipping_minor: i64,
    /// Tax on top of the prices; 0 where prices include it.
    #[schema(example = 0, minimum = 0, required = false)]
    pub(crate) tax_minor: i64,
    /// What is taken off.
    #[schema(example = 0, minimum = 0, required = false)]
    pub(crate) discount_minor: i64,
    /// Whatever else is part of the total: tips, duties, fees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) extras: Vec<Extra>,
    /// What the customer pays: lines, shipping, tax and extras less discount.
    #[schema(example = 5990, minimum = 0)]
    pub(crate) total_minor: i64,
    /// The same in the currency that the customer was shown and has agreed to, if that is another:
    /// this is what is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agreed_total: Option<Agreed>,
    /// Who has the money; it is to be charged, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment: Option<Payment>,
    /// Who pays.
    pub(crate) customer: Customer,
    /// Where the parcel goes; without one, what is to be handed over is picked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<Recipient>,
    /// Why nothing is to be done about the order, if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<Closed>,
    /// When the shop last changed the order, by its own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed_at: Option<DateTime<Utc>>,
}

/// A part of the total beside articles, shipping, tax and discount.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extra {
    /// What it is.
    pub(crate) kind: ExtraKind,
    /// How much; negative if it makes the order cheaper.
    #[schema(example = 300)]
    pub(crate) amount_minor: i64,
}

/// What a part of the total is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "written by those who send orders")]
pub(crate) enum ExtraKind {
    Tip,
    Duties,
    Fee,
    Rounding,
    Unexplained,
}

/// An amount in a currency of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Agreed {
    /// Minor units.
    #[schema(example = 1550, minimum = 0)]
    pub(crate) amount_minor: i64,
    /// Three capital letters, as in ISO 4217.
    #[schema(example = "USD", pattern = "^[A-Z]{3}$")]
    pub(crate) currency: &'static str,
}

/// Who has the money of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "written by those who send orders")]
pub(crate) enum Payment {
    /// Nobody: it is to be charged.
    ToCharge,
    /// The customer's bank keeps it for the shop, whose platform is to take it.
    Authorised {
        /// What the shop's platform knows the authorisation by.
        #[schema(min_length = 1, max_length = 200)]
        reference: &'static str,
    },
    /// The shop: it was paid through the shop's own platform.
    Paid {
        /// What the shop's platform knows the payment by.
        #[schema(min_length = 1, max_length = 200)]
        reference: &'static str,
    },
    /// Nobody yet: who hands over the goods takes it.
    OnDelivery,
    /// Nobody yet: the customer owes it.
    OnTerms {
        /// When it is charged; once the goods are handed over, if it is not said.
        #[serde(skip_serializing_if = "Option::is_none")]
        due_at: Option<DateTime<Utc>>,
    },
    /// There is nothing to pay.
    NothingDue,
}

/// Why nothing is to be done about an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "written by those who send orders")]
pub(crate) enum Closed {
    Cancelled,
    Refunded,
    Voided,
    Fulfilled,
}

/// One article of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The article, as the stock system names it; may be empty where nothing is handed over.
    #[schema(example = "TEE-M-BLK", max_length = 255)]
    pub(crate) sku: &'static str,
    /// The article, as people name it.
    #[schema(example = "Tee", max_length = 1000, required = false)]
    pub(crate) title: &'static str,
    /// How many were bought.
    #[schema(example = 2, minimum = 1, maximum = 100_000)]
    pub(crate) quantity: u32,
    /// How many of them are to be reserved and handed over; all, if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100_000)]
    pub(crate) handed_over: Option<u32>,
    /// The price of one.
    #[schema(example = 2995, minimum = 0)]
    pub(crate) unit_price_minor: i64,
}

/// Who pays for an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Customer {
    /// The person's or company's name.
    #[schema(example = "Jane Tan", max_length = 1000)]
    pub(crate) name: &'static str,
    /// Where messages about the order go, if there is an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "jane@example.com", max_length = 320)]
    pub(crate) email: Option<&'static str>,
    /// The number of a telephone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub(crate) phone: Option<&'static str>,
}

/// Where a parcel goes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipient {
    /// The person's or company's name.
    #[schema(example = "Jane Tan", min_length = 1, max_length = 1000)]
    pub(crate) name: &'static str,
    /// The company at which the person is, if that is needed to find them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub(crate) company: Option<&'static str>,
    /// Street and house; may have several lines.
    #[schema(example = "1 Jalan Satu", min_length = 1, max_length = 1000)]
    pub(crate) address: &'static str,
    /// The city.
    #[schema(example = "Kuala Lumpur", max_length = 1000)]
    pub(crate) city: &'static str,
    /// The province or state, where an address has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub(crate) province: Option<&'static str>,
    /// The post code; empty in countries that have none.
    #[schema(example = "50000", max_length = 1000)]
    pub(crate) postcode: &'static str,
    /// ISO 3166 alpha-2.
    #[schema(example = "MY", pattern = "^[A-Z]{2}$")]
    pub(crate) country: &'static str,
    /// The number that the carrier calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub(crate) phone: Option<&'static str>,
}

/// An order that is accepted as it stands.
pub(crate) fn example() -> Order {
    Order {
        shop: "acme.myshopify.com",
        order_id: "5940139491234",
        number: "#1001",
        currency: "MYR",
        lines: vec![Line {
            sku: "TEE-M-BLK",
            title: "Tee",
            quantity: 2,
            handed_over: None,
            unit_price_minor: 2995,
        }],
        shipping_minor: 0,
        tax_minor: 0,
        discount_minor: 0,
        extras: Vec::new(),
        total_minor: 5990,
        agreed_total: None,
        payment: None,
        customer: Customer { name: "Jane Tan", email: Some("jane@example.com"), phone: None },
        recipient: Some(Recipient {
            name: "Jane Tan",
            company: None,
            address: "1 Jalan Satu",
            city: "Kuala Lumpur",
            province: None,
            postcode: "50000",
            country: "MY",
            phone: None,
        }),
        closed: None,
        changed_at: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_documented_order_is_an_order_and_names_every_member() {
        let example = serde_json::to_value(example()).expect("JSON");
        let order: amends_workflows::order::Order =
            serde_json::from_value(example.clone()).expect("an order");
        assert_eq!(order.validate(), Ok(()));
        assert_eq!(serde_json::to_value(order).expect("JSON"), example);
    }

    /// Every member that the workflow's order can have, with names of the same words.
    #[test]
    fn whatever_an_order_can_say_is_documented() {
        let mut full = serde_json::to_value(example()).expect("JSON");
        let parts = [
            ("/extras", json!([{"kind": "tip", "amount_minor": 0}])),
            ("/agreed_total", json!({"amount_minor": 1550, "currency": "USD"})),
            ("/payment", json!({"state": "paid", "reference": "7"})),
            ("/closed", json!("cancelled")),
            ("/changed_at", json!("2026-11-30T12:00:00Z")),
            ("/lines/0/handed_over", json!(1)),
            ("/customer/phone", json!("+60355501")),
            ("/recipient/company", json!("Tan Ltd")),
            ("/recipient/province", json!("Perak")),
            ("/recipient/phone", json!("+60355501")),
        ];
        for (pointer, value) in &parts {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            full.pointer_mut(parent).expect("a parent")[name] = value.clone();
        }
        let order: amends_workflows::order::Order =
            serde_json::from_value(full.clone()).expect("an order");
        assert_eq!(serde_json::to_value(order).expect("JSON"), full);
        let described = serde_json::to_string(&Order::schema()).expect("JSON");
        for name in full.as_object().expect("an object").keys() {
            assert!(described.contains(&format!("\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn what_may_be_left_out_is_documented_so() {
        let schema = serde_json::to_value(Order::schema()).expect("JSON");
        let required = schema["required"].as_array().expect("a list");
        assert_eq!(required.len(), 7);
        assert!(!required.iter().any(|name| name == "shipping_minor"));
    }
}
