//! `POST /instances/{id}/commands`: asks something of an instance.

use amends::command::{Answer, ChildPolicy, Command};
use amends::{Engine, Requester};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use super::resolution::Resolution;
use super::show::unknown;
use super::unreadable;
use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::idempotency_key::IdempotencyKey;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Id;
use crate::problem::{Code, Invalid, Problem};

/// How long what a person writes may be.
pub(super) const TEXT_CHARACTERS_MAX: usize = 500;

/// What is asked for, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// What is asked for.
    #[schema(schema_with = command_schema)]
    pub command: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(example = "the customer asked for it", min_length = 1, max_length = 500)]
    pub reason: String,
    /// With `cancel`: the plan that a preview has shown. If another one would be executed by now,
    /// the answer is `plan_changed`, and nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        pattern = "^[0-9a-f]{64}$"
    )]
    pub plan_hash: Option<String>,
    /// With `terminate`, and needed if something is live that the instance has started: what becomes
    /// of that, and of what that has started. Without it the answer is `children_undecided` then,
    /// and nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = policy_schema, required = false)]
    pub children: Option<String>,
    /// With `resolve`, and only then: what has been found out. With `book`: the money that has moved,
    /// and where that can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

/// The command is accepted, and will be carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandAccepted {
    /// Always `accepted`; refusals are problems.
    #[schema(value_type = String, example = "accepted")]
    pub answer: Answer,
}

/// The schema of a command: the words of [`Command`].
pub(super) fn command_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("What is asked for"))
        .enum_values(Some(Command::ALL.map(Command::as_str)))
        .build()
}

/// The schema of what becomes of children: the words of [`ChildPolicy`].
pub(super) fn policy_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "What becomes of what it has started, with a terminate: `terminate` ends that by force, \
             too, `cancel` has it undo what it has done, `leave` has it go on",
        ))
        .enum_values(Some(ChildPolicy::ALL.map(ChildPolicy::as_str)))
        .build()
}

/// Asks something of an instance. What is accepted happens; a refusal says why.
///
/// A request with an `Idempotency-Key` may be sent again at any time: it gets the same answer, and
/// nothing is done twice. The same key with another request is a problem.
#[utoipa::path(
    post,
    path = "/instances/{id}/commands",
    operation_id = "command_instance",
    tag = "instances",
    params(
        ("id" = Uuid, Path, description = "The instance"),
        (
            "idempotency-key" = Option<String>, Header,
            description = "Names the request; 1 to 255 visible ASCII characters, plain or quoted",
            pattern = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#,
            example = "8e03978e-40d5-43dd-bc93-6894a57f9324",
        ),
    ),
    request_body = CommandRequest,
    responses((status = 202, description = "It will happen", body = CommandAccepted), Commanding)
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Id(instance_id): Id,
    key: Option<IdempotencyKey>,
    JsonBytes(bytes): JsonBytes,
) -> Result<(StatusCode, Json<CommandAccepted>), Problem> {
    let (asked, reason) = read(json::parse(&bytes, Code::InvalidCommand)?)?;
    let command = asked.command();
    let engine = app.engine().clone();
    let answered = uncancelled(async move {
        let requester = Requester::new(&actor);
        let requester = key.iter().fold(requester, |it, IdempotencyKey(key)| it.request(key));
        asked.give(&engine, instance_id, requester, &reason).await
    });
    match answered.await?.ok_or_else(unknown)? {
        answer @ Answer::Accepted => Ok((StatusCode::ACCEPTED, Json(CommandAccepted { answer }))),
        refusal => Err(refused(command, refusal)),
    }
}

/// A request that makes sense by itself.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Command(Command),
    CancelAsShown { plan_hash: String },
    Terminate(ChildPolicy),
    Resolve(Resolution),
    Book(Resolution),
}

impl Asked {
    fn command(&self) -> Command {
        match self {
            Self::Command(command) => *command,
            Self::CancelAsShown { .. } => Command::Cancel,
            Self::Terminate(_) => Command::Terminate,
            Self::Resolve(_) => Command::Resolve,
            Self::Book(_) => Command::Book,
        }
    }

    async fn give(
        self,
        engine: &Engine,
        instance_id: Uuid,
        requester: Requester<'_>,
        reason: &str,
    ) -> Result<Option<Answer>, Problem> {
        match self {
            Self::Command(command) => {
                engine.command(instance_id, command, requester, reason).await.map_err(Problem::from)
            }
            Self::CancelAsShown { plan_hash } => engine
                .cancel_as_shown(instance_id, &plan_hash, requester, reason)
                .await
                .map_err(unreadable),
            Self::Terminate(policy) => engine
                .terminate(instance_id, policy, requester, reason)
                .await
                .map_err(Problem::from),
            Self::Resolve(resolution) => engine
                .resolve(instance_id, resolution.into(), requester, reason)
                .await
                .map_err(unfit),
            Self::Book(booking) => {
                let amends::command::Resolution { money, evidence, .. } = booking.into();
                engine.book(instance_id, money, &evidence, requester, reason).await.map_err(unfit)
            }
        }
    }
}

