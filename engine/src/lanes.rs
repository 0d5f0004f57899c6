//! Which events of a subscription may be delivered now: in order per lane, new ones first. Pure.
//!
//! A lane is a key. What is blocked is not here: the database has it, and brings the head of a lane
//! when it is to be tried again.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use crate::store::outbox::Row;

/// How often the head of a lane could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Failures {
    pub(crate) attempts: u32,
    /// How often that was so although the subscription had taken something since the time before.
    pub(crate) refusals: u32,
}

/// What is known of the block of a lane whose head is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) failures: Failures,
    /// When it was tried the last time.
    pub(crate) tried_at: Option<DateTime<Utc>>,
    /// How many commands of people there were.
    pub(crate) commands: i32,
}

/// The head of a blocked lane, which is to be tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) row: Row,
    pub(crate) known: Known,
    /// A person wants it tried.
    pub(crate) is_asked: bool,
    /// A person wants it skipped.
    pub(crate) is_skipped: bool,
}

/// What is to be delivered now.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) row: Row,
    /// Of a lane that is blocked.
    pub(crate) retry: Option<Known>,
    pub(crate) is_skipped: bool,
    /// It is new, so that it goes before everything else.
    pub(crate) is_new: bool,
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// What was published last.
    New,
    /// A walk through everything.
    Sweep,
}

/// The rows of a subscription that are in memory.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Rows that wait, are under way, or are delivered and not deleted yet.
    known: HashSet<i64>,
    lanes: HashMap<String, Lane>,
    /// Lanes that may start, in the order in which they came.
    new: VecDeque<String>,
    old: VecDeque<String>,
    retries: VecDeque<Retry>,
    /// Whether a retry comes before an old lane the next time.
    prefers_retry: bool,
}

#[derive(Debug)]
struct Lane {
    rows: VecDeque<Row>,
    source: Source,
    is_busy: bool,
}

/// A lane that is put back into the database untried.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Postponed {
    pub(crate) key: String,
    pub(crate) shard: i16,
}

impl Lanes {
    /// How many rows are in memory.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes rows, in order.
    pub(crate) fn offer(&mut self, rows: impl IntoIterator<Item = Row>, source: Source) {
        for row in rows {
            if !self.known.insert(row.outbox_id) {
                continue;
            }
            match self.lanes.get_mut(&row.key) {
                Some(lane) => lane.rows.push_back(row),
                None => {
                    let key = row.key.clone();
                    let lane = Lane { rows: VecDeque::from([row]), source, is_busy: false };
                    self.lanes.insert(key.clone(), lane);
                    self.queue(source).push_back(key);
                }
            }
        }
    }

    /// Takes heads that are to be tried again.
    pub(crate) fn retry(&mut self, retries: impl IntoIterator<Item = Retry>) {
        for retry in retries {
            if self.known.insert(retry.row.outbox_id) {
                self.retries.push_back(retry);
            }
        }
    }

    /// Drops heads that have not been tried again.
    pub(crate) fn drop_retries(&mut self) {
        for retry in self.retries.drain(..) {
            self.known.remove(&retry.row.outbox_id);
        }
    }

    fn queue(&mut self, source: Source) -> &mut VecDeque<String> {
        match source {
            Source::New => &mut self.new,
            Source::Sweep => &mut self.old,
        }
    }

    /// Whether something new may start.
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Whether something old may start.
    pub(crate) fn has_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// Whether a head waits for its retry.
    pub(crate) fn has_retry(&self) -> bool {
        !self.retries.is_empty()
    }

    /// The head of the lane that has waited longest of those with something new.
    pub(crate) fn start_new(&mut self) -> Option<Attempt> {
        let key = self.new.pop_front()?;
        self.start(&key)
    }

    /// The head of the lane that came last.
    pub(crate) fn start_newest(&mut self) -> Option<Attempt> {
        let key = self.new.pop_back()?;
        self.start(&key)
    }

    /// What a person asks for; else in turns what is to be tried again, and what a sweep has brought.
    pub(crate) fn start_old(&mut self) -> Option<Attempt> {
        let is_asked = self.retries.front().is_some_and(|retry| retry.is_asked);
        if is_asked || self.old.is_empty() || self.prefers_retry && self.has_retry() {
            self.prefers_retry = false;
            let Retry { row, known, is_skipped, .. } = self.retries.pop_front()?;
            return Some(Attempt { row, retry: Some(known), is_skipped, is_new: false });
        }
        self.prefers_retry = true;
        let key = self.old.pop_front()?;
        self.start(&key)
    }

