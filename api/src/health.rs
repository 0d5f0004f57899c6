//! Whether this process lives, and whether it can do its work.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::openapi::Probing;
use crate::problem::Problem;

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Answers as long as the process lives. Restart it if it does not.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "operation",
    security(()),
    responses((status = 200, description = "The process lives", body = Health), Probing)
)]
pub(crate) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Answers 200 while this process can accept and run orders; send it none while it cannot.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "operation",
    security(()),
    responses((status = 200, description = "The process can write", body = Health), Probing)
)]
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.engine().ready().await?;
    Ok(Json(Health { status: "ready" }))
}
