//! Events that cannot be delivered, for the people who look after that.

pub mod blocked;
pub mod command;
