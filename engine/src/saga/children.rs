//! Instances that a run starts on its own behalf.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::open_call::CallName;
use super::{Halt, Saga};
use crate::engine::Start;
use crate::history::Progress;
use crate::instance::{Flushed, Instance, Verdict};
use crate::intake::{self, Birth};
use crate::memo::Divergence;
use crate::record::{ChildStarted, Entry, Parent};
use crate::step::Failure;
use crate::store::write::{Bearer, Written};
use crate::worker::new_id_after;
use crate::workflow::Workflow;

/// A child that has been started.
///
/// When everything is undone, it is undone too: cancelled while it runs, and taken back by its own
/// compensation when it has completed. One that is past its pivot puts its parent to a person.
pub struct Child<'a, W> {
    saga: &'a Saga,
    key: String,
    workflow: PhantomData<fn() -> W>,
}

/// What a child's key begins with in its parent's history.
const CHILD: &str = "child:";

impl Saga {
    /// Starts an instance of `W` on behalf of this one, under a name that is used once in it. It
    /// runs on its own, on any worker; its business key is this instance's with the name behind it,
    /// and its priority is this instance's.
    pub async fn start_child<W: Workflow>(
        &self,
        name: &str,
        input: &W::Input,
    ) -> Result<Child<'_, W>, Halt> {
        self.call(CallName::note(CHILD, name), async {
            let key = format!("{CHILD}{name}");
            let refused = name.is_empty() || name.contains(['#', '\0']);
            if refused || self.0.occurrence(key.clone()) != key {
                let message = format!("{name:?} does not name one child");
                return Err(Verdict::Stick(Failure::new("OCCURRENCE_UNNAMED", message)));
            }
            let input = to_raw_value(input)
                .map_err(|error| Verdict::Unrecordable(format!("input of {key}: {error}")))?;
            self.begin::<W>(&key, name, input).await?;
            Ok(Child { saga: self, key, workflow: PhantomData })
        })
        .await
    }

    /// Makes sure that the child is there, as it is recorded.
    async fn begin<W: Workflow>(
        &self,
        key: &str,
        name: &str,
        input: Box<RawValue>,
    ) -> Result<(), Verdict> {
        let instance = &self.0;
        let recorded = {
            let mut state = instance.state();
            let recorded = state.history.ask(key);
            recorded.map(|step| (step.child, step.input.clone(), is_open(step)))
        };
        let (child_id, is_open) = match recorded {
            Some((_, recorded, _)) if recorded.get() != input.get() => {
                return Err(Verdict::Diverged(Divergence::input(key, &recorded, &input)));
            }
            Some((child_id, _, is_open)) => (child_id.unwrap_or_default(), is_open),
            None => {
                instance.leave_history(key).await;
                instance.obstacle().map_or(Ok(()), Err)?;
                let child_id = new_id_after(instance.instance_id);
                let entry = Entry::ChildStarted(ChildStarted {
                    instance_id: child_id,
                    workflow: W::NAME.to_owned(),
                    business_key: self.child_key(name),
                    input: input.clone(),
                });
                instance.append(Some(key), None, entry, &[])?;
                (child_id, true)
            }
        };
        if !is_open || instance.worker.lost.is_cancelled() {
            return Ok(());
        }
        // A child that nobody knows of could not be undone.
        while let flushed = instance.flush().await
            && !matches!(flushed, Flushed::Yes)
        {
            if let Flushed::Refused(verdict) = flushed {
                return Err(verdict);
            }
            instance.obstacle().map_or(Ok(()), Err)?;
        }
        let start = Start {
            workflow: W::NAME,
            business_key: self.child_key(name),
            input: input.get().to_owned(),
            delivery: None,
            priority: instance.priority,
        };
        let parent = Parent { instance_id: instance.instance_id, key: key.to_owned() };
        let birth = Birth { instance_id: child_id, parent: Some(parent), bearer: None };
        let (answer, answered) = oneshot::channel();
        let bearer = Arc::clone(instance);
        // Like an attempt: whoever undoes this instance has to know whether there is a child.
        instance.spawn_attempt(async move {
            if let Err(Err(verdict)) = answer.send(bear(&bearer, start, birth).await) {
                bearer.state().halt_for(verdict);
            }
        });
        answered.await.unwrap_or(Err(Verdict::Lost))
    }

    fn child_key(&self, name: &str) -> String {
        format!("{}/{name}", self.0.about.business_key)
    }
}

