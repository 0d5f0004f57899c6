//! Order workflows of Amends: what happens to an order, how each step of it is undone, and the
//! ports through which the steps reach providers.
//!
//! Failures carry the codes of [`failure`], and nothing else.

pub mod order;

pub mod fulfilment;

pub mod failure;
pub mod ports;

#[doc(hidden)]
pub mod fuzz;
