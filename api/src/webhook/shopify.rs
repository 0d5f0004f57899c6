//! Shopify: orders as they are placed, and what becomes of them. The signature covers the body only, not the headers.

use amends_workflows::order::{OrderKey, ShopName};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;

use super::{Identity, Kept, Received, Source, Translated, Verified};
use crate::app::App;
use crate::body::SignedBytes;
use crate::intake::draft::{Correction, Failed};
use crate::intake::news::News;
use crate::listen::Peer;
use crate::openapi::Receiving;
use crate::path::Single;
use crate::problem::Problem;
use crate::secret::Secret;

mod payload;
mod refunds;

/// An order was placed.
const ORDER_CREATED: &str = "orders/create";
/// Something has become of an order. Each has all of it in its body, as has the first; whichever
/// comes first starts it. All other topics but refunds are kept, and start nothing.
const ORDER_NEWS: [&str; 5] = [
    "orders/updated",
    "orders/paid",
    "orders/cancelled",
    "orders/fulfilled",
    "orders/partially_fulfilled",
];
const REFUND_CREATED: &str = "refunds/create";
/// For so long after an order was placed, news of it starts it if nothing else has. Shopify gives up
/// on a delivery sooner than that. What is older was placed before anybody listened.
const NEWS_STARTS: TimeDelta = TimeDelta::days(2);
const ID_LENGTH_MAX: usize = 255;

/// The delivery does not say what it is about.
const TOPIC_MISSING: &str = "TOPIC_MISSING";
/// It says that it is of another shop than the one that it was sent for.
const SHOP_MISMATCH: &str = "SHOP_MISMATCH";
/// It is about something that nobody acts on.
const TOPIC_UNUSED: &str = "TOPIC_UNUSED";
/// It was made to try something out.
const TEST_ORDER: &str = "TEST_ORDER";

/// Receives a webhook of Shopify. 200 with an empty body says that it is durable: whatever is signed
/// is kept, and what cannot be carried out as it is becomes a case for a person.
#[utoipa::path(
    post,
    path = "/webhooks/shopify/{shop}",
    operation_id = "receive_shopify",
    tag = "webhooks",
    security(()),
    params(
        ("shop" = String, Path, description = "The shop's domain", example = "acme.myshopify.com"),
        ("x-shopify-hmac-sha256" = String, Header,
            description = "base64 of HMAC-SHA256 over the body with the app's secret"),
        ("x-shopify-topic" = Option<String>, Header, example = "orders/create",
            description = "What it is about"),
        ("x-shopify-shop-domain" = Option<String>, Header,
            description = "The same shop as in the path"),
        ("x-shopify-webhook-id" = Option<String>, Header, description = "Names the delivery"),
        ("x-shopify-event-id" = Option<String>, Header,
            description = "Names the event; counts more than the webhook id"),
    ),
    request_body(content = Object, description = "The order, as Shopify describes it; 2 MiB at most"),
    responses((status = 200, description = "Durable, now or before; no body"), Receiving)
)]
pub(crate) async fn receive(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Single(shop): Single,
    headers: HeaderMap,
    body: SignedBytes,
) -> Result<StatusCode, Problem> {
    let received = Received { shop, headers, body: body.bytes };
    let peer = peer.map(|Extension(peer)| peer);
    super::receive::<Shopify>(&app, &app.shopify(), peer, received).await
}

/// The platform.
pub(crate) struct Shopify;

impl Source for Shopify {
    const NAME: &'static str = "shopify";

    fn verify(received: Received, secrets: &[Secret]) -> Option<Verified> {
        let claimed = header(&received.headers, "hmac-sha256").unwrap_or_default();
        // What is not base64 fits no signature, but costs as much as one that might.
        let claimed = STANDARD.decode(claimed).unwrap_or_default();
        let body = received.body.clone();
        Verified::hmac_sha256(received, secrets, &[&body], &claimed)
    }

    fn identify(verified: &Verified) -> Identity {
        let headers = verified.headers();
        let topic = topic(headers);
        let is_other_shop = header(headers, "shop-domain")
            .is_some_and(|domain| domain.parse::<ShopName>().as_ref() != Ok(verified.shop()));
        let failed = if is_other_shop {
            let detail = "the header X-Shopify-Shop-Domain names another shop than the path";
            Some(Failed::at(SHOP_MISMATCH, "", detail))
        } else if topic.is_none() {
            Some(Failed::at(TOPIC_MISSING, "", "the header X-Shopify-Topic is needed, and missing"))
        } else {
            None
        };
        // One action of a merchant has one event id, for whichever topics it matters to.
        let id = header(headers, "event-id").or_else(|| header(headers, "webhook-id"));
        let topic = topic.unwrap_or_else(|| "unknown".to_owned());
        let id = id.filter(|id| is_plain(id) && topic.len() + 1 + id.len() <= ID_LENGTH_MAX);
        Identity { id: id.map(str::to_owned), topic, failed }
    }

    fn translate(kept: &Kept<'_>, correction: &Correction) -> Translated {
        let text = String::from_utf8_lossy(kept.body);
        let is_news = ORDER_NEWS.contains(&kept.topic);
        if kept.topic == REFUND_CREATED {
            return match refunds::read(&text, kept.shop) {
                Ok(refunded) => Translated::Refunded(refunded),
                Err(failed) => Translated::Failed(failed),
            };
        }
        if kept.topic != ORDER_CREATED && !is_news && !correction.anyway {
            return Translated::Ignored { reason: TOPIC_UNUSED, business_key: None };
        }
        match payload::read(&text, kept.shop, kept.received_at) {
            payload::Read::Test(id) => {
                let key = id.and_then(|id| format!("{}/{id}", kept.shop).parse::<OrderKey>().ok());
                let business_key = key.map(|key| key.to_string());
                Translated::Ignored { reason: TEST_ORDER, business_key }
            }
            payload::Read::Order { draft, refunds, placed_at } => {
                let is_old = placed_at.is_some_and(|at| kept.received_at - at > NEWS_STARTS);
                let starts = !(is_news && is_old) || correction.anyway;
                match draft.finish(correction) {
                    Ok(order) => Translated::Order(Box::new(News { order, refunds, starts })),
                    Err(failed) if starts => Translated::Failed(failed),
                    Err(failed) => Translated::FailedNews(failed),
                }
            }
        }
    }
}

/// What a delivery is about: one header, or two where what happened has one of its own.
fn topic(headers: &HeaderMap) -> Option<String> {
    let topic = header(headers, "topic")?;
    let action = header(headers, "action").filter(|_| !topic.contains('/'));
    let topic = action.map_or_else(|| topic.to_owned(), |action| format!("{topic}/{action}"));
    Some(topic).filter(|topic| is_plain(topic) && topic.len() < ID_LENGTH_MAX / 2)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A header of Shopify, by its old name `X-Shopify-..` or its new one `Shopify-..`.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let new = headers.get(format!("shopify-{name}"));
    let value = new.or_else(|| headers.get(format!("x-shopify-{name}")))?;
    value.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
