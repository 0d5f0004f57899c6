//! What each record means for the history that it is added to. Pure.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::step::{Key, undo_key};
use super::step_clock::StepClock;
use super::{
    Attempts, BRANCH_DROPPED, CHILD_UNHEARD, History, Note, Progress, Received, RecordedStep, Said,
    Undoing,
};
use crate::command::{Command, Finding, Resolution};
use crate::record::{
    AttemptOutcome, CommandRead, Entry, MAIL_REFUSED, MailRefused, SignalRead, Started,
    StepAttemptFailed, StepCompensated, StepInterrupted,
};
use crate::sabotage::Bug;

impl History {
    /// Takes one record in.
    pub(super) fn fold(
        &mut self,
        step: Option<&str>,
        entry: Entry,
        at: DateTime<Utc>,
        hash: [u8; 32],
        events: u32,
    ) {
        self.length += 1;
        self.head = hash;
        self.events += events;
        self.ledger.movements.extend_from_slice(entry.money());
        if let Some(until) = entry.parked_until(at) {
            self.standstill.parked(self.due(step.filter(|_| entry.is_of_attempt())), until);
        }
        match entry {
            Entry::Started(started) => self.started(started, at),
            Entry::WorkerLost => self.worker_lost(at),
            Entry::StepStarted(started) => self.step_mut(step, started.input).begun(at),
            Entry::StepDone(done) => {
                // Whatever the lost worker left open has been taken up.
                self.interrupted = false;
                let step = self.step_mut(step, done.input);
                step.compensation = done.compensation;
                step.settled(Progress::Done { output: done.output });
            }
            Entry::StepAttemptFailed(failed) => self.attempt_failed(step, failed, at),
            Entry::StepLate(late) => self.step_mut(step, late.input.clone()).late(late),
            Entry::StepInterrupted(interrupted) => self.attempt_interrupted(step, interrupted, at),
            Entry::StepNotFound(probed) => self.not_found(step, probed.retry_at, at),
            Entry::CompensationPlanned(planned) => {
                self.undoing = Some(Undoing { reason: planned.reason, plan: planned.plan });
            }
            Entry::StepCompensated(StepCompensated { recheck_at, .. }) => {
                if let Some(step) = self.find_mut(step) {
                    step.undone(recheck_at);
                }
            }
            Entry::CompensationAttemptFailed(failed) => {
                if failed.outcome == AttemptOutcome::Unknown {
                    self.undo_in_doubt(step);
                }
                if let Some(step) = self.find_mut(step) {
                    step.undo.failed(failed.outcome, failed.failure, failed.retry_at);
                }
            }
            Entry::Command(read) => self.commanded(read, at),
            Entry::Signal(read) => self.received(read),
            Entry::MailRefused(refused) => self.refused(step, refused),
            Entry::TimerStarted(timer) => {
                self.note_down(step, Said::Timer { until: timer.until, fired: false });
            }
            Entry::TimerFired => self.timer_fired(step),
            Entry::WaitStarted(wait) => {
                self.note_down(step, Said::Wait { until: wait.until, ended: None });
            }
            Entry::WaitEnded(wait) => self.wait_ended(step, wait.signal),
            Entry::Noted(noted) => self.note_down(step, Said::Value(noted.value)),
            Entry::ChildStarted(started) if started.detached => {
                let (instance_id, input) = (started.instance_id, started.input);
                self.note_down(step, Said::Detached { instance_id, input });
            }
            Entry::ChildStarted(started) => {
                self.step_mut(step, started.input).child_started(started.instance_id);
            }
            Entry::ChildEnded(ended) => {
                self.mail_read += 1;
                if let Some(step) = self.find_mut(step) {
                    step.child_ended(ended);
                }
            }
            Entry::Stuck(stuck) => self.stuck(&stuck.failure.code, at),
            Entry::Ended(_) => {}
        }
        self.last_at = at;
    }

