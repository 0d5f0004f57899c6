//! What a shop has signed: the body is always kept, and outranks what a token has sent.
//!
//! The id of a delivery is not signed. A body that comes without a sound one, or under an id that
//! another body came under, is kept under its own digest, as a delivery of its own.

use amends::delivery::DeliveryOutcome;
use amends::intake_case::{NewCase, Opened, Origin, Stop};
use amends::{Delivery, Error, Event, Recorded, Started, Verdict, Workflow};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::Order;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::differences;
use super::draft::Failed;
use crate::app::App;
use crate::metrics::Conflict;
use crate::orders::create;
use crate::problem::Problem;
use crate::webhook::{Translated, is_signed};

/// The order that was started by a token is not the one that its shop has signed.
pub(crate) const ORDER_CONFLICT: &str = "ORDER_CONFLICT";
/// The shop has signed two different orders under one order id.
pub(crate) const ORDER_CHANGED: &str = "ORDER_CHANGED";
/// The same, and the second came as a repetition of the first.
pub(crate) const DELIVERY_ID_REUSED: &str = "DELIVERY_ID_REUSED";
/// The order is too large, or holds what cannot be stored.
const ORDER_REFUSED: &str = "ORDER_REFUSED";

/// Who carries out what a sender has sent again.
const ACTOR: &str = "amends";

/// Whether a delivery kept the id that it came under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Own,
    Reused,
}

/// Does what is to be done about a delivery, once. When this returns, its body is durable, and if a
/// person has to see to it, so is the case.
pub(crate) async fn take_in(
    app: App,
    delivery: Delivery,
    translated: Translated,
) -> Result<(), Problem> {
    match translated {
        Translated::Start(order) => match start(&app, &order, delivery.clone()).await {
            Err(Refusal::Input(why)) => {
                let business_key = Some(order.business_key());
                let failed = Failed { business_key, ..Failed::at(ORDER_REFUSED, "", &why) };
                keep_failed(&app, delivery, failed).await
            }
            Err(Refusal::Other(problem)) => Err(problem),
            Ok(()) => Ok(()),
        },
        Translated::Ignored { reason, business_key } => {
            let verdict = Verdict { business_key, ..Verdict::ignored(reason) };
            keep(&app, delivery, verdict).await.map(drop)
        }
        Translated::Failed(failed) => keep_failed(&app, delivery, failed).await,
    }
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

async fn start(app: &App, order: &Order, delivery: Delivery) -> Result<(), Refusal> {
    let engine = app.engine();
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
    match engine.origin(instance_id).await? {
        Some(origin) => Ok(compare(app, order, &delivery, instance_id, &origin, id).await?),
        // It came before, and could not be carried out then.
        None => {
            carry_out(app, order, &delivery, instance_id, (ACTOR, "it came again")).await?;
            Ok(())
        }
    }
}

/// Starts the order of a delivery that was kept before and had started nothing, and says what has
/// become of it.
pub(crate) async fn carry_out(
    app: &App,
    order: &Order,
    delivery: &Delivery,
    delivery_id: Uuid,
    person: (&str, &str),
) -> Result<(DeliveryOutcome, Uuid), Problem> {
    let engine = app.engine();
    let started = engine.start_kept(delivery_id, create::start(order, None)?).await?;
    let (outcome, instance_id) = match started {
        Started::New(instance_id) | Started::Replayed(instance_id) => {
            (DeliveryOutcome::Started, instance_id)
        }
        Started::Duplicate(instance_id) => {
            let origin = engine.origin(instance_id).await?.ok_or_else(Problem::internal)?;
            compare(app, order, delivery, instance_id, &origin, Id::Own).await?;
            (DeliveryOutcome::Duplicate, instance_id)
        }
        Started::Conflict => return Err(Problem::internal()),
    };
    engine.conclude_delivery(delivery_id, outcome, Some(instance_id), person).await?;
    Ok((outcome, instance_id))
}

/// Puts it to a person if an order says something else than what was started with its key.
async fn compare(
    app: &App,
    order: &Order,
    delivery: &Delivery,
    instance_id: Uuid,
    origin: &Origin,
    id: Id,
) -> Result<(), Problem> {
    if is_of(origin, delivery) {
        return Ok(());
    }
    let differences = differences(origin, order);
    if differences.is_empty() {
        return Ok(());
    }
    open_case(app, contradiction(order, delivery, instance_id, origin, id, &differences)).await
}

/// Keeps a delivery that starts nothing. Returns it as it is kept.
async fn keep(
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
async fn keep_failed(app: &App, delivery: Delivery, failed: Failed) -> Result<(), Problem> {
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
    open_case(app, failure(delivery, failed)).await
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

/// The case of a delivery that cannot be carried out as it is.
fn failure(delivery: Delivery, failed: Failed) -> NewCase {
    let message = failed.message();
    let event = Event::new(
        failed.code,
        &json!({ "business_key": failed.business_key, "source": delivery.source }),
    );
    NewCase {
        source: delivery.source,
        external_id: delivery.external_id,
        workflow: Fulfilment::NAME.to_owned(),
        business_key: failed.business_key,
        instance_id: None,
        stop: Stop::No,
        message,
        problems: failed.problems,
        event,
    }
}

/// The case of an order that contradicts what was started with its key.
fn contradiction(
    order: &Order,
    delivery: &Delivery,
    instance_id: Uuid,
    origin: &Origin,
    id: Id,
    differences: &[&str],
) -> NewCase {
    let started_by = origin.delivery.as_ref().map_or("nobody", |(source, _)| source.as_str());
    let (code, stop) = match id {
        _ if !is_signed(started_by) => (ORDER_CONFLICT, Stop::BeforePivot),
        Id::Own => (ORDER_CHANGED, Stop::No),
        Id::Reused => (DELIVERY_ID_REUSED, Stop::No),
    };
    let differences = differences.join(", ");
    let what = "the order that its shop has signed differs from the one that was started by";
    let message = format!("{what} {started_by}, in {differences}");
    let business_key = order.business_key();
    let event = Event::new(
        code,
        &json!({
            "business_key": business_key,
            "instance_id": instance_id,
            "source": delivery.source,
            "started_by": started_by,
            "differences": differences,
        }),
    );
    NewCase {
        source: delivery.source.clone(),
        external_id: delivery.external_id.clone(),
        workflow: Fulfilment::NAME.to_owned(),
        business_key: Some(business_key),
        instance_id: Some(instance_id),
        stop,
        message,
        problems: Vec::new(),
        event,
    }
}

async fn open_case(app: &App, case: NewCase) -> Result<(), Problem> {
    let (code, source, message) = (case.event.kind, case.source.clone(), case.message.clone());
    let (instance_id, business_key) = (case.instance_id, case.business_key.clone());
    if let Opened::New { case_id, held } = app.engine().open_case(case).await? {
        app.metrics().opened(code);
        tracing::warn!(
            %case_id,
            code,
            source,
            business_key,
            ?instance_id,
            held,
            "a case for a person: {code}: {message}"
        );
    }
    Ok(())
}