    fn start(&mut self, key: &str) -> Option<Attempt> {
        let lane = self.lanes.get_mut(key)?;
        let row = lane.rows.pop_front()?;
        lane.is_busy = true;
        let is_new = lane.source == Source::New;
        Some(Attempt { row, retry: None, is_skipped: false, is_new })
    }

    /// The head of a lane is delivered; the next row may start.
    pub(crate) fn delivered(&mut self, key: &str) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.is_busy = false;
        if lane.rows.is_empty() {
            self.lanes.remove(key);
        } else {
            let source = lane.source;
            self.queue(source).push_back(key.to_owned());
        }
    }

    /// Puts a row at the end of its lane: the bug that is called "the outbox overtakes".
    pub(crate) fn overtake(&mut self, row: Row) -> Result<(), Row> {
        match self.lanes.get_mut(&row.key) {
            Some(lane) if !lane.rows.is_empty() => {
                let key = row.key.clone();
                lane.rows.push_back(row);
                self.delivered(&key);
                Ok(())
            }
            _ => Err(row),
        }
    }

    /// Nothing more of a lane is delivered for now: forgets the row that was under way, and those
    /// behind it.
    pub(crate) fn drop_lane(&mut self, row: &Row) {
        self.known.remove(&row.outbox_id);
        if let Some(lane) = self.lanes.remove(&row.key) {
            forget_rows(&mut self.known, &lane);
        }
    }

    /// Rows are gone from the database.
    pub(crate) fn forget(&mut self, gone: &[i64]) {
        for outbox_id in gone {
            self.known.remove(outbox_id);
        }
    }

    /// Drops what waits of other shards, which are somebody else's; what is under way is let finish.
    pub(crate) fn keep_shards(&mut self, shards: &[i16]) {
        let known = &mut self.known;
        self.lanes.retain(|_, lane| {
            let is_foreign = |row: &Row| !shards.contains(&row.shard);
            if lane.rows.front().is_some_and(is_foreign) {
                forget_rows(known, lane);
                lane.rows.clear();
            }
            lane.is_busy || !lane.rows.is_empty()
        });
        self.retries.retain(|retry| {
            let is_ours = shards.contains(&retry.row.shard);
            if !is_ours {
                known.remove(&retry.row.outbox_id);
            }
            is_ours
        });
        self.tidy_queues();
    }

    /// Makes room: puts back lanes that wait, the oldest first, and all that a sweep has brought,
    /// until no more than `rows_max` rows wait.
    pub(crate) fn postpone(&mut self, rows_max: usize) -> Vec<Postponed> {
        let mut kept = 0;
        let mut postponed = Vec::new();
        let newest_first = self.new.iter().rev().map(|key| (key, true));
        let queued = newest_first.chain(self.old.iter().map(|key| (key, false)));
        for (key, is_new) in queued {
            let Some(lane) = self.lanes.get(key) else { continue };
            kept += if is_new { lane.rows.len() } else { 0 };
            if is_new && kept <= rows_max {
                continue;
            }
            if let Some(lane) = self.lanes.remove(key) {
                let shard = lane.rows.front().map_or(0, |row| row.shard);
                forget_rows(&mut self.known, &lane);
                postponed.push(Postponed { key: key.clone(), shard });
            }
        }
        self.tidy_queues();
        postponed
    }

    fn tidy_queues(&mut self) {
        let lanes = &self.lanes;
        let may_start = |key: &String| lanes.get(key).is_some_and(|it| !it.rows.is_empty());
        self.new.retain(may_start);
        self.old.retain(may_start);
    }
}

