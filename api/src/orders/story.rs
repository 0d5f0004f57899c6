//! An order in the words of a shop, made from its instance and its history.

use amends::{MovementKind, Status};
use amends_workflows::failure::CODES;
use amends_workflows::order::{Closed, Payment};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::timeline::{Line, OrderHead, amount, moved_minor, timeline, tracking_number};
use crate::view::{Failure, Instance, Record, status_schema};

/// How an order is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Story {
    /// The instance that carries out the order.
    pub instance_id: Uuid,
    /// The shop.
    #[schema(example = "acme.myshopify.com")]
    pub shop: String,
    /// The shop's own id of the order.
    #[schema(example = "5940139491234")]
    pub order_id: String,
    /// The number people use.
    #[schema(example = "#1001")]
    pub number: String,
    /// Where it stands.
    #[schema(schema_with = status_schema)]
    pub status: Status,
    /// Whether somebody has asked for nothing more to be begun.
    #[serde(default)]
    pub held: bool,
    /// Where it stands, in a sentence.
    #[schema(example = "Done: charged 59.90 MYR; the parcel is on its way as TRK000000007.")]
    pub summary: String,
    /// The currency of every amount.
    #[schema(value_type = String, example = "MYR")]
    pub currency: amends::Currency,
    /// What the customer is to pay, in minor units.
    #[schema(example = 5990)]
    pub total_minor: i64,
    /// What was taken from the customer, in minor units.
    #[schema(example = 5990)]
    pub captured_minor: i64,
    /// What was given back to the customer, in minor units.
    #[schema(example = 0)]
    pub refunded_minor: i64,
    /// What the customer follows the parcel with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "TRK000000007")]
    pub tracking_number: Option<String>,
    /// Why it is waiting, stuck or undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Cause>,
    /// Everything that has happened, oldest first.
    pub happened: Vec<Happened>,
    /// When it was accepted.
    pub accepted_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// Why an order is waiting, stuck or undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    /// Stable, upper case.
    #[schema(example = "SHIPMENT_ERROR")]
    pub code: String,
    /// What the code means, in plain words.
    #[schema(example = "The carrier refused the parcel for good; nothing was shipped.")]
    pub meaning: String,
    /// What was said at the time.
    #[schema(example = "no delivery to this address")]
    pub message: String,
}

/// One thing that has happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Happened {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    #[schema(example = "charged 59.90 MYR (ch_000002)")]
    pub what: String,
}

/// Tells how an order is doing; `None` if the instance is about something else.
pub(crate) fn tell(instance: Instance, history: &[Record]) -> Option<Story> {
    let order = OrderHead::of_history(history)?;
    let lines = timeline(history);
    let total = order.total();
    let captured_minor = moved_minor(&lines, MovementKind::Capture, total.currency);
    let refunded_minor = moved_minor(&lines, MovementKind::Refund, total.currency);
    let tracking_number = tracking_number(history);
    let money = Money { order: &order, captured_minor, refunded_minor };
    let failure = instance.failure.clone().map(cause);
    let summary = summary(&instance, failure.as_ref(), &money, tracking_number.as_deref());
    Some(Story {
        instance_id: instance.instance_id,
        status: instance.status,
        held: instance.held,
        summary,
        currency: total.currency,
        total_minor: total.amount_minor,
        captured_minor,
        refunded_minor,
        tracking_number,
        failure,
        happened: lines.into_iter().map(happened).collect(),
        accepted_at: instance.created_at,
        ended_at: instance.ended_at,
        shop: order.shop,
        order_id: order.order_id,
        number: order.number,
    })
}

fn cause(failure: Failure) -> Cause {
    let known = CODES.iter().find(|(code, _)| *code == failure.code);
    let meaning = known.map_or_else(|| failure.message.clone(), |(_, it)| (*it).to_owned());
    Cause { code: failure.code, meaning, message: failure.message }
}

fn happened(line: Line) -> Happened {
    Happened { at: line.at, what: line.text }
}

struct Money<'a> {
    order: &'a OrderHead,
    captured_minor: i64,
    refunded_minor: i64,
}

impl Money<'_> {
    fn in_words(&self) -> String {
        let currency = self.order.total().currency;
        let amount = |amount_minor| amount(amends::Money { amount_minor, currency });
        let is_at_shop =
            matches!(self.order.payment, Payment::Paid { .. } | Payment::Authorised { .. });
        match (self.captured_minor, self.refunded_minor) {
            (captured, 0) if is_at_shop && captured > 0 => {
                format!("{} was paid at the shop", amount(captured))
            }
            (captured, refunded) if is_at_shop && captured == refunded && captured > 0 => {
                format!("{} was paid at the shop and given back there", amount(captured))
            }
            (captured, refunded) if is_at_shop && captured > 0 => {
                format!(
                    "{} was paid at the shop, {} given back",
                    amount(captured),
                    amount(refunded)
                )
            }
            (0, 0) => "no money was taken".to_owned(),
            (captured, 0) => format!("charged {}", amount(captured)),
            (captured, refunded) if captured == refunded => {
                format!("{} was charged and refunded", amount(captured))
            }
            (captured, refunded) => {
                format!("charged {}, refunded {}", amount(captured), amount(refunded))
            }
        }
    }
}

