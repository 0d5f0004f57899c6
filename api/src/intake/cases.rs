//! `GET /intake/cases`: deliveries that a person has to decide about, newest first.

use amends::intake_case::{CaseFilter, CaseView};
use amends_workflows::order::OrderKey;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::instances::cursor;
use crate::openapi::Listing;
use crate::problem::{Code, Problem};

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// Which cases to list. Everything given must match.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// `true`: those that are settled; `false`: those that are not.
    #[param(value_type = Option<bool>)]
    settled: Option<String>,
    /// With this code.
    #[param(example = "ORDER_CONFLICT")]
    code: Option<String>,
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

/// A delivery that a person has to decide about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Case {
    /// Its id.
    pub case_id: Uuid,
    /// Why a person has to decide; the runbook explains it.
    #[schema(example = "ORDER_CONFLICT")]
    pub code: String,
    /// The same in words.
    pub message: String,
    /// Who sent the delivery.
    #[schema(example = "shopify/acme.myshopify.com")]
    pub source: String,
    /// The shop that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "acme.myshopify.com")]
    pub shop: Option<String>,
    /// The delivery; its body is kept to the byte.
    pub delivery_id: Uuid,
    /// What it would have started.
    #[schema(example = "fulfilment")]
    pub workflow: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "acme.myshopify.com/5940139491234")]
    pub business_key: Option<String>,
    /// The instance that it contradicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
    /// Whether that instance was held because of it.
    pub held: bool,
    /// Where in the delivery what is wrong, and what may be filled in instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<CaseProblem>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<DateTime<Utc>>,
    /// Who settled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "anna")]
    pub settled_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_reason: Option<String>,
}

/// Something in a delivery that a person has to see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaseProblem {
    /// Where in the body that was sent, as a JSON pointer; empty for all of it.
    #[schema(example = "/line_items/0/sku")]
    pub pointer: String,
    /// What may be filled in instead with the command `start`, as a JSON pointer into the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/lines/0/sku")]
    pub field: Option<String>,
    /// What is wrong there.
    #[schema(example = "is needed, and missing")]
    pub detail: String,
}

/// A page of cases, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CasePage {
    /// The cases.
    pub items: Vec<Case>,
    /// Send it as `cursor` to get the next page; not there on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<CaseView> for Case {
    fn from(view: CaseView) -> Self {
        // A source is a platform and a shop.
        let shop = view.source.split('/').nth(1).map(str::to_owned);
        Self {
            case_id: view.case_id,
            code: view.code,
            message: view.message,
            source: view.source,
            shop,
            delivery_id: view.delivery_id,
            workflow: view.workflow,
            business_key: view.business_key,
            instance_id: view.instance_id,
            held: view.held,
            problems: view.problems.into_iter().map(CaseProblem::from).collect(),
            opened_at: view.opened_at,
            settled_at: view.settled_at,
            settled_by: view.settled_by,
            settled_reason: view.settled_reason,
        }
    }
}

impl From<amends::intake_case::CaseProblem> for CaseProblem {
    fn from(problem: amends::intake_case::CaseProblem) -> Self {
        let amends::intake_case::CaseProblem { pointer, field, detail } = problem;
        Self { pointer, field, detail }
    }
}

/// Lists deliveries that a person has to decide about, newest first.
#[utoipa::path(
    get,
    path = "/intake/cases",
    operation_id = "list_intake_cases",
    tag = "intake",
    params(Search),
    responses((status = 200, description = "A page of cases", body = CasePage), Listing)
)]
pub(crate) async fn list(
    State(app): State<App>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Json<CasePage>, Problem> {
    let Query(search) = search.map_err(|_| {
        let known = "settled, code, business_key, limit and cursor, each once";
        invalid(format!("there are the query parameters {known}"))
    })?;
    let filter = filter(search)?;
    let items: Vec<_> = app.engine().cases(&filter).await?.into_iter().map(Case::from).collect();
    let is_full = items.len() >= filter.limit as usize;
    let next_cursor = items.last().filter(|_| is_full).map(|case| cursor::after(case.case_id));
    Ok(Json(CasePage { items, next_cursor }))
}

fn filter(search: Search) -> Result<CaseFilter, Problem> {
    if [&search.code, &search.business_key].into_iter().flatten().any(|it| it.contains('\0')) {
        return Err(invalid("a parameter holds NUL".to_owned()));
    }
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    Ok(CaseFilter {
        settled: read(search.settled, "settled (true or false)", |text| text.parse().ok())?,
        code: search.code,
        business_key: search
            .business_key
            .map(|key| key.parse::<OrderKey>().map_or(key, |read| read.to_string())),
        before: read(search.cursor, "cursor", cursor::read)?,
        limit: read(search.limit, "limit (1 to 200)", limit)?.unwrap_or(LIMIT_DEFAULT),
    })
}

pub(crate) fn read<T>(
    text: Option<String>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let refused = || invalid(format!("the query parameter {name} does not have its form"));
    text.map(|text| parse(&text).ok_or_else(refused)).transpose()
}

pub(crate) fn invalid(detail: String) -> Problem {
    Problem::new(Code::InvalidQuery, detail)
}
