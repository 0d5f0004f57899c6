//! Shopify: orders as they are created. The signature covers the body only, not the headers.

use amends_workflows::order::{Order, ShopName};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Identity, Received, Source, Verified};
use crate::app::App;
use crate::body::JsonBytes;
use crate::json;
use crate::listen::Peer;
use crate::openapi::Receiving;
use crate::path::Single;
use crate::problem::{Code, Problem};
use crate::secret::Secret;

mod payload;

/// The topic whose deliveries become orders. All others are kept, and start nothing.
const ORDER_CREATED: &str = "orders/create";
/// Shopify repeats a delivery for hours, and promises to be at most a day late.
const AGE_MAX: TimeDelta = TimeDelta::days(3);
const CLOCK_DIFFERENCE_MAX: TimeDelta = TimeDelta::minutes(5);
const ID_LENGTH_MAX: usize = 255;

/// Receives a webhook of Shopify. 200 with an empty body says that it is durable.
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
        ("x-shopify-topic" = String, Header, example = "orders/create"),
        ("x-shopify-shop-domain" = String, Header, description = "The same shop as in the path"),
        ("x-shopify-webhook-id" = String, Header, description = "Names the delivery"),
        ("x-shopify-event-id" = Option<String>, Header,
            description = "Names the event; counts more than the webhook id"),
        ("x-shopify-triggered-at" = Option<String>, Header,
            description = "When; not older than 3 days"),
    ),
    request_body(content = Object, description = "The order, as Shopify describes it"),
    responses((status = 200, description = "Durable, now or before; no body"), Receiving)
)]
pub(crate) async fn receive(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Single(shop): Single,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<StatusCode, Problem> {
    let received = Received { shop, headers, body };
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

    fn identify(verified: &Verified, now: DateTime<Utc>) -> Result<Identity, Problem> {
        let headers = verified.headers();
        let topic = required(headers, "topic")?;
        let domain = required(headers, "shop-domain")?;
        let webhook_id = required(headers, "webhook-id")?;
        if domain.parse::<ShopName>().as_ref() != Ok(verified.shop()) {
            let detail = "the shop of the header is not the shop of the path";
            return Err(Problem::new(Code::ShopMismatch, detail));
        }
        if let Some(triggered_at) = header(headers, "triggered-at") {
            refuse_stale(triggered_at, now)?;
        }
        // One action of a merchant has one event id, for whichever topics it matters to.
        let id = header(headers, "event-id").unwrap_or(webhook_id);
        let external_id = format!("{topic}/{id}");
        if external_id.len() > ID_LENGTH_MAX
            || !external_id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let detail = "topic, event id and webhook id have to be short visible ASCII";
            return Err(Problem::new(Code::InvalidHeader, detail));
        }
        Ok(Identity { topic: topic.to_owned(), external_id })
    }

    fn translate(verified: &Verified, identity: &Identity) -> Result<Option<Order>, Problem> {
        if identity.topic != ORDER_CREATED {
            return Ok(None);
        }
        let payload: payload::Order = json::parse(verified.body(), Code::InvalidOrder)?;
        payload::translate(payload, verified.shop().to_string()).map(Some)
    }
}

/// A header of Shopify, by its old name `X-Shopify-..` or its new one `Shopify-..`.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let new = headers.get(format!("shopify-{name}"));
    let value = new.or_else(|| headers.get(format!("x-shopify-{name}")))?;
    value.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

fn required<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Problem> {
    header(headers, name).ok_or_else(|| {
        Problem::new(Code::MissingHeader, format!("the header X-Shopify-{name} is needed"))
    })
}

fn refuse_stale(triggered_at: &str, now: DateTime<Utc>) -> Result<(), Problem> {
    let triggered_at = DateTime::parse_from_rfc3339(triggered_at).map_err(|_| {
        Problem::new(Code::InvalidHeader, "the header X-Shopify-Triggered-At is not a time")
    })?;
    let age = now.signed_duration_since(triggered_at);
    if age > AGE_MAX || age < -CLOCK_DIFFERENCE_MAX {
        let detail = "the webhook was triggered more than 3 days ago, or in the future";
        return Err(Problem::new(Code::StaleDelivery, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
