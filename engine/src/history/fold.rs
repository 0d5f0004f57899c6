//! What each record means for the history that it is added to. Pure.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::{
    Attempts, BRANCH_DROPPED, History, Note, Progress, Received, RecordedStep, Said, Undoing,
};
use crate::command::{Command, Finding, Resolution};
use crate::record::{CommandRead, Entry, SignalRead, StepCompensated};

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
        match entry {
            Entry::Started(started) => {
                self.parent = started.parent;
                self.input = Some(started.input);
                self.started_at = at;
            }
            Entry::WorkerLost => self.interrupted = true,
            Entry::StepStarted(started) => self.step_mut(step, started.input).begun = true,
            Entry::StepDone(done) => {
                // Whatever the lost worker left open has been taken up.
                self.interrupted = false;
                self.step_mut(step, done.input).settled(Progress::Done { output: done.output });
            }
            Entry::StepAttemptFailed(failed) => {
                self.interrupted = false;
                self.step_mut(step, failed.input.clone()).attempt_failed(failed, at);
            }
            Entry::StepInterrupted(interrupted) => {
                self.step_mut(step, interrupted.input).interrupted(interrupted.retry_at, at);
            }
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
                if let Some(step) = self.find_mut(step) {
                    step.undo.failed(failed.outcome, failed.failure, failed.retry_at);
                }
            }
            Entry::Command(read) => self.commanded(read, at),
            Entry::Signal(read) => self.received(read),
            Entry::TimerStarted(timer) => {
                self.note_down(step, Said::Timer { until: timer.until, fired: false });
            }
            Entry::TimerFired => self.timer_fired(step),
            Entry::WaitStarted(wait) => {
                self.note_down(step, Said::Wait { until: wait.until, ended: None });
            }
            Entry::WaitEnded(wait) => self.wait_ended(step, wait.signal),
            Entry::Noted(noted) => self.note_down(step, Said::Value(noted.value)),
            Entry::ChildStarted(started) => {
                self.step_mut(step, started.input).child_started(started.instance_id);
            }
            Entry::ChildEnded(ended) => {
                self.mail_read += 1;
                if let Some(step) = self.find_mut(step) {
                    step.child_ended(ended);
                }
            }
            Entry::Stuck(stuck) if stuck.failure.code == BRANCH_DROPPED => {
                self.dropped_before = self.length;
            }
            Entry::Stuck(_) | Entry::Ended(_) => {}
        }
        self.last_at = at;
    }

    fn not_found(&mut self, key: Option<&str>, retry_at: DateTime<Utc>, at: DateTime<Utc>) {
        if let Some(step) = self.find_mut(key) {
            step.not_found(retry_at, at);
            let unknown = step.unknown;
            self.interrupted &= unknown;
        }
    }

    fn received(&mut self, read: SignalRead) {
        self.mail_read += 1;
        let (seq, name, body) = (self.length - 1, read.signal, read.body);
        self.signals.push(Received { seq, name, body, taken: false });
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
        match read.command {
            Command::Resume => self.resumed(at),
            Command::Retry => self.steps.iter_mut().for_each(|step| step.hurry(at)),
            Command::Cancel => {
                self.cancelled = Some(read.reason);
                self.held = false;
            }
            Command::Resolve => {
                self.resumed(at);
                if let Some(resolution) = read.resolution {
                    self.resolved(resolution);
                }
            }
            Command::Hold => self.held = true,
            Command::Release => self.held = false,
            Command::Terminate => self.terminated = Some(read.reason),
        }
    }

    fn resolved(&mut self, resolution: Resolution) {
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
            Some(Finding::Undone(_)) => step.undone(None),
            None => {}
        }
    }

    /// A person has said to go on: what had failed for good gets a new set of attempts.
    fn resumed(&mut self, at: DateTime<Utc>) {
        for step in &mut self.steps {
            if step.attempts.resumed() {
                step.first_at = at;
            }
            step.undo.resumed();
            if matches!(step.progress, Progress::Failed { .. }) {
                step.progress = Progress::Open;
            }
        }
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
                undo: Attempts::default(),
                compensated: false,
                child: None,
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
