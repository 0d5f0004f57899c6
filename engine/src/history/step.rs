//! What is recorded of one step, and of its attempts.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::step_clock::StepClock;
use crate::record::{AttemptOutcome, ChildEnded, MAIL_REFUSED, StepAttemptFailed, StepLate};
use crate::sabotage::Bug;
use crate::status::Status;
use crate::step::{Compensation, Failure};

/// What is stuck because a child has failed, and its run has ended without having asked.
pub(crate) const CHILD_UNHEARD: &str = "CHILD_UNHEARD";

/// What is recorded of one step.
#[derive(Debug)]
pub(crate) struct RecordedStep {
    /// Name and occurrence, such as `charge` or `charge#2`.
    pub(crate) key: String,
    pub(crate) input: Box<RawValue>,
    pub(crate) first_seq: u32,
    /// The last record about it. While the run goes forward it has the answer, if there is one.
    pub(crate) last_seq: u32,
    pub(crate) progress: Progress,
    /// An attempt's outcome is unknown, and no later answer has settled it.
    pub(crate) unknown: bool,
    /// How often the provider has said that it does not know the call, since it became unknown.
    pub(crate) not_found: u32,
    /// When a request may have left last whose outcome is unknown, or the provider was asked in
    /// vain.
    pub(crate) doubted_at: DateTime<Utc>,
    /// An at-most-once attempt was begun and has no recorded outcome.
    pub(crate) begun: bool,
    /// Failed attempts since the start, or since a person resumed.
    pub(crate) attempts: Attempts,
    /// No attempt began before: the time of the record before the step's first one. Provider key
    /// windows count from here.
    pub(crate) first_at: DateTime<Utc>,
    /// Runs against its deadline; none before its first attempt.
    pub(crate) clock: Option<StepClock>,
    pub(crate) undo: Attempts,
    pub(crate) compensated: bool,
    /// What it takes to undo it, as it was declared when it was done, if that is known.
    pub(crate) compensation: Option<Compensation>,
    /// The instance that does it, if it is no step but a child.
    pub(crate) child: Option<Uuid>,
    /// How many instances have been started to do it, one in the place of the other.
    pub(crate) children: u32,
    /// That instance has ended, nothing is left of it, and a person wants another one in its place.
    pub(crate) is_wanted_again: bool,
    /// It is a child that has failed, and a person has said to go on without it.
    pub(super) is_done_without: bool,
}

impl RecordedStep {
    /// The name without the occurrence.
    pub(crate) fn name(&self) -> &str {
        step_name(&self.key)
    }

    pub(super) fn attempt_failed(&mut self, failed: StepAttemptFailed, at: DateTime<Utc>) {
        self.begun = false;
        if failed.outcome == AttemptOutcome::Unknown {
            self.doubted(at);
        } else {
            self.unknown = failed.outcome.leaves_doubt(self.unknown);
        }
        if failed.retry_at.is_none() {
            self.progress = Progress::Failed { failure: failed.failure.clone() };
        }
        self.attempts.failed(failed.outcome, failed.failure, failed.retry_at);
    }

    /// Whether its deadline has passed while its next attempt was due, in an instance that has stood
    /// still for so long.
    pub(crate) fn is_late(
        &self,
        deadline: Option<Duration>,
        stood_still: TimeDelta,
        now: DateTime<Utc>,
    ) -> bool {
        let latest = self.clock.and_then(|clock| clock.latest(deadline, stood_still));
        latest.is_some_and(|latest| now > latest) && !Bug::LateAttempt.is_on()
    }

    /// When its next attempt is due, if it is to be attempted at all.
    pub(super) fn due(&self) -> Option<DateTime<Utc>> {
        let is_open = matches!(self.progress, Progress::Open) && self.child.is_none();
        self.attempts.retry_at.filter(|_| is_open)
    }

    /// No attempt is made any more: it would come after the deadline.
    pub(super) fn late(&mut self, late: StepLate) {
        self.progress = Progress::Failed { failure: late.failure };
        self.attempts.retry_at = None;
    }

