//! Money that a shop has given back by itself: counted once, however often it is told, so that what
//! is undone later gives back the rest.

use amends::command::Answer;
use amends::delivery::{Conclusion, DeliveryOutcome, Verdict};
use amends::intake_case::Origin;
use amends::view::InstanceView;
use amends::{Currency, Delivery, Error, Money, Movement, MovementKind, Requester};
use amends_workflows::order::{Order, parse_minor};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::judge::ORDER_ENDED;
use super::{ORDER_UNKNOWN, started, started_as_of};
use crate::app::App;
use crate::intake::draft::Failed;
use crate::intake::signed::{keep, keep_failed};
use crate::problem::Problem;

/// The amount of a refund is none in the currency of its order.
pub(super) const REFUND_UNREADABLE: &str = "REFUND_UNREADABLE";
/// It was counted.
const REFUNDED: &str = "REFUNDED";

const GIVEN_BACK: &str = "the shop has given money back";
const EVIDENCE: &str = "the shop's list of refunds";

/// Money that was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refund {
    /// What the platform knows it by.
    pub(crate) reference: String,
    /// How much, as the platform writes it.
    pub(crate) amount: String,
    /// In which currency; that of the order, if it is not said.
    pub(crate) currency: Option<Currency>,
    /// When, by the platform's clock.
    pub(crate) at: Option<DateTime<Utc>>,
}

/// Money that was given back of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refunded {
    pub(crate) business_key: String,
    pub(crate) refunds: Vec<Refund>,
}

/// Counts what was given back of an order, if it was started, and keeps the delivery that says so.
pub(crate) async fn hear(app: &App, refunded: Refunded, delivery: Delivery) -> Result<(), Problem> {
    match count(app, &refunded, &delivery.source).await? {
        Ok(Counted { outcome, reason, .. }) => {
            let business_key = Some(refunded.business_key);
            let verdict = Verdict { outcome, reason: reason.to_owned(), business_key };
            keep(app, delivery, verdict).await.map(drop)
        }
        Err(failed) => keep_failed(app, delivery, failed).await,
    }
}

/// The same of a delivery that was kept before, on behalf of a person.
pub(crate) async fn hear_again(
    app: &App,
    refunded: &Refunded,
    (delivery_id, source): (Uuid, &str),
    person: (&str, &str),
) -> Result<Result<(DeliveryOutcome, Option<Uuid>), Failed>, Problem> {
    let Counted { outcome, reason, instance_id } = match count(app, refunded, source).await? {
        Ok(counted) => counted,
        Err(failed) => return Ok(Err(failed)),
    };
    let reason = Some(reason.to_owned());
    let conclusion = Conclusion { outcome, reason, instance_id, as_of: None };
    app.engine().conclude_delivery(delivery_id, conclusion, person).await?;
    Ok(Ok((outcome, instance_id)))
}

/// What has come of the news of a refund.
struct Counted {
    outcome: DeliveryOutcome,
    reason: &'static str,
    instance_id: Option<Uuid>,
}

async fn count(
    app: &App,
    refunded: &Refunded,
    source: &str,
) -> Result<Result<Counted, Failed>, Problem> {
    let Refunded { business_key, refunds } = refunded;
    let Some(instance) = started(app, business_key).await? else {
        let (outcome, reason) = (DeliveryOutcome::Ignored, ORDER_UNKNOWN);
        return Ok(Ok(Counted { outcome, reason, instance_id: None }));
    };
    let origin = app.engine().origin(instance.instance_id).await?;
    let origin = origin.ok_or_else(Problem::internal)?;
    let instance_id = Some(instance.instance_id);
    Ok(match book(app, &origin, refunds, &instance, source).await? {
        Booked::Yes => {
            let (outcome, reason) = match instance.status.is_terminal() {
                true => (DeliveryOutcome::Ignored, ORDER_ENDED),
                false => (DeliveryOutcome::Signalled, REFUNDED),
            };
            Ok(Counted { outcome, reason, instance_id })
        }
        Booked::Unreadable(detail) => {
            let failed = Failed::at(REFUND_UNREADABLE, "/transactions", &detail);
            Err(Failed { business_key: Some(business_key.clone()), ..failed })
        }
    })
}

/// Whether refunds could be counted.
pub(super) enum Booked {
    Yes,
    /// One of them could not, and why; those before it were.
    Unreadable(String),
}

/// Counts what was given back after an order was started. What had been by then, is in the order.
pub(super) async fn book(
    app: &App,
    origin: &Origin,
    refunds: &[Refund],
    instance: &InstanceView,
    actor: &str,
) -> Result<Booked, Problem> {
    let order = serde_json::from_str::<Order>(&origin.input).ok();
    let since = started_as_of(origin, order.as_ref()).unwrap_or(instance.created_at);
    for refund in refunds.iter().filter(|refund| refund.at.is_none_or(|at| at > since)) {
        let currency = refund.currency.or(order.as_ref().map(|order| order.total().currency));
        let amount = currency.map(|currency| (currency, parse_minor(&refund.amount, currency)));
        let Some((currency, Ok(amount_minor))) = amount else {
            return Ok(Booked::Unreadable("says an amount that is none".to_owned()));
        };
        // Nothing has moved.
        if amount_minor == 0 {
            continue;
        }
        let money = Money { amount_minor, currency };
        let reference = refund.reference.clone();
        let movement = Movement { kind: MovementKind::Refund, money, reference };
        let name = format!("{actor}/refunds/{}", refund.reference);
        // The same for every delivery that tells of it.
        let request_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
        let requester = Requester::new(actor).request(&request_id);
        let id = instance.instance_id;
        match app.engine().book(id, vec![movement], EVIDENCE, requester, GIVEN_BACK).await {
            Ok(Some(Answer::Accepted | Answer::AlreadyEnded)) => {}
            Ok(_) => return Err(Problem::internal()),
            Err(Error::InvalidInput(why)) => return Ok(Booked::Unreadable(why)),
            Err(Error::RequestIdReused) => {
                return Ok(Booked::Unreadable("says another amount than before".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Booked::Yes)
}
