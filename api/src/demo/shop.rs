//! A shop that does not exist: its orders, and the webhooks that Shopify would send of them.

use amends::Money;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::case::{Case, Fault};
use crate::view::Instance;

/// The shop; a domain that nobody can own.
pub(super) const NAME: &str = "demo-shop.example";
/// What its webhooks are signed with. It protects nothing: the demo listens on loopback only.
pub(super) const SECRET: &str = "demo-secret-not-for-real-shops";

const CURRENCY: &str = "MYR";
const TOTAL: &str = "74.90";
const TOTAL_MINOR: i64 = 7490;
const FIRST_NUMBER: u64 = 1001;
/// How long providers take, so that one can watch.
const PACE_MS: u64 = 250;
/// How long they take for the order that is there to be cancelled. Steps give up after 8 s.
const SLOW_MS: u64 = 6_000;

/// The orders of one run. None was ever sent before.
pub(super) struct Orders {
    cases: [Order; Case::ALL.len()],
    /// An order that takes long. It is not sent: that is left to whoever wants to cancel it.
    pub(super) slow: Order,
}

/// One order.
pub(super) struct Order {
    /// The shop's own id of it.
    pub(super) id: i64,
    /// The number people use.
    pub(super) number: String,
    /// What Shopify sends of it, every time the same.
    pub(super) webhook: Webhook,
}

/// A request as Shopify makes it.
pub(super) struct Webhook {
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// Whether an instance is an order of the shop.
pub(super) fn has(instance: &Instance) -> bool {
    instance.business_key.split_once('/').is_some_and(|(shop, _)| shop == NAME)
}

/// The number of an order, as its instance knows it.
pub(super) fn number(instance: &Instance) -> String {
    instance.attributes.get("order").unwrap_or(&instance.business_key).clone()
}

impl Orders {
    /// New orders, numbered from the newest one on. Their ids come from the clock, so that a
    /// database that is kept has none of them.
    pub(super) fn new(now: DateTime<Utc>, newest_number: Option<String>) -> Self {
        let newest = newest_number.and_then(|number| number.strip_prefix('#')?.parse().ok());
        let first = newest.map_or(FIRST_NUMBER, |newest: u64| newest.saturating_add(1));
        let order = |place: u32| {
            let id = now.timestamp_millis() + i64::from(place);
            let number = format!("#{}", first.saturating_add(place.into()));
            Order { webhook: Webhook::new(id, &number, now), id, number }
        };
        Self { cases: [order(0), order(1), order(2)], slow: order(3) }
    }

    /// The orders that are sent, and what happens to each.
    pub(super) fn cases(&self) -> impl Iterator<Item = (Case, &Order)> {
        Case::ALL.into_iter().zip(&self.cases)
    }

    /// How the providers have to behave. The first rule that fits counts.
    pub(super) fn faults(&self) -> Vec<Value> {
        let refusals = self.cases().filter_map(|(case, order)| {
            let Fault { provider, operation, fault } = case.fault()?;
            Some(json!({ "provider": provider, "operation": operation, "fault": fault,
                "order_id": order.business_key() }))
        });
        let slow = [("stock", "reserve"), ("invoice", "issue"), ("payment", "charge")];
        let slow = slow.map(|(provider, operation)| {
            json!({ "provider": provider, "operation": operation, "fault": "slow",
                "order_id": self.slow.business_key(), "delay_ms": SLOW_MS })
        });
        let pace = ["stock", "invoice", "payment", "carrier", "mail"]
            .map(|provider| json!({ "provider": provider, "fault": "slow", "delay_ms": PACE_MS }));
        refusals.chain(slow).chain(pace).collect()
    }
}

impl Order {
    pub(super) fn business_key(&self) -> String {
        format!("{NAME}/{}", self.id)
    }

    /// What the customer pays.
    pub(super) fn total(&self) -> Option<Money> {
        Some(Money { amount_minor: TOTAL_MINOR, currency: CURRENCY.parse().ok()? })
    }

    /// The order as `POST /orders` takes it.
    pub(super) fn as_request(&self) -> Value {
        json!({
            "shop": NAME, "order_id": self.id.to_string(), "number": self.number,
            "currency": CURRENCY, "total_minor": TOTAL_MINOR,
            "lines": [{"sku": "MUG", "quantity": 1, "unit_price_minor": TOTAL_MINOR}],
            "customer": {"name": "Joe Lim", "email": "joe.lim@example.com"},
            "recipient": {"name": "Joe Lim", "address": "2 Jalan Dua", "city": "Ipoh",
                "postcode": "30000", "country": "MY"},
        })
    }
}

impl Webhook {
    /// The signed webhook of an order.
    fn new(id: i64, number: &str, triggered_at: DateTime<Utc>) -> Self {
        let body = as_shopify_says(id, number).to_string();
        let triggered_at = triggered_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        Self {
            path: format!("/webhooks/shopify/{NAME}"),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-shopify-topic", "orders/create".to_owned()),
                ("x-shopify-shop-domain", NAME.to_owned()),
                ("x-shopify-webhook-id", format!("demo-{id}")),
                ("x-shopify-triggered-at", triggered_at),
                ("x-shopify-hmac-sha256", signature(body.as_bytes())),
            ],
            body,
        }
    }
}

fn as_shopify_says(id: i64, number: &str) -> Value {
    json!({
        "id": id, "name": number, "email": "jane.tan@example.com",
        "currency": CURRENCY, "taxes_included": true,
        "total_price": TOTAL, "total_tax": "4.24", "total_discounts": "0.00",
        "customer": {"first_name": "Jane", "last_name": "Tan"},
        "shipping_address": {"name": "Jane Tan", "address1": "1 Jalan Satu",
            "city": "Kuala Lumpur", "zip": "50480", "country_code": "MY"},
        "line_items": [
            {"sku": "TEE-M-BLK", "title": "T-shirt, black", "quantity": 2, "price": "29.95"},
            {"sku": "CAP-RED", "title": "Cap, red", "quantity": 1, "price": "10.00"},
        ],
        "shipping_lines": [{"title": "Standard", "price": "5.00"}],
    })
}

fn signature(body: &[u8]) -> String {
    // HMAC takes keys of any length; without a signature the server would refuse.
    Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(body);
            STANDARD.encode(mac.finalize().into_bytes())
        },
    )
}
