//! Commands to instances.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::command::{Answer, ChildFate, ChildPolicy, Command, Finding, Resolution, answer};
use crate::compensation::plan_compensation;
use crate::engine::Engine;
use crate::error::Error;
use crate::history::{History, Progress, RecordedStep};
use crate::instance::is_to_be_undone;
use crate::limits::{refuse_key, refuse_person};
use crate::money::Movement;
use crate::preview::{ChildPreview, Preview, preview};
use crate::reading::Reading;
use crate::registry::Registry;
use crate::signal::Signals;
use crate::status::Status;
use crate::store::acknowledged::{Recipient, Trace};
use crate::store::command::{Given, Look, Request, Seen, give_command, see};
use crate::store::family::Member;
use crate::worker::new_id;

/// Who gives a command, and by which request. A name alone will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester<'a> {
    actor: &'a str,
    request_id: Option<&'a str>,
}

impl<'a> Requester<'a> {
    /// Somebody of this name.
    #[must_use]
    pub fn new(actor: &'a str) -> Self {
        Self { actor, request_id: None }
    }

    /// Names the request, so that it can be sent again if its answer is lost: it gets the same
    /// answer then, and does nothing. An id is used for one request, for ever.
    #[must_use]
    pub fn request(self, request_id: &'a str) -> Self {
        Self { request_id: Some(request_id), ..self }
    }
}

impl<'a> From<&'a str> for Requester<'a> {
    fn from(actor: &'a str) -> Self {
        Self::new(actor)
    }
}

impl<'a> From<&'a String> for Requester<'a> {
    fn from(actor: &'a String) -> Self {
        Self::new(actor)
    }
}

/// What a command asks for.
struct Asked {
    command: Command,
    policy: Option<ChildPolicy>,
    plan_hash: Option<String>,
    resolution: Option<Resolution>,
}

