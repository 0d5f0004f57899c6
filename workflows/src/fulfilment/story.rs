//! What the world is told of an order as a whole, and what it can be found by.

use amends::{Event, Failure, Milestone, Outcome, Workflow};
use serde_json::{Value, json};

use super::Fulfilled;
use crate::order::Order;

/// What is told when an order starts and when it ends, by every version.
pub(super) fn told<W>(milestone: Milestone<'_, W>) -> Vec<Event>
where
    W: Workflow<Input = Order, Output = Fulfilled>,
{
    let event = match milestone {
        Milestone::Started { input } => {
            let created = json!({
                "business_key": input.business_key(),
                "number": input.number,
                "amount_minor": input.total_minor,
                "currency": input.currency,
            });
            Event::new("ORDER_CREATED", &created)
        }
        Milestone::Completed { input: input @ Order { closed: Some(closed), .. }, .. } => {
            let ignored = json!({
                "business_key": input.business_key(),
                "number": input.number,
                "reason": closed.as_str(),
            });
            Event::new("ORDER_IGNORED", &ignored)
        }
        Milestone::Completed { input, output } => {
            Event::new("ORDER_FULFILLED", &fulfilled(input, output))
        }
        Milestone::Undone { input, outcome, failure } => {
            let cancelled = json!({
                "business_key": input.business_key(),
                "number": input.number,
                "outcome": word(outcome),
                "code": failure.code,
            });
            Event::new("ORDER_CANCELLED", &cancelled)
        }
        Milestone::Terminated { input, failure } => {
            let terminated = json!({
                "business_key": input.business_key(),
                "number": input.number,
                "code": failure.code,
            });
            Event::new("ORDER_TERMINATED", &terminated)
        }
    };
    vec![event]
}

/// What an order can be found by.
pub(super) fn attributes(order: &Order) -> Vec<(&'static str, String)> {
    let email = order.customer.email.as_ref();
    // However it is written, it is one address.
    let email = email.map(|email| ("email", email.to_lowercase()));
    let ids = [("order", order.number.clone()), ("order_id", order.order_id.clone())];
    ids.into_iter().chain(email).collect()
}

/// What the world is told of a step that failed for good: the code, and never the message, which
/// a provider wrote.
pub(super) fn failed(kind: &'static str, business_key: &str, failure: &Failure) -> Event {
    Event::new(kind, &json!({ "business_key": business_key, "code": failure.code }))
}

/// An event about an order under way.
pub(super) fn about(kind: &'static str, order: &Order, more: Value) -> Event {
    let mut data = json!({ "business_key": order.business_key(), "number": order.number });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    Event::new(kind, &data)
}

/// What is fulfilled; what few orders have is left out of the others.
fn fulfilled(order: &Order, output: &Fulfilled) -> Value {
    let Fulfilled { missing, .. } = output;
    let mut fulfilled = json!({
        "business_key": order.business_key(),
        "number": order.number,
        "invoice_number": output.invoice_number,
        "charge_id": output.charge_id,
        "tracking_number": output.tracking_number,
    });
    if !output.more_tracking_numbers.is_empty() {
        fulfilled["more_tracking_numbers"] = json!(output.more_tracking_numbers);
    }
    if !missing.is_empty() {
        fulfilled["missing"] = json!(missing);
        fulfilled["reduced_by_minor"] = json!(output.reduced_by_minor);
    }
    fulfilled
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Compensated => "compensated",
        Outcome::Cancelled => "cancelled",
    }
}