fn summary(
    instance: &Instance,
    cause: Option<&Cause>,
    money: &Money<'_>,
    tracking_number: Option<&str>,
) -> String {
    let closed = money.order.closed;
    let money = money.in_words();
    let why = cause.map_or_else(String::new, |cause| format!(": {}", clause(&cause.meaning)));
    let standing = match instance.status {
        Status::Pending => "Accepted; it will be taken up in a moment.".to_owned(),
        Status::Running if cause.is_some() => format!("Being tried again{why}; so far {money}."),
        Status::Running => format!("Being carried out; so far {money}."),
        Status::Waiting => format!("Waiting to go on{why}; so far {money}."),
        Status::Compensating => format!("Being undone{why}; so far {money}."),
        Status::Stuck => format!("Waiting for a person to decide{why}; so far {money}."),
        Status::Completed => match (closed, tracking_number) {
            (Some(closed), _) => {
                let closed = match closed {
                    Closed::Cancelled => "cancelled",
                    Closed::Refunded => "refunded",
                    Closed::Voided => "called off",
                    Closed::Fulfilled => "handed over",
                };
                format!("Nothing was to be done: the shop had {closed} it before it came here.")
            }
            (None, Some(number)) => {
                format!("Done: {money}; the parcel is on its way as {number}.")
            }
            (None, None) => format!("Done: {money}."),
        },
        Status::Compensated => {
            format!("It could not be carried out{why}. Everything is undone; {money}.")
        }
        Status::Cancelled => format!("Cancelled. Everything is undone; {money}."),
        Status::Terminated => format!("Stopped by force{why}. Nothing was undone; {money}."),
    };
    match &instance.waits {
        Some(waits) => format!("{standing} It {waits}."),
        None => standing,
    }
}

/// A sentence as a part of a longer one.
fn clause(sentence: &str) -> String {
    let sentence = sentence.trim().trim_end_matches('.');
    let mut characters = sentence.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::timeline::tests::{charged, history, refused, started};
    use crate::timeline::waits;

    fn instance(status: Status, failure: Option<Failure>) -> Instance {
        let at = DateTime::UNIX_EPOCH;
        Instance {
            instance_id: Uuid::nil(),
            workflow: "fulfilment".to_owned(),
            version: 1,
            business_key: "acme/1".to_owned(),
            status,
            step: None,
            failure,
            run_at: None,
            waits: None,
            past_pivot: false,
            held: false,
            priority: amends::Priority::Normal,
            parked_on: None,
            parent_id: None,
            attributes: BTreeMap::new(),
            created_at: at,
            updated_at: at,
            ended_at: None,
        }
    }

    #[test]
    fn a_refused_order_says_why_and_that_the_money_is_back() {
        let failure =
            Failure { code: "SHIPMENT_ERROR".to_owned(), message: "no delivery there.".to_owned() };
        let story =
            tell(instance(Status::Compensated, Some(failure)), &refused()).expect("an order");
        assert_eq!(
            story.summary,
            "It could not be carried out: the carrier refused the parcel for good; nothing was \
             shipped. Everything is undone; 59.90 MYR was charged and refunded."
        );
        let cause = story.failure.expect("a cause");
        assert_eq!(cause.code, "SHIPMENT_ERROR");
        assert_eq!(cause.message, "no delivery there.");
        assert_eq!((story.captured_minor, story.refunded_minor), (5990, 5990));
        assert_eq!(story.number, "#1001");
        assert_eq!(story.happened.len(), 10);
    }

    #[test]
    fn an_order_under_way_says_what_has_been_charged_so_far() {
        let summary = |records: &[_]| {
            tell(instance(Status::Running, None), &history(records)).expect("an order").summary
        };
        assert_eq!(summary(&[started()]), "Being carried out; so far no money was taken.");
        assert_eq!(
            summary(&[started(), charged()]),
            "Being carried out; so far charged 59.90 MYR."
        );
    }

    #[test]
    fn an_order_that_was_stopped_by_force_says_that_the_money_is_not_back() {
        let failure =
            Failure { code: "TERMINATED".to_owned(), message: "The shop has closed.".to_owned() };
        let stopped = instance(Status::Terminated, Some(failure));
        let story = tell(stopped, &history(&[started(), charged()])).expect("an order");
        assert_eq!(
            story.summary,
            "Stopped by force: the shop has closed. Nothing was undone; charged 59.90 MYR."
        );
    }

    #[test]
    fn a_held_order_says_that_it_is_held_and_what_it_has_cost_so_far() {
        let mut held = instance(Status::Waiting, None);
        held.held = true;
        held.waits = waits(Status::Waiting, true, None, Some("charge"), None);
        let story = tell(held, &history(&[started(), charged()])).expect("an order");
        assert_eq!(
            story.summary,
            "Waiting to go on; so far charged 59.90 MYR. It is held: nothing more is begun until \
             somebody releases it."
        );
        assert!(story.held);
    }

    #[test]
    fn money_that_a_person_put_right_counts() {
        let found = serde_json::json!({
            "command": "resolve", "reason": "the bank called",
            "resolution": {"evidence": "statement 7"},
            "money": [{"kind": "refund", "amount_minor": 990, "currency": "MYR",
                "reference": "re_9"}],
        });
        let records = [started(), charged(), ("command", None, None, found)];
        let story = tell(instance(Status::Stuck, None), &history(&records)).expect("an order");
        assert_eq!(
            story.summary,
            "Waiting for a person to decide; so far charged 59.90 MYR, refunded 9.90 MYR."
        );
    }

    #[test]
    fn a_history_that_does_not_begin_with_an_order_is_no_story() {
        assert_eq!(tell(instance(Status::Running, None), &history(&[charged()])), None);
        assert_eq!(tell(instance(Status::Running, None), &[]), None);
    }
}
