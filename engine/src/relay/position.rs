//! Where in the outbox a feed reads: behind what was seen last for new rows, and from the beginning
//! now and then for everything else. Pure.
//!
//! Ids are drawn before commits, so a lower one may appear later. New rows are looked for a moment
//! behind what was seen last; the beginning of the index is full of dead rows. What is found later
//! than that, and what has been blocked until now, is found by a sweep, page by page.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::sabotage::Bug;
use crate::store::outbox::Page;

/// New rows are looked for this far behind what was seen last.
const BEHIND: TimeDelta = TimeDelta::milliseconds(250);
/// How long it is from one sweep to the next.
const REST: TimeDelta = TimeDelta::seconds(10);
/// How long if a sweep is wanted.
const REST_WANTED: TimeDelta = TimeDelta::seconds(1);

/// Where a feed reads.
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// New rows are looked for after this one.
    from: i64,
    /// The last row of each look, and when.
    seen: VecDeque<(DateTime<Utc>, i64)>,
    sweep: Option<Sweep>,
    /// When the last sweep has ended, and how long it took.
    swept: Option<(DateTime<Utc>, TimeDelta)>,
    is_wanted: bool,
    /// Where the last sweep has ended, until it is certain that the blocks are gone that it was for.
    pinned: Option<i64>,
}

/// A walk through the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    /// The next page begins after this row.
    pub(crate) from: i64,
    /// It brings the rows of blocks that are over by then.
    pub(crate) until: DateTime<Utc>,
    began: DateTime<Utc>,
}

impl Position {
    /// After which row new ones are looked for.
    pub(crate) fn from(&self) -> i64 {
        self.from
    }

    /// New rows were looked for. A full page is followed by the next one; else the next look starts
    /// where things stood a moment ago.
    pub(crate) fn looked(&mut self, page: &Page, now: DateTime<Utc>) {
        if let Some(last) = page.last {
            self.seen.push_back((now, last));
        }
        if let (Some(last), true) = (page.last, page.is_full) {
            self.from = last;
            return;
        }
        while let Some((at, last)) = self.seen.front()
            && now - *at >= BEHIND
        {
            self.from = *last;
            self.seen.pop_front();
        }
        self.from = self.from.min(self.pinned.unwrap_or(i64::MAX));
    }

    /// Something waits for a sweep.
    pub(crate) fn want_sweep(&mut self) {
        self.is_wanted = true;
    }

    /// Ends a sweep before its time; another one has to begin from the beginning.
    pub(crate) fn give_up_sweep(&mut self) {
        self.is_wanted |= self.sweep.take().is_some();
    }

    /// Whether a sweep is under way or due. Sweeps have a price: the longer they take, the longer is
    /// the rest between them. `rests` is false under a clock that a test moves.
    pub(crate) fn is_sweeping(&self, now: DateTime<Utc>, rests: bool) -> bool {
        if Bug::OutboxCursor.is_on() {
            return self.sweep.is_some() || self.swept.is_none();
        }
        let is_wanted = self.is_wanted || self.pinned.is_some();
        self.sweep.is_some()
            || self.swept.is_none_or(|(swept, took)| {
                let (rest, times) = if is_wanted { (REST_WANTED, 1) } else { (REST, 4) };
                now - swept >= rest.max(took * times) || is_wanted && !rests
            })
    }

    /// The sweep that is under way.
    pub(crate) fn sweep(&self) -> Option<Sweep> {
        self.sweep
    }

    /// Begins a sweep from the beginning, which brings what is over at `until`.
    pub(crate) fn begin_sweep(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) -> Sweep {
        self.is_wanted = false;
        *self.sweep.insert(Sweep { from: 0, until, began: now })
    }

    /// Begins everything anew: there is more to be found than before.
    pub(crate) fn restart(&mut self) {
        let pinned = self.pinned.map(|_| 0);
        *self = Self { pinned, ..Self::default() };
    }

    /// A page of a sweep has been read. Says whether it was the last one. Then the blocks that it was
    /// for may be forgotten; until that is [certain](Self::unblocked), they may be gone or not, and
    /// what their keys publish must not be passed over.
    pub(crate) fn swept(&mut self, page: &Page, now: DateTime<Utc>) -> bool {
        let Some(sweep) = &mut self.sweep else { return false };
        sweep.from = page.last.unwrap_or(sweep.from);
        if page.is_full {
            return false;
        }
        self.seen.clear();
        self.from = self.from.min(sweep.from);
        self.pinned = Some(self.from);
        self.swept = Some((now, now - sweep.began));
        self.sweep = None;
        true
    }

    /// The blocks that the last sweep was for are gone.
    pub(crate) fn unblocked(&mut self) {
        self.pinned = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn page(last: i64, is_full: bool) -> Page {
        Page { rows: Vec::new(), last: Some(last), is_full }
    }

    #[test]
    fn new_rows_are_looked_for_a_moment_behind_what_was_seen_last() {
        let mut position = Position::default();
        position.looked(&page(10, true), at(0));
        assert_eq!(position.from(), 10);
        position.looked(&page(15, false), at(1));
        assert_eq!(position.from(), 10);
        position.looked(&page(17, false), at(2));
        assert_eq!(position.from(), 15);
    }

    #[test]
    fn a_sweep_walks_page_by_page_and_has_new_rows_looked_for_behind_it() {
        let mut position = Position::default();
        position.looked(&page(90, true), at(0));
        assert!(position.is_sweeping(at(0), true));
        let sweep = position.begin_sweep(at(0), at(5));
        assert_eq!((sweep.from, sweep.until), (0, at(5)));
        assert!(!position.swept(&page(40, true), at(1)));
        assert_eq!(position.sweep().unwrap().from, 40);
        assert!(position.swept(&page(80, false), at(3)));
        assert_eq!(position.from(), 80);
    }

    #[test]
    fn nothing_is_passed_over_while_it_is_not_certain_what_is_blocked() {
        let mut position = Position::default();
        position.begin_sweep(at(0), at(0));
        position.swept(&page(80, false), at(1));
        for second in 2..9 {
            position.looked(&page(80 + second, false), at(second));
            assert_eq!(position.from(), 0);
        }
        position.unblocked();
        position.looked(&page(90, false), at(9));
        assert_eq!(position.from(), 88);
    }

    #[test]
    fn sweeps_rest_the_longer_the_longer_they_take() {
        let mut position = Position::default();
        position.begin_sweep(at(0), at(0));
        position.swept(&page(1, false), at(6));
        position.unblocked();
        assert!(!position.is_sweeping(at(6 + 23), true));
        assert!(position.is_sweeping(at(6 + 24), true));
        position.want_sweep();
        assert!(!position.is_sweeping(at(6 + 5), true));
        assert!(position.is_sweeping(at(6 + 6), true));
        assert!(position.is_sweeping(at(6), false));
    }

    #[test]
    fn a_sweep_that_was_given_up_begins_again() {
        let mut position = Position::default();
        position.begin_sweep(at(0), at(0));
        position.swept(&page(40, true), at(1));
        position.give_up_sweep();
        assert!(position.sweep().is_none());
        assert!(position.is_sweeping(at(1), false));
    }
}