    /// Whether its effect may be applied without being recorded as done.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.unknown || self.begun
    }

    /// Whether its key is of no use any more: the provider has refused it for good, and nothing
    /// that was asked for under it is in doubt.
    pub(crate) fn needs_new_key(&self) -> bool {
        let is_done = matches!(self.progress, Progress::Done { .. });
        self.attempts.are_refused() && !is_done && !self.is_in_doubt()
    }

    /// A person has said to go on: what had failed for good gets a new set of attempts.
    pub(super) fn resumed(&mut self, key: Key, undo_key: Key, at: DateTime<Utc>) {
        self.attempts.resumed(key);
        self.undo.resumed(undo_key);
        self.clock = None;
        if key == Key::Another {
            self.first_at = at;
        }
        // How a child has ended it says once.
        let is_open = self.child.is_none() || Bug::ChildReopened.is_on();
        if matches!(self.progress, Progress::Failed { .. }) && is_open {
            self.progress = Progress::Open;
        }
    }

    /// An at-most-once attempt begins.
    pub(super) fn begun(&mut self, at: DateTime<Utc>) {
        self.begun = true;
        self.doubted_at = at;
    }

    /// The worker was lost. What it had begun it may have sent until then.
    pub(super) fn worker_lost(&mut self, at: DateTime<Utc>) {
        if self.begun {
            self.doubted_at = at;
        }
    }

    /// Its worker was lost, perhaps in the middle of it.
    pub(super) fn interrupted(&mut self, retry_at: Option<DateTime<Utc>>, at: DateTime<Utc>) {
        self.doubted(at);
        self.attempts.total += 1;
        self.attempts.retry_at = retry_at;
    }

    fn doubted(&mut self, at: DateTime<Utc>) {
        self.unknown = true;
        self.not_found = 0;
        self.doubted_at = at;
    }

    /// Its provider was asked, and does not know it.
    pub(super) fn not_found(&mut self, retry_at: DateTime<Utc>, at: DateTime<Utc>) {
        self.not_found += 1;
        // A provider may be slow to show what it applied; it is asked twice.
        self.unknown = self.not_found < 2;
        self.doubted_at = at;
        self.attempts.retry_at = Some(retry_at);
    }

    /// It is done by another instance; until that has ended nobody knows what it has done.
    pub(super) fn child_started(&mut self, child: Uuid) {
        self.child = Some(child);
        self.children += 1;
        self.is_wanted_again = false;
        self.is_done_without = false;
        self.progress = Progress::Open;
        self.unknown = true;
    }

    /// The child has ended, nothing is left of it, and a person wants another one in its place.
    pub(super) fn child_wanted_again(&mut self) {
        if self.child.is_some() {
            self.settled(Progress::Open);
            self.is_wanted_again = true;
        }
    }

    /// How it has failed, if it is a child that has.
    pub(super) fn child_failure(&self) -> Option<&Failure> {
        match &self.progress {
            Progress::Failed { failure } if self.child.is_some() => Some(failure),
            _ => None,
        }
    }

    /// A person has said to go on without it, if it is a child that has failed.
    pub(super) fn child_done_without(&mut self) {
        self.is_done_without |= self.child_failure().is_some();
    }

    /// Whether it is a child that has failed in a way that leaves open what is left of it.
    pub(crate) fn is_failed_in_doubt(&self) -> bool {
        self.unknown && self.child_failure().is_some()
    }

    /// A person has found out that nothing is left of a child that has failed.
    pub(super) fn child_cleared(&mut self) {
        if self.is_failed_in_doubt() {
            self.unknown = false;
        }
    }

    /// Whether it is a child that is to be started, or has not said yet how it has ended.
    pub(crate) fn is_open_child(&self) -> bool {
        self.child.is_some() && matches!(self.progress, Progress::Open)
    }

    /// The child has ended like this.
    pub(super) fn child_ended(&mut self, ended: ChildEnded) {
        let output = ended.output.unwrap_or_else(|| RawValue::NULL.to_owned());
        self.settled(match ended.status {
            Status::Completed => Progress::Done { output },
            status => Progress::Failed {
                failure: ended.failure.unwrap_or_else(|| {
                    Failure::new("CHILD_FAILED", format!("{} ended as {status}", self.key))
                }),
            },
        });
        // What was stopped by force may have done anything.
        self.unknown = ended.status == Status::Terminated && !Bug::TerminatedIsUndone.is_on();
    }

    /// Its child has ended, and how could not be recorded.
    pub(super) fn child_unheard(&mut self, why: &str) {
        if self.is_open_child() && !Bug::ChildUnheard.is_on() {
            let message = format!("how {} has ended could not be recorded: {why}", self.key);
            self.settled(Progress::Failed { failure: Failure::new(MAIL_REFUSED, message) });
            // It may have completed.
            self.unknown = true;
        }
    }

    /// Somebody knows what became of it.
    pub(super) fn settled(&mut self, progress: Progress) {
        self.progress = progress;
        self.unknown = false;
        self.begun = false;
    }

    /// It is undone, unless it is to be looked at again.
    pub(super) fn undone(&mut self, recheck_at: Option<DateTime<Utc>>) {
        self.compensated = recheck_at.is_none();
        if recheck_at.is_some() {
            let (total, round) = (self.undo.total + 1, self.undo.round + 1);
            let next = Attempts { total, round, retry_at: recheck_at, ..Attempts::default() };
            self.undo = Attempts { is_recheck: true, not_before: recheck_at, ..next };
        }
    }

    /// What waits for its next attempt does not wait any longer.
    pub(super) fn hurry(&mut self, now: DateTime<Utc>) {
        for attempts in [&mut self.attempts, &mut self.undo] {
            let soonest = attempts.not_before.map_or(now, |time| time.max(now));
            attempts.retry_at = attempts.retry_at.map(|due| due.min(soonest));
        }
    }
}

