//! For how long an instance has stood still because people had it: held, or stuck. That time does
//! not run against its deadline: who has said "go on" does not mean "undo everything".

use chrono::{DateTime, TimeDelta, Utc};

use crate::command::Command;

/// What people have of an instance, and how long they have had it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct People {
    is_held: bool,
    is_stuck: bool,
    since: Option<DateTime<Utc>>,
    before: TimeDelta,
}

impl People {
    /// Nobody has had it yet.
    pub(super) fn new() -> Self {
        Self { is_held: false, is_stuck: false, since: None, before: TimeDelta::zero() }
    }

    /// Whether somebody holds it.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// How long people have had it, until it went on last.
    pub(super) fn had_it_for(&self) -> TimeDelta {
        self.before
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
        } else if let Some(since) = self.since.take() {
            // Clocks of different workers differ.
            self.before += (at - since).max(TimeDelta::zero());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_which_people_have_it_counts_once() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mut people = People::new();
        people.stuck(at(10));
        people.commanded(Command::Hold, at(15));
        people.commanded(Command::Resume, at(20));
        assert_eq!((people.is_held(), people.had_it_for()), (true, TimeDelta::zero()));
        people.commanded(Command::Release, at(30));
        assert_eq!((people.is_held(), people.had_it_for()), (false, TimeDelta::seconds(20)));
        people.commanded(Command::Hold, at(100));
        people.commanded(Command::Release, at(99));
        assert_eq!(people.had_it_for(), TimeDelta::seconds(20));
    }
}
