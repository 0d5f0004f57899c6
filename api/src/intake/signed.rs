//! What a shop has signed: the body is always kept, and outranks what a token has sent.
//!
//! The id of a delivery is not signed. A body that comes without a sound one, or under an id that
//! another body came under, is kept under its own digest, as a delivery of its own.

use amends::delivery::{Conclusion, DeliveryOutcome};
use amends::intake_case::Origin;
use amends::{Delivery, Error, Recorded, Started, Verdict};
use amends_workflows::order::Order;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::draft::Failed;
use super::new_case;
use super::news::{self, Heard, Id, News, ORDER_UNKNOWN};
use crate::app::App;
use crate::metrics::Conflict;
use crate::orders::create;
use crate::problem::Problem;
use crate::webhook::Translated;

/// The order is too large, or holds what cannot be stored.
const ORDER_REFUSED: &str = "ORDER_REFUSED";

/// Who carries out what a sender has sent again, and why.
const CAME_AGAIN: (&str, &str) = ("amends", "it came again");

/// Does what is to be done about a delivery, once. When this returns, its body is durable, and if a
/// person has to see to it, so is the case.
pub(crate) async fn take_in(
    app: App,
    delivery: Delivery,
    translated: Translated,
) -> Result<(), Problem> {
    match translated {
        Translated::Order(news) => start_or_keep(&app, &news, delivery).await,
        Translated::Refunded(refunded) => news::hear_refunds(&app, refunded, delivery).await,
        Translated::Ignored { reason, business_key } => {
            let verdict = Verdict { business_key, ..Verdict::ignored(reason) };
            keep(&app, delivery, verdict).await.map(drop)
        }
        Translated::Failed(failed) => fill_in_or_keep(&app, delivery, failed, true).await,
        Translated::FailedNews(failed) => fill_in_or_keep(&app, delivery, failed, false).await,
    }
}

async fn start_or_keep(app: &App, news: &News, delivery: Delivery) -> Result<(), Problem> {
    match start(app, news, delivery.clone()).await {
        Err(Refusal::Input(why)) => {
            let business_key = Some(news.order.business_key());
            let failed = Failed { business_key, ..Failed::at(ORDER_REFUSED, "", &why) };
            keep_failed(app, delivery, failed).await
        }
        Err(Refusal::Other(problem)) => Err(problem),
        Ok(()) => Ok(()),
    }
}

/// Keeps what cannot be carried out as it is. If it is about an order that was started, what a person
/// has filled in by then counts here, too.
async fn fill_in_or_keep(
    app: &App,
    delivery: Delivery,
    failed: Failed,
    starts: bool,
) -> Result<(), Problem> {
    let started = match &failed.business_key {
        Some(business_key) => news::started(app, business_key).await?,
        None => None,
    };
    match started {
        Some(instance) => match news::filled_in(app, instance.instance_id, &delivery).await? {
            Some(news) => start_or_keep(app, &news, delivery).await,
            None => keep_failed(app, delivery, failed).await,
        },
        None if starts => keep_failed(app, delivery, failed).await,
        None => keep_unknown(app, delivery, failed.business_key).await,
    }
}

/// Keeps news of something that was not started here.
pub(super) async fn keep_unknown(
    app: &App,
    delivery: Delivery,
    business_key: Option<String>,
) -> Result<(), Problem> {
    let verdict = Verdict { business_key, ..Verdict::ignored(ORDER_UNKNOWN) };
    keep(app, delivery, verdict).await.map(drop)
}

/// Why an order was not started.
enum Refusal {
    /// The engine cannot keep what it would be started with.
    Input(String),
    /// Anything else; it may be sent again.
    Other(Problem),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidInput(why) => Self::Input(why),
            error => Self::Other(error.into()),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Other(problem)
    }
}

async fn start(app: &App, news: &News, delivery: Delivery) -> Result<(), Refusal> {
    let (engine, order) = (app.engine(), &news.order);
    let business_key = order.business_key();
    if !news.starts && news::started(app, &business_key).await?.is_none() {
        return Ok(keep_unknown(app, delivery, Some(business_key)).await?);
    }
    let (mut delivery, mut id) = (delivery, Id::Own);
    let mut started = engine.start(create::start(order, Some(delivery.clone()))?).await?;
    if started == Started::Conflict {
        (delivery, id) = (reused(app, delivery, Some(order)), Id::Reused);
        started = engine.start(create::start(order, Some(delivery.clone()))?).await?;
    }
    let instance_id = match started {
        Started::New(_) => return Ok(()),
        Started::Replayed(instance_id) | Started::Duplicate(instance_id) => instance_id,
        // Two bodies of one digest.
        Started::Conflict => return Err(Problem::internal().into()),
    };
    // Also of a repetition: what it was kept for may not have been heard.
    if engine.instance(instance_id).await?.is_some() {
        let heard = Heard { delivery: &delivery, id, instance_id, person: None };
        news::hear(app, news, heard).await?;
    } else {
        // It came before, and was not carried out then.
        carry_out(app, news, (&delivery, id), instance_id, None).await?;
    }
    Ok(())
}

