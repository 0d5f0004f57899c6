//! The requests of customers, and which answers end a matter.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use amends::{Money, Signal, Workflow};
use amends_tests::{orders, shopify};

use super::{Channel, Plan, What};
use crate::dispatch::Dispatch;
use crate::serve::{INGEST_TOKEN, SHOP};
use crate::settlement::{PaymentSettled, Settlement, Settling};

/// When the shop cancels what it cancels, by its own clock.
const CANCELLED_AT: &str = "2026-11-30T12:00:00Z";

/// An answer that ends a matter.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Value,
}

impl Answer {
    pub(super) fn instance_id(&self) -> Option<Uuid> {
        self.body["instance_id"].as_str()?.parse().ok()
    }

    pub(super) fn outcome(&self) -> Option<String> {
        self.body["outcome"].as_str().map(str::to_owned)
    }
}

/// Sends a request. `None`: no answer came, or one that says to come back.
pub(super) async fn send(request: RequestBuilder) -> Option<Answer> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.text().await.ok()?;
    let is_final = status < 500 && status != 429;
    is_final.then(|| Answer { status, body: serde_json::from_str(&body).unwrap_or_default() })
}

/// The request of an order.
pub(super) fn of(plan: &Plan, what: What, client: &Client, server: &str) -> RequestBuilder {
    if what == What::Signal {
        return signal(plan, client, server);
    }
    match plan.channel {
        Channel::Shopify => webhook(plan, what, client, server),
        Channel::Orders => order(plan, what, client, server),
        Channel::Settlement => settlement(plan, what, client, server),
        Channel::Dispatch => dispatch(plan, what, client, server),
    }
}

fn webhook(plan: &Plan, what: What, client: &Client, server: &str) -> RequestBuilder {
    let mut order = shopify::order(plan.shopify_id());
    if what == What::Reused {
        order["customer"]["last_name"] = "Else".into();
    }
    let mut topic = "orders/create";
    if what == What::Cancelled {
        topic = "orders/cancelled";
        order["cancelled_at"] = CANCELLED_AT.into();
        order["updated_at"] = CANCELLED_AT.into();
    }
    let body = order.to_string();
    client
        .post(format!("{server}/webhooks/shopify/{}", SHOP.0))
        .header("x-shopify-hmac-sha256", shopify::signature(SHOP.1, &body))
        .header("x-shopify-topic", topic)
        .header("x-shopify-shop-domain", SHOP.0)
        .header("x-shopify-webhook-id", format!("webhook-{}", plan.number))
        .header("content-type", "application/json")
        .body(body)
}

fn order(plan: &Plan, what: What, client: &Client, server: &str) -> RequestBuilder {
    let mut order = orders::order(&plan.number.to_string());
    if what == What::Reused {
        order.customer.name = "Somebody Else".to_owned();
    }
    let request = client.post(format!("{server}/orders")).bearer_auth(INGEST_TOKEN);
    request.header("idempotency-key", format!("order-{}", plan.number)).json(&order)
}

fn settlement(plan: &Plan, what: What, client: &Client, server: &str) -> RequestBuilder {
    let settlement = Settlement { order_id: plan.business_key(), total: total(plan, what) };
    client.post(format!("{server}/settlements")).json(&settlement)
}

fn dispatch(plan: &Plan, what: What, client: &Client, server: &str) -> RequestBuilder {
    let dispatch = Dispatch::of(plan.business_key(), total(plan, what));
    client.post(format!("{server}/dispatches")).json(&dispatch)
}

/// What it costs; a request under an id that was used already says something else.
fn total(plan: &Plan, what: What) -> Money {
    let other = i64::from(what == What::Reused);
    let amount_minor = plan.total_minor() + other;
    Money { amount_minor, currency: orders::order("any").currency }
}

fn signal(plan: &Plan, client: &Client, server: &str) -> RequestBuilder {
    let body = PaymentSettled { reference: format!("settled-{}", plan.number) };
    client.post(format!("{server}/signals")).bearer_auth(INGEST_TOKEN).json(&json!({
        "workflow": Settling::NAME,
        "business_key": plan.business_key(),
        "signal": PaymentSettled::NAME,
        "body": body,
        "signal_id": signal_id(plan),
    }))
}

/// The customer's own id of the news that his settlement is paid.
pub(crate) fn signal_id(plan: &Plan) -> String {
    format!("payment-{}", plan.number)
}
