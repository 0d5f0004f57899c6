//! Reading mail into the history: each message becomes one record, whatever it says.

use chrono::{DateTime, Utc};

use super::state::RowWrite;
use super::{Flushed, Instance, State, Verdict};
use crate::command::Command;
use crate::history::step_name;
use crate::limits;
use crate::reading::Reading;
use crate::record::Entry;
use crate::registry::Steps;
use crate::sabotage::Bug;
use crate::status::{Status, Transition};
use crate::store::mail::{self, Mail, Message};
use crate::store::signal::{self, Judge};

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
        let judge = Judge::new(&self.worker.registry, &self.about.workflow);
        self.worker
            .persist(|| {
                let (about, judge) = (std::sync::Arc::clone(&self.about), judge.clone());
                store.transact(move |connection| {
                    Box::pin(async move {
                        signal::adopt_early(connection, &judge, &about.business_key).await
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
        let at = self.worker.clock.now();
        let mut unread = self.unread_mail().await?.into_iter();
        let read = unread.try_for_each(|mail| self.state().read(mail, self.workflow.steps(), at));
        self.bell.notify_waiters();
        read
    }

    /// Reads mail of which the database may refuse something: each message is durable before the
    /// next one is read, and what is refused becomes a record that says so. Says whether there was
    /// such a message.
    ///
    /// While it reads, nothing else happens to the instance.
    pub(crate) async fn sift_mail(&self) -> Result<bool, Verdict> {
        let _turn = self.reading.lock().await;
        let at = self.worker.clock.now();
        let refused_before = self.state().history.mail_refused();
        for mail in self.unread_mail().await? {
            let (mail_seq, key) = (mail.mail_seq, mail.key.clone());
            self.state().read(mail, self.workflow.steps(), at)?;
            match self.write(RowWrite::Mail).await {
                Flushed::Yes | Flushed::MailRead => {}
                Flushed::Refused(Verdict::Unrecordable(why)) => {
                    self.reload().await?;
                    self.state().refuse_mail(mail_seq, key.as_deref(), why, at)?;
                }
                Flushed::Refused(verdict) => return Err(verdict),
            }
        }
        self.bell.notify_waiters();
        Ok(self.state().history.mail_refused() > refused_before)
    }

    async fn unread_mail(&self) -> Result<Vec<Mail>, Verdict> {
        let (worker, read) = (&self.worker, self.state().mail_read);
        worker.persist(|| mail::unread(worker.store.pool(), self.instance_id, read)).await
    }
}

impl State {
    /// Reads a message into the history of a workflow with these steps.
    pub(crate) fn read(
        &mut self,
        mail: Mail,
        steps: &Steps,
        at: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        let Mail { mail_seq, actor, sent_at, key, message } = mail;
        if let Message::Unknown(what) = &message
            && at - sent_at < limits::UNKNOWN_MAIL_WAIT
        {
            let unknown = format!("message {mail_seq} is unknown to this build: {what}");
            return Err(Verdict::StepAside(unknown));
        }
        if Bug::MailUnread.is_on() {
            self.has_read(mail_seq);
            return Ok(());
        }
        let reading = match message {
            Message::Unknown(why) | Message::Refused(why) => {
                return self.refuse_mail(mail_seq, key.as_deref(), why, at);
            }
            Message::ChildEnded(ended) => {
                Reading::child_ended(key.clone().unwrap_or_default(), ended)
            }
            Message::Signal { name, id, body } => Reading::signal(name, id, body),
            Message::Command { command, reason, resolution } => {
                Reading::command(command, reason, resolution, (&self.history, steps))
            }
        };
        let command = match &reading.entry {
            Entry::Command(read) => Some(read.command),
            _ => None,
        };
        // A child's end is its own; everything else is somebody's.
        let actor = key.is_none().then_some(actor);
        let Reading { step, entry, events } = reading;
        match self.append(step.as_deref(), None, entry, &events, actor, at) {
            Ok(()) => self.has_read(mail_seq),
            Err(Verdict::Unrecordable(why)) => {
                return self.refuse_mail(mail_seq, key.as_deref(), why, at);
            }
            Err(verdict) => return Err(verdict),
        }
        if let Some(command) = command {
            if let Some(step) = step {
                self.settle_pivot(&step, steps);
            }
            self.follow(command);
        }
        Ok(())
    }

    /// Where a command leads, beside what it means for the history.
    fn follow(&mut self, command: Command) {
        if !matches!(command, Command::Resume | Command::Resolve) || self.status != Status::Stuck {
            return;
        }
        let undoing = self.history.undoing().is_some();
        self.transit(if undoing { Transition::Compensate } else { Transition::Resume });
        self.failure = None;
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
