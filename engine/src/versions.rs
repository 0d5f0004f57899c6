//! Which versions of workflows have live instances, who can run them, and which can go. Pure.
//!
//! An instance stays on the version it was started with, so a build may drop a version only when
//! nothing live is on it, nothing that a live instance can still take back, and nothing new starts
//! on it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::registry::Registry;

/// A version of a workflow that live instances need, or that is part of this build, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The workflow's name.
    pub workflow: String,
    /// Its number.
    pub version: u32,
    /// Whether this build can run it.
    pub runnable: bool,
    /// Whether this build starts new instances on it.
    pub starts_new: bool,
    /// Its instances that have not ended.
    pub live: Live,
    /// Its instances that have completed and can still be taken back: children of live instances,
    /// or of such children.
    pub completed_children: u64,
    /// When the oldest of the live ones was accepted.
    pub oldest: Option<DateTime<Utc>>,
}

/// How many instances that have not ended stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Accepted; nobody runs them yet.
    pub pending: u64,
    /// A worker runs them.
    pub running: u64,
    /// They wait for time, a retry or a signal.
    pub waiting: u64,
    /// What they did is being undone.
    pub compensating: u64,
    /// They need a person.
    pub stuck: u64,
}

impl Live {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pending + self.running + self.waiting + self.compensating + self.stuck
    }
}

impl Version {
    /// Whether a build without it strands nothing: nothing live is on it, nothing that could be
    /// taken back, and new instances start on a newer one.
    #[must_use]
    pub fn is_safe_to_remove(&self) -> bool {
        self.live.total() == 0 && self.completed_children == 0 && !self.starts_new
    }
}

/// A version that live instances need, as the database counts them.
pub(crate) struct LiveVersion {
    pub(crate) workflow: String,
    pub(crate) version: u32,
    pub(crate) live: Live,
    pub(crate) completed_children: u64,
    pub(crate) oldest: Option<DateTime<Utc>>,
}

/// Every version that live instances need or that is registered, by name and number.
pub(crate) fn report(registry: &Registry, counted: Vec<LiveVersion>) -> Vec<Version> {
    let mut counted: BTreeMap<_, _> = counted
        .into_iter()
        .map(|on| ((on.workflow, on.version), (on.live, on.completed_children, on.oldest)))
        .collect();
    for workflow in registry.iter() {
        counted.entry((workflow.name().to_owned(), workflow.version())).or_default();
    }
    counted
        .into_iter()
        .map(|((workflow, version), (live, completed_children, oldest))| {
            let newest = registry.newest(&workflow).map(|newest| newest.version());
            Version {
                runnable: registry.get(&workflow, version).is_some(),
                starts_new: newest == Some(version),
                workflow,
                version,
                live,
                completed_children,
                oldest,
            }
        })
        .collect()
}
