//! Cases as the intake opens them.

use amends::intake_case::{CaseProblem, NewCase, Opened, Origin, Stop};
use amends::view::InstanceView;
use amends::{Delivery, Event, Workflow};
use amends_workflows::fulfilment::Fulfilment;
use serde_json::json;

use super::draft::Failed;
use crate::app::App;
use crate::problem::Problem;

/// The order that was started by a token is not the one that its shop has signed.
pub(crate) const ORDER_CONFLICT: &str = "ORDER_CONFLICT";
/// The shop says something else of an order than it has said before.
pub(crate) const ORDER_CHANGED: &str = "ORDER_CHANGED";
/// The same, under the id of what it has said before.
pub(crate) const DELIVERY_ID_REUSED: &str = "DELIVERY_ID_REUSED";

/// A case says no more than this in words.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Why a person has to decide about what a delivery says of something that was started.
pub(super) struct About<'a> {
    pub(super) code: &'static str,
    pub(super) stop: Stop,
    pub(super) problems: Vec<CaseProblem>,
    /// What it was started with.
    pub(super) origin: &'a Origin,
}

impl About<'_> {
    /// The case of it.
    pub(super) fn of(self, instance: &InstanceView, delivery: &Delivery) -> NewCase {
        let Self { code, stop, problems, origin } = self;
        let started_by = origin.delivery.as_ref().map_or("nobody", |(source, _)| source.as_str());
        let differences = problems.iter().filter_map(|it| it.field.as_deref());
        let event = Event::new(
            code,
            &json!({
                "business_key": instance.business_key,
                "instance_id": instance.instance_id,
                "source": delivery.source,
                "started_by": started_by,
                "differences": differences.collect::<Vec<_>>().join(", "),
            }),
        );
        let failed = Failed { code, problems, business_key: Some(instance.business_key.clone()) };
        let case = failure(delivery, failed);
        let message = match code {
            ORDER_CONFLICT => format!("{started_by} has started something else: {}", case.message),
            _ => case.message,
        };
        NewCase { instance_id: Some(instance.instance_id), stop, event, message, ..case }
    }
}

/// The case of a delivery that cannot be carried out as it is.
pub(super) fn failure(delivery: &Delivery, failed: Failed) -> NewCase {
    let message = shortened(failed.message());
    let event = Event::new(
        failed.code,
        &json!({ "business_key": failed.business_key, "source": delivery.source }),
    );
    NewCase {
        source: delivery.source.clone(),
        external_id: delivery.external_id.clone(),
        workflow: Fulfilment::NAME.to_owned(),
        business_key: failed.business_key,
        instance_id: None,
        stop: Stop::No,
        message,
        problems: failed.problems,
        event,
    }
}

/// A message that is kept whatever it quotes. All of it stands in the problems.
fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str(" ..");
    }
    message
}

/// Opens a case, once, and says so.
pub(super) async fn open(app: &App, case: NewCase) -> Result<(), Problem> {
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
