//! What came in from outside, and what became of it.
//!
//! A delivery is kept as it came, and never changes. What became of it stands beside it: an instance
//! that it started has its id; one that starts nothing says so when it is received; and what became
//! of it later is added, such as when a person has it carried out after all.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::engine::{Engine, Start, Started};
use crate::error::Error;
use crate::history::micros;
use crate::intake::{self, Birth};
use crate::limits::refuse_person;
use crate::store::delivery::{self, NewOutcome};
use crate::store::write::Written;

/// One request received from outside, kept as it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Who sent it, such as `shopify/acme.myshopify.com`.
    pub source: String,
    /// The sender's own id for it; one (source, id) starts at most one instance.
    pub external_id: String,
    /// The body, to the byte.
    pub body: Vec<u8>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It has started an instance.
    Started,
    /// It was handed to the instance that it is about.
    Signalled,
    /// Nothing is to be done about it.
    Ignored,
    /// Its instance was there already.
    Duplicate,
    /// Newer news of the same had come before.
    Stale,
    /// It cannot be carried out as it is; a person decides.
    Failed,
}

impl DeliveryOutcome {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Started, Self::Signalled, Self::Ignored, Self::Duplicate, Self::Stale, Self::Failed];

    /// As stored, and as written in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Signalled => "signalled",
            Self::Ignored => "ignored",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DeliveryOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for DeliveryOutcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        named.ok_or_else(|| Error::Stored(format!("{text:?} is no outcome of a delivery")))
    }
}

/// What a delivery that starts nothing comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: DeliveryOutcome,
    /// Why, as a stable code.
    pub reason: String,
    /// What it is about, if that is known.
    pub business_key: Option<String>,
}

impl Verdict {
    /// Nothing is to be done about it.
    #[must_use]
    pub fn ignored(reason: &str) -> Self {
        let outcome = DeliveryOutcome::Ignored;
        Self { outcome, reason: reason.to_owned(), business_key: None }
    }
}

/// What became of a delivery that starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable, under this id.
    New(Uuid),
    /// It was durable before, with the same body, under this id.
    Known(Uuid),
    /// Its id was used before with another body. Nothing was stored.
    Conflict,
}

/// What has become of a delivery after it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What has become of it.
    pub outcome: DeliveryOutcome,
    /// Why, as a stable code, where the outcome needs one.
    pub reason: Option<String>,
    /// What it started, or was handed to.
    pub instance_id: Option<Uuid>,
    /// As of when it says what it says of that, by its sender's clock; none if it was stale.
    pub as_of: Option<DateTime<Utc>>,
}

/// A delivery with what it said of an instance, later than all others.
#[derive(Debug, Clone)]
pub struct LatestNews {
    /// As of when, by its sender's clock.
    pub as_of: DateTime<Utc>,
    /// The delivery.
    pub delivery: Delivery,
    /// When it was received.
    pub received_at: DateTime<Utc>,
}

/// Which deliveries to list. Everything given must match.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// To which this happened last. What has started something and what came beside it are found
    /// by what they are about.
    pub outcome: Option<DeliveryOutcome>,
    /// About this business key of a workflow.
    pub about: Option<(String, String)>,
    /// Received before this one.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
}

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// Its id; ids grow with the time of receipt.
    pub delivery_id: Uuid,
    /// Who sent it.
    pub source: String,
    /// The sender's id of it.
    pub external_id: String,
    /// What it is about, if that is known.
    pub business_key: Option<String>,
    /// What became of it last.
    pub outcome: DeliveryOutcome,
    /// Why, where the outcome needs a reason.
    pub reason: Option<String>,
    /// What it started, or was handed to.
    pub instance_id: Option<Uuid>,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// How large its body is.
    pub body_bytes: i64,
    /// Who had it carried out later, if somebody has.
    pub decided_by: Option<String>,
    /// What they said of it.
    pub note: Option<String>,
    /// When.
    pub decided_at: Option<DateTime<Utc>>,
}

impl Engine {
    /// Keeps a delivery that starts nothing, with what it comes to. Safe to repeat.
    pub async fn record_delivery(
        &self,
        delivery: Delivery,
        verdict: Verdict,
    ) -> Result<Recorded, Error> {
        self.permit_intake()?;
        let worker = self.worker();
        let write = intake::delivery_only(&worker, delivery, verdict)?;
        let delivery_id = write.instance_id;
        match worker.committer.take_in(write).await? {
            Written::Yes => Ok(Recorded::New(delivery_id)),
            Written::Replayed(known) | Written::Duplicate(known) => Ok(Recorded::Known(known)),
            Written::Conflict => Ok(Recorded::Conflict),
            Written::Refused(error) => Err(Error::InvalidInput(error)),
            Written::Fenced | Written::UnreadMail => Err(Error::Unavailable),
        }
    }

    /// Starts an instance for a delivery that was kept before and had started nothing. Safe to
    /// repeat; the instance has the delivery's id.
    pub async fn start_kept(&self, delivery_id: Uuid, start: Start) -> Result<Started, Error> {
        if self.instance(delivery_id).await?.is_some() {
            return Ok(Started::Replayed(delivery_id));
        }
        let birth = Birth::under(delivery_id);
        let engine = self.clone();
        let started = tokio::spawn(async move { engine.give_birth(start, birth).await });
        Ok(match started.await.unwrap_or(Err(Error::Unavailable))? {
            // Somebody else has started it at the same moment.
            Started::Duplicate(instance_id) if instance_id == delivery_id => {
                Started::Replayed(delivery_id)
            }
            started => started,
        })
    }

    /// Notes what has become of a delivery now that `actor` had it carried out, and why they did.
    /// Unless it failed, its case is settled with it.
    pub async fn conclude_delivery(
        &self,
        delivery_id: Uuid,
        conclusion: Conclusion,
        (actor, note): (&str, &str),
    ) -> Result<(), Error> {
        refuse_person(actor, note).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let at = micros(self.worker().clock.now());
        let (actor, note) = (actor.to_owned(), note.to_owned());
        let outcome = NewOutcome { delivery_id, conclusion, actor, note, at };
        let transacted = self.parts().store.transact(move |connection| {
            Box::pin(async move { delivery::conclude(connection, &outcome).await })
        });
        transacted.await
    }

    /// Deliveries that match `filter`, newest first.
    pub async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, Error> {
        delivery::list(self.parts().store.reading(), filter).await
    }

    /// One delivery as it stands, with its body to the byte.
    pub async fn delivery(&self, id: Uuid) -> Result<Option<(DeliveryView, Vec<u8>)>, Error> {
        delivery::show(self.parts().store.reading(), id).await
    }

    /// The delivery that its sender knows by this id, as it stands.
    pub async fn delivery_of(
        &self,
        source: &str,
        external_id: &str,
    ) -> Result<Option<DeliveryView>, Error> {
        delivery::of(self.parts().store.reading(), source, external_id).await
    }

    /// The latest news of an instance, by the clock of who sends it; `but` this delivery's.
    pub async fn latest_news(
        &self,
        instance_id: Uuid,
        but: Uuid,
    ) -> Result<Option<LatestNews>, Error> {
        delivery::latest_news(self.parts().store.reading(), instance_id, but).await
    }
}
