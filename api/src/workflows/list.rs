//! `GET /workflows`: every version of every workflow, and what is on it.

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::openapi::Overview;
use crate::problem::Problem;
use crate::view::{Version, Versions};

/// Shows which versions have live instances, who can run them, and which can be removed.
#[utoipa::path(
    get,
    path = "/workflows",
    operation_id = "list_workflows",
    tag = "workflows",
    responses((status = 200, description = "Every version", body = Versions), Overview)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Versions>, Problem> {
    let versions = app.engine().versions().await?;
    Ok(Json(Versions { items: versions.into_iter().map(Version::from).collect() }))
}
