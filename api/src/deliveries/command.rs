//! `POST /deliveries/{id}/commands`: has what came in carried out after all.

use std::sync::Arc;

use amends::Delivery;
use amends::delivery::{Conclusion, DeliveryOutcome, DeliveryView};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::show::unknown;
use crate::app::{App, uncancelled};
use crate::auth::Actor;
use crate::body::JsonBytes;
use crate::instances::command::reason;
use crate::intake::draft::{Correction, Failed};
use crate::intake::news;
use crate::intake::signed;
use crate::json;
use crate::openapi::Commanding;
use crate::path::Id;
use crate::problem::{Code, Invalid, Problem};
use crate::webhook::{self, Translated};

/// What is asked for, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryCommandRequest {
    /// `retry`: it is translated again, as this build does it.
    #[schema(example = "retry", pattern = "^retry$")]
    pub command: String,
    /// Why; it is recorded with the name of the token.
    #[schema(example = "the mapping is mended", min_length = 1, max_length = 500)]
    pub reason: String,
}

/// What has become of the delivery.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryAnswer {
    /// `started`, `duplicate`, `ignored`, or what it was before, if it had not failed.
    #[schema(example = "started")]
    pub outcome: String,
    /// What it started, or what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Uuid>,
}

/// Translates again what could not be carried out when it came. However often this is asked, and by
/// however many, an order is carried out once. What has not failed stays as it is.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/commands",
    operation_id = "command_delivery",
    tag = "intake",
    params(("id" = Uuid, Path, description = "The delivery")),
    request_body = DeliveryCommandRequest,
    responses(
        (status = 200, description = "What has become of it", body = DeliveryAnswer), Commanding
    )
)]
pub(crate) async fn command(
    State(app): State<App>,
    Actor(actor): Actor,
    Id(delivery_id): Id,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<DeliveryAnswer>, Problem> {
    let reason = read(&json::parse(&bytes, Code::InvalidCommand)?)?;
    let order = Ordered { delivery_id, correction: Correction::default(), actor, reason };
    uncancelled(carry_out(app, order)).await.map(Json)
}

fn read(request: &DeliveryCommandRequest) -> Result<String, Problem> {
    let mut errors = Vec::new();
    if request.command != "retry" {
        let detail = "unknown command; there is retry".to_owned();
        errors.push(Invalid { pointer: "/command".to_owned(), detail });
    }
    let reason = reason(&request.reason).map_err(|invalid| errors.push(invalid)).ok();
    reason.filter(|_| errors.is_empty()).ok_or_else(|| {
        Problem::new(Code::InvalidCommand, "this is not a command; see errors").with_errors(errors)
    })
}

/// What a person wants carried out.
pub(crate) struct Ordered {
    pub(crate) delivery_id: Uuid,
    pub(crate) correction: Correction,
    pub(crate) actor: Arc<str>,
    pub(crate) reason: String,
}

/// Carries out what came in and has failed, as a person has mended it.
pub(crate) async fn carry_out(app: App, ordered: Ordered) -> Result<DeliveryAnswer, Problem> {
    let Ordered { delivery_id, correction, actor, reason } = ordered;
    let engine = app.engine();
    let (view, body) = engine.delivery(delivery_id).await?.ok_or_else(unknown)?;
    let is_open = match view.outcome {
        DeliveryOutcome::Failed => true,
        DeliveryOutcome::Ignored => correction.anyway,
        DeliveryOutcome::Started
        | DeliveryOutcome::Signalled
        | DeliveryOutcome::Duplicate
        | DeliveryOutcome::Stale => false,
    };
    if !is_open {
        return Ok(answer(view.outcome, view.instance_id));
    }
    let DeliveryView { source, external_id, received_at, .. } = view;
    let named = (&*source, &*external_id);
    let translated = webhook::translate(named, &body, received_at, &correction);
    let person = (&*actor, &*reason);
    match translated {
        Some(Translated::Order(news)) => {
            let delivery = Delivery { source, external_id, body };
            let named = (&delivery, news::Id::Own);
            let (outcome, instance_id) =
                signed::carry_out(&app, &news, named, delivery_id, Some(person)).await?;
            Ok(answer(outcome, Some(instance_id)))
        }
        Some(Translated::Refunded(refunded)) => {
            let named = (delivery_id, &*source);
            match news::hear_refunds_again(&app, &refunded, named, person).await? {
                Ok((outcome, instance_id)) => Ok(answer(outcome, instance_id)),
                Err(failed) => Err(still_failed(failed)),
            }
        }
        Some(Translated::Ignored { .. }) => {
            let outcome = DeliveryOutcome::Ignored;
            let conclusion = Conclusion { outcome, reason: None, instance_id: None, as_of: None };
            engine.conclude_delivery(delivery_id, conclusion, person).await?;
            Ok(answer(outcome, None))
        }
        Some(Translated::Failed(failed) | Translated::FailedNews(failed)) => {
            Err(still_failed(failed))
        }
        None => {
            let detail = "it came from no platform whose deliveries can be translated";
            Err(Problem::new(Code::DeliveryFailed, detail))
        }
    }
}

fn answer(outcome: DeliveryOutcome, instance_id: Option<Uuid>) -> DeliveryAnswer {
    DeliveryAnswer { outcome: outcome.as_str().to_owned(), instance_id }
}

fn still_failed(failed: Failed) -> Problem {
    let detail = format!("it still cannot be carried out ({}); see errors", failed.code);
    let error = |it: amends::intake_case::CaseProblem| Invalid {
        pointer: it.field.unwrap_or(it.pointer),
        detail: it.detail,
    };
    let errors = failed.problems.into_iter().map(error).collect();
    Problem::new(Code::DeliveryFailed, detail).with_errors(errors)
}
