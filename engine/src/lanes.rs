//! Which events may be delivered now: in order per lane, and past what is blocked. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use crate::store::outbox::Row;

/// Events of one key for one subscription: delivered one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) subscription: String,
    pub(crate) key: String,
}

/// The rows that a relay holds in memory.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Rows that wait or are under way.
    known: HashSet<i64>,
    waiting: HashMap<Lane, VecDeque<Row>>,
    /// Lanes with rows that may start, in the order in which they came.
    ready: VecDeque<Lane>,
    busy: HashSet<Lane>,
    blocked: HashMap<Lane, Blocked>,
}

/// A lane whose head could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) attempts: u32,
    pub(crate) until: DateTime<Utc>,
    /// A scan from the beginning has come since the block ran out: rows come in order again.
    passed: bool,
}

impl Lanes {
    /// How many rows are in memory.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes rows of a scan, in order. Rows of blocked lanes are left in the database.
    pub(crate) fn offer(&mut self, rows: Vec<Row>) {
        for row in rows {
            let lane = Lane { subscription: row.subscription.clone(), key: row.key.clone() };
            let shut = self.blocked.get(&lane).is_some_and(|blocked| !blocked.passed);
            if shut || !self.known.insert(row.outbox_id) {
                continue;
            }
            let waiting = self.waiting.entry(lane.clone()).or_default();
            waiting.push_back(row);
            if waiting.len() == 1 && !self.busy.contains(&lane) {
                self.ready.push_back(lane);
            }
        }
    }

    /// Whether a lane may start now.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// All rows of a lane that may start now.
    pub(crate) fn start(&mut self) -> Option<(Lane, VecDeque<Row>)> {
        let lane = self.ready.pop_front()?;
        let rows = self.waiting.remove(&lane)?;
        self.busy.insert(lane.clone());
        Some((lane, rows))
    }

    /// A lane's rows are delivered; what came in meanwhile may start. Says whether the lane had
    /// been blocked.
    pub(crate) fn done(&mut self, lane: Lane) -> bool {
        let was_blocked = self.blocked.remove(&lane).is_some();
        self.busy.remove(&lane);
        if self.waiting.contains_key(&lane) {
            self.ready.push_back(lane);
        }
        was_blocked
    }

    /// A lane's head could not be delivered. Everything of that lane is forgotten, and found again
    /// in order by a scan from the beginning after `until`.
    pub(crate) fn block(&mut self, lane: Lane, rest: &[i64], attempts: u32, until: DateTime<Utc>) {
        self.busy.remove(&lane);
        for outbox_id in rest {
            self.known.remove(outbox_id);
        }
        for row in self.waiting.remove(&lane).unwrap_or_default() {
            self.known.remove(&row.outbox_id);
        }
        self.blocked.insert(lane, Blocked { attempts, until, passed: false });
    }

    /// Remembers a block of an earlier worker.
    pub(crate) fn remember(&mut self, lane: Lane, attempts: u32, until: DateTime<Utc>) {
        self.blocked.entry(lane).or_insert(Blocked { attempts, until, passed: false });
    }

    /// How often delivering the head of a lane has failed.
    pub(crate) fn attempts(&self, lane: &Lane) -> u32 {
        self.blocked.get(lane).map_or(0, |blocked| blocked.attempts)
    }

    /// Rows are gone from the database.
    pub(crate) fn forget(&mut self, gone: &[i64]) {
        for outbox_id in gone {
            self.known.remove(outbox_id);
        }
    }

    /// Whether a block has run out, so that a scan from the beginning is due.
    pub(crate) fn unblocking(&self, now: DateTime<Utc>) -> bool {
        self.blocked.values().any(|blocked| !blocked.passed && blocked.until <= now)
    }

    /// A scan from the beginning starts: it brings the rows of lanes whose block has run out.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        for blocked in self.blocked.values_mut().filter(|blocked| blocked.until <= now) {
            blocked.passed = true;
        }
    }

    /// Everything that waits, once shards have changed hands; what is under way is let finish.
    pub(crate) fn drop_waiting(&mut self) {
        for row in self.waiting.drain().flat_map(|(_, rows)| rows) {
            self.known.remove(&row.outbox_id);
        }
        self.ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn row(outbox_id: i64, key: &str) -> Row {
        Row {
            outbox_id,
            subscription: "all".to_owned(),
            workflow: "fulfilment".to_owned(),
            key: key.to_owned(),
            instance_id: Uuid::nil(),
            ordinal: 0,
            at: DateTime::UNIX_EPOCH,
            events: String::new(),
        }
    }

    fn start(lanes: &mut Lanes) -> Option<(Lane, Vec<i64>)> {
        lanes.start().map(|(lane, rows)| (lane, rows.iter().map(|row| row.outbox_id).collect()))
    }

    #[test]
    fn a_lane_with_a_delivery_under_way_waits_and_others_do_not() {
        let mut lanes = Lanes::default();
        lanes.offer(vec![row(1, "a"), row(2, "b"), row(3, "a")]);
        let (a, rows) = start(&mut lanes).unwrap();
        assert_eq!((a.key.as_str(), rows), ("a", vec![1, 3]));
        lanes.offer(vec![row(4, "a")]);
        assert_eq!(start(&mut lanes).unwrap().1, [2]);
        assert!(start(&mut lanes).is_none());
        lanes.done(a);
        assert_eq!(start(&mut lanes).unwrap().1, [4]);
    }

    #[test]
    fn a_row_that_is_seen_twice_is_delivered_once() {
        let mut lanes = Lanes::default();
        lanes.offer(vec![row(1, "a"), row(1, "a")]);
        assert_eq!(start(&mut lanes).unwrap().1, [1]);
        lanes.offer(vec![row(1, "a")]);
        assert_eq!(lanes.len(), 1);
    }

    #[test]
    fn nothing_of_a_blocked_lane_overtakes_its_head() {
        let mut lanes = Lanes::default();
        let later = DateTime::from_timestamp_millis(1000).unwrap();
        lanes.offer(vec![row(1, "a"), row(2, "a")]);
        let (a, rows) = start(&mut lanes).unwrap();
        lanes.block(a, &rows, 1, later);
        // The block has run out, but a scan from the middle would bring row 3 before row 1.
        lanes.offer(vec![row(3, "a")]);
        assert!(start(&mut lanes).is_none());
        assert!(!lanes.unblocking(DateTime::UNIX_EPOCH));
        assert!(lanes.unblocking(later));
        lanes.sweep(later);
        lanes.offer(vec![row(1, "a"), row(2, "a"), row(3, "a")]);
        assert_eq!(start(&mut lanes).unwrap().1, [1, 2, 3]);
    }
}
