//! Deliveries that a person has to decide about.
//!
//! A case is opened in one transaction with the event that tells of it and, where that is wanted,
//! with the hold on the instance that it contradicts. However often a body is delivered about an
//! instance, it is one case.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::Error;
use crate::event::Event;
use crate::history::micros;
use crate::limits::{refuse_key, refuse_person, refuse_text};
use crate::store::intake_case::{self, Settlement};
use crate::worker::new_id;

/// What a person has to decide about.
#[derive(Debug)]
pub struct NewCase {
    /// Who sent the delivery, which has been kept.
    pub source: String,
    /// The id that it was kept under.
    pub external_id: String,
    /// What it would start.
    pub workflow: String,
    /// What it is about, if that is known.
    pub business_key: Option<String>,
    /// The instance that it contradicts.
    pub instance_id: Option<Uuid>,
    /// Whether that instance is to be stopped meanwhile.
    pub stop: Stop,
    /// Why, in words; nothing personal.
    pub message: String,
    /// Where in the delivery what is wrong, if it cannot be carried out as it is.
    pub problems: Vec<CaseProblem>,
    /// What is published of it. Its kind is the code of the case.
    pub event: Event,
}

/// Something in a delivery that a person has to see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseProblem {
    /// Where in the body that was sent, as a JSON pointer; empty for all of it.
    pub pointer: String,
    /// What a person may fill in instead, as a JSON pointer into what would be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong there; never the value itself.
    pub detail: String,
}

/// Whether an instance is to go on while a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It goes on.
    No,
    /// It is held, if it has not ended, is not being undone, and has not reached its pivot.
    BeforePivot,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is new.
    New {
        /// Its id.
        case_id: Uuid,
        /// Whether the instance is held because of it.
        held: bool,
    },
    /// The same delivery was such a case before.
    Known,
}

/// Which cases to list. Everything given must match.
#[derive(Debug, Clone, Default)]
pub struct CaseFilter {
    /// Those that are settled, or those that are not.
    pub settled: Option<bool>,
    /// With this code.
    pub code: Option<String>,
    /// About this business key.
    pub business_key: Option<String>,
    /// Opened before this one.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
}

/// A case as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseView {
    /// Its id; ids grow with the time of opening.
    pub case_id: Uuid,
    /// Why a person has to decide.
    pub code: String,
    /// The same in words.
    pub message: String,
    /// Who sent the delivery.
    pub source: String,
    /// The delivery, whose body is kept to the byte.
    pub delivery_id: Uuid,
    /// What it would have started.
    pub workflow: String,
    /// What it is about.
    pub business_key: Option<String>,
    /// The instance that it contradicts.
    pub instance_id: Option<Uuid>,
    /// Whether that instance was held because of it.
    pub held: bool,
    /// Where in the delivery what is wrong.
    pub problems: Vec<CaseProblem>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When a person settled it, if one has.
    pub settled_at: Option<DateTime<Utc>>,
    /// Who did.
    pub settled_by: Option<String>,
    /// Why.
    pub settled_reason: Option<String>,
}

/// What a person is told who settles a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseAnswer {
    /// It is settled now.
    Accepted,
    /// It was settled before.
    AlreadySettled,
}

impl CaseAnswer {
    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadySettled => "already_settled",
        }
    }
}

/// What an instance was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its input, as JSON.
    pub input: String,
    /// Source and id of the delivery that started it, if one did.
    pub delivery: Option<(String, String)>,
}

impl Engine {
    /// What an instance was started with. `None`: there is no such instance.
    pub async fn origin(&self, instance_id: Uuid) -> Result<Option<Origin>, Error> {
        intake_case::origin(self.parts().store.reading(), instance_id).await
    }

    /// Puts a delivery to a person; the case and its event are durable when this returns.
    ///
    /// Safe to repeat. The delivery must have been kept before.
    pub async fn open_case(&self, case: NewCase) -> Result<Opened, Error> {
        self.permit_intake()?;
        let refused = refuse_text("the message", &case.message)
            .or_else(|| case.business_key.as_deref().and_then(|key| refuse_key("the key", key)));
        refused.map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let worker = self.worker();
        let (case_id, subscriptions) = (new_id(), worker.subscriptions.names());
        let at = micros(worker.clock.now());
        let store = &self.parts().store;
        let opened = store
            .transact(move |connection| {
                Box::pin(async move {
                    intake_case::open(connection, case_id, &case, &subscriptions, at).await
                })
            })
            .await?;
        if let Opened::New { held: true, .. } = opened {
            self.nudge().await;
        }
        Ok(opened)
    }

    /// Cases that match `filter`, newest first.
    pub async fn cases(&self, filter: &CaseFilter) -> Result<Vec<CaseView>, Error> {
        intake_case::cases(self.parts().store.reading(), filter).await
    }

    /// One case as it stands.
    pub async fn case(&self, case_id: Uuid) -> Result<Option<CaseView>, Error> {
        intake_case::case(self.parts().store.reading(), case_id).await
    }

    /// Notes on behalf of `actor` that a case is dealt with. `None`: there is no such case.
    ///
    /// The command and its answer are kept, refusals too. A delivery that could not be carried out is
    /// ignored from now on. It does nothing to an instance: a hold is released by a command of its
    /// own.
    pub async fn settle_case(
        &self,
        case_id: Uuid,
        actor: &str,
        reason: &str,
    ) -> Result<Option<CaseAnswer>, Error> {
        refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let at = self.worker().clock.now();
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let settlement = Settlement { command_id: new_id(), case_id, actor, reason, at };
        self.parts()
            .store
            .transact(move |connection| {
                Box::pin(async move { intake_case::settle(connection, &settlement).await })
            })
            .await
    }
}
