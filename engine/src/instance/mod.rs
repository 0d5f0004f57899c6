//! An instance in the memory of the worker that holds it.
//!
//! What happens is appended to the history at once and becomes durable with the next write, which
//! is awaited before the next effect begins. Only the holder writes; everybody else sends mail.

mod asks;
mod branches;
mod mail;
mod pause;
mod state;
mod transact;

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::value::RawValue;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::event::Event;
use crate::history::{History, step_name};
use crate::memo::Divergence;
use crate::priority::Priority;
use crate::record::{
    AttemptOutcome, CompensationAttemptFailed, Entry, Reason, ReasonKind, StepInterrupted,
};
use crate::registry::AnyWorkflow;
use crate::sabotage::Bug;
use crate::status::Transition;
use crate::step::{Call, Effect, Failure};
use crate::store::claim::{self, Claimed};
use crate::store::write::{About, Write, Written};
use crate::worker::Worker;

pub(crate) use asks::{Paused, later};
pub(crate) use branches::{Branches, Guard, Idle, Wait};
pub(crate) use mail::is_to_be_undone;
use state::RowWrite;
pub(crate) use state::{Closing, State};
pub(crate) use transact::{Terms, Transaction};

/// An instance that this worker holds.
pub(crate) struct Instance {
    pub(crate) worker: Arc<Worker>,
    pub(crate) workflow: Arc<dyn AnyWorkflow>,
    pub(crate) instance_id: Uuid,
    /// The claim that this worker holds it by. None on a worker that holds nothing.
    pub(crate) claim_id: Option<Uuid>,
    pub(crate) about: Arc<About>,
    /// Also that of the children it starts.
    pub(crate) priority: Priority,
    state: Mutex<State>,
    /// One write at a time, so that records become durable in their order.
    writing: tokio::sync::Mutex<()>,
    /// One reader of mail at a time.
    reading: tokio::sync::Mutex<()>,
    /// Rung when mail has come in, and when it has been read.
    bell: Notify,
    /// The calls of the run that are under way.
    pub(crate) branches: Branches,
    /// Attempts under way; they outlive the run that asked for them.
    attempts: TaskTracker,
    /// Cancelled when its drive has ended.
    drive_ended: CancellationToken,
}

/// What is to become of an instance that cannot go on by itself.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Undo everything.
    Compensate(Reason),
    /// Go on when this is over, or when there is mail.
    Wait(Wait),
    /// Somebody has asked for the end, by force, for this reason.
    Terminate(String),
    /// A person has to look.
    Stick(Failure),
    /// This build does something else than is recorded; a person has to look.
    Diverged(Divergence),
    /// This worker is leaving; go on elsewhere, at once.
    Release,
    /// A newer build has to go on: this one does not know what the instance was sent.
    StepAside(String),
    /// The database refuses what happened; go back to what is durable, and tell a person.
    Unrecordable(String),
    /// This worker does not hold the instance any more.
    Lost,
}

impl Verdict {
    /// What stands if branches of a run end with different verdicts: what keeps this worker from
    /// writing first, then what a person wants, then what needs one.
    pub(crate) fn over(self, other: Self) -> Self {
        if self.rank() > other.rank() { self } else { other }
    }

