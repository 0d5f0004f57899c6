//! `POST /schedules/{name}/commands`: asks a schedule to pause, resume, fire now, or fire for the
//! past.

use amends::schedule::{Backfill, ScheduleAnswer, ScheduleCommand};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::show::unknown;
use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::instances::command::reason;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Single;
use crate::problem::{Code, Invalid, Problem};

/// What is asked for, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCommandRequest {
    /// `pause`, `resume`, `trigger` or `backfill`.
    #[schema(example = "backfill", pattern = "^(pause|resume|trigger|backfill)$")]
    pub command: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(example = "the server was down", min_length = 1, max_length = 500)]
    pub reason: String,
    /// Of a backfill: firings at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Of a backfill: firings at this time or earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Of a backfill: only say what it would do. Nothing is changed or recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The command is accepted, and will be carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleCommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(example = "accepted")]
    pub answer: String,
    /// How many firings will start an instance because of it.
    #[schema(example = 3)]
    pub planned: usize,
    /// How many of those asked for have fired before, or will anyway.
    #[schema(example = 1)]
    pub already: usize,
}

/// A request that has its form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Command(ScheduleCommand),
    Preview(Backfill),
}

/// Asks a schedule to pause, to resume, to fire now, or to fire for times that are past.
///
/// Safe to repeat: a local minute of a schedule fires once. A backfill asked for again starts
/// nothing twice, nor does a trigger in the same minute.
#[utoipa::path(
    post,
    path = "/schedules/{name}/commands",
    operation_id = "command_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    request_body = ScheduleCommandRequest,
    responses(
        (status = 200, description = "It would happen", body = ScheduleCommandAccepted),
        (status = 202, description = "It will happen", body = ScheduleCommandAccepted),
        Commanding
    )
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Single(name): Single,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<ScheduleCommandAccepted>), Problem> {
    let (asked, reason) = read(json::parse(&bytes, Code::InvalidCommand)?)?;
    let engine = app.engine().clone();
    let (status, answered) = match asked {
        Asked::Preview(span) => {
            let tried = async move { engine.preview_backfill(&name, span).await };
            (StatusCode::OK, uncancelled(tried).await?)
        }
        Asked::Command(command) => {
            let given =
                async move { engine.command_schedule(&name, command, &actor, &reason).await };
            (StatusCode::ACCEPTED, uncancelled(given).await?)
        }
    };
    match answered.ok_or_else(unknown)? {
        answer @ ScheduleAnswer::Accepted { planned, already } => {
            let answer = answer.as_str().to_owned();
            Ok((status, Json(ScheduleCommandAccepted { answer, planned, already })))
        }
        refusal => Err(refused(refusal)),
    }
}

pub(crate) fn read(request: ScheduleCommandRequest) -> Result<(Asked, String), Problem> {
    let mut errors = Vec::new();
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid));
    let asked = asked(&request).map_err(|mut invalid| errors.append(&mut invalid));
    match (asked, reason) {
        (Ok(asked), Ok(reason)) => Ok((asked, reason)),
        _ => Err(Problem::new(Code::InvalidCommand, "this is not a command; see errors")
            .with_errors(errors)),
    }
}

fn asked(request: &ScheduleCommandRequest) -> Result<Asked, Vec<Invalid>> {
    let invalid = |pointer: &str, detail: &str| Invalid {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
    };
    let span = [("/from", request.from), ("/until", request.until)];
    let command = match request.command.as_str() {
        "backfill" => {
            let missing = span.iter().filter(|(_, time)| time.is_none());
            let needed = "is needed: a backfill is from one time until another";
            let missing: Vec<_> = missing.map(|(pointer, _)| invalid(pointer, needed)).collect();
            return match (request.from, request.until) {
                (Some(from), Some(until)) if until < from => {
                    Err(vec![invalid("/until", "has to be as late as /from, or later")])
                }
                (Some(from), Some(until)) if request.dry_run => {
                    Ok(Asked::Preview(Backfill { from, until }))
                }
                (Some(from), Some(until)) => {
                    Ok(Asked::Command(ScheduleCommand::Backfill(Backfill { from, until })))
                }
                _ => Err(missing),
            };
        }
        "pause" => ScheduleCommand::Pause,
        "resume" => ScheduleCommand::Resume,
        "trigger" => ScheduleCommand::Trigger,
        _ => {
            let known = "unknown command; there are pause, resume, trigger and backfill";
            return Err(vec![invalid("/command", known)]);
        }
    };
    let given = span.iter().filter(|(_, time)| time.is_some()).map(|(pointer, _)| *pointer);
    let given: Vec<_> = given.chain(request.dry_run.then_some("/dry_run")).collect();
    if given.is_empty() {
        return Ok(Asked::Command(command));
    }
    Err(given.into_iter().map(|pointer| invalid(pointer, "belongs to a backfill only")).collect())
}

fn refused(answer: ScheduleAnswer) -> Problem {
    let why = match answer {
        ScheduleAnswer::Accepted { .. } => "it is accepted",
        ScheduleAnswer::AlreadyPaused => "the schedule is paused already",
        ScheduleAnswer::NotPaused => "the schedule is not paused",
        ScheduleAnswer::AlreadyFired => "it has fired in this minute, which it does once",
        ScheduleAnswer::PreviousNotEnded => {
            "the instance of the firing before has not ended, and this schedule lets none overlap"
        }
        ScheduleAnswer::NotDefined => {
            "no running process defines this schedule; it would never start"
        }
        ScheduleAnswer::InvalidSpan => "a backfill is of the past, and ends after it begins",
        ScheduleAnswer::TooMany => "more than 1,000 firings are asked for; ask for less at once",
    };
    Problem::new(Code::CommandRefused, why).with_answer(answer.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: &str) -> ScheduleCommandRequest {
        ScheduleCommandRequest {
            command: command.to_owned(),
            reason: "why".to_owned(),
            from: None,
            until: None,
            dry_run: false,
        }
    }

    fn wrong(request: ScheduleCommandRequest) -> Vec<String> {
        let problem = read(request).expect_err("refused");
        assert_eq!(problem.code(), Code::InvalidCommand);
        problem.errors().iter().map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn a_command_has_what_it_needs_and_nothing_else() {
        let (early, late) = (Some(DateTime::UNIX_EPOCH), Some(DateTime::<Utc>::MAX_UTC));
        let pause = (Asked::Command(ScheduleCommand::Pause), "why".to_owned());
        assert_eq!(read(request("pause")), Ok(pause));
        let span = ScheduleCommandRequest { from: early, until: late, ..request("backfill") };
        assert!(matches!(
            read(span.clone()),
            Ok((Asked::Command(ScheduleCommand::Backfill(_)), _))
        ));
        let preview = ScheduleCommandRequest { dry_run: true, ..span.clone() };
        assert!(matches!(read(preview.clone()), Ok((Asked::Preview(_), _))));

        let reversed = ScheduleCommandRequest { from: late, until: early, ..span };
        assert_eq!(wrong(reversed), ["/until"]);
        assert_eq!(wrong(request("backfill")), ["/from", "/until"]);
        let trigger = ScheduleCommandRequest { command: "trigger".to_owned(), ..preview };
        assert_eq!(wrong(trigger), ["/from", "/until", "/dry_run"]);
        let nothing = ScheduleCommandRequest { reason: " ".to_owned(), ..request("explode") };
        assert_eq!(wrong(nothing), ["/reason", "/command"]);
    }
}
