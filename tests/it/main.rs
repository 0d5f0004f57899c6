//! The integration tests, grouped by risk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compensation;
mod crash;
mod execution;
mod lease;
mod operator;
mod outbox;