/// The name in a step's key, without the occurrence.
pub(crate) fn step_name(key: &str) -> &str {
    key.split_once('#').map_or(key, |(name, _)| name)
}

/// What a record calls the key of a step's undo.
pub(super) fn undo_key(key: &str) -> String {
    format!("{key}/undo")
}

/// How far a step has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Attempted, and to be attempted again.
    Open,
    Done {
        output: Box<RawValue>,
    },
    Failed {
        failure: Failure,
    },
}

/// Under which key a step that is resumed is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Same,
    Another,
}

/// Attempts that brought nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attempts {
    /// All of them, for numbering.
    pub(crate) total: u32,
    /// Those that count against the retry policy.
    pub(crate) counted: u32,
    /// When the next one is due.
    pub(crate) retry_at: Option<DateTime<Utc>>,
    pub(crate) last: Option<Failure>,
    /// How the last one ended.
    outcome: Option<AttemptOutcome>,
    /// How often another key was needed. Providers remember a refusal under its key; what a person
    /// sends again after mending its cause needs another one, and so does an undo that is to look
    /// once more.
    pub(crate) round: u32,
    /// The next one only looks whether something has turned up since.
    pub(crate) is_recheck: bool,
    /// It would be too early before this time, whatever people want.
    not_before: Option<DateTime<Utc>>,
    /// The first one of an undo, under its present key, that may have been carried out.
    pub(super) first_asked: Option<FirstAsked>,
}

/// The first attempt at an undo that may have been carried out, of those under the same key. What
/// its provider answers later may be what it answered to this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstAsked {
    /// It was not made before: the time of the record before it.
    since: DateTime<Utc>,
    /// How many movements of money it saw. Those that follow see no more.
    pub(super) movements: usize,
}

impl Attempts {
    /// Whether the provider has refused the key for good, by its last answer.
    pub(crate) fn are_refused(&self) -> bool {
        self.outcome == Some(AttemptOutcome::Refused)
    }

    /// Whether the last one failed for good. Builds that did not record which keys a resume gives
    /// up gave up the keys of these.
    pub(super) fn are_given_up(&self) -> bool {
        matches!(self.outcome, Some(AttemptOutcome::Fail | AttemptOutcome::Refused))
    }

    pub(super) fn failed(
        &mut self,
        outcome: AttemptOutcome,
        failure: Failure,
        retry_at: Option<DateTime<Utc>>,
    ) {
        self.total += 1;
        self.counted += 1;
        self.retry_at = retry_at;
        self.last = Some(failure);
        self.outcome = Some(outcome);
    }

    /// One may have been carried out, made since then upon a ledger of so many movements.
    pub(super) fn may_have_asked(&mut self, since: DateTime<Utc>, movements: usize) {
        self.first_asked.get_or_insert(FirstAsked { since, movements });
    }

    /// The moment of which an answer to an undo speaks that is asked for now.
    pub(crate) fn answered_as_of(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.first_asked.map_or(now, |first| first.since)
    }

    /// Starts over, under another key if this one is given up.
    pub(super) fn resumed(&mut self, key: Key) {
        self.counted = 0;
        self.retry_at = self.not_before;
        self.outcome = None;
        if key == Key::Another {
            self.round += 1;
            self.first_asked = None;
        }
    }
}
