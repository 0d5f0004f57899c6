//! When calls began and ended, as whoever made them saw it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::locked;

/// When a connection ends sooner than this after an answer, its client may have given up without
/// having read it, or the reset may have overtaken it.
const READ: Duration = Duration::from_secs(1);

/// So many calls begin while one of them goes on, as a rule.
const RECENT: usize = 500;

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

    /// Whether a call whose key begins so has begun not long ago, and goes on.
    pub(super) fn is_open(&self, key: &str) -> bool {
        let calls = locked(&self.0);
        let recent = calls.iter().rev().take(RECENT);
        recent.filter(|call| call.to.is_none()).any(|call| call.key.starts_with(key))
    }

    pub(super) fn so_far(&self) -> Vec<Called> {
        locked(&self.0).clone()
    }
}

/// A call whose answer says that it is done, and was passed on. It counts as done if its connection
/// is used again, or lives for a while after it.
pub(super) struct Done {
    call: OpenCall,
    at: Instant,
    is_read: bool,
}

impl OpenCall {
    /// Its answer has been passed on.
    pub(super) fn answered(self) -> Done {
        self.change(|call| {
            call.to = Some(Utc::now());
            call.is_done = true;
        });
        Done { call: self, at: Instant::now(), is_read: false }
    }

    fn change(&self, change: impl FnOnce(&mut Called)) {
        if let Some(call) = locked(&self.calls).get_mut(self.index) {
            change(call);
        }
    }
}

impl Done {
    /// Its connection is used again, so its answer has been read.
    pub(super) fn read(mut self) {
        self.is_read = true;
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if !self.is_read && self.at.elapsed() < READ {
            self.call.change(|call| call.is_done = false);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.change(|call| {
            call.to.get_or_insert_with(Utc::now);
        });
    }
}