fn forget_rows(known: &mut HashSet<i64>, lane: &Lane) {
    for row in &lane.rows {
        known.remove(&row.outbox_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn row(outbox_id: i64, key: &str) -> Row {
        Row {
            outbox_id,
            shard: if key < "m" { 0 } else { 1 },
            workflow: "fulfilment".to_owned(),
            key: key.to_owned(),
            instance_id: Uuid::nil(),
            ordinal: 0,
            at: DateTime::UNIX_EPOCH,
            events: String::new(),
        }
    }

    fn retry(outbox_id: i64, key: &str, is_asked: bool) -> Retry {
        let failures = Failures { attempts: 3, refusals: 1 };
        let known = Known { failures, tried_at: None, commands: 0 };
        Retry { row: row(outbox_id, key), known, is_asked, is_skipped: false }
    }

    fn ids(attempts: impl IntoIterator<Item = Attempt>) -> Vec<i64> {
        attempts.into_iter().map(|attempt| attempt.row.outbox_id).collect()
    }

    fn start_all(lanes: &mut Lanes) -> Vec<i64> {
        ids(std::iter::from_fn(|| lanes.start_new().or_else(|| lanes.start_old())))
    }

    #[test]
    fn a_lane_with_a_delivery_under_way_waits_and_others_do_not() {
        let mut lanes = Lanes::default();
        lanes.offer([row(1, "a"), row(2, "b"), row(3, "a")], Source::New);
        assert_eq!(start_all(&mut lanes), [1, 2]);
        lanes.offer([row(4, "a"), row(5, "c")], Source::New);
        assert_eq!(start_all(&mut lanes), [5]);
        lanes.delivered("a");
        assert_eq!(start_all(&mut lanes), [3]);
        lanes.delivered("b");
        lanes.delivered("a");
        assert_eq!(start_all(&mut lanes), [4]);
    }

    #[test]
    fn a_row_that_is_seen_twice_is_delivered_once() {
        let mut lanes = Lanes::default();
        lanes.offer([row(1, "a"), row(1, "a")], Source::New);
        assert_eq!(start_all(&mut lanes), [1]);
        lanes.delivered("a");
        // It is in the database until it is deleted.
        lanes.offer([row(1, "a")], Source::Sweep);
        lanes.retry([retry(1, "a", true)]);
        assert!(start_all(&mut lanes).is_empty());
        lanes.forget(&[1]);
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn of_a_lane_whose_head_has_failed_nothing_stays() {
        let mut lanes = Lanes::default();
        lanes.offer([row(1, "a"), row(2, "a"), row(3, "b")], Source::New);
        let failed = lanes.start_new().unwrap();
        lanes.drop_lane(&failed.row);
        assert_eq!((lanes.len(), start_all(&mut lanes)), (1, vec![3]));
        // Its head comes back by itself, and the others once it has been taken.
        lanes.retry([retry(1, "a", false)]);
        let again = lanes.start_old().unwrap();
        assert_eq!(again.retry.unwrap().failures.attempts, 3);
        lanes.forget(&[1]);
        lanes.offer([row(2, "a")], Source::Sweep);
        assert_eq!(start_all(&mut lanes), [2]);
    }

    #[test]
    fn what_a_person_asks_for_comes_before_other_retries_and_these_take_turns_with_old_rows() {
        let mut lanes = Lanes::default();
        lanes.offer([row(1, "a"), row(2, "b")], Source::Sweep);
        lanes.retry([retry(3, "c", true), retry(4, "d", false), retry(5, "e", false)]);
        assert_eq!(ids(std::iter::from_fn(|| lanes.start_old())), [3, 1, 4, 2, 5]);
    }

    #[test]
    fn lanes_that_make_room_are_the_oldest_and_none_that_is_under_way() {
        let mut lanes = Lanes::default();
        let rows = [row(1, "a"), row(2, "b"), row(3, "c"), row(4, "c"), row(5, "d")];
        lanes.offer(rows, Source::New);
        lanes.offer([row(6, "z")], Source::Sweep);
        assert_eq!(lanes.start_new().unwrap().row.outbox_id, 1);
        let postponed = lanes.postpone(3);
        let keys: Vec<_> = postponed.iter().map(|it| (it.key.as_str(), it.shard)).collect();
        assert_eq!(keys, [("b", 0), ("z", 1)]);
        assert_eq!(lanes.len(), 4);
        assert_eq!(lanes.start_newest().unwrap().row.outbox_id, 5);
        assert_eq!(start_all(&mut lanes), [3]);
    }

    #[test]
    fn of_a_shard_that_is_given_away_only_what_is_under_way_stays() {
        let mut lanes = Lanes::default();
        lanes.offer([row(1, "x"), row(2, "a"), row(3, "x"), row(4, "y")], Source::New);
        lanes.retry([retry(5, "z", false), retry(6, "b", false)]);
        let under_way = lanes.start_new().unwrap();
        lanes.keep_shards(&[0]);
        assert_eq!(lanes.len(), 3);
        assert_eq!(start_all(&mut lanes), [2, 6]);
        lanes.delivered(&under_way.row.key);
        assert!(start_all(&mut lanes).is_empty());
    }
}
