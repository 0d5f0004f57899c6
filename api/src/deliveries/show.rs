//! `GET /deliveries/{id}` and its body, to the byte.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::list::Delivery;
use crate::app::App;
use crate::openapi::Showing;
use crate::path::Id;
use crate::problem::{Code, Problem};

/// Shows what came in, without its body.
#[utoipa::path(
    get,
    path = "/deliveries/{id}",
    operation_id = "show_delivery",
    tag = "intake",
    params(("id" = Uuid, Path, description = "The delivery")),
    responses((status = 200, description = "The delivery", body = Delivery), Showing)
)]
pub(crate) async fn show(
    State(app): State<App>,
    Id(delivery_id): Id,
) -> Result<Json<Delivery>, Problem> {
    let found = app.engine().delivery(delivery_id).await?;
    found.map(|(view, _)| Json(view.into())).ok_or_else(unknown)
}

/// Shows the body of what came in, to the byte, as it is needed to check a signature.
#[utoipa::path(
    get,
    path = "/deliveries/{id}/body",
    operation_id = "show_delivery_body",
    tag = "intake",
    params(("id" = Uuid, Path, description = "The delivery")),
    responses(
        (status = 200, description = "Its body", content_type = "application/octet-stream"),
        Showing,
    )
)]
pub(crate) async fn body(State(app): State<App>, Id(delivery_id): Id) -> Result<Response, Problem> {
    let (_, body) = app.engine().delivery(delivery_id).await?.ok_or_else(unknown)?;
    // A stranger wrote it: no browser is to show it.
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CONTENT_DISPOSITION, "attachment")];
    Ok((headers, body).into_response())
}

pub(super) fn unknown() -> Problem {
    Problem::new(Code::UnknownDelivery, "there is no such delivery here")
}
