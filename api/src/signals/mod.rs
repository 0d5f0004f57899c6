//! Signals: news from the outside world for instances.

pub mod send;
