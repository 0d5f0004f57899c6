//! Commands to instances.

use std::sync::Arc;

use uuid::Uuid;

use crate::command::{Answer, Command, Finding, Resolution, answer};
use crate::compensation::plan_compensation;
use crate::engine::Engine;
use crate::error::Error;
use crate::history::{History, Progress};
use crate::instance::is_to_be_undone;
use crate::limits::{refuse_person, refuse_text};
use crate::preview::{Preview, preview};
use crate::registry::Registry;
use crate::store::command::{Given, Look, give_command, see};
use crate::worker::new_id;

impl Engine {
    /// Gives a command to an instance on behalf of `actor`. `None`: there is no such instance.
    ///
    /// The command and its answer are kept, refusals too. An accepted command happens. A resolve
    /// needs a finding: see [`Engine::resolve`].
    pub async fn command(
        &self,
        instance_id: Uuid,
        command: Command,
        actor: &str,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        if command == Command::Resolve {
            return Err(Error::InvalidInput("a resolve needs a resolution".to_owned()));
        }
        self.give(instance_id, command, actor, reason, None, None).await
    }

    /// Cancels an instance if what would be undone is still what the person was shown: `plan_hash`
    /// is that of a [`crate::preview::Preview`]. If not, the answer is [`Answer::PlanChanged`].
    pub async fn cancel_as_shown(
        &self,
        instance_id: Uuid,
        plan_hash: &str,
        actor: &str,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        let (registry, shown) = (Arc::clone(&self.worker().registry), plan_hash.to_owned());
        let look: Look = Box::new(move |workflow, version, records| {
            let history = History::load(instance_id, records).map_err(Error::Stored)?;
            let steps = known(&registry, workflow, version)?.steps();
            let is_same = plan_compensation(&history, steps).is_ok_and(|plan| plan.hash() == shown);
            Ok(if is_same { Answer::Accepted } else { Answer::PlanChanged })
        });
        self.give(instance_id, Command::Cancel, actor, reason, None, Some(look)).await
    }

    /// Tells a stuck instance what a person has found out, and has it go on.
    ///
    /// Refused as invalid if the step is not in the history, if the finding does not fit what is
    /// recorded of it, or if the output is not one of this step.
    pub async fn resolve(
        &self,
        instance_id: Uuid,
        resolution: Resolution,
        actor: &str,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        if let Some(refusal) = refuse_text("the evidence", &resolution.evidence) {
            return Err(Error::InvalidInput(refusal));
        }
        if resolution.step.is_some() != resolution.finding.is_some() {
            let refusal = "a resolution has a step and a finding, or neither";
            return Err(Error::InvalidInput(refusal.to_owned()));
        }
        if resolution.step.is_none() && resolution.money.is_empty() {
            let refusal = "a resolution without a step says what money has moved";
            return Err(Error::InvalidInput(refusal.to_owned()));
        }
        let (registry, found) = (Arc::clone(&self.worker().registry), resolution.clone());
        let look: Look = Box::new(move |workflow, version, records| {
            let history = History::load(instance_id, records).map_err(Error::Stored)?;
            check(&found, &history, &registry, workflow, version)?;
            Ok(Answer::Accepted)
        });
        let resolution = Some(resolution);
        self.give(instance_id, Command::Resolve, actor, reason, resolution, Some(look)).await
    }

    /// What a command would do at this moment. `None`: there is no such instance.
    pub async fn preview(
        &self,
        instance_id: Uuid,
        command: Command,
    ) -> Result<Option<Preview>, Error> {
        let registry = Arc::clone(&self.worker().registry);
        let seen = self
            .store()
            .transact(move |connection| Box::pin(async move { see(connection, instance_id).await }))
            .await?;
        let Some((workflow, version, standing, records)) = seen else {
            return Ok(None);
        };
        let history = History::load(instance_id, &records).map_err(Error::Stored)?;
        let steps = known(&registry, &workflow, version)?.steps();
        let answer = answer(command, standing);
        Ok(Some(preview(command, answer, &history, &records, steps)))
    }

    async fn give(
        &self,
        instance_id: Uuid,
        command: Command,
        actor: &str,
        reason: &str,
        resolution: Option<Resolution>,
        look: Option<Look>,
    ) -> Result<Option<Answer>, Error> {
        refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let (command_id, at) = (new_id(), self.worker().clock.now());
        let by_parent = false;
        let given =
            Given { command_id, instance_id, command, actor, reason, resolution, by_parent, at };
        let answer = self
            .store()
            .transact(move |connection| {
                Box::pin(async move { give_command(connection, given, look).await })
            })
            .await?;
        if answer == Some(Answer::Accepted) {
            self.ring().await;
        }
        Ok(answer)
    }
}

fn known<'a>(
    registry: &'a Registry,
    workflow: &str,
    version: u32,
) -> Result<&'a Arc<dyn crate::registry::AnyWorkflow>, Error> {
    registry
        .get(workflow, version)
        .ok_or_else(|| Error::UnknownWorkflow(format!("{workflow}@{version}")))
}

/// Refuses a finding that does not fit what is recorded.
fn check(
    resolution: &Resolution,
    history: &History,
    registry: &Registry,
    workflow: &str,
    version: u32,
) -> Result<(), Error> {
    let (Some(key), Some(finding)) = (&resolution.step, &resolution.finding) else {
        return Ok(());
    };
    let refused = |why: String| Err(Error::InvalidInput(why));
    let Some(recorded) = history.step(key) else {
        return refused(format!("there is no step {key} in the history"));
    };
    let is_done = matches!(recorded.progress, Progress::Done { .. });
    match finding {
        Finding::Undone(_) if !is_to_be_undone(history, key) => {
            refused(format!("{key} is not waiting to be undone"))
        }
        Finding::Undone(_) => Ok(()),
        Finding::Applied(_) | Finding::NotApplied if history.undoing().is_some() => {
            refused(format!("everything is being undone; say whether {key} is undone"))
        }
        Finding::Applied(_) | Finding::NotApplied if is_done => {
            refused(format!("{key} is recorded as done"))
        }
        Finding::NotApplied => Ok(()),
        Finding::Applied(output) => {
            let steps = known(registry, workflow, version)?.steps();
            let Some(step) = steps.get(recorded.name()) else {
                return refused(format!("{key} is not part of this build"));
            };
            step.done(recorded.input.get(), &output.to_string()).map(drop).or_else(|error| {
                refused(format!("the output of {key}: {}", error.failure().message))
            })
        }
    }
}
