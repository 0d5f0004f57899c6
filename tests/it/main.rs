//! The integration tests, grouped by risk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api;
mod bad_input;
mod branches;
mod chain;
mod children;
mod cli;
mod compensation;
mod contract;
mod crash;
mod crowd;
mod dropped;
mod endurance;
mod everywhere;
mod execution;
mod families;
mod family_races;
mod fuzz;
mod gateways;
mod guide;
mod kit;
mod lease;
mod limits;
mod lock_order;
mod mistakes;
mod one_driver;
mod open_calls;
mod operator;
mod outbox;
mod overload;
mod pivots;
mod plans;
mod process;
mod races;
mod refunds;
mod requests;
mod schedules;
mod signals;
mod start_within;
mod steps;
mod tidy;
mod transaction;
mod versions;
mod webhook;
