//! An instance in the memory of the worker that holds it.
//!
//! What happens is appended to the history at once and becomes durable with the next write, which
//! is awaited before the next effect begins. Only the holder writes; everybody else sends mail.

mod state;

use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::command::Command;
use crate::compensation::plan_compensation;
use crate::event::Event;
use crate::history::History;
use crate::record::{CommandRead, Entry, StepInterrupted};
use crate::registry::AnyWorkflow;
use crate::status::{Status, Transition};
use crate::step::{Call, Failure};
use crate::store::claim::{self, Claimed};
use crate::store::mail;
use crate::store::write::{About, Write, Written};
use crate::worker::Worker;

pub(crate) use state::{Closing, State};

/// An instance that this worker holds.
pub(crate) struct Instance {
    pub(crate) worker: Arc<Worker>,
    pub(crate) workflow: Arc<dyn AnyWorkflow>,
    pub(crate) instance_id: Uuid,
    pub(crate) about: Arc<About>,
    state: Mutex<State>,
    /// One write at a time, so that records become durable in their order.
    writing: tokio::sync::Mutex<()>,
    /// Rung when mail has come in.
    bell: Notify,
    /// Attempts under way; they outlive the run that asked for them.
    attempts: TaskTracker,
}

/// What is to become of an instance that cannot go on by itself.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Undo everything.
    Compensate(crate::record::Reason),
    /// Go on at this time.
    Wait(DateTime<Utc>),
    /// A person has to look.
    Stick(Failure),
    /// This worker is leaving; go on elsewhere, at once.
    Release,
    /// The database refuses what happened; go back to what is durable, and tell a person.
    Unrecordable(String),
    /// This worker does not hold the instance any more.
    Lost,
}

/// Which way a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Undo,
}

/// The key of a round: the first one is the key itself.
fn in_round(key: String, round: u32) -> String {
    if round == 0 { key } else { format!("{key}~{}", round + 1) }
}

/// Whether the next effect may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Mail has been read: look at the history again.
    ThinkAgain,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// Everything that has happened is durable.
    Yes,
    /// Not written: mail had come in. It has been read.
    MailRead,
    /// Not written, and never will be.
    Refused(Verdict),
}

impl Instance {
    /// A new instance, whose first record is durable.
    pub(crate) fn born(
        worker: Arc<Worker>,
        workflow: Arc<dyn AnyWorkflow>,
        instance_id: Uuid,
        about: Arc<About>,
        history: History,
    ) -> Self {
        Self {
            worker,
            workflow,
            instance_id,
            about,
            state: Mutex::new(State::new(history)),
            writing: tokio::sync::Mutex::new(()),
            bell: Notify::new(),
            attempts: TaskTracker::new(),
        }
    }

    /// A claimed instance. A history that this build cannot read becomes a verdict.
    pub(crate) fn claimed(
        worker: Arc<Worker>,
        workflow: Arc<dyn AnyWorkflow>,
        claimed: Claimed,
    ) -> Self {
        let Claimed { instance_id, business_key, was, past_pivot, failure, .. } = claimed;
        let (mail_count, mail_read) = (claimed.mail_count, claimed.mail_read);
        let about = Arc::new(About { workflow: claimed.workflow, business_key });
        let (history, unreadable) = match History::load(instance_id, &claimed.records) {
            Ok(history) => (history, None),
            Err(error) => {
                let failure = Failure::new("RECORD_UNREADABLE", error);
                (History::opaque(instance_id, &claimed.records), Some(failure))
            }
        };
        let instance = Self::born(worker, workflow, instance_id, about, history);
        {
            let mut state = instance.state();
            state.status = was.after(Transition::Claim).unwrap_or(was);
            state.past_pivot = past_pivot;
            state.failure = failure;
            state.mail_count = mail_count;
            state.mail_read = mail_read;
            if was == Status::Running {
                let at = instance.worker.clock.now();
                // It holds no data that could be refused.
                let _ = state.append(None, None, Entry::WorkerLost, &[], None, at);
            }
            state.unreadable = unreadable;
        }
        instance
    }

