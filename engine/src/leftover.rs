//! Events of subscriptions that no worker has any more, and what people may ask of them.
//!
//! A subscription that is renamed or taken out of a build leaves what was not delivered behind. Once
//! it has been gone for a while, its events are taken out of the outbox, so that no relay walks
//! them, and kept until somebody has the subscription again or a person drops them.

use chrono::{DateTime, Utc};

use crate::engine::Engine;
use crate::error::Error;
use crate::limits;
use crate::limits::refuse_person;
use crate::store::leftover::{self, Given};
use crate::worker::{Worker, new_id};

/// A subscription that no worker has, and whose events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name.
    pub subscription: String,
    /// Since when nobody has it, as far as anybody has seen.
    pub gone_since: DateTime<Utc>,
    /// How many events wait for it.
    pub events: i64,
    /// When the oldest of them was published.
    pub oldest: Option<DateTime<Utc>>,
}

/// What a person is told who wanted the events of a subscription dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionAnswer {
    /// They are gone.
    Dropped {
        /// How many they were.
        events: u64,
    },
    /// A worker has the subscription: its events will be delivered.
    InUse,
}

impl SubscriptionAnswer {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped { .. } => "dropped",
            Self::InUse => "in_use",
        }
    }
}

/// What a person asked of such a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionCommandView {
    /// The subscription.
    pub subscription: String,
    /// Always `drop`.
    pub command: String,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was answered.
    pub answer: String,
    /// How many events were dropped.
    pub events: i64,
    /// When.
    pub given_at: DateTime<Utc>,
}

impl Engine {
    /// Subscriptions that no worker has and whose events wait, by name.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        Ok(leftover::leftovers(self.parts().store.reading()).await?)
    }

    /// What people have asked of such subscriptions, newest first, up to `limit`.
    pub async fn subscription_commands(
        &self,
        limit: u32,
    ) -> Result<Vec<SubscriptionCommandView>, Error> {
        Ok(leftover::commands(self.parts().store.reading(), limit).await?)
    }

    /// Drops every event that waits for a subscription that no worker has, on behalf of `actor`: no
    /// receiver will ever be told of them. `None`: nothing waits for such a subscription.
    ///
    /// The command and its answer are kept, refusals too.
    pub async fn drop_leftover(
        &self,
        subscription: &str,
        actor: &str,
        reason: &str,
    ) -> Result<Option<SubscriptionAnswer>, Error> {
        refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let parts = self.parts();
        let given = Given {
            command_id: new_id(),
            subscription: subscription.to_owned(),
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            now: parts.clock.now(),
        };
        let dropped = parts.store.transact(move |connection| {
            Box::pin(async move { leftover::drop_events(connection, given).await })
        });
        dropped.await
    }
}

impl Worker {
    /// Takes events out of the outbox whose subscription no worker has. Returns how many.
    pub(crate) async fn lay_aside_leftovers(&self) -> Result<usize, Error> {
        let (store, now) = (&self.store, self.clock.now());
        let before = now - limits::SUBSCRIPTION_GONE_WAIT;
        let mut all = 0;
        for subscription in leftover::gone_before(store.pool(), before, now).await? {
            let (mut from, mut moved) = (0, 0);
            loop {
                let name = subscription.clone();
                let (last, count) = store
                    .transact(move |connection| {
                        Box::pin(async move { leftover::lay_aside(connection, &name, from).await })
                    })
                    .await?;
                if count == 0 {
                    break;
                }
                (from, moved) = (last, moved + count);
            }
            if moved > 0 {
                tracing::warn!(
                    subscription,
                    events = moved,
                    "{moved} events of {subscription} wait for nobody: no server has this subscription"
                );
            }
            all += moved;
        }
        self.metrics.events_left.set(leftover::count(store.pool()).await?);
        Ok(all as usize)
    }
}
