//! The Amends server: webhooks, HTTP API, command line, configuration.
//!
//! [`serve::serve`] is the whole server. [`app::app`] is its HTTP part alone, for an engine that
//! is open already.

mod listen;
mod reload;
pub mod serve;

pub mod config;
pub mod database;

pub mod app;
mod router;

mod body;
mod idempotency_key;
mod json;
mod observe;
mod path;
pub mod problem;

pub mod auth;
pub mod secret;

pub mod orders;
pub mod signals;
pub mod webhook;

pub mod deliveries;
pub(crate) mod dependencies;
pub mod events;
pub mod instances;
pub mod intake;
pub mod schedules;
pub mod timeline;
pub mod view;
pub(crate) mod workflows;

mod doctor;
mod health;
pub mod log;
mod metrics;
mod openapi;

pub mod sink;

pub mod postgres;
pub mod sandbox;

#[doc(hidden)]
pub mod fuzz;

pub mod bench;
pub mod demo;
