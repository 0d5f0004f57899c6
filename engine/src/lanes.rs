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
    blocked: HashMap<Lane, Shut>,
    /// How many events each subscription has taken.
    taken: HashMap<String, usize>,
}

/// A lane whose head could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) failures: Failures,
    /// When it is tried again. `None`: when a person says so.
    pub(crate) until: Option<DateTime<Utc>>,
    /// The row that a person wants skipped.
    pub(crate) skipped: Option<i64>,
    /// How many commands of people are known.
    pub(crate) heard: i32,
}

impl Blocked {
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// How often the head of a lane could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Failures {
    pub(crate) attempts: u32,
    /// How often that was so although the subscription had taken something since the time before.
    pub(crate) refusals: u32,
}

/// A blocked lane, and what this relay has seen of it.
#[derive(Debug)]
struct Shut {
    blocked: Blocked,
    /// How much the subscription had taken by then.
    taken: usize,
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
            let shut = self.blocked.get(&lane).is_some_and(|shut| !shut.passed);
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

    /// All rows of a lane that may start now, and the one of them that is to be skipped.
    pub(crate) fn start(&mut self) -> Option<(Lane, VecDeque<Row>, Option<i64>)> {
        let lane = self.ready.pop_front()?;
        let rows = self.waiting.remove(&lane)?;
        let skipped = self.blocked.get(&lane).and_then(|shut| shut.blocked.skipped);
        self.busy.insert(lane.clone());
        Some((lane, rows, skipped))
    }

    /// A subscription has taken so many events.
    pub(crate) fn took(&mut self, subscription: &str, count: usize) {
        if count > 0 {
            *self.taken.entry(subscription.to_owned()).or_default() += count;
        }
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

    /// How often the head of a lane has failed that has failed once more. One whose predecessors
    /// were just delivered has not been tried before.
    pub(crate) fn failed(&self, lane: &Lane, is_new: bool) -> Failures {
        let Some(shut) = self.blocked.get(lane).filter(|_| !is_new) else {
            return Failures { attempts: 1, refusals: 0 };
        };
        let Failures { attempts, refusals } = shut.blocked.failures;
        let has_taken = self.taken_by(lane) > shut.taken;
        Failures { attempts: attempts + 1, refusals: refusals + u32::from(has_taken) }
    }

    /// A lane's head could not be delivered. Everything of that lane is forgotten, and found again
    /// in order by a scan from the beginning once the block has run out.
    pub(crate) fn block(
        &mut self,
        lane: Lane,
        rest: &[i64],
        failures: Failures,
        until: Option<DateTime<Utc>>,
    ) -> Blocked {
        self.busy.remove(&lane);
        for outbox_id in rest {
            self.known.remove(outbox_id);
        }
        for row in self.waiting.remove(&lane).unwrap_or_default() {
            self.known.remove(&row.outbox_id);
        }
        let before = self.blocked.get(&lane).map(|shut| shut.blocked);
        let skipped = before.and_then(|it| it.skipped).filter(|row| rest.contains(row));
        let heard = before.map_or(0, |it| it.heard);
        let blocked = Blocked { failures, until, skipped, heard };
        self.shut(lane, blocked);
        blocked
    }

    /// Knows those blocks that are kept, and those of lanes that are just being delivered.
    pub(crate) fn recall(&mut self, blocks: impl IntoIterator<Item = (Lane, Blocked)>) {
        self.blocked.retain(|lane, _| self.busy.contains(lane));
        for (lane, blocked) in blocks {
            if !self.busy.contains(&lane) {
                self.shut(lane, blocked);
            }
        }
    }

    /// People have asked so often for another attempt at a lane, or for its head to be skipped.
    pub(crate) fn obey(
        &mut self,
        lane: &Lane,
        commands: i32,
        skipped: Option<i64>,
        now: DateTime<Utc>,
    ) {
        if self.busy.contains(lane) {
            return;
        }
        if let Some(shut) = self.blocked.get_mut(lane)
            && shut.blocked.heard < commands
        {
            shut.blocked.failures.refusals = 0;
            shut.blocked.until = Some(now);
            shut.blocked.skipped = skipped;
            shut.blocked.heard = commands;
        }
    }

    fn shut(&mut self, lane: Lane, blocked: Blocked) {
        let taken = self.taken_by(&lane);
        self.blocked.insert(lane, Shut { blocked, taken, passed: false });
    }

    fn taken_by(&self, lane: &Lane) -> usize {
        self.taken.get(&lane.subscription).copied().unwrap_or(0)
    }

    /// Rows are gone from the database.
    pub(crate) fn forget(&mut self, gone: &[i64]) {
        for outbox_id in gone {
            self.known.remove(outbox_id);
        }
    }

    /// Whether a block has run out, so that a scan from the beginning is due.
    pub(crate) fn unblocking(&self, now: DateTime<Utc>) -> bool {
        self.blocked.values().any(|shut| !shut.passed && shut.blocked.is_over(now))
    }

    /// A scan from the beginning starts: it brings the rows of lanes whose block has run out.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        for shut in self.blocked.values_mut().filter(|shut| shut.blocked.is_over(now)) {
            shut.passed = true;
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
        lanes.start().map(|(lane, rows, _)| (lane, rows.iter().map(|row| row.outbox_id).collect()))
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
        lanes.block(a, &rows, Failures::default(), Some(later));
        // The block has run out, but a scan from the middle would bring row 3 before row 1.
        lanes.offer(vec![row(3, "a")]);
        assert!(start(&mut lanes).is_none());
        assert!(!lanes.unblocking(DateTime::UNIX_EPOCH));
        assert!(lanes.unblocking(later));
        lanes.sweep(later);
        lanes.offer(vec![row(1, "a"), row(2, "a"), row(3, "a")]);
        assert_eq!(start(&mut lanes).unwrap().1, [1, 2, 3]);
    }

