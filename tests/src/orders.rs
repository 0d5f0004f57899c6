//! Orders to test with.

use amends_workflows::order::{Customer, Line, Order, Recipient};

/// A valid order: two tees for 59.90 MYR.
#[must_use]
pub fn order(order_id: &str) -> Order {
    Order {
        shop: "acme.myshopify.com".to_owned(),
        order_id: order_id.to_owned(),
        number: format!("#{order_id}"),
        currency: "MYR".parse().expect("three letters"),
        lines: vec![Line {
            sku: "TEE-M-BLK".to_owned(),
            title: "Tee".to_owned(),
            quantity: 2,
            unit_price_minor: 2995,
        }],
        shipping_minor: 0,
        tax_minor: 0,
        discount_minor: 0,
        total_minor: 5990,
        customer: Customer { name: "Jane Tan".to_owned(), email: "jane@example.com".to_owned() },
        recipient: Recipient {
            name: "Jane Tan".to_owned(),
            address: "1 Jalan Satu".to_owned(),
            city: "Kuala Lumpur".to_owned(),
            postcode: "50000".to_owned(),
            country: "MY".to_owned(),
        },
    }
}
