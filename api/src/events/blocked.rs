//! `GET /events/blocked`: keys whose oldest event cannot be delivered, all or those of an instance.

use amends::blocked::{BlockedKey, KeyCommandView};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::instances::show::unknown;
use crate::openapi::{Overview, Showing};
use crate::path::Id;
use crate::problem::Problem;

const KEYS_MAX: u32 = 100;
const COMMANDS_MAX: u32 = 20;

/// Keys whose oldest event cannot be delivered, and what people asked of such keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BlockedEvents {
    /// The keys, 100 at most: those that wait for a person first, and then by age.
    pub items: Vec<BlockedEvent>,
    /// What people asked last, newest first, 20 at most.
    pub commands: Vec<EventCommand>,
}

/// The oldest event of a key, which cannot be delivered. Later events of the key wait behind it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BlockedEvent {
    /// The subscription whose receiver does not take it.
    #[schema(example = "events")]
    pub subscription: String,
    /// The key within which events arrive in order.
    #[schema(example = "acme.myshopify.com/5940139491234")]
    pub key: String,
    /// The event, by the id that its receiver sees.
    #[schema(example = "01939f6c-54c0-7f2e-8f49-3c1b0a5e7d11/3")]
    pub event_id: String,
    /// The instance that published it.
    pub instance_id: Uuid,
    /// `retrying`: it is tried again by itself; `parked`: its receiver takes other events and not
    /// this one, and a person has to decide.
    #[schema(example = "parked")]
    pub state: String,
    /// How often it was tried.
    #[schema(example = 13)]
    pub attempts: u32,
    /// When it was tried first.
    pub since: DateTime<Utc>,
    /// What came of the last attempt.
    #[schema(example = "the receiver answered 422 Unprocessable Entity")]
    pub error: String,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

impl From<BlockedKey> for BlockedEvent {
    fn from(blocked: BlockedKey) -> Self {
        let state = if blocked.next_try_at.is_some() { "retrying" } else { "parked" };
        Self {
            subscription: blocked.subscription,
            key: blocked.key,
            event_id: blocked.event_id,
            instance_id: blocked.instance_id,
            state: state.to_owned(),
            attempts: blocked.attempts,
            since: blocked.since,
            error: blocked.error,
            next_try_at: blocked.next_try_at,
        }
    }
}

/// What a person asked of a blocked event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventCommand {
    /// The subscription.
    #[schema(example = "events")]
    pub subscription: String,
    /// The key.
    pub key: String,
    /// The event that was meant.
    pub event_id: String,
    /// `retry` or `skip`.
    #[schema(example = "skip")]
    pub command: String,
    /// Who asked.
    #[schema(example = "anna")]
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was answered.
    #[schema(example = "accepted")]
    pub answer: String,
    /// When.
    pub given_at: DateTime<Utc>,
}

impl From<KeyCommandView> for EventCommand {
    fn from(view: KeyCommandView) -> Self {
        let KeyCommandView { subscription, key, event_id, command, .. } = view;
        let KeyCommandView { actor, reason, answer, given_at, .. } = view;
        Self { subscription, key, event_id, command, actor, reason, answer, given_at }
    }
}

/// Lists the keys whose oldest event cannot be delivered: those that wait for a person first.
#[utoipa::path(
    get,
    path = "/events/blocked",
    operation_id = "list_blocked_events",
    tag = "events",
    responses((status = 200, description = "What is blocked", body = BlockedEvents), Overview)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<BlockedEvents>, Problem> {
    Ok(Json(find(&app, None).await?))
}

/// Shows which events of an instance cannot be delivered, and what people asked about its events.
#[utoipa::path(
    get,
    path = "/instances/{id}/events/blocked",
    operation_id = "show_blocked_events",
    tag = "instances",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 200, description = "What is blocked", body = BlockedEvents), Showing)
)]
pub(crate) async fn show(
    State(app): State<App>,
    Id(instance_id): Id,
) -> Result<Json<BlockedEvents>, Problem> {
    app.engine().instance(instance_id).await?.ok_or_else(unknown)?;
    Ok(Json(find(&app, Some(instance_id)).await?))
}

async fn find(app: &App, instance_id: Option<Uuid>) -> Result<BlockedEvents, Problem> {
    let items = app.engine().blocked_keys(instance_id, KEYS_MAX).await?;
    let commands = app.engine().key_commands(instance_id, COMMANDS_MAX).await?;
    Ok(BlockedEvents {
        items: items.into_iter().map(BlockedEvent::from).collect(),
        commands: commands.into_iter().map(EventCommand::from).collect(),
    })
}