/// What a resolve is told that does not fit its instance: in the engine's words, which are for the
/// person who wrote it.
fn unfit(error: amends::Error) -> Problem {
    match error {
        amends::Error::InvalidInput(detail) => {
            let pointer = "/resolution".to_owned();
            Problem::new(Code::InvalidCommand, "this does not fit what is recorded; see errors")
                .with_errors(vec![Invalid { pointer, detail }])
        }
        error => unreadable(error),
    }
}

pub(crate) fn read(request: CommandRequest) -> Result<(Asked, String), Problem> {
    let mut errors = Vec::new();
    let mut invalid = |pointer: &str, detail: &str| {
        errors.push(Invalid { pointer: pointer.to_owned(), detail: detail.to_owned() });
    };
    let command = request.command.parse::<Command>();
    match &command {
        Err(unknown) => invalid("/command", &unknown.to_string()),
        Ok(Command::Resolve) if request.resolution.is_none() => {
            invalid("/resolution", "has to say what has been found out");
        }
        Ok(Command::Book) if request.resolution.is_none() => {
            invalid("/resolution", "has to say what money has moved");
        }
        Ok(_) => {}
    }
    let reason = reason(&request.reason).map_err(|wrong| invalid("/reason", &wrong.detail));
    let policy = request.children.as_deref().map(str::parse::<ChildPolicy>).transpose();
    if let Err(unknown) = &policy {
        invalid("/children", &unknown.to_string());
    } else if request.children.is_some()
        && command.as_ref().is_ok_and(|command| *command != Command::Terminate)
    {
        invalid("/children", "only a terminate says what becomes of children");
    }
    if let Some(plan_hash) = &request.plan_hash {
        if command.as_ref().is_ok_and(|command| *command != Command::Cancel) {
            invalid("/plan_hash", "only a cancel names a plan");
        }
        if !is_hash(plan_hash) {
            invalid("/plan_hash", "is not the plan_hash of a preview");
        }
    }
    if let Some(resolution) = &request.resolution {
        match command {
            Ok(Command::Book) if resolution.step.is_some() => {
                invalid("/resolution/step", "only a resolve is about a step");
            }
            Ok(Command::Resolve | Command::Book) | Err(_) => {}
            Ok(_) => {
                invalid("/resolution", "only a resolve or a booking says what has been found out");
            }
        }
        errors.extend(resolution.wrong());
    }
    let policy = policy.ok().flatten();
    let asked = match (command, request.plan_hash, request.resolution) {
        (Ok(Command::Resolve), None, Some(resolution)) => Some(Asked::Resolve(resolution)),
        (Ok(Command::Book), None, Some(booking)) => Some(Asked::Book(booking)),
        (Ok(Command::Cancel), Some(plan_hash), None) => Some(Asked::CancelAsShown { plan_hash }),
        (Ok(command), None, None) => Some(policy.map_or(Asked::Command(command), Asked::Terminate)),
        _ => None,
    };
    match (asked, reason) {
        (Some(asked), Ok(reason)) if errors.is_empty() => Ok((asked, reason)),
        _ => Err(Problem::new(Code::InvalidCommand, "this is not a command; see errors")
            .with_errors(errors)),
    }
}

/// Reads the reason of a command: a line that is not too long.
pub(crate) fn reason(text: &str) -> Result<String, Invalid> {
    if is_line(text) {
        return Ok(text.trim().to_owned());
    }
    let detail = format!("has to be a line of 1 to {TEXT_CHARACTERS_MAX} characters");
    Err(Invalid { pointer: "/reason".to_owned(), detail })
}