    /// The state, for a moment that must not wait for anything.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What a call to a provider is told about itself.
    pub(crate) fn call(&self, step: &str, attempt: u32, direction: Direction) -> Call {
        let (round, undo_round) = {
            let state = self.state();
            let recorded = state.history.step(step);
            recorded.map_or((0, 0), |step| (step.attempts.round, step.undo.round))
        };
        let forward_key = in_round(format!("{}/{step}", self.instance_id), round);
        let key = match direction {
            Direction::Forward => forward_key.clone(),
            Direction::Undo => in_round(format!("{forward_key}/undo"), undo_round),
        };
        let business_key = self.about.business_key.clone();
        let now = self.worker.clock.now();
        Call { instance_id: self.instance_id, business_key, attempt, now, key, forward_key }
    }

    /// Tells the instance that there are `count` messages.
    pub(crate) fn ring(&self, count: i32) {
        let mut state = self.state();
        if count > state.mail_count {
            state.mail_count = count;
            self.bell.notify_one();
        }
    }

    /// Appends to the history. It becomes durable with the next write.
    pub(crate) fn append(
        &self,
        step: Option<&str>,
        attempt: Option<u32>,
        entry: Entry,
        events: &[Event],
    ) -> Result<(), Verdict> {
        let at = self.worker.clock.now();
        self.state().append(step, attempt, entry, events, None, at)
    }

    /// Makes everything durable that has happened, and the row where it has changed.
    pub(crate) async fn flush(&self) -> Flushed {
        self.write(None).await
    }

    /// Makes everything durable, and lets go of the instance.
    pub(crate) async fn close(&self, closing: Closing) -> Flushed {
        self.write(Some(closing)).await
    }

    async fn write(&self, closing: Option<Closing>) -> Flushed {
        let _turn = self.writing.lock().await;
        let at = self.worker.clock.now();
        let (mark, records, change) = {
            let mut state = self.state();
            let mark = state.history.mark();
            let change = match state.prepare(closing, at) {
                Ok(change) => change,
                Err(verdict) => return Flushed::Refused(verdict),
            };
            (mark, state.pending.clone(), change)
        };
        if records.is_empty() && change.is_none() {
            return Flushed::Yes;
        }
        let durable = records.len();
        let write = Write {
            instance_id: self.instance_id,
            about: Arc::clone(&self.about),
            delivery: None,
            start: None,
            change: change.clone(),
            records,
        };
        let written = self.worker.committer.write(write).await;
        let closed = change.as_ref().is_some_and(|change| change.released);
        match written {
            Written::Yes => {
                self.state().pending.drain(..durable);
                Flushed::Yes
            }
            Written::UnreadMail => {
                self.state().take_off(closed, &mark);
                self.state().row_stale = true;
                self.read_mail().await.map_or_else(Flushed::Refused, |()| Flushed::MailRead)
            }
            Written::Refused(error) => {
                self.state().take_off(closed, &mark);
                Flushed::Refused(Verdict::Unrecordable(error))
            }
            Written::Fenced | Written::Replayed(_) | Written::Duplicate(_) | Written::Conflict => {
                Flushed::Refused(Verdict::Lost)
            }
        }
    }

    /// Reads mail, if there is any that has not been read.
    pub(crate) async fn read_mail_if_any(&self) -> Result<(), Verdict> {
        if self.has_mail() { self.read_mail().await } else { Ok(()) }
    }

    fn has_mail(&self) -> bool {
        let state = self.state();
        state.mail_count > state.mail_read
    }

    /// Reads all unread mail into the history.
    async fn read_mail(&self) -> Result<(), Verdict> {
        let read = self.state().mail_read;
        let worker = &self.worker;
        let unread =
            worker.persist(|| mail::unread(worker.store.pool(), self.instance_id, read)).await?;
        let at = worker.clock.now();
        let mut state = self.state();
        for message in unread {
            state.mail_read = message.mail_seq;
            state.mail_count = state.mail_count.max(message.mail_seq);
            state.row_stale = true;
            let entry =
                Entry::Command(CommandRead { command: message.command, reason: message.reason });
            state.append(None, None, entry, &[], Some(message.actor), at)?;
            if message.command == Command::Resume && state.status == Status::Stuck {
                let undoing = state.history.undoing().is_some();
                state.transit(if undoing { Transition::Compensate } else { Transition::Resume });
                state.failure = None;
            }
        }
        Ok(())
    }

