//! Order workflows of Amends: what happens to an order, how each step of it is undone, and the
//! ports through which the steps reach providers.
//!
//! Failures carry the codes of [`failure`], and nothing else.

pub mod order;

pub mod fulfilment;

pub mod failure;
pub mod ports;
pub mod stock;

#[doc(hidden)]
pub mod fuzz;

/// Whether the instances of a workflow carry out orders, and are named by an
/// [`order::OrderKey`].
#[must_use]
pub fn carries_out_orders(workflow: &str) -> bool {
    workflow == <fulfilment::Fulfilment as amends::Workflow>::NAME
}
