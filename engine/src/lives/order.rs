//! One life of an instance whose run asks for more than steps: signals, patches, children, time.
//!
//! It goes through the state that a worker keeps of a held instance, as the worker does: mail is
//! read, the run is replayed from the top, and what it comes to is settled. A life is written as a
//! run, and as what may come from outside between two passes.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::children::unfinished;
use crate::command::{Answer, Command, Resolution, Standing, answer};
use crate::compensation::plan_compensation;
use crate::fake::{self, input};
use crate::history::{History, Progress, RecordedStep, heard};
use crate::instance::{Paused, State, Verdict, Wait};
use crate::memo::{Memo, recall};
use crate::record::{
    AttemptOutcome, ChildStarted, CompensationPlanned, Entry, Noted, Reason, ReasonKind, Started,
    StepAttemptFailed, StepDone, StepLate, StepStarted, Stuck,
};
use crate::registry::Steps;
use crate::status::{Status, Transition};
use crate::step::{Compensation, Effect, Failure};
use crate::store::mail::{Mail, Message};

/// More passes than any of these lives takes.
const PASSES_MAX: usize = 60;
/// What failures are called; nobody looks.
pub(super) const CODE: &str = "FAILED";
pub(super) const CHILD: &str = "child:pack";

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempted {
    Done,
    /// Not applied; again in a minute.
    Down,
    /// Applied, and the answer was lost.
    LostApplied,
    /// Nothing was applied, and no answer came.
    LostUnapplied,
}

/// An instance, its mail, and what its steps have really applied.
pub(super) struct Order {
    pub(super) state: State,
    steps: Steps,
    mail: Vec<Message>,
    pub(super) now: DateTime<Utc>,
    effect: Effect,
    /// What may become of attempts, one after the other; then they succeed.
    pub(super) attempts: &'static [Attempted],
    pub(super) step_deadline: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) applied: BTreeMap<String, u32>,
    /// When attempts were made.
    pub(super) attempted_at: Vec<DateTime<Utc>>,
    /// What was undone, latest first.
    pub(super) undone: Vec<String>,
    /// The failures that a person was asked about.
    pub(super) asked: Vec<String>,
}

impl Order {
    pub(super) fn new(effect: Effect) -> Self {
        let names = ["charge", "pay", "ship"].map(|name| (name, Compensation::Undo));
        let mut order = Self {
            state: State::new(History::new(Uuid::nil())),
            steps: fake::declared(names, effect, &crate::retry::RetryPolicy::default()),
            mail: Vec::new(),
            now: DateTime::UNIX_EPOCH,
            effect,
            attempts: &[],
            step_deadline: None,
            deadline: None,
            applied: BTreeMap::new(),
            attempted_at: Vec::new(),
            undone: Vec::new(),
            asked: Vec::new(),
        };
        let (workflow, business_key) = ("order".to_owned(), "1".to_owned());
        let (version, parent, depth, input) = (1, None, None, input());
        let started = Started { workflow, version, business_key, parent, depth, input };
        order.append(None, Entry::Started(started));
        order
    }

    /// Lives to the end. `outside` says what happens when the instance waits or needs a person;
    /// nothing any more where it answers `false`.
    pub(super) fn live(
        &mut self,
        run: impl Fn(&mut Self) -> Result<(), Verdict>,
        outside: impl Fn(&mut Self, Option<&Wait>) -> bool,
    ) -> Status {
        for _ in 0..PASSES_MAX {
            let wait = match self.pass(&run) {
                Ok(status) => return status,
                Err(wait) => wait,
            };
            let happened = outside(self, wait.as_ref());
            let is_unread = self.mail.len() > self.state.mail_read() as usize;
            let until = wait.and_then(|wait| wait.until).filter(|_| !is_unread);
            self.now = until.map_or(self.now, |until| until.max(self.now));
            assert!(happened || until.is_some(), "it waits for ever: {}", self.told());
        }
        panic!("no end: {}", self.told());
    }