impl Engine {
    /// Gives a command to an instance on behalf of `requester`, such as `"anna"`. `None`: there is
    /// no such instance.
    ///
    /// The command and its answer are kept, refusals too. An accepted command happens, also to what
    /// the instance has started where it goes down. A resolve needs a finding: see
    /// [`Engine::resolve`]; a booking needs money: see [`Engine::book`]; a terminate of what has live children needs a policy: see
    /// [`Engine::terminate`]. Fails with [`Error::RequestIdReused`] if the id of
    /// the request belongs to one that asked for something else.
    pub async fn command(
        &self,
        instance_id: Uuid,
        command: Command,
        requester: impl Into<Requester<'_>>,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        match command {
            Command::Resolve => {
                return Err(Error::InvalidInput("a resolve needs a resolution".to_owned()));
            }
            Command::Book => {
                return Err(Error::InvalidInput("a booking says what has moved".to_owned()));
            }
            _ => {}
        }
        let asked = Asked { command, policy: None, plan_hash: None, resolution: None };
        self.give(instance_id, asked, requester.into(), reason, None).await
    }

    /// Ends an instance by force, and has this become of everything live that it has started, in
    /// one commit. With [`ChildPolicy::Cancel`] the answer is [`Answer::ChildPastPivot`], and nothing
    /// happens, if something of that cannot be undone any more.
    pub async fn terminate(
        &self,
        instance_id: Uuid,
        policy: ChildPolicy,
        requester: impl Into<Requester<'_>>,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        let (command, policy) = (Command::Terminate, Some(policy));
        let asked = Asked { command, policy, plan_hash: None, resolution: None };
        self.give(instance_id, asked, requester.into(), reason, None).await
    }

    /// Cancels an instance if what would be undone is still what the person was shown: `plan_hash`
    /// is that of a [`crate::preview::Preview`]. If not, the answer is [`Answer::PlanChanged`].
    pub async fn cancel_as_shown(
        &self,
        instance_id: Uuid,
        plan_hash: &str,
        requester: impl Into<Requester<'_>>,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        let (registry, shown) = (Arc::clone(&self.worker().registry), plan_hash.to_owned());
        let look: Look = Box::new(move |workflow, version, records, _| {
            let history = History::load(instance_id, records).map_err(Error::Stored)?;
            let steps = known(&registry, workflow, version)?.steps();
            let is_same = plan_compensation(&history, steps).is_ok_and(|plan| plan.hash() == shown);
            Ok(if is_same { Answer::Accepted } else { Answer::PlanChanged })
        });
        let plan_hash = Some(plan_hash.to_owned());
        let asked = Asked { command: Command::Cancel, policy: None, plan_hash, resolution: None };
        self.give(instance_id, asked, requester.into(), reason, Some(look)).await
    }

    /// Tells a stuck instance what a person has found out, and has it go on.
    ///
    /// Refused as invalid if the step is not in the history, if the finding does not fit what is
    /// recorded of it, or if the output is not one of this step.
    pub async fn resolve(
        &self,
        instance_id: Uuid,
        resolution: Resolution,
        requester: impl Into<Requester<'_>>,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        if let Some(refusal) = resolution.refuse() {
            return Err(Error::InvalidInput(refusal));
        }
        let (registry, found) = (Arc::clone(&self.worker().registry), resolution.clone());
        let said = reason.to_owned();
        let look: Look = Box::new(move |workflow, version, records, family| {
            let history = History::load(instance_id, records).map_err(Error::Stored)?;
            check_child(&found, &history, family)?;
            check(&found, &history, &registry, workflow, version)?;
            let upon = (&history, known(&registry, workflow, version)?.steps());
            let refused = Reading::command(Command::Resolve, said, Some(found), upon).refuse();
            refused.map_or(Ok(Answer::Accepted), |why| Err(Error::InvalidInput(why)))
        });
        let resolution = Some(resolution);
        let asked = Asked { command: Command::Resolve, policy: None, plan_hash: None, resolution };
        self.give(instance_id, asked, requester.into(), reason, Some(look)).await
    }

    /// Counts money that has moved outside the engine, such as a refund that somebody has made by
    /// hand. Nothing else changes: what is undone later gives back what is left by then.
    ///
    /// `evidence` says where it can be seen. Refused as invalid if nothing has moved.
    pub async fn book(
        &self,
        instance_id: Uuid,
        money: Vec<Movement>,
        evidence: &str,
        requester: impl Into<Requester<'_>>,
        reason: &str,
    ) -> Result<Option<Answer>, Error> {
        let evidence = evidence.to_owned();
        let booking = Resolution { step: None, finding: None, evidence, money };
        if let Some(refusal) = booking.refuse() {
            return Err(Error::InvalidInput(refusal));
        }
        let (command, resolution) = (Command::Book, Some(booking));
        let asked = Asked { command, policy: None, plan_hash: None, resolution };
        self.give(instance_id, asked, requester.into(), reason, None).await
    }

    /// What a command would do at this moment. `None`: there is no such instance. Nothing is locked.
    pub async fn preview(
        &self,
        instance_id: Uuid,
        command: Command,
    ) -> Result<Option<Preview>, Error> {
        self.look_ahead(instance_id, command, None).await
    }

    /// What a terminate with this policy would do at this moment. `None`: there is no such instance.
    pub async fn preview_terminate(
        &self,
        instance_id: Uuid,
        policy: ChildPolicy,
    ) -> Result<Option<Preview>, Error> {
        self.look_ahead(instance_id, Command::Terminate, Some(policy)).await
    }

    async fn look_ahead(
        &self,
        instance_id: Uuid,
        command: Command,
        policy: Option<ChildPolicy>,
    ) -> Result<Option<Preview>, Error> {
        let registry = Arc::clone(&self.worker().registry);
        let seen = self
            .store()
            .snapshot(move |connection| {
                Box::pin(async move { see(connection, instance_id, command, policy).await })
            })
            .await?;
        let Some(Seen { workflow, version, standing, family, records }) = seen else {
            return Ok(None);
        };
        let history = History::load(instance_id, &records).map_err(Error::Stored)?;
        let steps = known(&registry, &workflow, version)?.steps();
        let answer = answer(command, standing);
        let mut preview = preview(command, answer, &history, &records, steps);
        if answer != Answer::AlreadyEnded && goes_down(command) {
            preview.children =
                family.into_iter().map(|it| shown(it, instance_id, &history)).collect();
        }
        Ok(Some(preview))
    }

    async fn give(
        &self,
        instance_id: Uuid,
        asked: Asked,
        requester: Requester<'_>,
        reason: &str,
        look: Option<Look>,
    ) -> Result<Option<Answer>, Error> {
        let Requester { actor, request_id } = requester;
        let refusal = refuse_person(actor, reason)
            .or_else(|| request_id.and_then(|id| refuse_key("the id of the request", id)));
        refusal.map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        let request = request_id
            .map(|id| {
                let digest = asked.digest(instance_id, actor, reason)?;
                Ok::<_, Error>(Request { id: id.to_owned(), digest })
            })
            .transpose()?;
        let given = Given {
            command_id: new_id(),
            instance_id,
            command: asked.command,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            resolution: asked.resolution,
            policy: asked.policy,
            by_parent: false,
            request,
            at: self.worker().clock.now(),
        };
        // Under the id of a request it may have been given before.
        let trace = given.request.is_none().then_some(Trace::Command(given.command_id));
        let answer = self
            .store()
            .transact(move |connection| {
                Box::pin(async move { give_command(connection, given, look).await })
            })
            .await?;
        if let (Some(_), Some(trace)) = (answer, trace) {
            self.store().acknowledged().remember(Recipient::Person, trace);
        }
        if answer == Some(Answer::Accepted) {
            self.ring().await;
        }
        Ok(answer)
    }
}

