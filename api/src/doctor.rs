//! `GET /doctor`: what this server finds when it looks at itself and at its database.

use amends::doctor::Finding;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::openapi::Overview;
use crate::problem::Problem;

/// Everything that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Examination {
    items: Vec<Examined>,
}

/// Something that was looked at.
#[derive(Debug, Serialize, ToSchema)]
struct Examined {
    /// What was looked at: a stable name.
    #[schema(example = "schema")]
    about: &'static str,
    /// How bad it is: `fine`, `note` (it works, and somebody should know), or `problem`.
    #[schema(example = "fine")]
    severity: &'static str,
    /// What was found, in plain words.
    found: String,
    /// What to do about it; empty where nothing is to be done.
    advice: &'static str,
}

impl From<Finding> for Examined {
    fn from(finding: Finding) -> Self {
        let Finding { about, severity, found, advice } = finding;
        Self { about, severity: severity.as_str(), found, advice }
    }
}

/// Looks at this server and at its database, and says what is to be done. A problem is an answer like
/// any other.
#[utoipa::path(
    get,
    path = "/doctor",
    operation_id = "examine",
    tag = "operation",
    responses((status = 200, description = "What was found", body = Examination), Overview)
)]
pub(crate) async fn show(State(app): State<App>) -> Result<Json<Examination>, Problem> {
    let findings = app.engine().examine().await;
    Ok(Json(Examination { items: findings.into_iter().map(Examined::from).collect() }))
}
