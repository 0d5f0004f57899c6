//! Orders to test with.

use amends_workflows::order::{Customer, Line, Order, Payment, Recipient};

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
            handed_over: None,
            unit_price_minor: 2995,
        }],
        shipping_minor: 0,
        tax_minor: 0,
        discount_minor: 0,
        extras: Vec::new(),
        total_minor: 5990,
        agreed_total: None,
        payment: Payment::ToCharge,
        customer: Customer {
            name: "Jane Tan".to_owned(),
            email: Some("jane@example.com".to_owned()),
            phone: None,
        },
        recipient: Some(Recipient {
            name: "Jane Tan".to_owned(),
            company: None,
            address: "1 Jalan Satu".to_owned(),
            city: "Kuala Lumpur".to_owned(),
            province: None,
            postcode: "50000".to_owned(),
            country: "MY".to_owned(),
            phone: None,
        }),
        closed: None,
        changed_at: None,
    }
}