    /// Reads mail and replays the run. `Err`: it waits, or needs a person.
    pub(super) fn pass(
        &mut self,
        run: &impl Fn(&mut Self) -> Result<(), Verdict>,
    ) -> Result<Status, Option<Wait>> {
        let verdict = match self.read_mail() {
            Err(verdict) => verdict,
            Ok(()) if self.state.status == Status::Stuck && self.is_left_to_people() => {
                return Err(None);
            }
            Ok(()) => {
                self.state.begin_replay();
                self.state.run_within(self.deadline);
                let ran = run(self);
                match ran.map(|()| self.state.history.unasked().map(str::to_owned)) {
                    Ok(None) => {
                        let unfinished = || unfinished(&self.state.history).map(Verdict::Stick);
                        match self.state.obstacle(self.now).or_else(unfinished) {
                            None => return Ok(Status::Completed),
                            Some(obstacle) => obstacle,
                        }
                    }
                    Ok(Some(key)) => panic!("{key} is not asked for: {}", self.told()),
                    Err(verdict) => verdict,
                }
            }
        };
        match verdict {
            Verdict::Wait(wait) => Err(Some(wait)),
            Verdict::Terminate(_) => Ok(Status::Terminated),
            Verdict::Compensate(reason) => self.undo(reason),
            Verdict::Stick(failure) => {
                self.stick(failure);
                Err(None)
            }
            // What cannot be recorded is read again.
            Verdict::Unrecordable(_) => Err(Some(Wait::until(Some(self.now)))),
            other => panic!("{other:?}: {}", self.told()),
        }
    }

    fn is_left_to_people(&self) -> bool {
        let history = &self.state.history;
        history.cancelled().is_none() && history.terminated().is_none()
    }

    pub(super) fn read_mail(&mut self) -> Result<(), Verdict> {
        let read = self.state.mail_read() as usize;
        for (number, message) in self.mail.clone().into_iter().enumerate().skip(read) {
            let key = matches!(message, Message::ChildEnded(_) | Message::Refused(_));
            let key = (key && self.state.history.step(CHILD).is_some()).then(|| CHILD.to_owned());
            let (mail_seq, actor) = (number as i32 + 1, "anna".to_owned());
            let mail = Mail { mail_seq, actor, sent_at: self.now, key, message };
            self.state.read(mail, &self.steps, self.now)?;
        }
        Ok(())
    }

    fn undo(&mut self, reason: Reason) -> Result<Status, Option<Wait>> {
        let is_cancel = reason.kind == ReasonKind::Cancel;
        match plan_compensation(&self.state.history, &self.steps) {
            Err(failure) => {
                self.stick(failure);
                Err(None)
            }
            Ok(plan) => {
                self.undone = plan.steps.iter().map(|planned| planned.step.clone()).collect();
                let plan_hash = plan.hash();
                let planned = CompensationPlanned { reason, plan, plan_hash };
                self.append(None, Entry::CompensationPlanned(planned));
                Ok(if is_cancel { Status::Cancelled } else { Status::Compensated })
            }
        }
    }

    fn stick(&mut self, failure: Failure) {
        self.asked.push(failure.code.to_string());
        self.append(None, Entry::Stuck(Stuck { failure }));
        if self.state.status != Status::Stuck {
            self.state.transit(Transition::Stick);
        }
    }

    pub(super) fn append(&mut self, key: Option<&str>, entry: Entry) {
        self.state.append(key, None, entry, &[], None, self.now).unwrap();
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: Message) {
        self.mail.push(message);
    }

    /// Gives a command, which becomes mail if it is accepted.
    pub(super) fn give(&mut self, command: Command, resolution: Option<Resolution>) -> Answer {
        let answer = answer(command, self.standing());
        if answer == Answer::Accepted {
            self.command(command, resolution);
        }
        answer
    }

