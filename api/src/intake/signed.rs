//! Orders that their shop has signed: the body is always kept, and outranks what a token has sent.
//!
//! The id of a delivery is not signed. A body that comes under an id that another body came under
//! is kept under its own digest, as a delivery of its own.

use amends::intake_case::{NewCase, Opened, Origin, Stop};
use amends::{Delivery, Event, Recorded, Started, Workflow};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::Order;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::differences;
use crate::app::App;
use crate::metrics::Conflict;
use crate::orders::create;
use crate::problem::Problem;
use crate::webhook::is_signed;

/// The order that was started by a token is not the one that its shop has signed.
pub(crate) const ORDER_CONFLICT: &str = "ORDER_CONFLICT";
/// The shop has signed two different orders under one order id.
pub(crate) const ORDER_CHANGED: &str = "ORDER_CHANGED";
/// The same, and the second came as a repetition of the first.
pub(crate) const DELIVERY_ID_REUSED: &str = "DELIVERY_ID_REUSED";

/// Whether a delivery kept the id that it came under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Own,
    Reused,
}

/// Carries out a signed order, once. When this returns, its body is durable, and if it contradicts
/// what was started before, so is the case.
pub(crate) async fn start(app: App, order: Order, delivery: Delivery) -> Result<(), Problem> {
    let engine = app.engine();
    let (mut delivery, mut id) = (delivery, Id::Own);
    let mut started = engine.start(create::start(&order, delivery.clone())?).await?;
    if started == Started::Conflict {
        (delivery, id) = (under_its_digest(&app, delivery, Some(&order)), Id::Reused);
        started = engine.start(create::start(&order, delivery.clone())?).await?;
    }
    let instance_id = match started {
        Started::New(_) => return Ok(()),
        Started::Replayed(instance_id) | Started::Duplicate(instance_id) => instance_id,
        // Two bodies of one digest.
        Started::Conflict => return Err(Problem::internal()),
    };
    let origin = engine.origin(instance_id).await?.ok_or_else(Problem::internal)?;
    if is_of(&origin, &delivery) {
        return Ok(());
    }
    let differences = differences(&origin, &order);
    if differences.is_empty() {
        return Ok(());
    }
    open_case(&app, case(&order, delivery, instance_id, &origin, id, &differences)).await
}

/// Keeps what a shop has signed and nobody acts on.
pub(crate) async fn record(app: App, delivery: Delivery) -> Result<(), Problem> {
    let engine = app.engine();
    if engine.record_delivery(delivery.clone()).await? == Recorded::Conflict {
        let delivery = under_its_digest(&app, delivery, None);
        engine.record_delivery(delivery).await?;
    }
    Ok(())
}

/// The same delivery under an id that no other body can have. Its source differs from that of ids
/// that are taken from headers, so none of those can be in its place.
fn under_its_digest(app: &App, delivery: Delivery, order: Option<&Order>) -> Delivery {
    let business_key = order.map(Order::business_key).unwrap_or_default();
    tracing::warn!(
        source = delivery.source,
        external_id = delivery.external_id,
        business_key,
        "the id of a webhook came before with another body; it is kept under its digest"
    );
    app.metrics().met(Conflict::WebhookIdReused);
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

fn case(
    order: &Order,
    delivery: Delivery,
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
        source: delivery.source,
        external_id: delivery.external_id,
        workflow: Fulfilment::NAME.to_owned(),
        business_key: Some(business_key),
        instance_id: Some(instance_id),
        stop,
        message,
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