    fn started(&mut self, started: Started, at: DateTime<Utc>) {
        let below = started.parent.as_ref().map(|parent| parent.depth.max(1));
        self.depth = below.or(started.depth).unwrap_or(0);
        self.parent = started.parent;
        self.input = Some(started.input);
        self.started_at = at;
    }

    fn attempt_failed(&mut self, key: Option<&str>, failed: StepAttemptFailed, at: DateTime<Utc>) {
        self.interrupted = false;
        let (last_at, stood_still) = (self.last_at, self.standstill.total());
        let step = self.step_mut(key, failed.input.clone());
        step.first_at = failed.began_at.unwrap_or(step.first_at);
        let began_at = failed.began_at.or(failed.parked_until).unwrap_or(last_at);
        step.clock.get_or_insert(StepClock::start(began_at, stood_still));
        step.attempt_failed(failed, at);
    }

    fn attempt_interrupted(
        &mut self,
        key: Option<&str>,
        interrupted: StepInterrupted,
        at: DateTime<Utc>,
    ) {
        let (last_at, stood_still) = (self.last_at, self.standstill.total());
        let step = self.step_mut(key, interrupted.input);
        step.clock.get_or_insert(StepClock::start(last_at, stood_still));
        step.interrupted(interrupted.retry_at, at);
    }

    fn stuck(&mut self, code: &str, at: DateTime<Utc>) {
        self.standstill.stuck(at);
        self.unheard_told = code == CHILD_UNHEARD;
        match code {
            BRANCH_DROPPED => self.dropped_before = self.length,
            MAIL_REFUSED => self.refusal_told = true,
            _ => {}
        }
    }

    fn worker_lost(&mut self, at: DateTime<Utc>) {
        self.interrupted = true;
        self.steps.iter_mut().for_each(|step| step.worker_lost(at));
        let undoing = self.next_to_undo().map(|planned| planned.step.clone());
        self.undo_in_doubt(undoing.as_deref());
    }

    fn not_found(&mut self, key: Option<&str>, retry_at: DateTime<Utc>, at: DateTime<Utc>) {
        if let Some(step) = self.find_mut(key) {
            step.not_found(retry_at, at);
            let unknown = step.unknown;
            self.interrupted &= unknown;
        }
    }

    /// An attempt at an undo may have been carried out, upon the ledger as it stands.
    fn undo_in_doubt(&mut self, key: Option<&str>) {
        let (since, movements) = (self.last_at, self.ledger.movements.len());
        let mut steps = self.steps.iter_mut();
        if let Some(step) = steps.find(|step| Some(step.key.as_str()) == key) {
            step.undo.may_have_asked(since, movements);
        }
    }

    fn received(&mut self, read: SignalRead) {
        self.mail_read += 1;
        let (seq, name, body) = (self.length - 1, read.signal, read.body);
        self.signals.push(Received { seq, name, body, taken: false });
    }

    /// A message could not be recorded: one of a child, if it says of which.
    fn refused(&mut self, key: Option<&str>, refused: MailRefused) {
        self.mail_read += 1;
        self.mail_refused += 1;
        if let Some(step) = self.find_mut(key) {
            step.child_unheard(&refused.why);
        }
        let said = format!("message {} could not be recorded: {}", refused.mail_seq, refused.why);
        self.refusal.get_or_insert(said);
    }

    /// A person has said to go on. That is an answer to what was put to a person, and to no more.
    fn refusal_answered(&mut self) {
        if std::mem::take(&mut self.refusal_told) || Bug::RefusalAnsweredUnheard.is_on() {
            self.refusal = None;
        }
    }

    /// A person has said to go on who was told which children have failed unheard.
    fn unheard_answered(&mut self) {
        if std::mem::take(&mut self.unheard_told) {
            self.steps.iter_mut().for_each(RecordedStep::child_done_without);
        }
    }

