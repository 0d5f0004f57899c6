//! Orders: sent by shops, shown in the words of a shop.

pub(crate) mod body;
pub mod create;
pub(crate) mod show;
pub mod story;
