//! The description of the HTTP API (OpenAPI 3.1), gathered from the handlers themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::response::Response as ResponseObject;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi as _};

use crate::orders;
use crate::problem::{PROBLEM_JSON, Problem, ProblemBody};

/// What holds for every route: title, security scheme, the schema of problems.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Amends",
        description = "Accepts orders, carries them out step by step, and undoes what was done \
            when a step fails for good or somebody cancels."
    ),
    tags(
        (name = "orders", description = "Orders, in the words of a shop"),
        (name = "webhooks", description = "What platforms send"),
        (name = "signals", description = "News for instances"),
        (name = "instances", description = "Instances of workflows: look, ask, command"),
        (name = "dependencies", description = "What steps call, and how it does"),
        (name = "events", description = "Events that cannot be delivered: look, retry, skip, drop"),
        (name = "intake", description = "Deliveries that a person has to decide about"),
        (name = "workflows", description = "Versions of workflows, and what is on them"),
        (name = "schedules", description = "What is started by the clock: look, pause, resume, fire"),
        (name = "operation", description = "Probes, which need no token; metrics, an examination, and this description"),
    ),
    components(schemas(ProblemBody<'_>, orders::body::Order)),
    security(("bearer" = [])),
    modifiers(&BearerScheme)
)]
struct Base;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    }
}

/// The document without the routes.
pub(crate) fn base() -> OpenApi {
    Base::openapi()
}

/// The whole document, as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Document(Arc<str>);

impl Document {
    /// Serialises the document once.
    pub(crate) fn new(document: &OpenApi) -> Self {
        let json = document.to_json().unwrap_or_else(|error| {
            tracing::error!(%error, "the OpenAPI document cannot be written: {error}");
            String::new()
        });
        Self(json.into())
    }
}

/// Shows this description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "operation",
    responses(
        (status = 200, description = "This document", content_type = "application/json"),
        Overview,
    )
)]
pub(crate) async fn show(Extension(document): Extension<Document>) -> Result<Response, Problem> {
    if document.0.is_empty() {
        return Err(Problem::internal());
    }
    Ok(([(CONTENT_TYPE, "application/json")], document.0.to_string()).into_response())
}

/// The problems that any route may answer with.
const ANYWHERE: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];
/// The problems of routes that ask for a token.
const GUARDED: [StatusCode; 2] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
/// The problems of routes that take a body.
const WITH_BODY: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// The problems of routes that anybody may ask.
pub(crate) struct Probing;
/// The problems of routes that show one thing.
pub(crate) struct Showing;
/// The problems of routes that list.
pub(crate) struct Listing;
/// The problems of routes that show all there is.
pub(crate) struct Overview;
/// The problems of the routes that accept what may contradict what was accepted before.
pub(crate) struct AcceptingOnce;
/// The problems of the route that shows what a command would do.
pub(crate) struct Previewing;
/// The problems of the command routes.
pub(crate) struct Commanding;
/// The problems of webhooks.
pub(crate) struct Receiving;

impl IntoResponses for Probing {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[])
    }
}

impl IntoResponses for Showing {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&GUARDED, &[StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND]])
    }
}

impl IntoResponses for Listing {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&GUARDED, &[StatusCode::BAD_REQUEST]])
    }
}

impl IntoResponses for Overview {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&GUARDED])
    }
}

impl IntoResponses for AcceptingOnce {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&GUARDED, &WITH_BODY, &[StatusCode::CONFLICT]])
    }
}

impl IntoResponses for Previewing {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        let asked = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::CONFLICT];
        problems(&[&GUARDED, &asked])
    }
}

impl IntoResponses for Commanding {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&GUARDED, &WITH_BODY, &[StatusCode::NOT_FOUND, StatusCode::CONFLICT]])
    }
}

impl IntoResponses for Receiving {
    fn responses() -> BTreeMap<String, RefOr<ResponseObject>> {
        problems(&[&[StatusCode::UNAUTHORIZED], &WITH_BODY])
    }
}

fn problems(lists: &[&[StatusCode]]) -> BTreeMap<String, RefOr<ResponseObject>> {
    let statuses = lists.iter().copied().flatten().chain(&ANYWHERE);
    statuses.map(|status| (status.as_str().to_owned(), RefOr::T(problem(*status)))).collect()
}

fn problem(status: StatusCode) -> ResponseObject {
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or_default())
        .content(PROBLEM_JSON, Content::new(Some(schema)))
        .build()
}
