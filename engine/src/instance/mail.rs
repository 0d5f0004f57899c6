//! Reading mail into the history: each message becomes one record.

use chrono::{DateTime, Utc};

use super::{Instance, State, Verdict};
use crate::command::{Command, Finding, Resolution};
use crate::history::{Progress, step_name};
use crate::record::{CommandRead, Entry, SignalRead};
use crate::registry::Told;
use crate::sabotage::Bug;
use crate::status::{Status, Transition};
use crate::step::Undone;
use crate::store::mail::{self, Mail, Message};
use crate::store::signal;

impl Instance {
    /// Tells the instance that there are `count` messages.
    pub(crate) fn ring(&self, count: i32) {
        let mut state = self.state();
        if count > state.mail_count {
            state.mail_count = count;
            self.bell.notify_waiters();
        }
    }

    pub(super) fn has_mail(&self) -> bool {
        let state = self.state();
        state.mail_count > state.mail_read
    }

    /// Reads mail, if there is any that has not been read.
    pub(crate) async fn read_mail_if_any(&self) -> Result<(), Verdict> {
        if self.has_mail() { self.read_mail().await } else { Ok(()) }
    }

    /// Waits for whoever holds a lock on this instance, perhaps to send mail, and reads what came.
    pub(crate) async fn await_mail_on_its_way(&self) -> Result<(), Verdict> {
        let (worker, id) = (&self.worker, self.instance_id);
        let count = worker.persist(|| mail::count(worker.store.pool(), id)).await?;
        self.ring(count);
        self.read_mail_if_any().await
    }

    /// Takes over the signals that were kept before there was an instance.
    pub(super) async fn adopt_signals(&self) -> Result<(), Verdict> {
        let store = &self.worker.store;
        self.worker
            .persist(|| {
                let about = std::sync::Arc::clone(&self.about);
                store.transact(move |connection| {
                    Box::pin(async move {
                        signal::adopt(connection, &about.workflow, &about.business_key).await
                    })
                })
            })
            .await
            .map(drop)
    }

    /// Reads all unread mail into the history.
    pub(super) async fn read_mail(&self) -> Result<(), Verdict> {
        // Branches of a run hear the bell together; each message is read once.
        let _turn = self.reading.lock().await;
        let read = self.state().mail_read;
        let worker = &self.worker;
        let unread =
            worker.persist(|| mail::unread(worker.store.pool(), self.instance_id, read)).await?;
        let at = worker.clock.now();
        for mail in unread {
            self.record(mail, at)?;
        }
        self.bell.notify_waiters();
        Ok(())
    }

    fn record(&self, mail: Mail, at: DateTime<Utc>) -> Result<(), Verdict> {
        let mut state = self.state();
        state.mail_read = mail.mail_seq;
        state.mail_count = state.mail_count.max(mail.mail_seq);
        state.row_stale = true;
        if Bug::MailUnread.is_on() {
            return Ok(());
        }
        let actor = Some(mail.actor);
        match mail.message {
            Message::ChildEnded { key, ended } => {
                let entry = Entry::ChildEnded(ended);
                state.append(Some(&key), None, entry, &[], None, at)
            }
            Message::Signal { name, id, body } => {
                let entry = Entry::Signal(SignalRead { signal: name, id, body });
                state.append(None, None, entry, &[], actor, at)
            }
            Message::Command { command, reason, resolution } => {
                let told =
                    resolution.as_ref().map_or_else(Told::default, |it| self.tell(&state, it));
                let step = resolution.as_ref().and_then(|resolution| resolution.step.clone());
                let new_keys = matches!(command, Command::Resume | Command::Resolve)
                    .then(|| state.history.keys_to_give_up(resolution.as_ref()));
                let money = told.money;
                let read = CommandRead { command, reason, resolution, new_keys, money };
                let entry = Entry::Command(read);
                state.append(step.as_deref(), None, entry, &told.events, actor, at)?;
                if let Some(step) = step {
                    state.settle_pivot(&step, self.workflow.steps());
                }
                self.follow(&mut state, command);
                Ok(())
            }
        }
    }

    /// What a step has to say about what a person found out, and the money he knows of.
    fn tell(&self, state: &State, resolution: &Resolution) -> Told {
        let step = resolution.step.as_deref().and_then(|key| state.history.step(key));
        let known = step.and_then(|step| Some((step, self.workflow.steps().get(step.name())?)));
        let told = match (known, &resolution.finding) {
            (Some((step, known)), Some(Finding::Applied(output))) => {
                known.done(step.input.get(), &output.to_string())
            }
            (Some((step, known)), Some(Finding::Undone(reference))) => {
                let output = match &step.progress {
                    Progress::Done { output } => Some(output.get()),
                    Progress::Open | Progress::Failed { .. } => None,
                };
                let (reference, before) = (reference.clone(), state.history.ledger().clone());
                let undone = Undone { applied: true, reference, moved: None, before };
                known.undone(step.input.get(), output, &undone)
            }
            _ => Ok(Told::default()),
        };
        // What it says was read when the command was accepted; a build that cannot read it any
        // more has nothing to add.
        let mut told = told.unwrap_or_default();
        told.money.extend_from_slice(&resolution.money);
        told
    }

    /// Where a command leads, beside what it means for the history.
    fn follow(&self, state: &mut State, command: Command) {
        if !matches!(command, Command::Resume | Command::Resolve) || state.status != Status::Stuck {
            return;
        }
        let undoing = state.history.undoing().is_some();
        state.transit(if undoing { Transition::Compensate } else { Transition::Resume });
        state.failure = None;
    }
}

/// Whether a step of this key is in the plan under way and not undone.
pub(crate) fn is_to_be_undone(state: &crate::history::History, key: &str) -> bool {
    state.undoing().is_some_and(|undoing| {
        undoing.plan.steps.iter().any(|planned| planned.step == key)
            && state.step(key).is_some_and(|step| !step.compensated)
            && !step_name(key).is_empty()
    })
}