    /// Sends a command that has been accepted.
    pub(super) fn command(&mut self, command: Command, resolution: Option<Resolution>) {
        let reason = "asked for".to_owned();
        self.send(Message::Command { command, reason, resolution });
    }

    /// As a command would find it that nobody above it and nothing below it has a part in.
    pub(super) fn standing(&self) -> Standing {
        let unread = &self.mail[self.state.mail_read() as usize..];
        let commands = || {
            unread.iter().filter_map(|message| match message {
                Message::Command { command, .. } => Some(*command),
                _ => None,
            })
        };
        let is_unread = |wanted: &[Command]| commands().any(|command| wanted.contains(&command));
        let history = &self.state.history;
        let held = commands().fold(history.is_held(), |held, command| match command {
            Command::Hold => true,
            Command::Release | Command::Cancel => false,
            _ => held,
        });
        Standing {
            status: self.state.status,
            past_pivot: self.state.past_pivot,
            cancelled: history.cancelled().is_some() || is_unread(&[Command::Cancel]),
            compensating: history.undoing().is_some(),
            resumed: is_unread(&[Command::Resume, Command::Resolve]),
            held,
            by_parent: false,
            child_past_pivot: false,
            ancestors_ended: false,
            children_undecided: false,
        }
    }

    /// The history, one word per record.
    pub(super) fn told(&self) -> String {
        format!("{:?}", self.state.told())
    }

    /// Time goes by.
    pub(super) fn pass_time(&mut self, minutes: i64) {
        self.now += TimeDelta::minutes(minutes);
    }

    /// Runs a step.
    pub(super) fn step(&mut self, name: &'static str) -> Result<(), Verdict> {
        let key = self.state.occurrence(name.to_owned());
        let recorded = self.state.history.ask(&key);
        let memo = recall(recorded, &input(), self.effect, self.now);
        if memo.next_attempt().is_some()
            && let Some(obstacle) = self.state.obstacle(self.now)
        {
            return Err(obstacle);
        }
        match memo {
            Memo::Done(_) => Ok(()),
            Memo::Failed(failure) => {
                Err(Verdict::Compensate(Reason { kind: ReasonKind::Failure, failure }))
            }
            Memo::Stick(failure) => {
                // What is in doubt need not be found out first: its undo makes sure of it.
                let wanted = self.state.obstacle(self.now).filter(Verdict::is_wanted);
                Err(wanted.unwrap_or(Verdict::Stick(failure)))
            }
            Memo::Diverged(divergence) => panic!("{divergence:?}: {}", self.told()),
            Memo::Attempt { due, .. } | Memo::Probe { due, .. }
                if due.is_some_and(|due| due > self.now) =>
            {
                Err(Verdict::Wait(Wait::until(due)))
            }
            Memo::Attempt { .. } | Memo::Probe { .. } => self.attempt(&key),
        }
    }

    fn attempt(&mut self, key: &str) -> Result<(), Verdict> {
        let (now, stood_still) = (self.now, self.state.history.stood_still());
        let recorded = self.state.history.step(key);
        let is_late = |step: &RecordedStep| step.is_late(self.step_deadline, stood_still, now);
        if !self.state.was_parked && recorded.is_some_and(is_late) {
            let failure = Failure::new(CODE, "down");
            let (input, money) = (input(), Vec::new());
            self.append(Some(key), Entry::StepLate(StepLate { input, failure, money }));
            return Err(Verdict::Wait(Wait::until(Some(now))));
        }
        if self.effect == Effect::AtMostOnce {
            self.append(
                Some(key),
                Entry::StepStarted(StepStarted { input: input(), parked: false }),
            );
        }
        self.attempted_at.push(now);
        let attempted = match self.attempts.split_first() {
            Some((first, rest)) => {
                self.attempts = rest;
                *first
            }
            None => Attempted::Done,
        };
        if matches!(attempted, Attempted::Done | Attempted::LostApplied) {
            *self.applied.entry(key.to_owned()).or_default() += 1;
        }
        if attempted == Attempted::Done {
            let parked_until = self.state.was_parked.then_some(now);
            let done = StepDone { parked_until, ..fake::step_done() };
            self.append(Some(key), Entry::StepDone(done));
            return Ok(());
        }
        self.attempt_failed(key, attempted);
        Err(Verdict::Wait(Wait::until(Some(now))))
    }

