//! `GET /dependencies`: what steps call, how it does, and how many instances wait for it.

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::openapi::Overview;
use crate::problem::Problem;
use crate::view::{Dependencies, Dependency};

/// Shows what steps call, whether it is up, and how many instances wait for it since when.
#[utoipa::path(
    get,
    path = "/dependencies",
    operation_id = "list_dependencies",
    tag = "dependencies",
    responses((status = 200, description = "Every dependency", body = Dependencies), Overview)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Dependencies>, Problem> {
    let dependencies = app.engine().dependencies().await?;
    Ok(Json(Dependencies { items: dependencies.into_iter().map(Dependency::from).collect() }))
}
