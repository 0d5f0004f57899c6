//! Dependencies over HTTP.

pub(crate) mod list;
