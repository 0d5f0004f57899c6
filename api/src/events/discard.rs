//! `POST /events/leftover/commands`: drops what waits for a subscription that no server has.

use amends::leftover::SubscriptionAnswer;
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
use crate::problem::{Code, Invalid, Problem};

/// What is asked for, of which subscription, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionCommandRequest {
    /// `drop`.
    #[schema(example = "drop", pattern = "^drop$")]
    pub command: String,
    /// The subscription, as it is listed.
    #[schema(example = "events")]
    pub subscription: String,
    /// Why; it is recorded with the command and the name of the token.
    #[schema(example = "its receiver was shut down", min_length = 1, max_length = 500)]
    pub reason: String,
}

/// The events are gone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventsDropped {
    /// Always `dropped`; refusals are problems.
    #[schema(example = "dropped")]
    pub answer: String,
    /// How many events were dropped.
    #[schema(example = 412)]
    pub events: u64,
}

/// Drops every event that waits for a subscription that no server has: no receiver will ever be told
/// of them. The histories keep what was published.
#[utoipa::path(
    post,
    path = "/events/leftover/commands",
    operation_id = "command_leftover_events",
    tag = "events",
    request_body = SubscriptionCommandRequest,
    responses((status = 200, description = "It has happened", body = EventsDropped), Commanding)
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<EventsDropped>, Problem> {
    let request: SubscriptionCommandRequest = json::parse(&bytes, Code::InvalidCommand)?;
    let reason = read(&request)?;
    let engine = app.engine().clone();
    let given = async move { engine.drop_leftover(&request.subscription, &actor, &reason).await };
    match uncancelled(given).await?.ok_or_else(unknown)? {
        answer @ SubscriptionAnswer::Dropped { events } => {
            Ok(Json(EventsDropped { answer: answer.as_str().to_owned(), events }))
        }
        refusal @ SubscriptionAnswer::InUse => {
            let why = "a server has this subscription: its events will be delivered";
            Err(Problem::new(Code::CommandRefused, why).with_answer(refusal.as_str()))
        }
    }
}

fn read(request: &SubscriptionCommandRequest) -> Result<String, Problem> {
    let mut errors = Vec::new();
    if request.command != "drop" {
        let detail = "unknown command; there is drop".to_owned();
        errors.push(Invalid { pointer: "/command".to_owned(), detail });
    }
    // Such a name is not listed, and no question for the database.
    if request.subscription.contains('\0') {
        let detail = "no name of a subscription".to_owned();
        errors.push(Invalid { pointer: "/subscription".to_owned(), detail });
    }
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid)).ok();
    reason.filter(|_| errors.is_empty()).ok_or_else(|| {
        Problem::new(Code::InvalidCommand, "this is not a command; see errors").with_errors(errors)
    })
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownEvent, "nothing waits for a subscription of this name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_and_has_a_reason() {
        let request =
            |command: &str, subscription: &str, reason: &str| SubscriptionCommandRequest {
                command: command.to_owned(),
                subscription: subscription.to_owned(),
                reason: reason.to_owned(),
            };
        assert_eq!(read(&request("drop", "events", " why ")), Ok("why".to_owned()));
        let problem = read(&request("explode", "\0", "\n")).expect_err("refused");
        assert_eq!(problem.code(), Code::InvalidCommand);
        let wrong: Vec<_> = problem.errors().iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(wrong, ["/command", "/subscription", "/reason"]);
    }
}
