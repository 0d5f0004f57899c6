//! `GET /schedules`: every schedule, by name.

use axum::Json;
use axum::extract::State;

use super::view::{Schedule, Schedules};
use crate::app::App;
use crate::openapi::Listing;
use crate::problem::Problem;

/// Lists every schedule that a build has ever defined, by name. What no running process defines
/// does not fire, and says so.
#[utoipa::path(
    get,
    path = "/schedules",
    operation_id = "list_schedules",
    tag = "schedules",
    responses((status = 200, description = "All schedules", body = Schedules), Listing)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Schedules>, Problem> {
    let items = app.engine().schedules().await?;
    Ok(Json(Schedules { items: items.into_iter().map(Schedule::from).collect() }))
}
