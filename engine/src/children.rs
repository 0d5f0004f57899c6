//! What an instance does for its parent, what a parent does to undo a child, and what of its children
//! keeps a run from its end.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::command::{Answer, Command};
use crate::error::{Error, is_data_error};
use crate::history::{CHILD_UNHEARD, History, RecordedStep};
use crate::instance::{Instance, Readiness, Verdict};
use crate::limits;
use crate::record::{CompensationPlanned, Entry, StepCompensated};
use crate::sabotage::Bug;
use crate::status::Status;
use crate::step::{Failure, Undone};
use crate::store::Hint;
use crate::store::child;
use crate::store::command::{Given, give_command};
use crate::store::family::{self, PARENT_UNDONE};
use crate::store::worker as rows;
use crate::store::write::{NewRecord, Write, Written};
use crate::worker::{Worker, new_id};

impl Worker {
    /// Tells the parent of a child that has ended. If that fails, the loop does it.
    pub(crate) async fn tell_parent(&self, child_id: Uuid) {
        self.probes.reach("child.ended").await;
        if let Err(error) = self.try_to_tell(child_id).await {
            tracing::warn!(%error, instance.id = %child_id, "a parent is not told yet how its child has ended");
        }
    }

    /// Tells the parents of all children that have ended. Returns how many were told. Children whose
    /// ends cannot be read keep no other's parent waiting, however many they are.
    pub(crate) async fn tell_parents(&self) -> Result<usize, Error> {
        let (mut told, mut after) = (0, Uuid::nil());
        loop {
            let untold = child::untold(self.store.pool(), after, limits::CLAIM_MAX as i64).await?;
            let Some(last) = untold.last() else {
                return Ok(told);
            };
            after = *last;
            for child_id in untold {
                match self.try_to_tell(child_id).await {
                    Ok(()) => told += 1,
                    Err(error) if error.is_transient() => return Err(error),
                    Err(error) => {
                        tracing::error!(%error, instance.id = %child_id, "how this child has ended cannot be told to its parent");
                    }
                }
            }
        }
    }

    async fn try_to_tell(&self, child_id: Uuid) -> Result<(), Error> {
        let at = self.clock.now();
        self.store
            .transact(move |connection| Box::pin(child::tell_parent(connection, child_id, at)))
            .await?;
        self.due.notify_one();
        self.mail.notify_one();
        Ok(())
    }
}

/// Why a run must not end, as its children stand.
pub(crate) fn unfinished(history: &History) -> Option<Failure> {
    let open: Vec<_> = history.open_children().map(describe).collect();
    let unheard: Vec<_> = history
        .unheard_children()
        .map(|(child, failure)| format!("{} has failed ({})", describe(child), failure.code))
        .collect();
    match (list(open).filter(|_| !Bug::ChildrenLeftOpen.is_on()), list(unheard)) {
        (Some(open), _) => {
            let message = format!(
                "the run has ended, and {open} has not; when it has, or is cancelled, resume"
            );
            Some(Failure::new("CHILD_OPEN", message))
        }
        (None, Some(unheard)) => {
            let message = format!(
                "{unheard}, and the run has ended without having asked; resume to end without it"
            );
            Some(Failure::new(CHILD_UNHEARD, message))
        }
        (None, None) => None,
    }
}

/// A child as a message names it.
fn describe(child: &RecordedStep) -> String {
    format!("{} (instance {})", child.key, child.child.unwrap_or_default())
}

/// The first of what is said of children, and how many more there are. `None`: nothing is said.
fn list(mut said: Vec<String>) -> Option<String> {
    const SAID_MAX: usize = 3;
    let more = said.len().saturating_sub(SAID_MAX);
    said.truncate(SAID_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!said.is_empty()).then(|| format!("{}{more}", said.join(", ")))
}

impl Instance {
    /// Whether a write holds the plan of an instance that has started others.
    pub(crate) fn has_family_to_tell(&self, write: &Write) -> bool {
        let is_plan = |new: &Arc<NewRecord>| *new.record.kind == *CompensationPlanned::KIND;
        write.records.iter().any(is_plan)
            && self.state().history.has_children()
            && !Bug::FamilyUntold.is_on()
    }

