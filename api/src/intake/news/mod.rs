//! What a shop says of an order that was started: cancelled, changed, paid, given back.
//!
//! News comes in any order, and more than once. What is newer than all that was heard before, by the
//! shop's own clock, is compared with what was known by then; what is older changes nothing.

mod judge;
mod refunds;

use std::collections::BTreeMap;

use amends::command::{Answer, Command};
use amends::delivery::{Conclusion, DeliveryOutcome, DeliveryView};
use amends::intake_case::{CaseProblem, Origin, Stop};
use amends::view::{Filter, InstanceView};
use amends::{Delivery, Requester, Status, Workflow};
use amends_workflows::fulfilment::Fulfilment;
use amends_workflows::order::Order;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::draft::Correction;
use super::new_case::{About, DELIVERY_ID_REUSED, ORDER_CHANGED, ORDER_CONFLICT, open};
use super::node::problem;
use crate::app::App;
use crate::problem::Problem;
use crate::webhook::{self, Translated};
use judge::{ORDER_ENDED, Told, compare, judge};
use refunds::{Booked, REFUND_UNREADABLE};
pub(crate) use refunds::{
    Refund, Refunded, hear as hear_refunds, hear_again as hear_refunds_again,
};

/// The shop has cancelled what cannot be undone any more.
const CANCEL_TOO_LATE: &str = "CANCEL_TOO_LATE";
/// Nothing was started that it could be about.
pub(crate) const ORDER_UNKNOWN: &str = "ORDER_UNKNOWN";
/// What was done is being undone, because the shop has cancelled the order.
const CANCELLED: &str = "CANCELLED";
/// Something newer was heard before.
const OLDER_NEWS: &str = "OLDER_NEWS";

/// What the shop is quoted with.
const CANCELLED_BY_SHOP: &str = "the shop has cancelled the order";
const SAID_BY_SHOP: &str = "the shop says so";

/// All that a delivery says of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct News {
    /// The order as it is now.
    pub(crate) order: Order,
    /// What the shop has given back of it so far.
    pub(crate) refunds: Vec<Refund>,
    /// Whether the order is carried out if nothing was started for it.
    pub(crate) starts: bool,
}

/// Whether a delivery kept the id that it came under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    Own,
    Reused,
}

/// A delivery that is about something that was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) id: Id,
    pub(crate) instance_id: Uuid,
    /// Who has it heard once more, and why.
    pub(crate) person: Option<(&'a str, &'a str)>,
}

impl Heard<'_> {
    /// Who says so in the history.
    fn actor(&self) -> &str {
        &self.delivery.source
    }
}

/// What was known of an order before.
struct Known {
    /// What it was; none if that cannot be read any more.
    order: Option<Order>,
    /// As of when, by the shop's clock.
    as_of: Option<DateTime<Utc>>,
}

/// The instance that was started for an order, if one was.
pub(crate) async fn started(
    app: &App,
    business_key: &str,
) -> Result<Option<InstanceView>, Problem> {
    let filter = Filter {
        workflow: Some(Fulfilment::NAME.to_owned()),
        business_key: Some(business_key.to_owned()),
        limit: 1,
        ..Filter::default()
    };
    Ok(app.engine().instances(&filter).await?.pop())
}

/// Does what is to be done about what a delivery says of an order that was started before, and notes
/// what has become of it. Safe to repeat.
pub(crate) async fn hear(
    app: &App,
    news: &News,
    heard: Heard<'_>,
) -> Result<DeliveryOutcome, Problem> {
    let Heard { delivery, instance_id, .. } = heard;
    let engine = app.engine();
    let kept = engine.delivery_of(&delivery.source, &delivery.external_id).await?;
    let kept = kept.ok_or_else(Problem::internal)?;
    let is_decided = kept.decided_at.is_some() && heard.person.is_none();
    if kept.outcome == DeliveryOutcome::Started || is_decided {
        return Ok(kept.outcome);
    }
    let origin = engine.origin(instance_id).await?.ok_or_else(Problem::internal)?;
    let instance = engine.instance(instance_id).await?.ok_or_else(Problem::internal)?;
    let known = known(app, &origin, instance_id, kept.delivery_id).await?;
    let as_of = news.order.changed_at;
    if known.as_of.zip(as_of).is_some_and(|(known, says)| says < known) {
        let stale = (DeliveryOutcome::Stale, Some(OLDER_NEWS));
        return conclude(app, &kept, heard, stale, None).await;
    }
    let booked = refunds::book(app, &origin, &news.refunds, &instance, heard.actor()).await?;
    let contradiction = code_of(&origin, heard.id);
    let told = match judge(known.order.as_ref(), &news.order, &instance) {
        // A contradiction is always put to a person, also when the order is undone.
        Told::Ended if contradiction != ORDER_CHANGED => compare(known.order.as_ref(), &news.order),
        told => told,
    };
    let mut ends = match told {
        Told::Nothing => (DeliveryOutcome::Duplicate, None),
        Told::Ended => (DeliveryOutcome::Ignored, Some(ORDER_ENDED)),
        Told::Cancelled => cancel(app, heard, &kept, &origin).await?,
        Told::Changed { code, problems } => {
            let code = code.unwrap_or(contradiction);
            let about = About { code, stop: Stop::BeforePivot, problems, origin: &origin };
            open(app, about.of(&instance, delivery)).await?;
            (DeliveryOutcome::Failed, Some(code))
        }
    };
    if let Booked::Unreadable(detail) = booked {
        let (code, problems) = (REFUND_UNREADABLE, vec![problem("/refunds", &detail)]);
        let about = About { code, stop: Stop::BeforePivot, problems, origin: &origin };
        open(app, about.of(&instance, delivery)).await?;
        ends = (DeliveryOutcome::Failed, Some(code));
    }
    conclude(app, &kept, heard, ends, as_of).await
}

