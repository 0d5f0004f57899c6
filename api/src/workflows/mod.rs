//! Workflows and their versions, for the people who deploy them.

pub(crate) mod list;