    /// Makes a plan durable together with the cancels of everything live that this instance has
    /// started: none of it does anything more that would have to be undone.
    pub(crate) async fn write_plan(&self, write: &Write) -> Written {
        let worker = &self.worker;
        let mut pause = Duration::from_millis(20);
        loop {
            worker.probes.reach("plan.before").await;
            let (worker_id, now) = (worker.worker_id, worker.clock.pinned());
            let (write, subscriptions) = (write.clone(), worker.subscriptions.names());
            let records = write.records.len() as u64;
            let committed = worker.store.transact(move |connection| {
                Box::pin(async move {
                    family::commit_plan(connection, worker_id, &write, &subscriptions, now).await
                })
            });
            match committed.await {
                Ok(None) => {
                    worker.lost.cancel();
                    return Written::Fenced;
                }
                Ok(Some(written)) => {
                    worker.probes.reach("plan.after").await;
                    worker.metrics.commits.inc();
                    worker.metrics.records.inc_by(records);
                    worker.published.notify_one();
                    worker.due.notify_one();
                    worker.mail.notify_one();
                    worker.store.hint(Hint::Due).await;
                    return written;
                }
                Err(Error::Database(error)) if is_data_error(&error) => {
                    return Written::Refused(error.to_string());
                }
                Err(error) => {
                    tracing::warn!(%error, instance.id = %self.instance_id, "a plan is not durable yet; sending it again");
                    worker.clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Undoes a child: cancels it while it runs, takes it back when it has completed, and waits
    /// until nothing is left of it.
    pub(crate) async fn take_back(
        self: &Arc<Self>,
        key: &str,
        child_id: Uuid,
    ) -> Result<(), Verdict> {
        // The plan is durable, and with it everything live below this instance has been told.
        if self.ready_for_effect(|| Ok(())).await? == Readiness::ThinkAgain {
            return Ok(());
        }
        let worker = &self.worker;
        let status = worker.persist(|| child::status(worker.store.pool(), child_id)).await?;
        let undone = |applied| {
            let undone =
                Undone { applied, reference: Some(child_id.to_string()), ..Undone::nothing() };
            let entry = StepCompensated { undone, money: Vec::new(), recheck_at: None };
            self.append(Some(key), None, Entry::StepCompensated(entry), &[])
        };
        match status {
            // Its record is durable and it is not: it was never started, and never will be.
            None => undone(false),
            Some(Status::Compensated | Status::Cancelled) => undone(true),
            Some(Status::Terminated) => Err(Verdict::Stick(Failure::new(
                "CHILD_TERMINATED",
                format!("{key} was stopped by force; nobody knows what is left of it"),
            ))),
            Some(_) => match self.missing_version(child_id).await? {
                Some(version) => self.wait_for_version(key, &version).await,
                None => self.cancel_child(key, child_id).await,
            },
        }
    }

    /// The version of a child, if no worker runs it.
    async fn missing_version(&self, child_id: Uuid) -> Result<Option<String>, Verdict> {
        let pool = self.worker.store.pool();
        self.worker.persist(|| async { Ok(rows::missing_version(pool, child_id).await?) }).await
    }

    /// Waits a while for a worker that runs this version of a child, which nobody can undo until
    /// then, and puts it to a person.
    async fn wait_for_version(self: &Arc<Self>, key: &str, version: &str) -> Result<(), Verdict> {
        let until = self.state().history.last_at() + limits::CHILD_VERSION_WAIT;
        if self.worker.clock.now() < until {
            return self.pause_until(Some(until)).await;
        }
        let message = format!(
            "{key} is to be undone, and no server runs {version}; deploy a build with it, and resume"
        );
        Err(Verdict::Stick(Failure::new("CHILD_VERSION_MISSING", message)))
    }

    async fn cancel_child(self: &Arc<Self>, key: &str, child_id: Uuid) -> Result<(), Verdict> {
        let worker = &self.worker;
        let answer = worker
            .persist(|| {
                let given = Given {
                    command_id: new_id(),
                    instance_id: child_id,
                    command: Command::Cancel,
                    actor: format!("instance {}", self.instance_id),
                    reason: PARENT_UNDONE.to_owned(),
                    resolution: None,
                    policy: None,
                    by_parent: true,
                    request: None,
                    at: worker.clock.now(),
                };
                worker.store.transact(move |connection| {
                    Box::pin(async move { give_command(connection, given, None).await })
                })
            })
            .await?;
        match answer {
            Some(Answer::PastPivot | Answer::ChildPastPivot) => {
                return Err(Verdict::Stick(Failure::new(
                    "CHILD_PAST_PIVOT",
                    format!("{key} cannot be undone any more: it is past its pivot"),
                )));
            }
            Some(Answer::Accepted) => {
                worker.due.notify_one();
                worker.mail.notify_one();
                worker.store.hint(Hint::Due).await;
            }
            // It is being undone.
            _ => {}
        }
        // Its end is mail; only whether anybody still runs it has to be looked at.
        self.pause_until(Some(worker.clock.now() + limits::CHILD_LOOK_PAUSE)).await
    }
}