/// What was said of an order last, or what it was started with.
async fn known(app: &App, origin: &Origin, instance_id: Uuid, but: Uuid) -> Result<Known, Problem> {
    let started = serde_json::from_str::<Order>(&origin.input).ok();
    let Some(latest) = app.engine().latest_news(instance_id, but).await? else {
        let as_of = started_as_of(origin, started.as_ref());
        return Ok(Known { order: started, as_of });
    };
    let said = read(&latest.delivery, latest.received_at, started.as_ref());
    Ok(Known { order: said.map(|news| news.order).or(started), as_of: Some(latest.as_of) })
}

/// As of when an order was started, by the shop's clock. What a token says of that clock keeps nobody
/// from being heard.
fn started_as_of(origin: &Origin, started: Option<&Order>) -> Option<DateTime<Utc>> {
    started.filter(|_| is_signed(origin)).and_then(|order| order.changed_at)
}

/// The news of a delivery that cannot be read as it is, with what stands in the place of what is
/// missing in the order that was started: a person has filled it in.
pub(crate) async fn filled_in(
    app: &App,
    instance_id: Uuid,
    delivery: &Delivery,
) -> Result<Option<News>, Problem> {
    let origin = app.engine().origin(instance_id).await?.ok_or_else(Problem::internal)?;
    let started = serde_json::from_str::<Order>(&origin.input).ok();
    Ok(started.and_then(|started| read(delivery, app.now(), Some(&started))))
}

/// Reads what a delivery says of an order that was started.
fn read(delivery: &Delivery, received_at: DateTime<Utc>, started: Option<&Order>) -> Option<News> {
    let Delivery { source, external_id, body } = delivery;
    let translate = |fields| {
        let correction = Correction { fields, anyway: true };
        webhook::translate((source, external_id), body, received_at, &correction)
    };
    let failed = match translate(BTreeMap::new())? {
        Translated::Order(news) => return Some(*news),
        Translated::Failed(failed) | Translated::FailedNews(failed) => failed,
        Translated::Refunded(_) | Translated::Ignored { .. } => return None,
    };
    let started = serde_json::to_value(started?).ok()?;
    let fill_in = |problem: CaseProblem| {
        let field = problem.field?;
        let value = started.pointer(&field)?.clone();
        Some((field, value))
    };
    let fields = failed.problems.into_iter().map(fill_in).collect::<Option<_>>()?;
    match translate(fields)? {
        Translated::Order(news) => Some(*news),
        _ => None,
    }
}

async fn conclude(
    app: &App,
    kept: &DeliveryView,
    heard: Heard<'_>,
    (outcome, reason): (DeliveryOutcome, Option<&str>),
    as_of: Option<DateTime<Utc>>,
) -> Result<DeliveryOutcome, Problem> {
    let (reason, instance_id) = (reason.map(str::to_owned), Some(heard.instance_id));
    let conclusion = Conclusion { outcome, reason, instance_id, as_of };
    let person = heard.person.unwrap_or((heard.actor(), SAID_BY_SHOP));
    app.engine().conclude_delivery(kept.delivery_id, conclusion, person).await?;
    Ok(outcome)
}

/// Cancels what was started for an order. If that is too late, a person decides.
async fn cancel(
    app: &App,
    heard: Heard<'_>,
    kept: &DeliveryView,
    origin: &Origin,
) -> Result<(DeliveryOutcome, Option<&'static str>), Problem> {
    let request_id = kept.delivery_id.to_string();
    let requester = Requester::new(heard.actor()).request(&request_id);
    let (engine, id) = (app.engine(), heard.instance_id);
    let answer = engine.command(id, Command::Cancel, requester, CANCELLED_BY_SHOP).await?;
    // As it stands by now: it may have ended a moment ago.
    let instance = engine.instance(id).await?.ok_or_else(Problem::internal)?;
    let is_too_late = match answer {
        Some(Answer::Accepted) => return Ok((DeliveryOutcome::Signalled, Some(CANCELLED))),
        Some(Answer::PastPivot | Answer::ChildPastPivot) => true,
        Some(Answer::AlreadyEnded) => instance.status == Status::Completed,
        _ => false,
    };
    if !is_too_late {
        return Ok((DeliveryOutcome::Duplicate, None));
    }
    let detail = "is cancelled, and what was done for it cannot be undone any more";
    let problems = vec![CaseProblem { field: Some("/closed".to_owned()), ..problem("", detail) }];
    let about = About { code: CANCEL_TOO_LATE, stop: Stop::No, problems, origin };
    open(app, about.of(&instance, heard.delivery)).await?;
    Ok((DeliveryOutcome::Failed, Some(CANCEL_TOO_LATE)))
}

/// Whether a shop has started it, and not a token on its behalf.
fn is_signed(origin: &Origin) -> bool {
    origin.delivery.as_ref().is_some_and(|(source, _)| webhook::is_signed(source))
}

/// What it is called when a shop says something else of an order than was known.
fn code_of(origin: &Origin, id: Id) -> &'static str {
    match id {
        _ if !is_signed(origin) => ORDER_CONFLICT,
        Id::Own => ORDER_CHANGED,
        Id::Reused => DELIVERY_ID_REUSED,
    }
}