    fn timer_fired(&mut self, key: Option<&str>) {
        if let Some(Said::Timer { fired, .. }) = self.note_mut(key) {
            *fired = true;
        }
    }

    fn wait_ended(&mut self, key: Option<&str>, signal: Option<u32>) {
        if let Some(Said::Wait { ended, .. }) = self.note_mut(key) {
            *ended = Some(signal);
        }
        for received in &mut self.signals {
            received.taken |= signal == Some(received.seq);
        }
    }

    fn commanded(&mut self, read: CommandRead, at: DateTime<Utc>) {
        self.mail_read += 1;
        self.standstill.commanded(read.command, at);
        match read.command {
            Command::Resume => {
                self.refusal_answered();
                self.unheard_answered();
                self.resumed(read.new_keys.as_deref(), at);
            }
            Command::Retry => self.steps.iter_mut().for_each(|step| step.hurry(at)),
            Command::Cancel => {
                self.cancelled = Some(read.reason);
            }
            Command::Resolve => {
                self.refusal_answered();
                self.unheard_told = false;
                self.resumed(read.new_keys.as_deref(), at);
                if let Some(resolution) = read.resolution {
                    self.resolved(resolution);
                }
            }
            Command::Book => self.ledger.booked.extend(read.money),
            Command::Hold | Command::Release => {}
            Command::Terminate => self.terminated = Some(read.reason),
        }
    }

    fn resolved(&mut self, resolution: Resolution) {
        if resolution.finding == Some(Finding::Dropped) {
            return self.dropped(resolution.step.as_deref());
        }
        let is_undoing = self.undoing.is_some();
        let Some(step) = self.find_mut(resolution.step.as_deref()) else {
            return;
        };
        match resolution.finding {
            Some(Finding::Applied(output)) => {
                // Any JSON value can be written down again.
                let output = serde_json::value::to_raw_value(&output);
                let output = output.unwrap_or_else(|_| RawValue::NULL.to_owned());
                step.settled(Progress::Done { output });
            }
            Some(Finding::NotApplied) => step.settled(Progress::Open),
            Some(Finding::Undone(_)) if is_undoing => step.undone(None),
            Some(Finding::Undone(_)) => step.child_cleared(),
            Some(Finding::Again) => step.child_wanted_again(),
            Some(Finding::Dropped) | None => {}
        }
    }

    /// The signal that has ended a wait cannot be read: the wait goes on for the next one.
    fn dropped(&mut self, key: Option<&str>) {
        if let Some(Said::Wait { ended, .. }) = self.note_mut(key)
            && !Bug::DroppedStays.is_on()
        {
            *ended = None;
        }
    }

    /// A person has said to go on. Which keys are given up is in the record. Where it is not, an
    /// earlier build has gone on, perhaps with a call under another key, after every failure for
    /// good.
    fn resumed(&mut self, new_keys: Option<&[String]>, at: DateTime<Utc>) {
        let key = |is_another| if is_another { Key::Another } else { Key::Same };
        for step in &mut self.steps {
            let (forward, undo) = match new_keys {
                Some(keys) => (keys.contains(&step.key), keys.contains(&undo_key(&step.key))),
                None => (step.attempts.are_given_up(), step.undo.are_given_up()),
            };
            step.resumed(key(forward), key(undo), at);
        }
    }

    /// The keys that a resume at this moment gives up, as its record names them. A step that is
    /// `resolved` as applied keeps the key under which it was.
    pub(crate) fn keys_to_give_up(&self, resolved: Option<&Resolution>) -> Vec<String> {
        let applied = resolved
            .filter(|it| matches!(it.finding, Some(Finding::Applied(_))))
            .and_then(|it| it.step.as_deref());
        let forward = self.steps.iter().filter(|step| step.needs_new_key());
        let forward = forward.filter(|step| applied != Some(&step.key));
        let undo = self.steps.iter().filter(|step| step.undo.are_refused());
        forward.map(|step| step.key.clone()).chain(undo.map(|it| undo_key(&it.key))).collect()
    }