    fn attempt_failed(&mut self, key: &str, attempted: Attempted) {
        let (now, history, was_parked) = (self.now, &self.state.history, self.state.was_parked);
        let step = history.step(key);
        let is_retried = attempted == Attempted::Down;
        let latest = history.latest_attempt(key, now, was_parked, self.step_deadline);
        let retry_at = is_retried.then(|| now + TimeDelta::minutes(1));
        let failed = StepAttemptFailed {
            input: input(),
            outcome: if is_retried { AttemptOutcome::Retry } else { AttemptOutcome::Unknown },
            failure: Failure::new(CODE, "down"),
            began_at: step.is_none().then_some(now),
            parked_until: was_parked.then_some(now),
            retry_at: retry_at.filter(|at| latest.is_none_or(|latest| *at <= latest)),
            money: Vec::new(),
        };
        self.append(Some(key), Entry::StepAttemptFailed(failed));
    }

    /// Waits for a signal, for an hour.
    pub(super) fn wait(&mut self, name: &str) -> Result<Option<Box<RawValue>>, Verdict> {
        let key = self.state.occurrence(format!("wait:{name}"));
        let hour = Duration::from_secs(3_600);
        match self.state.waited(&key, name, hour, self.now, |_, _| true)? {
            Paused::Over(body) => Ok(body),
            Paused::Until(until) => {
                self.state.obstacle(self.now).map_or(Ok(()), Err)?;
                Err(Verdict::Wait(Wait::until(until)))
            }
            Paused::OutOfTurn(seq) => panic!("{seq}: one branch is always in turn"),
        }
    }

    /// Sleeps for a minute.
    pub(super) fn sleep(&mut self) -> Result<(), Verdict> {
        let key = self.state.occurrence("timer:sleep".to_owned());
        let until = self.now + TimeDelta::minutes(1);
        match self.state.slept(&key, until, self.now, |_, _| true)? {
            Paused::Over(()) => Ok(()),
            Paused::Until(until) => {
                self.state.obstacle(self.now).map_or(Ok(()), Err)?;
                Err(Verdict::Wait(Wait::until(until)))
            }
            Paused::OutOfTurn(seq) => panic!("{seq}: one branch is always in turn"),
        }
    }

    /// Starts a child.
    pub(super) fn start_child(&mut self) -> Result<(), Verdict> {
        if self.state.history.ask(CHILD).is_none() {
            self.state.obstacle(self.now).map_or(Ok(()), Err)?;
            let (workflow, business_key) = ("pack".to_owned(), "1/pack".to_owned());
            let instance_id = Uuid::nil();
            let (input, detached) = (input(), false);
            let started = ChildStarted { instance_id, workflow, business_key, input, detached };
            self.append(Some(CHILD), Entry::ChildStarted(started));
        }
        Ok(())
    }

    /// Starts a child, and waits for its end.
    pub(super) fn child(&mut self) -> Result<Result<(), Failure>, Verdict> {
        self.start_child()?;
        match self.state.history.step(CHILD).map(|step| &step.progress) {
            Some(Progress::Done { .. }) => Ok(Ok(())),
            Some(Progress::Failed { failure }) => {
                let failure = failure.clone();
                let heard = heard(CHILD);
                if self.state.history.ask_note(&heard).is_none() {
                    let noted = Entry::Noted(Noted { value: RawValue::NULL.to_owned() });
                    self.append(Some(&heard), noted);
                }
                Ok(Err(failure))
            }
            Some(Progress::Open) | None => {
                self.state.obstacle(self.now).map_or(Ok(()), Err)?;
                Err(Verdict::Wait(Wait::default()))
            }
        }
    }
}
