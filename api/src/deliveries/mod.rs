//! What came in, and what became of it.

pub mod command;
pub mod list;
pub mod show;
