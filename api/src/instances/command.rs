//! `POST /instances/{id}/commands`: asks an instance to resume or to cancel.

use amends::command::{Answer, Command};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::show::unknown;
use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Id;
use crate::problem::{Code, Invalid, Problem};

const REASON_CHARACTERS_MAX: usize = 500;

/// What is asked for, and why.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// `resume` or `cancel`.
    #[schema(example = "cancel", pattern = "^(resume|cancel)$")]
    pub command: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(example = "the customer asked for it", min_length = 1, max_length = 500)]
    pub reason: String,
}

/// The command is accepted, and will be carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(value_type = String, example = "accepted")]
    pub answer: Answer,
}

/// Asks an instance to resume or to cancel. What is accepted happens; a refusal says why.
#[utoipa::path(
    post,
    path = "/instances/{id}/commands",
    operation_id = "command_instance",
    tag = "instances",
    params(("id" = Uuid, Path, description = "The instance")),
    request_body = CommandRequest,
    responses((status = 202, description = "It will happen", body = CommandAccepted), Commanding)
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Id(instance_id): Id,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<CommandAccepted>), Problem> {
    let (command, reason) = read(json::parse(&bytes, Code::InvalidCommand)?)?;
    let engine = app.engine().clone();
    let answered =
        uncancelled(async move { engine.command(instance_id, command, &actor, &reason).await });
    match answered.await?.ok_or_else(unknown)? {
        answer @ Answer::Accepted => Ok((StatusCode::ACCEPTED, Json(CommandAccepted { answer }))),
        refusal => Err(refused(command, refusal)),
    }
}

fn read(request: CommandRequest) -> Result<(Command, String), Problem> {
    let mut errors = Vec::new();
    let command = request.command.parse::<Command>().map_err(|unknown| {
        errors.push(Invalid { pointer: "/command".to_owned(), detail: unknown.to_string() });
    });
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid));
    match (command, reason) {
        (Ok(command), Ok(reason)) => Ok((command, reason)),
        _ => Err(Problem::new(Code::InvalidCommand, "this is not a command; see errors")
            .with_errors(errors)),
    }
}

/// Reads the reason of a command: a line that is not too long.
pub(crate) fn reason(text: &str) -> Result<String, Invalid> {
    let line = text.trim();
    let fits = (1..=REASON_CHARACTERS_MAX).contains(&line.chars().count());
    if fits && !line.contains(char::is_control) {
        return Ok(line.to_owned());
    }
    let detail = format!("has to be a line of 1 to {REASON_CHARACTERS_MAX} characters");
    Err(Invalid { pointer: "/reason".to_owned(), detail })
}

fn refused(command: Command, answer: Answer) -> Problem {
    let why = match answer {
        Answer::Accepted => "it is accepted",
        Answer::AlreadyEnded => "the instance has ended; nothing can be changed any more",
        Answer::AlreadyCancelling => {
            "what was done is being undone already, or will be in a moment"
        }
        Answer::PastPivot => {
            "the point of no return has been reached, or is being tried at this moment; \
             from there on nothing is undone"
        }
        Answer::AlreadyRunning => "the instance is being run; there is nothing to resume",
        Answer::Held => "the instance is held; release it first",
        Answer::NotHeld => "the instance is not held",
        Answer::Stuck => "the instance is stuck; resume it, or resolve what it is stuck on",
        Answer::NotStuck => "the instance is not stuck; there is nothing to resolve",
        Answer::PlanChanged => "what would be undone is not what was shown any more; look again",
    };
    Problem::new(Code::CommandRefused, format!("cannot {command}: {why}"))
        .with_answer(answer.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: &str, reason: &str) -> CommandRequest {
        CommandRequest { command: command.to_owned(), reason: reason.to_owned() }
    }

    fn wrong(command: &str, reason: &str) -> Vec<String> {
        let problem = read(request(command, reason)).expect_err("refused");
        assert_eq!(problem.code(), Code::InvalidCommand);
        problem.errors().iter().map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn a_command_needs_a_known_name_and_a_reason() {
        assert_eq!(
            read(request("cancel", " asked to ")),
            Ok((Command::Cancel, "asked to".to_owned()))
        );
        assert!(read(request("resume", &"ü".repeat(REASON_CHARACTERS_MAX))).is_ok());
        assert_eq!(wrong("explode", "why not"), ["/command"]);
        assert_eq!(wrong("cancel", " \n"), ["/reason"]);
        assert_eq!(wrong("cancel", "two\nlines"), ["/reason"]);
        assert_eq!(wrong("", &"ü".repeat(REASON_CHARACTERS_MAX + 1)), ["/command", "/reason"]);
    }
}
