//! Events that cannot be delivered, and events that nobody delivers any more, for the people who look
//! after that.

pub mod blocked;
pub mod command;
pub mod discard;
pub mod leftover;
