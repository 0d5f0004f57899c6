//! Orders as shops send them: people and addresses that do not repeat, one to three lines, and a body
//! in the platform's own words, so that nothing is gained by packing the same bytes once.

use amends::{Delivery, Priority, Start};
use amends_workflows::order::{Customer, Line, Order, Payment, Recipient};
use anyhow::Context;
use serde_json::{Value, json};

use super::chance::Chance;

const SHOP: &str = "bench.example.com";
const CONSONANTS: [&str; 16] =
    ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "sh", "tr"];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ei", "ou"];
const COUNTRIES: [&str; 6] = ["DE", "FR", "MY", "SG", "IT", "NL"];
/// The most articles an order has.
const LINES_MAX: usize = 3;

/// So many requests to start an order each, whose ids begin with `name`.
pub(super) fn starts(name: &str, count: usize, chance: &mut Chance) -> anyhow::Result<Vec<Start>> {
    (0..count).map(|number| start(&format!("{name}-{number}"), chance)).collect()
}

/// A start as the API would make it of what a platform sends.
fn start(order_id: &str, chance: &mut Chance) -> anyhow::Result<Start> {
    let order = order(order_id, chance)?;
    let body = serde_json::to_vec(&platform(&order, chance)).context("an order as JSON")?;
    Ok(Start {
        workflow: "fulfilment",
        business_key: order.business_key(),
        input: serde_json::to_string(&order)?,
        delivery: Some(Delivery {
            source: format!("shopify/{SHOP}"),
            external_id: order.order_id,
            body,
        }),
        priority: Priority::Normal,
    })
}

fn order(order_id: &str, chance: &mut Chance) -> anyhow::Result<Order> {
    let lines: Vec<_> = (0..=chance.below(LINES_MAX)).map(|_| line(chance)).collect();
    let shipping_minor = amount(chance, 1500);
    let goods: i64 = lines.iter().map(|it| i64::from(it.quantity) * it.unit_price_minor).sum();
    let name = format!("{} {}", word(chance, 2), word(chance, 3));
    let mail = format!("{}@{}.example", word(chance, 4).to_lowercase(), word(chance, 3));
    Ok(Order {
        shop: SHOP.to_owned(),
        order_id: order_id.to_owned(),
        number: format!("#{}", 1000 + chance.below(900_000)),
        currency: "EUR".parse()?,
        lines,
        shipping_minor,
        tax_minor: 0,
        discount_minor: 0,
        extras: Vec::new(),
        total_minor: goods + shipping_minor,
        agreed_total: None,
        payment: Payment::ToCharge,
        customer: Customer { name: name.clone(), email: Some(mail.to_lowercase()), phone: None },
        recipient: Some(Recipient {
            name,
            company: None,
            address: format!("{} {} {}", 1 + chance.below(300), word(chance, 3), word(chance, 2)),
            city: word(chance, 3),
            province: None,
            postcode: format!("{:05}", chance.below(100_000)),
            country: one_of(chance, &COUNTRIES),
            phone: None,
        }),
        closed: None,
        changed_at: None,
    })
}

fn line(chance: &mut Chance) -> Line {
    let (kind, colour) = (word(chance, 2), word(chance, 2));
    Line {
        sku: format!("{}-{}", kind.to_uppercase(), chance.below(1_000_000)),
        title: format!("{kind}, {colour}"),
        quantity: 1 + u32::from(chance.below(3) == 0),
        handed_over: None,
        unit_price_minor: amount(chance, 20_000),
    }
}

/// The order in the words of the platform it comes from.
fn platform(order: &Order, chance: &mut Chance) -> Value {
    let mut id = || chance.number() >> 12;
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| {
            json!({
                "id": id(), "product_id": id(), "sku": line.sku, "title": line.title,
                "quantity": line.quantity, "price": decimal(line.unit_price_minor),
                "taxable": true, "fulfillment_status": null,
            })
        })
        .collect();
    let customer = &order.customer;
    let to = order.recipient.as_ref().map(|to| {
        json!({
            "name": to.name, "address1": to.address, "address2": null, "city": to.city,
            "zip": to.postcode, "country_code": to.country,
        })
    });
    json!({
        "id": id(), "admin_graphql_api_id": format!("gid://shop/Order/{}", order.order_id),
        "name": order.number, "email": customer.email, "test": false,
        "currency": "EUR", "total_tax": "0.00", "total_discounts": "0.00",
        "total_price": decimal(order.total_minor), "financial_status": "authorized",
        "customer": {"id": id(), "email": customer.email, "first_name": customer.name},
        "shipping_address": to,
        "line_items": lines,
        "shipping_lines": [{"id": id(), "title": "Standard",
            "price": decimal(order.shipping_minor)}],
    })
}

/// An amount up to `minor_max`, at least 1.
fn amount(chance: &mut Chance, minor_max: usize) -> i64 {
    i64::try_from(1 + chance.below(minor_max)).unwrap_or(1)
}

/// Minor units as platforms write them.
fn decimal(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

fn one_of(chance: &mut Chance, texts: &[&str]) -> String {
    texts.get(chance.below(texts.len())).copied().unwrap_or_default().to_owned()
}

/// A word of so many syllables that nobody has heard, with a capital.
fn word(chance: &mut Chance, syllables: usize) -> String {
    let mut word = String::new();
    for _ in 0..syllables {
        word += &one_of(chance, &CONSONANTS);
        word += &one_of(chance, &VOWELS);
    }
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(seed: u64) -> Vec<(Order, Vec<u8>)> {
        let starts = starts("a", 200, &mut Chance::new(seed)).unwrap();
        let parsed = starts.into_iter().map(|start| {
            (serde_json::from_str(&start.input).unwrap(), start.delivery.unwrap().body)
        });
        parsed.collect()
    }

    #[test]
    fn orders_are_valid_and_the_seed_decides_them() {
        for (order, _) in orders(1) {
            assert_eq!(order.validate(), Ok(()));
        }
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
    }

    #[test]
    fn people_do_not_repeat_and_lines_are_one_to_three() {
        let orders = orders(3);
        let names: std::collections::BTreeSet<_> =
            orders.iter().map(|(order, _)| order.recipient.clone().expect("one").address).collect();
        assert_eq!(names.len(), orders.len());
        for lines in 1..=LINES_MAX {
            assert!(orders.iter().any(|(order, _)| order.lines.len() == lines), "{lines}");
        }
    }

    #[test]
    fn the_body_is_not_the_input() {
        for (order, body) in orders(4) {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["total_price"], decimal(order.total_minor));
            assert!(serde_json::from_value::<Order>(body).is_err());
        }
    }
}
