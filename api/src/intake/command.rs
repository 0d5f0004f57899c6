//! `POST /intake/cases/{id}/commands`: says what has become of a case, or has its order carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use amends::intake_case::{CaseAnswer, CaseView};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::draft::Correction;
use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::deliveries::command::{Ordered, carry_out};
use crate::instances::command::reason;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Id;
use crate::problem::{Code, Invalid, Problem};

/// What is asked for, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseCommandRequest {
    /// `settle`: the case is dealt with, and what could not be carried out is ignored. `start`: the
    /// order is carried out with what is filled in, although there is doubt.
    #[schema(example = "settle", pattern = "^(settle|start)$")]
    pub command: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(
        example = "the order was cancelled and placed anew",
        min_length = 1,
        max_length = 500
    )]
    pub reason: String,
    /// With `start`: what stands at these places of the order instead, as JSON pointers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object, example = json!({"/lines/0/sku": "TEE-M-BLK"}))]
    pub fields: BTreeMap<String, Value>,
}

/// The command is carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CaseCommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(example = "accepted")]
    pub answer: String,
    /// What was started, or was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
}

/// Notes that a case is dealt with, or has its order carried out. What is held stays held: release or
/// cancel it by a command to the instance.
#[utoipa::path(
    post,
    path = "/intake/cases/{id}/commands",
    operation_id = "command_intake_case",
    tag = "intake",
    params(("id" = Uuid, Path, description = "The case")),
    request_body = CaseCommandRequest,
    responses(
        (status = 200, description = "It is carried out", body = CaseCommandAccepted), Commanding
    )
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Id(case_id): Id,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<CaseCommandAccepted>, Problem> {
    let (command, reason) = read(json::parse(&bytes, Code::InvalidCommand)?)?;
    match command {
        Command::Settle => uncancelled(settle(app, case_id, actor, reason)).await.map(Json),
        Command::Start(fields) => {
            let case = app.engine().case(case_id).await?.ok_or_else(unknown)?;
            let delivery_id = startable(&case)?;
            let correction = Correction { fields, anyway: true };
            let ordered = Ordered { delivery_id, correction, actor, reason };
            let answer = uncancelled(carry_out(app, ordered)).await?;
            let answered = CaseAnswer::Accepted.as_str().to_owned();
            Ok(Json(CaseCommandAccepted { answer: answered, instance_id: answer.instance_id }))
        }
    }
}

/// What a person asks of a case.
#[derive(Debug, PartialEq)]
enum Command {
    Settle,
    Start(BTreeMap<String, Value>),
}

async fn settle(
    app: App,
    case_id: Uuid,
    actor: Arc<str>,
    reason: String,
) -> Result<CaseCommandAccepted, Problem> {
    let settled = app.engine().settle_case(case_id, &actor, &reason).await?;
    match settled.ok_or_else(unknown)? {
        answer @ CaseAnswer::Accepted => {
            Ok(CaseCommandAccepted { answer: answer.as_str().to_owned(), instance_id: None })
        }
        CaseAnswer::AlreadySettled => Err(already_settled()),
    }
}

/// The delivery of a case whose order can still be carried out.
fn startable(case: &CaseView) -> Result<Uuid, Problem> {
    if case.settled_at.is_some() {
        return Err(already_settled());
    }
    if case.instance_id.is_some() {
        let why = "its order was started; a command to the instance is what changes it";
        return Err(Problem::new(Code::CommandRefused, why).with_answer("already_started"));
    }
    Ok(case.delivery_id)
}

fn already_settled() -> Problem {
    let why = "it was settled before; the list of settled cases says by whom";
    Problem::new(Code::CommandRefused, why).with_answer(CaseAnswer::AlreadySettled.as_str())
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownCase, "there is no such case here")
}

fn read(request: CaseCommandRequest) -> Result<(Command, String), Problem> {
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: &str| {
        errors.push(Invalid { pointer: pointer.to_owned(), detail: detail.to_owned() });
    };
    let command = match &*request.command {
        "start" => Command::Start(request.fields),
        "settle" if request.fields.is_empty() => Command::Settle,
        "settle" => {
            wrong("/fields", "is for the command start alone");
            Command::Settle
        }
        _ => {
            wrong("/command", "unknown command; there are settle and start");
            Command::Settle
        }
    };
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid)).ok();
    reason.filter(|_| errors.is_empty()).map(|reason| (command, reason)).ok_or_else(|| {
        Problem::new(Code::InvalidCommand, "this is not a command; see errors").with_errors(errors)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(command: &str, reason: &str, fields: &[&str]) -> CaseCommandRequest {
        let field = |place: &&str| ((*place).to_owned(), json!("TEE"));
        CaseCommandRequest {
            command: command.to_owned(),
            reason: reason.to_owned(),
            fields: fields.iter().map(field).collect(),
        }
    }

    #[test]
    fn a_command_is_known_and_has_a_reason() {
        let settled = (Command::Settle, "why".to_owned());
        assert_eq!(read(request("settle", " why ", &[])), Ok(settled));
        let fields = BTreeMap::from([("/lines/0/sku".to_owned(), json!("TEE"))]);
        let started = (Command::Start(fields), "why".to_owned());
        assert_eq!(read(request("start", "why", &["/lines/0/sku"])), Ok(started));
        let wrong = |it| {
            let problem = read(it).expect_err("refused");
            problem.errors().iter().map(|it| it.pointer.clone()).collect::<Vec<_>>()
        };
        assert_eq!(wrong(request("ignore", "\n", &[])), ["/command", "/reason"]);
        assert_eq!(wrong(request("settle", "why", &["/number"])), ["/fields"]);
    }
}