    /// Waits until `until`: here if it is soon, else by letting go of the instance.
    ///
    /// Mail ends the wait early: a person may have said to go on now, or not to go on at all.
    pub(crate) async fn pause_until(
        &self,
        until: Option<DateTime<Utc>>,
    ) -> Result<Readiness, Verdict> {
        let worker = &self.worker;
        let Some(until) = until.filter(|until| *until > worker.clock.now()) else {
            return Ok(Readiness::Ready);
        };
        let linger = TimeDelta::from_std(worker.settings.linger).unwrap_or_default();
        if until - worker.clock.now() > linger {
            return Err(Verdict::Wait(until));
        }
        match self.flush().await {
            Flushed::Yes => {}
            Flushed::MailRead => return Ok(Readiness::ThinkAgain),
            Flushed::Refused(verdict) => return Err(verdict),
        }
        tokio::select! {
            () = worker.clock.sleep_until(until) => Ok(Readiness::Ready),
            () = worker.drain.cancelled() => Err(Verdict::Release),
            () = self.bell.notified() => {
                self.read_mail_if_any().await?;
                Ok(Readiness::ThinkAgain)
            }
        }
    }

    /// The last things before an effect: mail is read, `announce` says what must be known of it
    /// beforehand, everything that came before is durable, and the lease is fresh.
    pub(crate) async fn ready_for_effect(
        &self,
        announce: impl FnOnce() -> Result<(), Verdict>,
    ) -> Result<Readiness, Verdict> {
        let worker = &self.worker;
        if worker.drain.is_cancelled() {
            return Err(Verdict::Release);
        }
        if self.has_mail() {
            self.read_mail().await?;
            return Ok(Readiness::ThinkAgain);
        }
        announce()?;
        loop {
            match self.flush().await {
                Flushed::Yes => break,
                Flushed::MailRead if self.state().history.cancelled().is_some() => {
                    return Ok(Readiness::ThinkAgain);
                }
                // Somebody said to go on, which is what this is about to do.
                Flushed::MailRead => {}
                Flushed::Refused(verdict) => return Err(verdict),
            }
        }
        worker.permit_effect().await;
        worker.probes.reach("effect.before").await;
        Ok(Readiness::Ready)
    }

    /// Runs an attempt that is not ended by dropping whoever waits for it.
    pub(crate) fn spawn_attempt(&self, attempt: impl Future<Output = ()> + Send + 'static) {
        self.attempts.spawn(attempt);
    }

    /// Waits until no attempt is under way.
    pub(crate) async fn settle_attempts(&self) {
        self.attempts.close();
        self.attempts.wait().await;
        self.attempts.reopen();
    }

    /// The key of a step that the run asks for now: its name, and which time it is.
    pub(crate) fn occurrence(&self, name: &'static str) -> String {
        let mut state = self.state();
        let occurrence = state.occurrences.entry(name).or_insert(0);
        *occurrence += 1;
        if *occurrence == 1 { name.to_owned() } else { format!("{name}#{occurrence}") }
    }

    /// Goes back to what is durable. Steps whose outcome could not be recorded are unknown from
    /// now on, and mail that was read but not recorded is read again.
    pub(crate) async fn reload(&self) -> Result<(), Verdict> {
        let worker = &self.worker;
        let id = self.instance_id;
        let ids = [id];
        let mut loaded = worker.persist(|| claim::histories(worker.store.pool(), &ids)).await?;
        let records = loaded.remove(&id).unwrap_or_default();
        let history = History::load(id, &records)
            .map_err(|error| Verdict::Stick(Failure::new("RECORD_UNREADABLE", error)))?;
        let at = worker.clock.now();
        let mut state = self.state();
        let doubtful = state.roll_back(history);
        for (key, input) in doubtful {
            let entry = Entry::StepInterrupted(StepInterrupted { input, retry_at: Some(at) });
            state.append(Some(&key), None, entry, &[], None, at)?;
        }
        let plan = plan_compensation(&state.history, self.workflow.steps());
        state.past_pivot = plan.is_err_and(|failure| failure.code != "STEP_MISSING");
        Ok(())
    }

    /// What the instance was started with.
    pub(crate) fn input(&self) -> Box<RawValue> {
        self.state().history.input().to_owned()
    }
}
