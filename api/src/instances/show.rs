//! `GET /instances/{id}`: an instance, and its history.

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::openapi::Showing;
use crate::path::Id;
use crate::problem::{Code, Problem};
use crate::view::{History, Instance, Record};

/// Shows an instance as it stands.
#[utoipa::path(
    get,
    path = "/instances/{id}",
    operation_id = "show_instance",
    tag = "instances",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 200, description = "The instance", body = Instance), Showing)
)]
pub(crate) async fn show(
    State(app): State<App>,
    Id(instance_id): Id,
) -> Result<Json<Instance>, Problem> {
    let instance = app.engine().instance(instance_id).await?.ok_or_else(unknown)?;
    Ok(Json(instance.into()))
}

/// Shows everything that has been recorded of an instance, oldest first, as it was recorded.
#[utoipa::path(
    get,
    path = "/instances/{id}/history",
    operation_id = "show_history",
    tag = "instances",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 200, description = "The whole history", body = History), Showing)
)]
pub(crate) async fn history(
    State(app): State<App>,
    Id(instance_id): Id,
) -> Result<Json<History>, Problem> {
    let records = app.engine().history(instance_id).await?;
    // The start is recorded with the instance, so only an unknown one has no record.
    if records.is_empty() {
        return Err(unknown());
    }
    Ok(Json(History { items: records.into_iter().map(Record::from).collect() }))
}

/// 404.
pub(crate) fn unknown() -> Problem {
    Problem::new(Code::UnknownInstance, "there is no such instance")
}
