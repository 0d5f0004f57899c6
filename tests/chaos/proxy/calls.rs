//! When calls began and ended, as whoever made them saw it.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use super::locked;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) key: String,
    pub(crate) from: DateTime<Utc>,
    /// When its answer was there, or nobody waited for one any more. None while it goes on.
    pub(crate) to: Option<DateTime<Utc>>,
    /// Whoever made it was told that it is done.
    pub(crate) is_done: bool,
}

/// The calls of one proxy.
#[derive(Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Called>>>);

/// A call that goes on until this is dropped.
pub(super) struct OpenCall {
    calls: Arc<Mutex<Vec<Called>>>,
    index: usize,
}

impl Calls {
    pub(super) fn begin(&self, key: String) -> OpenCall {
        let mut calls = locked(&self.0);
        calls.push(Called { key, from: Utc::now(), to: None, is_done: false });
        OpenCall { calls: Arc::clone(&self.0), index: calls.len() - 1 }
    }

    pub(super) fn so_far(&self) -> Vec<Called> {
        locked(&self.0).clone()
    }
}

impl OpenCall {
    /// Its answer has been passed on.
    pub(super) fn answered(self, is_done: bool) {
        if let Some(call) = locked(&self.calls).get_mut(self.index) {
            call.is_done = is_done;
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(call) = locked(&self.calls).get_mut(self.index) {
            call.to = Some(Utc::now());
        }
    }
}
