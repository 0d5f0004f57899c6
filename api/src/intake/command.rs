//! `POST /intake/cases/{id}/commands`: says what has become of a case.

use amends::intake_case::CaseAnswer;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::instances::command::reason;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Id;
use crate::problem::{Code, Invalid, Problem};

/// What is asked for, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseCommandRequest {
    /// `settle`: the case is dealt with.
    #[schema(example = "settle", pattern = "^settle$")]
    pub command: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(
        example = "the order was cancelled and placed anew",
        min_length = 1,
        max_length = 500
    )]
    pub reason: String,
}

/// The command is carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CaseCommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(example = "accepted")]
    pub answer: String,
}

/// Notes that a case is dealt with. What is held stays held: release or cancel it by a command to
/// the instance.
#[utoipa::path(
    post,
    path = "/intake/cases/{id}/commands",
    operation_id = "command_intake_case",
    tag = "intake",
    params(("id" = Uuid, Path, description = "The case")),
    request_body = CaseCommandRequest,
    responses((status = 200, description = "It is settled", body = CaseCommandAccepted), Commanding)
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Id(case_id): Id,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<CaseCommandAccepted>, Problem> {
    let reason = read(&json::parse(&bytes, Code::InvalidCommand)?)?;
    let engine = app.engine().clone();
    let settled = uncancelled(async move { engine.settle_case(case_id, &actor, &reason).await });
    let unknown = || Problem::new(Code::UnknownCase, "there is no such case here");
    match settled.await?.ok_or_else(unknown)? {
        answer @ CaseAnswer::Accepted => {
            Ok(Json(CaseCommandAccepted { answer: answer.as_str().to_owned() }))
        }
        refusal @ CaseAnswer::AlreadySettled => {
            let why = "it was settled before; the list of settled cases says by whom";
            Err(Problem::new(Code::CommandRefused, why).with_answer(refusal.as_str()))
        }
    }
}

fn read(request: &CaseCommandRequest) -> Result<String, Problem> {
    let mut errors = Vec::new();
    if request.command != "settle" {
        let detail = "unknown command; there is settle".to_owned();
        errors.push(Invalid { pointer: "/command".to_owned(), detail });
    }
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid)).ok();
    reason.filter(|_| errors.is_empty()).ok_or_else(|| {
        Problem::new(Code::InvalidCommand, "this is not a command; see errors").with_errors(errors)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_and_has_a_reason() {
        let request = |command: &str, reason: &str| CaseCommandRequest {
            command: command.to_owned(),
            reason: reason.to_owned(),
        };
        assert_eq!(read(&request("settle", " why ")), Ok("why".to_owned()));
        let problem = read(&request("ignore", "\n")).expect_err("refused");
        let wrong: Vec<_> = problem.errors().iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(wrong, ["/command", "/reason"]);
    }
}
