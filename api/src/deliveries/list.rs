//! `GET /deliveries`: what came in, newest first.

use amends::Workflow;
use amends::delivery::{DeliveryFilter, DeliveryOutcome, DeliveryView};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::OrderKey;
use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::instances::cursor;
use crate::intake::cases::{invalid, read};
use crate::openapi::Listing;
use crate::problem::Problem;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// Which deliveries to list. Everything given must match.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// To which this happened last: `signalled`, `ignored`, `stale` or `failed`. What has started an
    /// order and what is a duplicate are found by the order.
    #[param(example = "failed", pattern = "^(signalled|ignored|stale|failed)$")]
    outcome: Option<String>,
    /// About this business key, however its shop is spelt.
    #[param(example = "acme.myshopify.com/5940139491234")]
    business_key: Option<String>,
    /// At most so many.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    cursor: Option<String>,
}

/// One delivery, without its body.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Its id; ids grow with the time of receipt.
    pub delivery_id: Uuid,
    /// Who sent it.
    #[schema(example = "shopify/acme.myshopify.com")]
    pub source: String,
    /// The sender's id of it.
    #[schema(example = "orders/create/8f1c")]
    pub external_id: String,
    /// What it is about, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "acme.myshopify.com/5940139491234")]
    pub business_key: Option<String>,
    /// What became of it last: `started`, `signalled`, `ignored`, `duplicate`, `stale` or `failed`.
    #[schema(example = "failed")]
    pub outcome: String,
    /// Why, as a stable code, where the outcome has a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "ORDER_INCOMPLETE")]
    pub reason: Option<String>,
    /// What it started, or was handed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// How large its body is.
    pub body_bytes: i64,
    /// Who had it carried out later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "anna")]
    pub decided_by: Option<String>,
    /// What they said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<DateTime<Utc>>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries.
    pub items: Vec<Delivery>,
    /// Send it as `cursor` to get the next page; not there on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<DeliveryView> for Delivery {
    fn from(view: DeliveryView) -> Self {
        Self {
            delivery_id: view.delivery_id,
            source: view.source,
            external_id: view.external_id,
            business_key: view.business_key,
            outcome: view.outcome.as_str().to_owned(),
            reason: view.reason,
            instance_id: view.instance_id,
            received_at: view.received_at,
            body_bytes: view.body_bytes,
            decided_by: view.decided_by,
            note: view.note,
            decided_at: view.decided_at,
        }
    }
}

/// Lists what came in, newest first.
#[utoipa::path(
    get,
    path = "/deliveries",
    operation_id = "list_deliveries",
    tag = "intake",
    params(Search),
    responses((status = 200, description = "A page of deliveries", body = DeliveryPage), Listing)
)]
pub(crate) async fn list(
    State(app): State<App>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Json<DeliveryPage>, Problem> {
    let Query(search) = search.map_err(|_| {
        let known = "outcome, business_key, limit and cursor, each once";
        invalid(format!("there are the query parameters {known}"))
    })?;
    let filter = filter(search)?;
    let found = app.engine().deliveries(&filter).await?;
    let items: Vec<_> = found.into_iter().map(Delivery::from).collect();
    let is_full = items.len() >= filter.limit as usize;
    let next_cursor = items.last().filter(|_| is_full).map(|it| cursor::after(it.delivery_id));
    Ok(Json(DeliveryPage { items, next_cursor }))
}

fn filter(search: Search) -> Result<DeliveryFilter, Problem> {
    if search.business_key.as_ref().is_some_and(|key| key.contains('\0')) {
        return Err(invalid("a parameter holds NUL".to_owned()));
    }
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let listed = |text: &str| {
        let outcome = text.parse().ok()?;
        let is_of_an_order =
            matches!(outcome, DeliveryOutcome::Started | DeliveryOutcome::Duplicate);
        (!is_of_an_order).then_some(outcome)
    };
    let words = "outcome (signalled, ignored, stale or failed)";
    let about = |key: String| {
        let key = key.parse::<OrderKey>().map_or(key, |read| read.to_string());
        (Fulfilment::NAME.to_owned(), key)
    };
    Ok(DeliveryFilter {
        outcome: read(search.outcome, words, listed)?,
        about: search.business_key.map(about),
        before: read(search.cursor, "cursor", cursor::read)?,
        limit: read(search.limit, "limit (1 to 200)", limit)?.unwrap_or(LIMIT_DEFAULT),
    })
}
