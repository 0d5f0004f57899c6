//! A shop that does not exist: its orders, and the webhooks that Shopify would send of them.

use amends::Money;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::case::{Case, Fault, REFUNDED};
use crate::view::Instance;

/// The shop; a domain that nobody can own.
pub(super) const NAME: &str = "demo-shop.example";
/// What its webhooks are signed with. It protects nothing: the demo listens on loopback only.
pub(super) const SECRET: &str = "demo-secret-not-for-real-shops";

pub(super) const CURRENCY: &str = "MYR";
const TOTAL: &str = "74.90";
const TOTAL_MINOR: i64 = 7490;
/// The article that an order does not name that is mended by hand, and where it stands.
pub(super) const FORGOTTEN: (&str, &str) = ("/lines/1/sku", "CAP-RED");
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
    /// What Shopify sends later, if something becomes of it in the shop.
    pub(super) news: Option<Webhook>,
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
        let mut places = 0_u32..;
        let mut order = |case| {
            let place = places.next().unwrap_or_default();
            let id = now.timestamp_millis() + i64::from(place);
            Order::new(case, id, format!("#{}", first.saturating_add(place.into())), now)
        };
        Self { cases: Case::ALL.map(&mut order), slow: order(Case::Good) }
    }

    /// The orders that are sent, and what happens to each.
    pub(super) fn cases(&self) -> impl Iterator<Item = (Case, &Order)> {
        Case::ALL.into_iter().zip(&self.cases)
    }

    /// How the providers have to behave. The first rule that fits counts.
    pub(super) fn faults(&self) -> Vec<Value> {
        let refusals = self.cases().filter_map(|(case, order)| {
            let Fault { provider, operation, fault, times } = case.fault()?;
            Some(json!({ "provider": provider, "operation": operation, "fault": fault,
                "order_id": order.business_key(), "times": times, "delay_ms": PACE_MS }))
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
    fn new(case: Case, id: i64, number: String, now: DateTime<Utc>) -> Self {
        let mut placed = as_shopify_says(id, &number, now);
        if case.is_paid_at_shop() {
            placed["financial_status"] = json!("paid");
        }
        if case == Case::Mended {
            placed["line_items"][1]["sku"] = Value::Null;
        }
        let later = now + TimeDelta::seconds(1);
        let news = match case {
            Case::PartlyRefunded => Some(("refunds/create", refund(id, later))),
            Case::Cancelled => {
                let mut cancelled = placed.clone();
                cancelled["cancelled_at"] = json!(stamp(later));
                cancelled["updated_at"] = json!(stamp(later));
                Some(("orders/cancelled", cancelled))
            }
            _ => None,
        };
        let news = news.map(|(topic, body)| Webhook::new(topic, id, &body, later));
        Self { webhook: Webhook::new("orders/create", id, &placed, now), news, id, number }
    }

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
    /// The signed webhook of what has become of an order.
    fn new(topic: &str, id: i64, body: &Value, triggered_at: DateTime<Utc>) -> Self {
        let body = body.to_string();
        Self {
            path: format!("/webhooks/shopify/{NAME}"),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("x-shopify-topic", topic.to_owned()),
                ("x-shopify-shop-domain", NAME.to_owned()),
                ("x-shopify-webhook-id", format!("demo-{id}")),
                ("x-shopify-triggered-at", stamp(triggered_at)),
                ("x-shopify-hmac-sha256", signature(body.as_bytes())),
            ],
            body,
        }
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn as_shopify_says(id: i64, number: &str, placed_at: DateTime<Utc>) -> Value {
    json!({
        "id": id, "name": number, "email": "jane.tan@example.com",
        "created_at": stamp(placed_at), "updated_at": stamp(placed_at),
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

/// A part of the money of an order, given back in the shop.
fn refund(id: i64, at: DateTime<Utc>) -> Value {
    json!({
        "id": id, "order_id": id, "created_at": stamp(at),
        "transactions": [{"id": id, "kind": "refund", "status": "success", "amount": REFUNDED,
            "currency": CURRENCY, "processed_at": stamp(at)}],
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