    /// Whether somebody has asked for it and was promised it.
    pub(crate) fn is_wanted(&self) -> bool {
        match self {
            Self::Terminate(_) => true,
            Self::Compensate(reason) => reason.kind == ReasonKind::Cancel,
            _ => false,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Lost => 8,
            Self::Unrecordable(_) => 7,
            Self::StepAside(_) => 6,
            Self::Terminate(_) => 5,
            Self::Compensate(Reason { kind: ReasonKind::Cancel, .. }) => 4,
            Self::Release => 3,
            Self::Stick(_) | Self::Diverged(_) => 2,
            Self::Compensate(_) => 1,
            Self::Wait(_) => 0,
        }
    }
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
        claim_id: Option<Uuid>,
        about: Arc<About>,
        priority: Priority,
        history: History,
    ) -> Self {
        Self {
            worker,
            workflow,
            instance_id,
            claim_id,
            about,
            priority,
            state: Mutex::new(State::new(history)),
            writing: tokio::sync::Mutex::new(()),
            reading: tokio::sync::Mutex::new(()),
            bell: Notify::new(),
            branches: Branches::default(),
            attempts: TaskTracker::new(),
            drive_ended: CancellationToken::new(),
        }
    }

    /// A claimed instance. A history that this build cannot read becomes a verdict.
    pub(crate) fn claimed(
        worker: Arc<Worker>,
        workflow: Arc<dyn AnyWorkflow>,
        claimed: Claimed,
    ) -> Self {
        let Claimed { instance_id, claim_id, business_key, was, past_pivot, failure, .. } = claimed;
        let (mail_count, mail_read) = (claimed.mail_count, claimed.mail_read);
        let about = Arc::new(About { workflow: claimed.workflow, business_key });
        let (history, unreadable) = match History::load(instance_id, &claimed.records) {
            Ok(history) => (history, None),
            Err(error) => {
                let failure = Failure::new("RECORD_UNREADABLE", error);
                (History::opaque(instance_id, &claimed.records), Some(failure))
            }
        };
        let priority = claimed.priority;
        let instance =
            Self::born(worker, workflow, instance_id, claim_id, about, priority, history);
        {
            let mut state = instance.state();
            state.status = was.after(Transition::Claim).unwrap_or(was);
            state.failure = failure;
            state.mail_count = mail_count;
            state.mail_read = mail_read;
            state.lost = claimed.lost;
            state.was_parked = claimed.was_parked;
            state.revision = claimed.revision;
            if was.has_lost_its_worker(claimed.was_freed) {
                let at = instance.worker.clock.now();
                // It holds no data that could be refused.
                let _ = state.append(None, None, Entry::WorkerLost, &[], None, at);
            }
            state.unreadable = unreadable;
            state.claim_pivots(past_pivot, instance.workflow.steps());
        }
        instance
    }

    /// The state, for a moment that must not wait for anything.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What a call to a provider is told about itself.
    pub(crate) fn call(&self, step: &str, attempt: u32, direction: Direction) -> Call {
        let (round, undo_round, ledger) = {
            let state = self.state();
            let recorded = state.history.step(step);
            let (round, undo_round) =
                recorded.map_or((0, 0), |step| (step.attempts.round, step.undo.round));
            let ledger = match direction {
                Direction::Forward => state.history.ledger().clone(),
                Direction::Undo => state.history.ledger_for_undo(step),
            };
            (round, undo_round, ledger)
        };
        let forward_key = in_round(format!("{}/{step}", self.instance_id), round);
        let forward_key = match direction {
            Direction::Forward if Bug::AttemptInKey.is_on() => format!("{forward_key}@{attempt}"),
            _ => forward_key,
        };
        let key = match direction {
            Direction::Forward => forward_key.clone(),
            Direction::Undo if Bug::UndoSharesKey.is_on() => forward_key.clone(),
            Direction::Undo => in_round(format!("{forward_key}/undo"), undo_round),
        };
        let business_key = self.about.business_key.clone();
        let now = self.worker.clock.now();
        let instance_id = self.instance_id;
        Call { instance_id, business_key, attempt, now, key, forward_key, ledger }
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

    /// Makes everything durable that has happened, and the row where it has changed. Like an
    /// attempt it goes on if nobody waits for it any more: the next write comes after it.
    pub(crate) async fn flush(self: &Arc<Self>) -> Flushed {
        let (answer, answered) = oneshot::channel();
        let instance = Arc::clone(self);
        self.spawn_attempt(async move {
            let _ = answer.send(instance.write(RowWrite::Changes).await);
        });
        answered.await.unwrap_or(Flushed::Refused(Verdict::Lost))
    }

    /// Makes everything durable, and lets go of the instance.
    pub(crate) async fn close(&self, closing: Closing) -> Flushed {
        self.write(RowWrite::Closing(Box::new(closing))).await
    }

    async fn write(&self, row: RowWrite) -> Flushed {
        let _turn = self.writing.lock().await;
        let at = self.worker.clock.now();
        let (mark, records, change) = {
            let mut state = self.state();
            let mark = state.history.mark();
            let change = match state.prepare(row, at) {
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
            claim_id: self.claim_id,
            about: Arc::clone(&self.about),
            delivery: None,
            start: None,
            change: change.clone(),
            records,
        };
        let written = if self.has_family_to_tell(&write) {
            self.write_plan(&write).await
        } else {
            self.worker.committer.write(write).await
        };
        let closed = change.as_ref().is_some_and(|change| change.released);
        match written {
            Written::Yes => {
                self.state().written(durable, change.as_ref());
                Flushed::Yes
            }
            Written::UnreadMail => {
                self.state().take_off(closed, &mark);
                self.state().row_stale = true;
                let read = async {
                    self.adopt_signals().await?;
                    self.read_mail().await
                };
                read.await.map_or_else(Flushed::Refused, |()| Flushed::MailRead)
            }
            Written::Refused(error) => {
                self.state().take_off(closed, &mark);
                Flushed::Refused(Verdict::Unrecordable(error))
            }
            Written::Fenced | Written::Replayed(_) | Written::Duplicate(_) | Written::Conflict => {
                if !self.worker.lost.is_cancelled() {
                    tracing::error!(
                        instance.id = %self.instance_id,
                        "the history or the row of instance {} is not as its holder left it; it is dropped",
                        self.instance_id,
                    );
                }
                Flushed::Refused(Verdict::Lost)
            }
        }
    }

    /// Passed by every call of a run before it goes beyond what is recorded, with its key.
    ///
    /// On a worker that is lost nobody gets further. A build is checked on such a worker; one that
    /// had work drops it here.
    pub(crate) async fn leave_history(&self, key: &str) {
        if self.worker.lost.is_cancelled() {
            self.state().stopped_at.push(key.to_owned());
            let _stopped = self.branches.stop();
            std::future::pending::<()>().await;
        }
    }

    /// The last things before an effect: mail is read, `announce` says what must be known of it
    /// beforehand, everything that came before is durable, and the lease is fresh.
    pub(crate) async fn ready_for_effect(
        self: &Arc<Self>,
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
        if Bug::EffectEarly.is_on() {
            return Ok(Readiness::Ready);
        }
        loop {
            match self.flush().await {
                Flushed::Yes => break,
                Flushed::MailRead if self.obstacle().is_some() => {
                    return Ok(Readiness::ThinkAgain);
                }
                // Nobody said to stop.
                Flushed::MailRead => {}
                Flushed::Refused(verdict) => return Err(verdict),
            }
        }
        worker.permit_effect().await;
        worker.probes.reach("effect.before").await;
        Ok(Readiness::Ready)
    }

    /// Why the run may begin nothing more, whatever it asks for.
    pub(crate) fn obstacle(&self) -> Option<Verdict> {
        self.obstacle_in(&self.state())
    }

    /// The same, in a state that is held.
    pub(crate) fn obstacle_in(&self, state: &State) -> Option<Verdict> {
        // Nobody gets beyond the history anyway.
        if self.worker.lost.is_cancelled() {
            return None;
        }
        state.obstacle(self.worker.clock.now())
    }

    /// Runs what is not ended by dropping whoever waits for it, but by losing the worker.
    pub(crate) fn spawn_attempt(&self, attempt: impl Future<Output = ()> + Send + 'static) {
        let lost = self.worker.lost.clone();
        // Large, and moved about with the task otherwise.
        let attempt = Box::pin(attempt);
        self.attempts.spawn(async move {
            tokio::select! {
                biased;
                () = lost.cancelled() => {}
                () = attempt => {}
            }
        });
    }

    /// Says that its drive has ended.
    pub(crate) fn end_drive(&self) {
        self.drive_ended.cancel();
    }

    /// Waits until its drive has ended.
    pub(crate) async fn drive_ended(&self) {
        self.drive_ended.cancelled().await;
    }

    /// Waits until no attempt is under way.
    pub(crate) async fn settle_attempts(&self) {
        self.attempts.close();
        self.attempts.wait().await;
        self.attempts.reopen();
    }

    /// The key of what the run asks for now: its name, and which time it is.
    pub(crate) fn occurrence(&self, name: String) -> String {
        self.state().occurrence(name)
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
            // What is done in a transaction is recorded, or has not happened.
            let step = self.workflow.steps().get(step_name(&key));
            if step.is_some_and(|step| step.facts().effect == Effect::Transaction) {
                continue;
            }
            let retry_at = Some(at);
            let entry = match input {
                Some(input) => Entry::StepInterrupted(StepInterrupted { input, retry_at }),
                None => Entry::CompensationAttemptFailed(CompensationAttemptFailed {
                    outcome: AttemptOutcome::Unknown,
                    failure: Failure::new("RECORD_REFUSED", "its result could not be recorded"),
                    retry_at,
                }),
            };
            state.append(Some(&key), None, entry, &[], None, at)?;
        }
        state.settle_pivots(self.workflow.steps());
        Ok(())
    }

    /// What the instance was started with.
    pub(crate) fn input(&self) -> Box<RawValue> {
        self.state().history.input().to_owned()
    }
}
