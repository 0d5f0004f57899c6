//! The body of `POST /orders`, for the OpenAPI document. What is read is the workflow's `Order`;
//! a test holds the two together.

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
    /// What the customer pays: lines, shipping and tax less discount.
    #[schema(example = 5990, minimum = 1)]
    pub(crate) total_minor: i64,
    /// Who pays.
    pub(crate) customer: Customer,
    /// Where the parcel goes.
    pub(crate) recipient: Recipient,
}

/// One article of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The article, as the stock system names it.
    #[schema(example = "TEE-M-BLK", min_length = 1, max_length = 200)]
    pub(crate) sku: &'static str,
    /// The article, as people name it.
    #[schema(example = "Tee", max_length = 1000, required = false)]
    pub(crate) title: &'static str,
    /// How many.
    #[schema(example = 2, minimum = 1, maximum = 100_000)]
    pub(crate) quantity: u32,
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
    /// Where messages about the order go.
    #[schema(example = "jane@example.com", max_length = 320)]
    pub(crate) email: &'static str,
}

/// Where a parcel goes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipient {
    /// The person's or company's name.
    #[schema(example = "Jane Tan", min_length = 1, max_length = 1000)]
    pub(crate) name: &'static str,
    /// Street and house; may have several lines.
    #[schema(example = "1 Jalan Satu", min_length = 1, max_length = 1000)]
    pub(crate) address: &'static str,
    /// The city.
    #[schema(example = "Kuala Lumpur", max_length = 1000)]
    pub(crate) city: &'static str,
    /// The post code; empty in countries that have none.
    #[schema(example = "50000", max_length = 1000)]
    pub(crate) postcode: &'static str,
    /// ISO 3166 alpha-2.
    #[schema(example = "MY", pattern = "^[A-Z]{2}$")]
    pub(crate) country: &'static str,
}

/// An order that is accepted as it stands.
pub(crate) fn example() -> Order {
    Order {
        shop: "acme.myshopify.com",
        order_id: "5940139491234",
        number: "#1001",
        currency: "MYR",
        lines: vec![Line { sku: "TEE-M-BLK", title: "Tee", quantity: 2, unit_price_minor: 2995 }],
        shipping_minor: 0,
        tax_minor: 0,
        discount_minor: 0,
        total_minor: 5990,
        customer: Customer { name: "Jane Tan", email: "jane@example.com" },
        recipient: Recipient {
            name: "Jane Tan",
            address: "1 Jalan Satu",
            city: "Kuala Lumpur",
            postcode: "50000",
            country: "MY",
        },
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_may_be_left_out_is_documented_so() {
        let schema = serde_json::to_value(Order::schema()).expect("JSON");
        let required = schema["required"].as_array().expect("a list");
        assert_eq!(required.len(), 8);
        assert!(!required.iter().any(|name| name == "shipping_minor"));
    }
}
