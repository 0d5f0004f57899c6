//! What each step is called in a sentence. A step that is not listed is called by its name.

use amends::{Movement, MovementKind};
use serde_json::Value;

use super::amount::amount;

/// What a step is about, as the object of a sentence.
pub(crate) fn thing(step: &str) -> String {
    let (name, occurrence) = step.split_once('#').unwrap_or((step, ""));
    let thing = match name {
        "reserve_stock" => "the reservation".to_owned(),
        "issue_invoice" => "the invoice".to_owned(),
        "charge" => "the charge".to_owned(),
        "ship" => "the shipment".to_owned(),
        "hold_stock" => "the reservation".to_owned(),
        "sell_stock" | "put_back_stock" => "the stock".to_owned(),
        "give_back" | "give_back_at_shop" => "the refund for what is missing".to_owned(),
        "notify" => "the message to the customer".to_owned(),
        _ if name.starts_with("child:") => called(name),
        _ => format!("the step {name}"),
    };
    counted(thing, occurrence)
}

/// What a call of the run is about that is no step, such as `wait:parcel_packed#2`.
pub(super) fn called(key: &str) -> String {
    let (key, occurrence) = key.split_once('#').unwrap_or((key, ""));
    let thing = match key.split_once(':') {
        Some(("wait", name)) => format!("the signal {name}"),
        Some(("event", name)) => format!("the event {name}"),
        Some(("child", name)) => format!("the instance {name}"),
        Some(("patched", name)) => format!("the change {name}"),
        Some(("value", "now")) => "the time".to_owned(),
        Some((_, name)) => name.to_owned(),
        None => key.to_owned(),
    };
    counted(thing, occurrence)
}

/// What is recorded of such a call once and for all.
pub(super) fn noted(key: &str, value: &Value) -> String {
    let thing = called(key);
    match key.split_once(':') {
        Some(("event", kind)) => published(kind, &thing),
        Some(("value", "setup")) => set_up(value),
        Some(("heard", child)) => format!("goes on without {}", called(child)),
        Some(("patched", _)) => format!("goes on by {thing} of the workflow"),
        _ => format!("noted {thing}: {}", value.as_str().map_or(value.to_string(), str::to_owned)),
    }
}

/// How an order is carried out.
fn set_up(setup: &Value) -> String {
    let packs = if setup["packing"]["by"] == "person" {
        "a person packs it"
    } else {
        "nobody packs it by hand"
    };
    let stock =
        if setup["stock"]["by"] == "database" { "in the database" } else { "at a provider" };
    format!("{packs}, and its stock is {stock}")
}

/// What an event means that a run publishes by itself.
fn published(kind: &str, thing: &str) -> String {
    let (kind, _) = kind.split_once('#').unwrap_or((kind, ""));
    let text = match kind {
        "ORDER_PROCESSED" => "all is done that comes before the goods",
        "SHIPMENT_PREPARED" => "it can be packed",
        "PACKING_LATE" => "nobody has packed it yet",
        "PACKING_REFUSED" => "what was packed is not what was ordered",
        "SHIPMENT_PROCESSED" => "it is packed",
        "READY_FOR_PICKUP" => "it can be picked up",
        "PICKUP_LATE" => "nobody has picked it up yet",
        "PICKED_UP" => "it was picked up",
        _ => return format!("published {thing}"),
    };
    format!("{text} ({kind})")
}

fn counted(thing: String, occurrence: &str) -> String {
    if occurrence.is_empty() { thing } else { format!("{thing} (no. {occurrence})") }
}

/// What has been done by a step that is done.
pub(super) fn done(step: &str, output: &Value, money: &[Movement]) -> String {
    let name = step.split_once('#').map_or(step, |(name, _)| name);
    if !money.is_empty() {
        return moved(name, money);
    }
    let reference = |member| output.get(member).and_then(Value::as_str);
    let (text, reference) = match name {
        "reserve_stock" => ("reserved the stock", reference("reservation_id")),
        "issue_invoice" => ("issued the invoice", reference("invoice_number")),
        "ship" => {
            ("handed the parcel to the carrier, tracking number", reference("tracking_number"))
        }
        "notify" => ("sent the message to the customer", reference("message_id")),
        _ => return format!("did {}", thing(step)),
    };
    match (name, reference) {
        ("issue_invoice", Some(number)) => format!("{text} {number}"),
        ("ship", Some(number)) => format!("{text} {number}"),
        ("ship", None) => "handed the parcel to the carrier".to_owned(),
        (_, Some(reference)) => format!("{text} ({reference})"),
        (_, None) => text.to_owned(),
    }
}

/// What has been taken back by a step that is compensated.
pub(super) fn undone(
    step: &str,
    applied: bool,
    reference: Option<&str>,
    money: &[Movement],
) -> String {
    if !money.is_empty() {
        return moved(step, money);
    }
    if !applied {
        return format!("found nothing to undo of {}", thing(step));
    }
    let text = match step {
        "reserve_stock" => "released the stock".to_owned(),
        "issue_invoice" => "voided the invoice".to_owned(),
        _ => format!("undid {}", thing(step)),
    };
    match reference {
        Some(reference) => format!("{text} ({reference})"),
        None => text,
    }
}

/// What a step that failed for good has failed with.
pub(super) fn failed(step: &str, code: &str) -> String {
    match code {
        "OUT_OF_STOCK" => "not everything is in stock".to_owned(),
        "PAYMENT_DECLINED" => "the payment was declined".to_owned(),
        "SHIPMENT_ERROR" => "the carrier refused the parcel".to_owned(),
        _ => format!("{} failed for good", thing(step)),
    }
}

/// `charged 59.90 MYR (ch_1), refunded 59.90 MYR (re_1)`, and where the shop did it.
pub(crate) fn moved(step: &str, money: &[Movement]) -> String {
    let is_at_shop = matches!(step, "collect" | "give_back_at_shop");
    let place = if is_at_shop { " at the shop" } else { "" };
    let sentences: Vec<_> = money
        .iter()
        .map(|movement| {
            let (amount, reference) = (amount(movement.money), &movement.reference);
            let verb = match movement.kind {
                MovementKind::Capture if is_at_shop => {
                    return format!("{amount} was paid{place} ({reference})");
                }
                MovementKind::Authorise => "held",
                MovementKind::Capture => "charged",
                MovementKind::Refund => "refunded",
                MovementKind::Void => "let go of the hold on",
            };
            format!("{verb} {amount}{place} ({reference})")
        })
        .collect();
    sentences.join(", ")
}
