//! Keys whose events cannot be delivered, and what people may ask of them.
//!
//! A key whose oldest event is refused waits, with everything behind it, and is tried again ever
//! less often. Where its subscription takes other events meanwhile, it is this event that the
//! receiver does not want: after [`crate::Settings::refusals_max`] such refusals the key is parked,
//! and a person decides. A receiver that takes nothing is down, and parks nothing.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::Error;
use crate::limits::refuse_person;
use crate::store::key_block::{self, Given};
use crate::worker::new_id;

/// A key whose oldest event could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedKey {
    /// The subscription that refuses it.
    pub subscription: String,
    /// The key; its later events wait as well.
    pub key: String,
    /// The event, by the id that its receiver sees.
    pub event_id: String,
    /// The instance that published it.
    pub instance_id: Uuid,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub since: DateTime<Utc>,
    /// What came of the last attempt.
    pub error: String,
    /// When it is tried again. `None`: when a person says so.
    pub next_try_at: Option<DateTime<Utc>>,
}

/// What a person may ask of a blocked key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCommand {
    /// Try it again now.
    Retry,
    /// Deliver [`crate::sink::SKIPPED`] in the place of the event, and go on with those behind it.
    Skip,
}

impl KeyCommand {
    /// As stored, and as written in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// What a person is told who asked something of a blocked key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAnswer {
    /// It will be done, within seconds.
    Accepted,
    /// Another event is at the head of the key by now.
    OtherEvent,
}

impl KeyAnswer {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::OtherEvent => "other_event",
        }
    }
}

/// Which event a command is about.
#[derive(Debug, Clone, Copy)]
pub struct AtHead<'a> {
    /// The subscription that refuses it.
    pub subscription: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its id.
    pub event_id: &'a str,
}

/// What a person asked of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCommandView {
    /// The subscription.
    pub subscription: String,
    /// The key.
    pub key: String,
    /// The event that was meant.
    pub event_id: String,
    /// `retry` or `skip`.
    pub command: String,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What he was told.
    pub answer: String,
    /// When.
    pub given_at: DateTime<Utc>,
}

impl Engine {
    /// Keys whose oldest event could not be delivered, up to `limit`: those that are parked first,
    /// and then by age. Those of one instance, if it is named.
    pub async fn blocked_keys(
        &self,
        instance_id: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<BlockedKey>, Error> {
        Ok(key_block::blocked(self.parts().store.reading(), instance_id, limit).await?)
    }

    /// What people have asked of keys, newest first, up to `limit`. About events of one instance, if
    /// it is named.
    pub async fn key_commands(
        &self,
        instance_id: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<KeyCommandView>, Error> {
        Ok(key_block::key_commands(self.parts().store.reading(), instance_id, limit).await?)
    }

    /// Gives a command to a blocked key on behalf of `actor`. `None`: nothing of this key is
    /// blocked.
    ///
    /// The command and its answer are kept, refusals too. Safe to repeat: it is about one event,
    /// which is delivered, or skipped, once.
    pub async fn command_key(
        &self,
        event: AtHead<'_>,
        command: KeyCommand,
        actor: &str,
        reason: &str,
    ) -> Result<Option<KeyAnswer>, Error> {
        refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let parts = self.parts();
        let given =
            Given { command_id: new_id(), event, command, actor, reason, now: parts.clock.now() };
        Ok(key_block::give_command(parts.store.reading(), given).await?)
    }
}