/// Whether a text is a line that says something, and not too much.
pub(super) fn is_line(text: &str) -> bool {
    let text = text.trim();
    (1..=TEXT_CHARACTERS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control)
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn refused(command: Command, answer: Answer) -> Problem {
    let detail = format!("cannot {command}: {}", why(answer));
    Problem::new(Code::CommandRefused, detail).with_answer(answer.as_str())
}

/// What an answer means, as the end of a sentence.
pub(super) fn why(answer: Answer) -> &'static str {
    match answer {
        Answer::Accepted => "it is accepted",
        Answer::AlreadyEnded => "the instance has ended; nothing can be changed any more",
        Answer::AlreadyCancelling => {
            "what was done is being undone already, or will be in a moment"
        }
        Answer::PastPivot => {
            "the point of no return has been reached, or is being tried at this moment; \
             from there on nothing is undone"
        }
        Answer::ChildPastPivot => {
            "something that it has started is past its point of no return, and cannot be undone; \
             the preview names it"
        }
        Answer::ChildrenUndecided => {
            "something that it has started is live; say with children whether that is to be \
             terminated, cancelled or left alone; the preview names it"
        }
        Answer::AlreadyRunning => "the instance is being run; it waits for nothing",
        Answer::Held => "the instance is held; release it first",
        Answer::NotHeld => "the instance is not held",
        Answer::Stuck => "the instance is stuck; resume it, or resolve what it is stuck on",
        Answer::NotStuck => "the instance is not stuck; there is nothing to resolve",
        Answer::AlreadyResumed => {
            "somebody has just said how it goes on, and that waits to be read; look again"
        }
        Answer::PlanChanged => "what would be undone is not what was shown any more; look again",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(mut members: Value) -> CommandRequest {
        if members.get("reason").is_none() {
            members["reason"] = json!("asked for");
        }
        serde_json::from_value(members).expect("a request")
    }

    fn wrong(members: Value) -> Vec<String> {
        let problem = read(request(members)).expect_err("refused");
        assert_eq!(problem.code(), Code::InvalidCommand);
        problem.errors().iter().map(|error| error.pointer.clone()).collect()
    }

    fn resolution() -> Value {
        json!({"step": "charge", "finding": "not_applied", "evidence": "no such charge"})
    }

    #[test]
    fn a_command_needs_a_known_name_and_a_reason() {
        let read_back = read(request(json!({"command": "cancel", "reason": " asked to "})));
        assert_eq!(read_back, Ok((Asked::Command(Command::Cancel), "asked to".to_owned())));
        let (longest, endless) =
            ("ü".repeat(TEXT_CHARACTERS_MAX), "ü".repeat(TEXT_CHARACTERS_MAX + 1));
        assert!(read(request(json!({"command": "resume", "reason": longest}))).is_ok());
        assert_eq!(wrong(json!({"command": "explode"})), ["/command"]);
        assert_eq!(wrong(json!({"command": "cancel", "reason": " \n"})), ["/reason"]);
        assert_eq!(wrong(json!({"command": "cancel", "reason": "two\nlines"})), ["/reason"]);
        assert_eq!(wrong(json!({"command": "", "reason": endless})), ["/command", "/reason"]);
    }

    #[test]
    fn a_plan_belongs_to_a_cancel_and_a_resolution_to_a_resolve() {
        let hash = "0a".repeat(32);
        let cancel = request(json!({"command": "cancel", "plan_hash": hash}));
        let as_shown = Asked::CancelAsShown { plan_hash: hash.clone() };
        assert_eq!(read(cancel).map(|(asked, _)| asked), Ok(as_shown));
        let resolve = request(json!({"command": "resolve", "resolution": resolution()}));
        assert!(matches!(read(resolve), Ok((Asked::Resolve(_), _))));

        let mut booking = resolution();
        booking["money"] = json!([{"kind": "refund", "amount_minor": 500, "currency": "EUR",
            "reference": "re_9"}]);
        let book = |booking: &Value| json!({"command": "book", "resolution": booking});
        assert_eq!(wrong(book(&booking)), ["/resolution/step"]);
        booking = json!({"money": booking["money"], "evidence": booking["evidence"]});
        assert!(matches!(read(request(book(&booking))), Ok((Asked::Book(_), _))));

        for command in ["resolve", "book"] {
            assert_eq!(wrong(json!({"command": command})), ["/resolution"]);
        }
        for command in Command::ALL.map(Command::as_str) {
            let planned =
                json!({"command": command, "plan_hash": hash, "resolution": resolution()});
            let foreign: &[&str] = match command {
                "cancel" => &["/resolution"],
                "resolve" => &["/plan_hash"],
                "book" => &["/plan_hash", "/resolution/step"],
                _ => &["/plan_hash", "/resolution"],
            };
            assert_eq!(wrong(planned), foreign, "{command}");
        }
        let stop = |policy: &str| json!({"command": "terminate", "children": policy});
        for policy in ChildPolicy::ALL {
            let asked = read(request(stop(policy.as_str()))).map(|(asked, _)| asked);
            assert_eq!(asked, Ok(Asked::Terminate(policy)));
        }
        assert_eq!(wrong(stop("spare")), ["/children"]);
        assert_eq!(wrong(json!({"command": "cancel", "children": "leave"})), ["/children"]);
        for hash in ["", "0a", &"0A".repeat(32), &"0a".repeat(33)] {
            assert_eq!(wrong(json!({"command": "cancel", "plan_hash": hash})), ["/plan_hash"]);
        }
    }
}
