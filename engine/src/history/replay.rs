//! What a replay has asked a history for, and in which order it hears the answers.
//!
//! A call that is recorded is asked for in every replay. What its answer decides between may have
//! begun in another call, so a replay hears an answer only once it has asked for every call whose
//! first record is older: each replay then takes the turns that the first run took.

use super::note::{MARKER, Note, Said};
use super::{History, RecordedStep};

/// What stops a run that has dropped a call it had begun.
pub(crate) const BRANCH_DROPPED: &str = "BRANCH_DROPPED";

impl History {
    /// Begins a replay: nothing has been asked for yet.
    pub(crate) fn rewind(&mut self) {
        self.unasked = (0..self.steps.len()).collect();
        let notes = self.notes.iter().enumerate();
        let calls = notes.filter(|(_, note)| !note.key.starts_with(MARKER));
        self.unasked_notes = calls.map(|(index, _)| index).collect();
    }

    /// Looks a note up for a replay.
    pub(crate) fn ask_note(&mut self, key: &str) -> Option<&Note> {
        let index = self.notes.iter().position(|note| note.key == key)?;
        self.unasked_notes.remove(&index);
        self.notes.get(index)
    }

    /// Looks a step up for a replay.
    pub(crate) fn ask(&mut self, key: &str) -> Option<&RecordedStep> {
        let index = self.steps.iter().position(|step| step.key == key)?;
        self.unasked.remove(&index);
        self.steps.get(index)
    }

    /// The first recorded call, a step's before others, that this replay has not asked for and has
    /// to. What was open when the run was stopped for dropping a call has told it nothing: a mended
    /// run may leave it out.
    pub(crate) fn unasked(&self) -> Option<&str> {
        let is_left_open = |note: &&Note| note.first_seq < self.dropped_before && note.is_open();
        let step = self.unasked_steps().next().map(|step| &step.key);
        let note = || self.unasked_notes().find(|note| !is_left_open(note)).map(|note| &note.key);
        step.or_else(note).map(String::as_str)
    }

    /// The oldest first record of a call that this replay has not asked for.
    pub(crate) fn unasked_from(&self) -> Option<u32> {
        let step = self.unasked_steps().next().map(|step| step.first_seq);
        let note = self.unasked_notes().next().map(|note| note.first_seq);
        step.into_iter().chain(note).min()
    }

    fn unasked_steps(&self) -> impl Iterator<Item = &RecordedStep> {
        self.unasked.iter().filter_map(|index| self.steps.get(*index))
    }

    fn unasked_notes(&self) -> impl Iterator<Item = &Note> {
        self.unasked_notes.iter().filter_map(|index| self.notes.get(*index))
    }
}

impl Note {
    fn is_open(&self) -> bool {
        matches!(self.said, Said::Timer { fired: false, .. } | Said::Wait { ended: None, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use crate::record::{Entry, Stuck, TimerStarted};
    use crate::step::Failure;
    use chrono::DateTime;
    use uuid::Uuid;

    fn add(history: &mut History, key: Option<&str>, entry: Entry) {
        history.append(key, None, entry, &[], None, DateTime::UNIX_EPOCH).unwrap();
    }

    fn sleep(history: &mut History, key: &str) {
        let until = DateTime::UNIX_EPOCH;
        add(history, Some(key), Entry::TimerStarted(TimerStarted { until }));
    }

    fn stuck(history: &mut History, code: &'static str) {
        add(history, None, Entry::Stuck(Stuck { failure: Failure::new(code, "") }));
    }

    #[test]
    fn the_oldest_call_that_was_not_asked_for_is_known_whatever_it_is() {
        let mut history = History::new(Uuid::nil());
        sleep(&mut history, "timer:sleep");
        fake::done(&mut history, "charge");
        assert_eq!(history.unasked_from(), None, "what is being recorded is being asked for");
        history.rewind();
        assert_eq!((history.unasked_from(), history.unasked()), (Some(0), Some("charge")));
        history.ask_note("timer:sleep");
        assert_eq!(history.unasked_from(), Some(1));
        history.ask("charge");
        assert_eq!((history.unasked_from(), history.unasked()), (None, None));
    }

    #[test]
    fn what_a_dropped_branch_left_open_need_not_be_asked_for_again() {
        for (code, open) in [(BRANCH_DROPPED, "timer:sleep#3"), ("DIVERGED", "timer:sleep#2")] {
            let mut history = History::new(Uuid::nil());
            sleep(&mut history, "timer:sleep");
            add(&mut history, Some("timer:sleep"), Entry::TimerFired);
            sleep(&mut history, "timer:sleep#2");
            stuck(&mut history, code);
            fake::done(&mut history, "charge");
            sleep(&mut history, "timer:sleep#3");
            history.rewind();
            history.ask("charge");
            assert_eq!(history.unasked(), Some("timer:sleep"), "it had been heard");
            history.ask_note("timer:sleep");
            assert_eq!(history.unasked(), Some(open), "after {code}");
            assert_eq!(history.unasked_from(), Some(2), "its turn is kept all the same");
        }
    }

    #[test]
    fn a_closing_record_that_is_taken_off_leaves_nothing_behind() {
        let mut history = History::new(Uuid::nil());
        sleep(&mut history, "timer:sleep");
        let mark = history.mark();
        stuck(&mut history, BRANCH_DROPPED);
        history.revert(&mark);
        history.rewind();
        assert_eq!(history.unasked(), Some("timer:sleep"));
    }
}