    fn lane(key: &str) -> Lane {
        Lane { subscription: "all".to_owned(), key: key.to_owned() }
    }

    /// Has the head of a lane fail once more.
    fn fail(lanes: &mut Lanes, until: Option<DateTime<Utc>>) -> Blocked {
        let (a, rows) = start(lanes).unwrap();
        let failures = lanes.failed(&a, false);
        lanes.block(a, &rows, failures, until)
    }

    #[test]
    fn a_failure_is_a_refusal_only_if_something_was_taken_since_the_one_before() {
        let mut lanes = Lanes::default();
        let now = DateTime::UNIX_EPOCH;
        for (taken, refusals) in [(1, 0), (0, 0), (1, 1), (0, 1), (7, 2)] {
            lanes.took("all", taken);
            lanes.took("another", 1);
            lanes.sweep(now);
            lanes.offer(vec![row(1, "a")]);
            assert_eq!(fail(&mut lanes, Some(now)).failures.refusals, refusals);
        }
        assert_eq!(lanes.failed(&lane("a"), true), Failures { attempts: 1, refusals: 0 });
    }

    #[test]
    fn a_command_that_comes_during_an_attempt_is_heard_after_it() {
        let mut lanes = Lanes::default();
        let now = DateTime::UNIX_EPOCH;
        lanes.offer(vec![row(1, "a"), row(2, "a")]);
        fail(&mut lanes, Some(now));
        lanes.sweep(now);
        lanes.offer(vec![row(1, "a"), row(2, "a")]);
        let (a, rows) = start(&mut lanes).unwrap();
        lanes.obey(&a, 1, Some(1), now);
        let failures = lanes.failed(&a, false);
        let blocked = lanes.block(a.clone(), &rows, failures, None);
        assert_eq!((blocked.heard, blocked.skipped), (0, None));
        assert!(!lanes.unblocking(now), "it waits for a person");
        lanes.obey(&a, 1, Some(1), now);
        assert!(lanes.unblocking(now));
        lanes.sweep(now);
        lanes.offer(vec![row(1, "a"), row(2, "a")]);
        assert_eq!(lanes.start().unwrap().2, Some(1));
        // What is behind the one that is skipped is not.
        let blocked = lanes.block(a, &[2], Failures::default(), Some(now));
        assert_eq!((blocked.heard, blocked.skipped), (1, None));
    }

    #[test]
    fn of_what_others_have_had_only_what_is_kept_is_blocked() {
        let mut lanes = Lanes::default();
        lanes.offer(vec![row(1, "a"), row(2, "b")]);
        fail(&mut lanes, None);
        let blocked = fail(&mut lanes, None);
        lanes.recall([(lane("b"), blocked)]);
        lanes.offer(vec![row(1, "a"), row(2, "b")]);
        assert_eq!(start(&mut lanes).unwrap(), (lane("a"), vec![1]));
        assert!(start(&mut lanes).is_none());
    }
}
