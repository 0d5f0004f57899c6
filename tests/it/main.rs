//! The integration tests, grouped by risk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api;
mod bad_input;
mod branches;
mod chain;
mod compensation;
mod crash;
mod execution;
mod guide;
mod kit;
mod lease;
mod limits;
mod operator;
mod outbox;
mod overload;
mod plans;
mod process;
mod schedules;
mod signals;
mod steps;
mod tidy;
mod versions;
mod webhook;