/// Starts the order of a delivery that was kept before and had started nothing, or does what it says
/// of what was started meanwhile, and notes what has become of it. Nobody asks for it if it came
/// again.
pub(crate) async fn carry_out(
    app: &App,
    news: &News,
    (delivery, id): (&Delivery, Id),
    delivery_id: Uuid,
    person: Option<(&str, &str)>,
) -> Result<(DeliveryOutcome, Uuid), Problem> {
    let engine = app.engine();
    let started = engine.start_kept(delivery_id, create::start(&news.order, None)?).await?;
    let instance_id = match started {
        Started::New(instance_id) | Started::Replayed(instance_id) => instance_id,
        Started::Duplicate(instance_id) => {
            let heard = Heard { delivery, id, instance_id, person };
            return Ok((news::hear(app, news, heard).await?, instance_id));
        }
        Started::Conflict => return Err(Problem::internal()),
    };
    let conclusion = Conclusion {
        outcome: DeliveryOutcome::Started,
        reason: None,
        instance_id: Some(instance_id),
        as_of: None,
    };
    engine.conclude_delivery(delivery_id, conclusion, person.unwrap_or(CAME_AGAIN)).await?;
    Ok((DeliveryOutcome::Started, instance_id))
}

/// Keeps a delivery that starts nothing. Returns it as it is kept.
pub(super) async fn keep(
    app: &App,
    mut delivery: Delivery,
    verdict: Verdict,
) -> Result<(Delivery, Recorded), Problem> {
    let engine = app.engine();
    let mut recorded = engine.record_delivery(delivery.clone(), verdict.clone()).await?;
    if recorded == Recorded::Conflict {
        delivery = reused(app, delivery, None);
        recorded = engine.record_delivery(delivery.clone(), verdict).await?;
    }
    Ok((delivery, recorded))
}

/// Keeps a delivery that cannot be carried out as it is, and puts it to a person.
pub(super) async fn keep_failed(
    app: &App,
    delivery: Delivery,
    failed: Failed,
) -> Result<(), Problem> {
    let verdict = Verdict {
        outcome: DeliveryOutcome::Failed,
        reason: failed.code.to_owned(),
        business_key: failed.business_key.clone(),
    };
    let (delivery, recorded) = keep(app, delivery, verdict).await?;
    if let Recorded::Known(delivery_id) = recorded {
        let known = app.engine().delivery(delivery_id).await?;
        // A person may have seen to it meanwhile.
        if known.is_none_or(|(known, _)| known.outcome != DeliveryOutcome::Failed) {
            return Ok(());
        }
    }
    new_case::open(app, new_case::failure(&delivery, failed)).await
}

/// The same delivery under an id that no other body can have, since its own was used before.
fn reused(app: &App, delivery: Delivery, order: Option<&Order>) -> Delivery {
    let business_key = order.map(Order::business_key).unwrap_or_default();
    tracing::warn!(
        source = delivery.source,
        external_id = delivery.external_id,
        business_key,
        "the id of a webhook came before with another body; it is kept under its digest"
    );
    app.metrics().met(Conflict::WebhookIdReused);
    under_its_digest(delivery)
}

/// The same delivery under its digest. Its source differs from that of ids that are taken from
/// headers, so none of those can be in its place.
pub(crate) fn under_its_digest(delivery: Delivery) -> Delivery {
    let digest: [u8; 32] = Sha256::digest(&delivery.body).into();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let topic = delivery.external_id.rsplit_once('/').map_or("", |(topic, _)| topic);
    Delivery {
        source: format!("{}/by-digest", delivery.source),
        external_id: format!("{topic}/sha256:{digest}"),
        body: delivery.body,
    }
}

/// Whether the instance was started by this very delivery.
pub(crate) fn is_of(origin: &Origin, delivery: &Delivery) -> bool {
    origin.delivery.as_ref().is_some_and(|(source, external_id)| {
        *source == delivery.source && *external_id == delivery.external_id
    })
}