    fn find_mut(&mut self, key: Option<&str>) -> Option<&mut RecordedStep> {
        let seq = self.length - 1;
        let step = self.steps.iter_mut().find(|step| Some(step.key.as_str()) == key)?;
        step.last_seq = seq;
        Some(step)
    }

    fn step_mut(&mut self, key: Option<&str>, input: Box<RawValue>) -> &mut RecordedStep {
        let key = key.unwrap_or_default();
        let (first_at, seq) = (self.last_at, self.length - 1);
        let index = self.steps.iter().position(|step| step.key == key).unwrap_or_else(|| {
            self.steps.push(RecordedStep {
                key: key.to_owned(),
                input,
                first_seq: seq,
                last_seq: seq,
                progress: Progress::Open,
                unknown: false,
                not_found: 0,
                doubted_at: first_at,
                begun: false,
                attempts: Attempts::default(),
                first_at,
                clock: None,
                undo: Attempts::default(),
                compensated: false,
                compensation: None,
                child: None,
                children: 0,
                is_wanted_again: false,
                is_done_without: false,
            });
            self.steps.len() - 1
        });
        let step = &mut self.steps[index];
        step.last_seq = seq;
        step
    }

    fn note_down(&mut self, key: Option<&str>, said: Said) {
        let (key, seq) = (key.unwrap_or_default().to_owned(), self.length - 1);
        self.notes.push(Note { key, said, first_seq: seq, last_seq: seq });
    }

