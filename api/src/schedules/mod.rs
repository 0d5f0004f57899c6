//! Schedules, for the people who look after them.

pub mod command;
pub(crate) mod list;
pub(crate) mod show;
pub mod view;
