//! `GET /instances`: finds instances, newest first.

use amends::Status;
use amends::Workflow;
use amends::view::Filter;
use amends_workflows::carries_out_orders;
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::OrderKey;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use super::cursor;
use crate::app::App;
use crate::openapi::Listing;
use crate::problem::{Code, Problem};
use crate::view::{Instance, Page};

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// What to look for. Everything given must match.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// Standing here, such as `stuck`.
    #[param(schema_with = crate::view::status_schema, required = false)]
    status: Option<String>,
    /// Of this workflow.
    #[param(example = "fulfilment")]
    workflow: Option<String>,
    /// With this business key; that of an order is found however its shop is spelt.
    #[param(example = "acme.myshopify.com/5940139491234")]
    business_key: Option<String>,
    /// With this attribute, as `name:value`.
    #[param(example = "email:jane@example.com")]
    attribute: Option<String>,
    /// Accepted at this time (RFC 3339) or later.
    #[param(value_type = Option<DateTime<Utc>>)]
    created_from: Option<String>,
    /// Accepted before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<String>,
    /// At most so many.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    cursor: Option<String>,
}

/// Finds instances, newest first.
#[utoipa::path(
    get,
    path = "/instances",
    operation_id = "list_instances",
    tag = "instances",
    params(Search),
    responses((status = 200, description = "A page of instances", body = Page), Listing)
)]
pub(crate) async fn list(
    State(app): State<App>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(search) = search.map_err(|_| {
        let known = "status, workflow, business_key, attribute, created_from, created_before, \
                     limit and cursor, each once";
        invalid(format!("there are the query parameters {known}"))
    })?;
    let filter = filter(search)?;
    let mut found = app.engine().instances(&filter).await?;
    let others = [by_order_key(&filter), by_folded_email(&filter)];
    if let Some(other) = others.into_iter().flatten().next().filter(|_| found.is_empty()) {
        found = app.engine().instances(&other).await?;
    }
    Ok(Json(page(found.into_iter().map(Instance::from).collect(), filter.limit)))
}

/// The same search for the order that the key names, if it may name one.
fn by_order_key(filter: &Filter) -> Option<Filter> {
    let is_of_orders = filter.workflow.as_deref().is_none_or(carries_out_orders);
    let key: OrderKey = filter.business_key.as_deref().filter(|_| is_of_orders)?.parse().ok()?;
    let workflow = Some(Fulfilment::NAME.to_owned());
    Some(Filter { workflow, business_key: Some(key.to_string()), ..filter.clone() })
}

/// The same search for the address as it is kept, however it is written.
fn by_folded_email(filter: &Filter) -> Option<Filter> {
    let (_, email) = filter.attribute.as_ref().filter(|(name, _)| name == "email")?;
    let attribute = Some(("email".to_owned(), email.to_lowercase()));
    Some(Filter { attribute, ..filter.clone() })
}

/// A page that is full may have a next one.
fn page(items: Vec<Instance>, limit: u32) -> Page {
    let is_full = items.len() >= limit as usize;
    let last = items.last().filter(|_| is_full);
    let next_cursor = last.map(|instance| cursor::after(instance.instance_id));
    Page { items, next_cursor }
}

pub(crate) fn filter(search: Search) -> Result<Filter, Problem> {
    let texts = [&search.workflow, &search.business_key, &search.attribute];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(invalid("a parameter holds NUL"));
    }
    Ok(Filter {
        status: read(search.status, "status", |text| text.parse::<Status>().ok())?,
        workflow: search.workflow,
        business_key: search.business_key,
        attribute: read(search.attribute, "attribute (name:value)", |text| {
            let (name, value) = text.split_once(':')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        })?,
        created_from: read(search.created_from, "created_from (RFC 3339)", time)?,
        created_before: read(search.created_before, "created_before (RFC 3339)", time)?,
        before: read(search.cursor, "cursor", cursor::read)?,
        limit: read(search.limit, "limit (1 to 200)", |text| {
            text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit))
        })?
        .unwrap_or(LIMIT_DEFAULT),
    })
}

fn read<T>(
    text: Option<String>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let refused = || invalid(format!("the query parameter {name} does not have its form"));
    text.map(|text| parse(&text).ok_or_else(refused)).transpose()
}

/// A `+` that was not encoded arrives as a blank.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replace(' ', "+");
    DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc())
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidQuery, detail)
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;

    fn parsed(query: &str) -> Option<Filter> {
        let uri: Uri = format!("/instances?{query}").parse().expect("a URI");
        filter(Query::try_from_uri(&uri).ok()?.0).ok()
    }

    #[test]
    fn every_parameter_reaches_the_filter() {
        let filter = parsed(
            "status=stuck&workflow=fulfilment&business_key=acme%2F1&attribute=email:a:b\
             &created_from=2026-11-18T00:00:00Z&created_before=2026-11-19T08:00:00+08:00\
             &limit=200&cursor=AZCm9HscfMOYxNwMDAc5jw",
        )
        .expect("a filter");
        assert_eq!(filter.status, Some(Status::Stuck));
        assert_eq!(filter.workflow.as_deref(), Some("fulfilment"));
        assert_eq!(filter.business_key.as_deref(), Some("acme/1"));
        assert_eq!(filter.attribute, Some(("email".to_owned(), "a:b".to_owned())));
        assert_eq!(filter.created_from, time("2026-11-18T00:00:00Z"));
        assert_eq!(filter.created_before, time("2026-11-19T00:00:00Z"));
        assert_eq!(filter.before.map(cursor::after).as_deref(), Some("AZCm9HscfMOYxNwMDAc5jw"));
        assert_eq!(filter.limit, 200);
        assert_eq!(parsed("").map(|filter| filter.limit), Some(LIMIT_DEFAULT));
    }

    #[test]
    fn what_does_not_fit_is_refused_rather_than_ignored() {
        for query in [
            "state=stuck",
            "status=failed",
            "limit=0",
            "limit=201",
            "limit=ten",
            "attribute=email",
            "attribute=:x",
            "cursor=next",
            "created_from=yesterday",
            "business_key=a%00b",
            "status=stuck&status=running",
        ] {
            assert!(parsed(query).is_none(), "{query}");
        }
    }
}