impl Asked {
    /// SHA-256 over everything that is asked for, each part after its length.
    fn digest(&self, instance_id: Uuid, actor: &str, reason: &str) -> Result<[u8; 32], Error> {
        let resolution = serde_json::to_string(&self.resolution)
            .map_err(|error| Error::InvalidInput(error.to_string()))?;
        let plan_hash = self.plan_hash.as_deref().unwrap_or_default();
        let mut hasher = Sha256::new();
        hasher.update(instance_id.as_bytes());
        let parts = [self.command.as_str(), actor, reason, plan_hash, &resolution];
        // Left out where there is none: a request of before there were policies may come again.
        for part in parts.into_iter().chain(self.policy.map(ChildPolicy::as_str)) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Ok(hasher.finalize().into())
    }
}

/// Whether a command to an instance reaches what that has started.
fn goes_down(command: Command) -> bool {
    matches!(command, Command::Cancel | Command::Hold | Command::Release | Command::Terminate)
}

/// Shows what a command to an instance with this history means for something below it.
fn shown((member, fate): (Member, ChildFate), id: Uuid, history: &History) -> ChildPreview {
    let Member { instance_id, parent_id, workflow, business_key, status, standing, .. } = member;
    let is_held = member.is_held;
    let is_asked_about = |step: &RecordedStep| {
        step.child == Some(instance_id) && (step.is_open_child() || step.is_failed_in_doubt())
    };
    let fate = match fate {
        // A person has said what is left of it.
        ChildFate::AskPerson if parent_id == id && !history.steps().any(is_asked_about) => {
            ChildFate::Unchanged
        }
        fate => fate,
    };
    ChildPreview { instance_id, parent_id, workflow, business_key, status, is_held, standing, fate }
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

/// Refuses a finding about a child that contradicts the child's own row.
fn check_child(resolution: &Resolution, history: &History, family: &[Member]) -> Result<(), Error> {
    let key = resolution.step.as_deref().unwrap_or_default();
    let Some((step, child_id)) = history.step(key).and_then(|step| Some((step, step.child?)))
    else {
        return Ok(());
    };
    let child = family.iter().find(|member| member.instance_id == child_id);
    let status = child.map(|member| member.status);
    let refusal = match resolution.finding {
        Some(Finding::Again) => refuse_again(step, history, status),
        Some(Finding::Undone(_)) => refuse_undone(step, history, child, family),
        _ => Some(format!("{key} says itself how it has ended; say whether it is undone")),
    };
    refusal.map_or(Ok(()), |why| Err(Error::InvalidInput(why)))
}

/// Why a child cannot be undone, whatever a person has found out, if so: nobody knows better than
/// what lives what it does.
fn refuse_undone(
    step: &RecordedStep,
    history: &History,
    child: Option<&Member>,
    family: &[Member],
) -> Option<String> {
    let (key, child) = (&step.key, child?);
    let Member { instance_id, status, .. } = child;
    if !status.is_terminal() {
        return Some(format!("instance {instance_id}, which is {key}, is {status}; end it first"));
    }
    if *status != Status::Terminated {
        let is_planned = history.undoing().is_some();
        return (!is_planned).then(|| format!("{key} is {status}; nothing is being undone"));
    }
    // What was stopped by force does not end what it has started.
    let live = below(*instance_id, family).into_iter().find(|member| !member.status.is_terminal());
    live.map(|Member { instance_id, status, .. }| {
        format!("{key} has left instance {instance_id} below it, which is {status}; end it first")
    })
}

/// Who is below a member of a family, in which children come after their parents.
fn below(instance_id: Uuid, family: &[Member]) -> Vec<&Member> {
    let (mut parents, mut below) = (vec![instance_id], Vec::new());
    for member in family.iter().filter(|it| it.instance_id != instance_id) {
        if parents.contains(&member.parent_id) {
            parents.push(member.instance_id);
            below.push(member);
        }
    }
    below
}

/// Why a child cannot be started again, if so. Its row has this status.
fn refuse_again(step: &RecordedStep, history: &History, status: Option<Status>) -> Option<String> {
    let key = &step.key;
    if history.undoing().is_some() || history.cancelled().is_some() {
        return Some(format!("everything is being undone; {key} is not started again"));
    }
    match status {
        Some(Status::Compensated | Status::Cancelled) => {}
        Some(Status::Terminated) if step.is_failed_in_doubt() => {
            return Some(format!(
                "{key} was stopped by force, and nobody knows what is left of it: undo that, \
                 resolve {key} as undone first, and then start it again"
            ));
        }
        Some(Status::Terminated) => {}
        Some(Status::Completed) => return Some(format!("{key} has completed")),
        Some(status) => return Some(format!("{key} is {status}; it has not ended")),
        None => return Some(format!("{key} was never started")),
    }
    if !matches!(step.progress, Progress::Failed { .. }) {
        return Some(format!("this instance does not know yet how {key} has ended; look again"));
    }
    history
        .has_heard(key)
        .then(|| format!("the run has heard how {key} has ended, and has gone on without it"))
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
    if *finding == Finding::Dropped {
        let signals = known(registry, workflow, version)?.signals();
        return check_drop(key, history, signals).map_err(Error::InvalidInput);
    }
    let Some(recorded) = history.step(key) else {
        return refused(format!("there is no step {key} in the history"));
    };
    let is_done = matches!(recorded.progress, Progress::Done { .. });
    match finding {
        Finding::Undone(_) if !is_to_be_undone(history, key) && !recorded.is_failed_in_doubt() => {
            refused(format!("{key} is not waiting to be undone"))
        }
        Finding::Undone(_) => Ok(()),
        Finding::Again if recorded.child.is_none() => {
            refused(format!("{key} is no child; only a child is started again"))
        }
        Finding::Applied(_) | Finding::NotApplied if history.undoing().is_some() => {
            refused(format!("everything is being undone; say whether {key} is undone"))
        }
        Finding::Applied(_) | Finding::NotApplied if is_done => {
            refused(format!("{key} is recorded as done"))
        }
        Finding::NotApplied | Finding::Dropped | Finding::Again => Ok(()),
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

/// Why the signal that has ended a wait is not to be given up.
fn check_drop(key: &str, history: &History, signals: &Signals) -> Result<(), String> {
    let Some((ended_at, signal)) = history.taken_signal(key) else {
        return Err(format!("{key} is no wait that a signal has ended"));
    };
    if signals.refuse(&signal.name, signal.body.get()).is_none() {
        return Err(format!("the signal that has ended {key} can be read"));
    }
    // An earlier build could read it, and has acted upon it.
    match history.begun_after(ended_at) {
        Some(later) => Err(format!(
            "{later} has been begun since {key} ended; a build that can read the signal has to go on"
        )),
        None => Ok(()),
    }
}
