//! `POST /events/blocked/commands`: asks for another attempt at an event, or for it to be skipped.

use amends::blocked::{AtHead, KeyAnswer, KeyCommand};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::instances::command::reason;
use crate::json;
use crate::openapi::Commanding;
use crate::problem::{Code, Invalid, Problem};

/// What is asked for, of which event, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventCommandRequest {
    /// `retry` or `skip`.
    #[schema(example = "skip", pattern = "^(retry|skip)$")]
    pub command: String,
    /// The subscription whose receiver does not take the event.
    #[schema(example = "events")]
    pub subscription: String,
    /// The key that it blocks.
    #[schema(example = "acme.myshopify.com/5940139491234")]
    pub key: String,
    /// The event, as it is listed.
    #[schema(example = "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d11/3")]
    pub event_id: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(example = "the shop has no such order", min_length = 1, max_length = 500)]
    pub reason: String,
}

/// The command is accepted, and will be carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventCommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(example = "accepted")]
    pub answer: String,
}

/// Asks for another attempt at an event that cannot be delivered, now; or for it to be skipped: its
/// receiver is sent an event `skipped` with the same id and number in its place, and then those
/// behind it.
///
/// Safe to repeat: it is about one event, which is delivered, or skipped, once.
#[utoipa::path(
    post,
    path = "/events/blocked/commands",
    operation_id = "command_blocked_event",
    tag = "events",
    request_body = EventCommandRequest,
    responses(
        (status = 202, description = "It will happen", body = EventCommandAccepted),
        Commanding
    )
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<EventCommandAccepted>), Problem> {
    let request: EventCommandRequest = json::parse(&bytes, Code::InvalidCommand)?;
    let (command, reason) = read(&request)?;
    let engine = app.engine().clone();
    let given = async move {
        let EventCommandRequest { subscription, key, event_id, .. } = &request;
        engine.command_key(AtHead { subscription, key, event_id }, command, &actor, &reason).await
    };
    match uncancelled(given).await?.ok_or_else(unknown)? {
        answer @ KeyAnswer::Accepted => {
            let answer = answer.as_str().to_owned();
            Ok((StatusCode::ACCEPTED, Json(EventCommandAccepted { answer })))
        }
        refusal @ KeyAnswer::OtherEvent => {
            let why = "another event of this key is the one that cannot be delivered by now";
            Err(Problem::new(Code::CommandRefused, why).with_answer(refusal.as_str()))
        }
    }
}

pub(crate) fn read(request: &EventCommandRequest) -> Result<(KeyCommand, String), Problem> {
    let mut errors = Vec::new();
    let command = match request.command.as_str() {
        "retry" => Some(KeyCommand::Retry),
        "skip" => Some(KeyCommand::Skip),
        _ => {
            let detail = "unknown command; there are retry and skip".to_owned();
            errors.push(Invalid { pointer: "/command".to_owned(), detail });
            None
        }
    };
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid)).ok();
    command.zip(reason).ok_or_else(|| {
        Problem::new(Code::InvalidCommand, "this is not a command; see errors").with_errors(errors)
    })
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownEvent, "no event of this key waits to be delivered again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_and_has_a_reason() {
        let request = |command: &str, reason: &str| EventCommandRequest {
            command: command.to_owned(),
            subscription: "events".to_owned(),
            key: "acme/1".to_owned(),
            event_id: "0190/1".to_owned(),
            reason: reason.to_owned(),
        };
        assert_eq!(read(&request("skip", " why ")), Ok((KeyCommand::Skip, "why".to_owned())));
        let problem = read(&request("explode", "\n")).expect_err("refused");
        assert_eq!(problem.code(), Code::InvalidCommand);
        let wrong: Vec<_> = problem.errors().iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(wrong, ["/command", "/reason"]);
    }
}