fn is_open(step: &crate::history::RecordedStep) -> bool {
    matches!(step.progress, Progress::Open)
}

/// Writes a child, unless it is there. It is written by who has read all mail of the parent: whatever
/// is sent to that either finds the child, or keeps it from being started.
async fn bear(instance: &Arc<Instance>, start: Start, birth: Birth) -> Result<(), Verdict> {
    let worker = &instance.worker;
    let child_id = birth.instance_id;
    let mut newborn = intake::prepare_birth(worker, start, worker.permit(), birth)
        .map_err(|error| Verdict::Stick(Failure::new("CHILD_REFUSED", error.to_string())))?;
    loop {
        let bearer = bearer(instance)?;
        if let Some(start) = &mut newborn.write.start {
            start.bearer = Some(bearer);
        }
        worker.probes.reach("child.before").await;
        return match worker.committer.write(newborn.write.clone()).await {
            Written::Yes => {
                worker.take_on(newborn).await;
                Ok(())
            }
            Written::UnreadMail => {
                instance.await_mail_on_its_way().await?;
                continue;
            }
            Written::Duplicate(other) if other == child_id => Ok(()),
            Written::Duplicate(other) => {
                let message = format!("the business key of the child belongs to instance {other}");
                Err(Verdict::Stick(Failure::new("CHILD_REFUSED", message)))
            }
            Written::Refused(error) => Err(Verdict::Stick(Failure::new("CHILD_REFUSED", error))),
            Written::Fenced | Written::Replayed(_) | Written::Conflict => Err(Verdict::Lost),
        };
    }
}

/// Who starts a child of an instance to which nothing that it has read forbids that.
fn bearer(instance: &Instance) -> Result<Bearer, Verdict> {
    let state = instance.state();
    instance.obstacle_in(&state).map_or(Ok(()), Err)?;
    let (parent_id, claim_id) = (instance.instance_id, instance.claim_id);
    Ok(Bearer { parent_id, claim_id, mail_read: state.mail_read() })
}

impl<W: Workflow> Child<'_, W> {
    /// Waits for the child to complete. If it ends in another way, this instance is undone for the
    /// same reason.
    pub async fn output(&self) -> Result<W::Output, Halt> {
        let ended = async { self.wait().await?.map_err(super::asked::failed) };
        self.saga.call(self.name(), ended).await
    }

    /// Waits for the child to end, and answers with its output, or with why it has none.
    pub async fn ended(&self) -> Result<Result<W::Output, Failure>, Halt> {
        self.saga.call(self.name(), self.wait()).await
    }

    fn name(&self) -> CallName<'_> {
        CallName::note("", &self.key)
    }

    async fn wait(&self) -> Result<Result<W::Output, Failure>, Verdict> {
        let instance = &self.saga.0;
        loop {
            let out_of_turn = {
                let state = instance.state();
                let step = state.history.step(&self.key).filter(|step| !is_open(step));
                match step.map(|step| (&step.progress, step.last_seq)) {
                    Some((_, seq)) if !instance.is_turn(&state, seq) => Some(seq),
                    Some((Progress::Done { output }, _)) => {
                        return serde_json::from_str(output.get()).map(Ok).map_err(|error| {
                            let message = format!("output of {}: {error}", self.key);
                            Verdict::Stick(Failure::new("RECORD_UNREADABLE", message))
                        });
                    }
                    Some((Progress::Failed { failure }, _)) => return Ok(Err(failure.clone())),
                    Some((Progress::Open, _)) | None => None,
                }
            };
            if let Some(seq) = out_of_turn {
                instance.turn(seq).await;
                continue;
            }
            instance.leave_history(&self.key).await;
            instance.obstacle().map_or(Ok(()), Err)?;
            instance.pause_until(None).await?;
        }
    }
}

/// The name in a child's key.
pub(crate) fn child_id(instance: &Instance, key: &str) -> Option<Uuid> {
    instance.state().history.step(key)?.child
}