    fn note_mut(&mut self, key: Option<&str>) -> Option<&mut Said> {
        let seq = self.length - 1;
        let note = self.notes.iter_mut().find(|note| Some(note.key.as_str()) == key)?;
        note.last_seq = seq;
        Some(&mut note.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use crate::record::Stuck;
    use crate::step::{Failure, StepError};
    use uuid::Uuid;

    const LATER: Option<DateTime<Utc>> = DateTime::from_timestamp(60, 0);

    #[test]
    fn a_step_has_begun_with_its_first_attempt_if_that_says_when() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let begun = |began_at| {
            let mut history = History::new(Uuid::nil());
            let error = StepError::retry("X", "x");
            for began_at in [began_at, None] {
                let mut failed = fake::attempt_failed(&error, LATER);
                failed.began_at = began_at;
                fake::append(&mut history, "charge", Entry::StepAttemptFailed(failed));
            }
            history.step("charge").map(|step| step.first_at)
        };
        assert_eq!(begun(at(3_600)), at(3_600));
        assert_eq!(begun(None), at(0), "the time of the record before");
    }

    fn unknown(history: &mut History) {
        fake::failed(history, "charge", &StepError::unknown("X", "x"), LATER);
    }

    fn fail(history: &mut History) {
        fake::failed(history, "charge", &StepError::fail("X", "x"), None);
    }

    fn refused(history: &mut History) {
        fake::failed(history, "charge", &StepError::refused("X", "x"), None);
    }

    fn after(happened: &[fn(&mut History)]) -> History {
        let mut history = History::new(Uuid::nil());
        happened.iter().for_each(|happen| happen(&mut history));
        history
    }

    /// A resume, as this build records it, or as earlier ones did.
    fn resume(history: &mut History, names_its_keys: bool) {
        let new_keys = names_its_keys.then(|| history.keys_to_give_up(None));
        let (command, reason, resolution) = (Command::Resume, "go on".to_owned(), None);
        let (money, parked) = (Vec::new(), false);
        let read = CommandRead { command, reason, resolution, new_keys, money, parked };
        let at = DateTime::UNIX_EPOCH;
        history.append(None, None, Entry::Command(read), &[], None, at).unwrap();
    }

    #[test]
    fn only_a_refusal_settles_what_an_earlier_attempt_left_unknown() {
        let in_doubt = |happened| after(happened).step("charge").unwrap().is_in_doubt();
        assert!(!in_doubt(&[fail]) && !in_doubt(&[refused]));
        assert!(in_doubt(&[unknown]) && in_doubt(&[unknown, fail]));
        assert!(!in_doubt(&[unknown, refused]));
    }

    #[test]
    fn a_resume_gives_up_a_key_that_was_refused_and_none_that_is_in_doubt() {
        let round = |happened| {
            let mut history = after(happened);
            resume(&mut history, true);
            history.step("charge").unwrap().attempts.round
        };
        assert_eq!(round(&[refused]), 1);
        assert_eq!(round(&[unknown, refused]), 1);
        assert_eq!(round(&[unknown]), 0);
        assert_eq!(round(&[fail]), 0);
        assert_eq!(round(&[unknown, fail]), 0);
        assert_eq!(round(&[refused, |history| fake::interrupted(history, "charge")]), 0);
    }

    #[test]
    fn an_undo_that_is_resumed_keeps_its_key_unless_it_was_refused() {
        for (error, expected) in [
            (StepError::refused("X", "x"), 1),
            (StepError::fail("X", "x"), 0),
            (StepError::unknown("X", "x"), 0),
        ] {
            let mut history = after(&[|history| fake::done(history, "charge")]);
            fake::undo_failed(&mut history, "charge", &error, None);
            resume(&mut history, true);
            assert_eq!(history.step("charge").unwrap().undo.round, expected, "{error:?}");
        }
    }

    #[test]
    fn a_key_that_a_person_has_found_applied_is_kept() {
        let history = after(&[refused]);
        let found = |finding| Resolution {
            step: Some("charge".to_owned()),
            finding: Some(finding),
            evidence: "a letter".to_owned(),
            money: Vec::new(),
        };
        let applied = found(Finding::Applied(serde_json::json!(1)));
        assert!(history.keys_to_give_up(Some(&applied)).is_empty());
        assert_eq!(history.keys_to_give_up(Some(&found(Finding::NotApplied))), ["charge"]);
    }

    #[test]
    fn a_resume_that_names_no_keys_means_what_it_meant_to_the_build_that_stored_it() {
        let cases: [&[fn(&mut History)]; 3] = [&[fail], &[refused], &[unknown, fail]];
        for happened in cases {
            let mut history = after(happened);
            resume(&mut history, false);
            assert_eq!(history.step("charge").unwrap().attempts.round, 1);
        }
        let stored = r#"{"command":"resume","reason":"go on"}"#;
        let Ok(Entry::Command(read)) = Entry::parse("command", stored) else { panic!() };
        assert_eq!(read.new_keys, None);
    }

    fn mail_refused(history: &mut History) {
        let (mail_seq, why) = (1, "too large".to_owned());
        let entry = Entry::MailRefused(MailRefused { mail_seq, why, parked: false });
        history.append(None, None, entry, &[], None, DateTime::UNIX_EPOCH).unwrap();
    }

    fn put_to_a_person(history: &mut History) {
        let entry = Entry::Stuck(Stuck { failure: Failure::new(MAIL_REFUSED, "too large") });
        history.append(None, None, entry, &[], None, DateTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn only_who_can_have_known_of_a_refused_message_goes_on_without_it() {
        let go_on: fn(&mut History) = |history| resume(history, true);
        assert!(after(&[go_on, mail_refused]).refusal().is_some());
        assert!(after(&[mail_refused, go_on]).refusal().is_some());
        assert!(after(&[mail_refused, put_to_a_person]).refusal().is_some());
        assert!(after(&[mail_refused, put_to_a_person, go_on]).refusal().is_none());
        assert!(
            after(&[mail_refused, put_to_a_person, go_on, mail_refused, go_on]).refusal().is_some()
        );
        let mut history = after(&[mail_refused]);
        let mark = history.mark();
        put_to_a_person(&mut history);
        history.revert(&mark);
        assert!(!history.is_refusal_told(), "it was not written");
    }
}
