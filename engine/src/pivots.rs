//! Whether an instance is past its pivot: one is done, may be done, or is being tried. Pure.
//!
//! The history tells, but for two things: an attempt that is under way, of which nothing is recorded
//! yet, and what a lost worker had announced. Nothing else keeps a cancel from being accepted.

use std::collections::BTreeSet;

use crate::compensation::is_past_pivot;
use crate::history::{History, step_name};
use crate::registry::Steps;
use crate::sabotage::Bug;

/// The pivots of one instance of which the history does not tell yet.
#[derive(Debug, Default)]
pub(crate) struct Pivots {
    /// About to be tried, or under way.
    announced: BTreeSet<String>,
    /// A lost worker had announced one, or this build cannot read what became of it.
    lost: bool,
}

impl Pivots {
    /// As found at a claim, of an instance whose row says whether it is past its pivot.
    pub(crate) fn claimed(past_pivot: bool, history: &History, steps: &Steps) -> Self {
        let is_known = |name: &str| steps.get(name).is_some();
        let is_foreign = history.steps().any(|it| it.child.is_none() && !is_known(it.name()));
        let may_be_lost = history.is_interrupted() && steps.have_doubtful_pivot();
        let lost = past_pivot && (is_foreign || may_be_lost) && !is_past_pivot(history, steps);
        Self { announced: BTreeSet::new(), lost }
    }

    /// As found at a claim, of an instance whose history this build cannot read.
    pub(crate) fn unreadable(past_pivot: bool) -> Self {
        Self { announced: BTreeSet::new(), lost: past_pivot }
    }

    /// A step is about to be tried.
    pub(crate) fn announce(&mut self, key: &str, steps: &Steps) {
        if steps.is_pivot(step_name(key)) {
            self.announced.insert(key.to_owned());
        }
    }

    /// A step is not under way any more: what became of it is recorded, or it has not begun.
    pub(crate) fn settle(&mut self, key: &str, steps: &Steps) {
        if steps.is_pivot(step_name(key)) {
            self.announced.remove(key);
            self.lost = false;
        }
    }

    /// No attempt is under way.
    pub(crate) fn settle_all(&mut self) {
        if !Bug::PivotKeptOnHold.is_on() {
            self.announced.clear();
        }
    }

    /// Whether nothing can be undone any more, as far as anybody can tell.
    pub(crate) fn are_past(&self, history: &History, steps: &Steps) -> bool {
        let is_under_way = self.lost || !self.announced.is_empty();
        history.undoing().is_none() && (is_under_way || is_past_pivot(history, steps))
    }
}
