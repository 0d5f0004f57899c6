//! `GET /schedules/{name}`: a schedule, with what became of its latest firings.

use axum::Json;
use axum::extract::State;

use super::view::ScheduleDetail;
use crate::app::App;
use crate::openapi::Showing;
use crate::path::Single;
use crate::problem::{Code, Problem};

/// Shows a schedule as it stands, its latest firings, and what people asked of it.
#[utoipa::path(
    get,
    path = "/schedules/{name}",
    operation_id = "show_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule", body = ScheduleDetail), Showing)
)]
pub(crate) async fn show(
    State(app): State<App>,
    Single(name): Single,
) -> Result<Json<ScheduleDetail>, Problem> {
    let detail = app.engine().schedule(&name).await?.ok_or_else(unknown)?;
    Ok(Json(detail.into()))
}

/// 404.
pub(crate) fn unknown() -> Problem {
    Problem::new(Code::UnknownSchedule, "there is no such schedule")
}
