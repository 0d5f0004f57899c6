//! Where events go: to an HTTP receiver, or to the log.

pub mod http;
pub mod log;

mod cloud_event;
mod retry_after;
