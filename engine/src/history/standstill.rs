//! For how long an instance has stood still, because people had it, held or stuck, or because what it
//! depends on was down. That time does not run against a deadline: who has said "go on" does not mean
//! "undo everything", and neither does the end of an outage.

use chrono::{DateTime, TimeDelta, Utc};

use crate::command::Command;
use crate::sabotage::Bug;

/// Whether people have an instance, and for how long it has stood still before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standstill {
    is_held: bool,
    is_stuck: bool,
    since: Option<DateTime<Utc>>,
    before: TimeDelta,
}

impl Standstill {
    /// It has not stood still yet.
    pub(super) fn new() -> Self {
        Self { is_held: false, is_stuck: false, since: None, before: TimeDelta::zero() }
    }

    /// Whether somebody holds it.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// How long it has stood still, until it went on last.
    pub(super) fn total(&self) -> TimeDelta {
        self.before
    }

    /// The same, if it was parked from then until then as well.
    pub(super) fn total_with(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        if Bug::ParkedTimeCounts.is_on() {
            return self.before;
        }
        self.before + span(from, until)
    }

    /// It was parked from then until then.
    pub(super) fn parked(&mut self, from: DateTime<Utc>, until: DateTime<Utc>) {
        self.before = self.total_with(from, until);
    }

    /// It is put to a person.
    pub(super) fn stuck(&mut self, at: DateTime<Utc>) {
        self.is_stuck = true;
        self.look(at);
    }

    /// It has read a command.
    pub(super) fn commanded(&mut self, command: Command, at: DateTime<Utc>) {
        match command {
            Command::Hold => self.is_held = true,
            Command::Release => self.is_held = false,
            Command::Resume | Command::Resolve => self.is_stuck = false,
            Command::Cancel => (self.is_held, self.is_stuck) = (false, false),
            Command::Retry | Command::Book | Command::Terminate => {}
        }
        self.look(at);
    }

    fn look(&mut self, at: DateTime<Utc>) {
        if self.is_held || self.is_stuck {
            self.since.get_or_insert(at);
        } else if let Some(since) = self.since.take()
            && !Bug::PeopleTimeCounts.is_on()
        {
            self.before += span(since, at);
        }
    }
}

/// Clocks of different workers differ: no time is less than none.
fn span(from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
    (until - from).max(TimeDelta::zero())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fake;
    use crate::history::History;
    use crate::record::{ChildEnded, Entry, StepDone};
    use crate::status::Status;
    use crate::step::StepError;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_time_for_which_people_have_it_counts_once() {
        let mut standstill = Standstill::new();
        standstill.stuck(at(10));
        standstill.commanded(Command::Hold, at(15));
        standstill.commanded(Command::Resume, at(20));
        assert_eq!((standstill.is_held(), standstill.total()), (true, TimeDelta::zero()));
        standstill.commanded(Command::Release, at(30));
        assert_eq!((standstill.is_held(), standstill.total()), (false, TimeDelta::seconds(20)));
        standstill.commanded(Command::Hold, at(100));
        standstill.commanded(Command::Release, at(99));
        assert_eq!(standstill.total(), TimeDelta::seconds(20));
    }

    #[test]
    fn the_time_for_which_it_is_parked_counts_too() {
        let mut standstill = Standstill::new();
        assert_eq!(standstill.total_with(at(10), at(15)), TimeDelta::seconds(5));
        standstill.parked(at(10), at(15));
        standstill.parked(at(30), at(20));
        standstill.commanded(Command::Hold, at(100));
        standstill.commanded(Command::Release, at(102));
        assert_eq!(standstill.total(), TimeDelta::seconds(7));
    }

    #[test]
    fn an_instance_stands_still_from_when_something_is_due_that_is_parked() {
        let ended = |parked| {
            let (instance_id, output, failure) = (Uuid::nil(), None, None);
            let status = Status::Completed;
            Entry::ChildEnded(ChildEnded { instance_id, status, output, failure, parked })
        };
        let stood_still = |step, entry| {
            let mut history = History::new(Uuid::nil());
            fake::failed(&mut history, "charge", &StepError::retry("X", "x"), Some(at(60)));
            history.fold(Some(step), entry, at(100), [0; 32], 0);
            history.stood_still().num_seconds()
        };
        let done = |seconds| {
            Entry::StepDone(StepDone { parked_until: Some(at(seconds)), ..fake::step_done() })
        };
        assert_eq!(stood_still("charge", done(90)), 30);
        assert_eq!(stood_still("another", done(90)), 90);
        assert_eq!(stood_still("child:pack", ended(true)), 40);
        assert_eq!(stood_still("child:pack", ended(false)), 0);
    }
}
