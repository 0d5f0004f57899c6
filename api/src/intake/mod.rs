//! What comes in, against what was accepted before. What contradicts it is put to a person.

pub mod cases;
pub mod command;
pub(crate) mod draft;
mod new_case;
pub(crate) mod news;
pub(crate) mod node;
pub(crate) mod signed;

use amends::intake_case::Origin;
use amends_workflows::order::Order;

/// Where an order differs from the one that an instance was started with; an input that this build
/// cannot read differs as a whole.
pub(crate) fn differences(origin: &Origin, order: &Order) -> Vec<&'static str> {
    match serde_json::from_str::<Order>(&origin.input) {
        Ok(started) => started.differences(order),
        Err(_) => vec![""],
    }
}
