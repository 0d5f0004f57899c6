//! A log of what somebody outside was told: kept in memory, and in a file for whoever looks later.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// A log of entries, one JSON line each.
pub(crate) struct Log<T> {
    inner: Mutex<(File, Vec<T>)>,
}

impl<T: Serialize + Clone> Log<T> {
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { inner: Mutex::new((File::create(path)?, Vec::new())) })
    }

    pub(crate) fn add(&self, entry: T) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&entry).expect("an entry is JSON");
        writeln!(inner.0, "{line}").expect("the log can be written");
        inner.1.push(entry);
    }

    pub(crate) fn entries(&self) -> Vec<T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
