//! `GET /events/leftover`: events of subscriptions that no server has any more.

use amends::leftover::{Leftover, SubscriptionCommandView};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::openapi::Overview;
use crate::problem::Problem;

const COMMANDS_MAX: u32 = 20;

/// Subscriptions that no server has and whose events wait, and what people asked of such.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeftoverEvents {
    /// The subscriptions, by name.
    pub items: Vec<GoneSubscription>,
    /// What people asked last, newest first, 20 at most.
    pub commands: Vec<SubscriptionCommand>,
}

/// A subscription that no server has, and whose events wait.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GoneSubscription {
    /// Its name.
    #[schema(example = "events")]
    pub subscription: String,
    /// Since when no server has it, as far as that was seen.
    pub gone_since: DateTime<Utc>,
    /// How many events wait for it.
    #[schema(example = 412)]
    pub events: i64,
    /// When the oldest of them was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<DateTime<Utc>>,
}

impl From<Leftover> for GoneSubscription {
    fn from(leftover: Leftover) -> Self {
        let Leftover { subscription, gone_since, events, oldest } = leftover;
        Self { subscription, gone_since, events, oldest }
    }
}

/// What a person asked of such a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionCommand {
    /// The subscription.
    #[schema(example = "events")]
    pub subscription: String,
    /// Always `drop`.
    #[schema(example = "drop")]
    pub command: String,
    /// Who asked.
    #[schema(example = "anna")]
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was answered: `dropped` or `in_use`.
    #[schema(example = "dropped")]
    pub answer: String,
    /// How many events were dropped.
    #[schema(example = 412)]
    pub events: i64,
    /// When.
    pub given_at: DateTime<Utc>,
}

impl From<SubscriptionCommandView> for SubscriptionCommand {
    fn from(view: SubscriptionCommandView) -> Self {
        let SubscriptionCommandView { subscription, command, actor, reason, .. } = view;
        let SubscriptionCommandView { answer, events, given_at, .. } = view;
        Self { subscription, command, actor, reason, answer, events, given_at }
    }
}

/// Lists the subscriptions that no server has and whose events wait, by name.
#[utoipa::path(
    get,
    path = "/events/leftover",
    operation_id = "list_leftover_events",
    tag = "events",
    responses((status = 200, description = "What is left", body = LeftoverEvents), Overview)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<LeftoverEvents>, Problem> {
    let items = app.engine().leftovers().await?;
    let commands = app.engine().subscription_commands(COMMANDS_MAX).await?;
    Ok(Json(LeftoverEvents {
        items: items.into_iter().map(GoneSubscription::from).collect(),
        commands: commands.into_iter().map(SubscriptionCommand::from).collect(),
    }))
}
