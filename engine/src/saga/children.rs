//! Instances that a run starts on its own behalf.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::open_call::CallName;
use super::{Halt, Saga};
use crate::engine::Start;
use crate::history::{Progress, Said, heard};
use crate::instance::{Flushed, Instance, Readiness, Verdict};
use crate::intake::{self, Birth};
use crate::limits::{self, refuse_key};
use crate::memo::Divergence;
use crate::record::{ChildStarted, Entry, Noted, Parent};
use crate::step::Failure;
use crate::store::child::status;
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

/// What an instance is to the one that starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    Child,
    /// It is let go of.
    Detached,
}

/// A child as it is asked for in this run.
struct ChildRequest {
    key: String,
    name: String,
    input: Box<RawValue>,
    tie: Tie,
}

/// A child as it is recorded.
struct RecordedChild {
    child_id: Uuid,
    /// Which one it is under its key.
    number: u32,
    is_open: bool,
}

impl Saga {
    /// Starts an instance of `W` on behalf of this one, under a name that is used once in it. It
    /// runs on its own, on any worker; its business key is this instance's with the name behind it,
    /// and its priority is this instance's.
    ///
    /// Every child has to be awaited before the run ends, with [`Child::output`] or
    /// [`Child::ended`]: a run that ends before a child does is stuck (`CHILD_OPEN`), and so is one
    /// that ends without having asked for a child that has failed (`CHILD_UNHEARD`). A name has no
    /// `/` in it; an instance has a thousand children at most, and is below sixteen others at most.
    /// What goes beyond that is put to a person before anything of the child is done
    /// (`CHILD_REFUSED`).
    pub async fn start_child<W: Workflow>(
        &self,
        name: &str,
        input: &W::Input,
    ) -> Result<Child<'_, W>, Halt> {
        self.call(CallName::note(CHILD, name), async {
            let asked = self.ask_child(name, to_raw_value(input), Tie::Child)?;
            self.begin::<W>(&asked).await?;
            Ok(Child { saga: self, key: asked.key, workflow: PhantomData })
        })
        .await
    }

    /// Starts an instance of `W` and lets it go, under a name that is used once in this one. Answers
    /// with its id. Its business key and its priority are those that a child of this name would have.
    ///
    /// It is an instance like any other: how it ends is not awaited, a command to this instance does
    /// not reach it, and it is not undone with this one, also not if this one is undone at once. It
    /// counts as below this one all the same, so that what starts its own kind comes to an end.
    pub async fn start_detached<W: Workflow>(
        &self,
        name: &str,
        input: &W::Input,
    ) -> Result<Uuid, Halt> {
        self.call(CallName::note(CHILD, name), async {
            let asked = self.ask_child(name, to_raw_value(input), Tie::Detached)?;
            self.begin::<W>(&asked).await
        })
        .await
    }

    fn ask_child(
        &self,
        name: &str,
        input: serde_json::Result<Box<RawValue>>,
        tie: Tie,
    ) -> Result<ChildRequest, Verdict> {
        let key = format!("{CHILD}{name}");
        let refused = name.is_empty() || name.contains(['#', '\0']);
        if refused || self.0.occurrence(key.clone()) != key {
            let message = format!("{name:?} does not name one child");
            return Err(Verdict::Stick(Failure::new("OCCURRENCE_UNNAMED", message)));
        }
        let input =
            input.map_err(|error| Verdict::Unrecordable(format!("input of {key}: {error}")))?;
        Ok(ChildRequest { key, name: name.to_owned(), input, tie })
    }

    /// Makes sure that the child is there, as it is recorded.
    async fn begin<W: Workflow>(&self, asked: &ChildRequest) -> Result<Uuid, Verdict> {
        let instance = &self.0;
        let (recorded, number) = self.recorded(asked)?;
        let is_new = recorded.is_none();
        let child = match recorded {
            Some(child) => child,
            None => self.record::<W>(asked, number).await?,
        };
        let child_id = child.child_id;
        if !child.is_open || instance.worker.lost.is_cancelled() {
            return Ok(child_id);
        }
        if asked.tie == Tie::Detached {
            let pool = instance.worker.store.pool();
            let is_there =
                !is_new && instance.worker.persist(|| status(pool, child_id)).await?.is_some();
            if is_there {
                return Ok(child_id);
            }
            // It is an effect that nobody takes back: what stops this instance is read before it.
            let announce = || {
                instance.state().touch_row();
                Ok(())
            };
            while instance.ready_for_effect(announce).await? == Readiness::ThinkAgain {
                instance.obstacle().map_or(Ok(()), Err)?;
            }
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
            business_key: self.child_key(&asked.name, child.number),
            input: asked.input.get().to_owned(),
            delivery: None,
            priority: instance.priority,
        };
        let depth = instance.state().history.depth() + 1;
        let parent = Parent { instance_id: instance.instance_id, key: asked.key.clone(), depth };
        let (parent, depth) = match asked.tie {
            Tie::Child => (Some(parent), None),
            Tie::Detached => (None, Some(depth)),
        };
        let birth = Birth { instance_id: child_id, parent, depth, bearer: None };
        let (answer, answered) = oneshot::channel();
        let bearer = Arc::clone(instance);
        // Like an attempt: whoever undoes this instance has to know whether there is a child.
        instance.spawn_attempt(async move {
            if let Err(Err(verdict)) = answer.send(bear(&bearer, start, birth).await) {
                bearer.state().halt_for(verdict);
            }
        });
        answered.await.unwrap_or(Err(Verdict::Lost))?;
        Ok(child_id)
    }

    /// The child that is recorded, unless another one is wanted in its place; and which one is to be
    /// started if none is.
    fn recorded(&self, asked: &ChildRequest) -> Result<(Option<RecordedChild>, u32), Verdict> {
        let mut state = self.0.state();
        let (recorded, input, number) = match asked.tie {
            Tie::Child => {
                let Some(step) = state.history.ask(&asked.key) else {
                    return Ok((None, 1));
                };
                let (child_id, number) = (step.child.unwrap_or_default(), step.children);
                let is_open = is_open(step);
                let child = RecordedChild { child_id, number, is_open };
                let next = number + 1;
                ((!step.is_wanted_again).then_some(child), step.input.clone(), next)
            }
            Tie::Detached => {
                let note = state.history.ask_note(&asked.key).map(|note| &note.said);
                let Some(Said::Detached { instance_id, input }) = note else {
                    return Ok((None, 1));
                };
                let child_id = *instance_id;
                (Some(RecordedChild { child_id, number: 1, is_open: true }), input.clone(), 1)
            }
        };
        if input.get() != asked.input.get() {
            let divergence = Divergence::input(&asked.key, &input, &asked.input);
            return Err(Verdict::Diverged(divergence));
        }
        Ok((recorded, number))
    }

    /// Records that a child is to be started, unless it could not be.
    async fn record<W: Workflow>(
        &self,
        asked: &ChildRequest,
        number: u32,
    ) -> Result<RecordedChild, Verdict> {
        let instance = &self.0;
        instance.leave_history(&asked.key).await;
        instance.obstacle().map_or(Ok(()), Err)?;
        let business_key = self.child_key(&asked.name, number);
        if let Some(refusal) = self.refuse(asked, &business_key) {
            return Err(Verdict::Stick(Failure::new("CHILD_REFUSED", refusal)));
        }
        let child_id = new_id_after(instance.instance_id);
        let entry = Entry::ChildStarted(ChildStarted {
            instance_id: child_id,
            workflow: W::NAME.to_owned(),
            business_key,
            input: asked.input.clone(),
            detached: asked.tie == Tie::Detached,
        });
        instance.append(Some(&asked.key), None, entry, &[])?;
        Ok(RecordedChild { child_id, number, is_open: true })
    }

    /// Why a child is not to be started, if so.
    fn refuse(&self, asked: &ChildRequest, business_key: &str) -> Option<String> {
        let key = &asked.key;
        let state = self.0.state();
        let (depth, children) = (state.history.depth(), state.history.children());
        if asked.name.contains('/') {
            // `a` with `b/c` and `a/b` with `c` would be one key.
            Some(format!("{key}: the name of a child has no / in it"))
        } else if depth >= limits::DEPTH_MAX {
            Some(format!(
                "{key}: this instance is below {depth} others, and none is started below it"
            ))
        } else if children >= limits::CHILDREN_MAX {
            Some(format!("{key}: this instance has started {children} others, and starts no more"))
        } else {
            refuse_key(&format!("the business key of {key}"), business_key)
        }
    }

    fn child_key(&self, name: &str, number: u32) -> String {
        let again = if number > 1 { format!("#{number}") } else { String::new() };
        format!("{}/{name}{again}", self.0.about.business_key)
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
    let mut newborn = intake::prepare(worker, start, worker.permit(), birth)
        .map_err(|error| Verdict::Stick(Failure::new("CHILD_REFUSED", error.to_string())))?;
    loop {
        let bearer = bearer(instance)?;
        if let Some(start) = &mut newborn.write.start
            && newborn.history.parent().is_some()
        {
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
        let heard = async {
            let ended = self.wait().await?;
            if ended.is_err() {
                self.hear()?;
            }
            Ok(ended)
        };
        self.saga.call(self.name(), heard).await
    }

    /// Records that the run knows that the child has not completed, and goes on all the same: from
    /// here on no other one can take its place.
    fn hear(&self) -> Result<(), Verdict> {
        let instance = &self.saga.0;
        let (key, at) = (heard(&self.key), instance.worker.clock.now());
        let mut state = instance.state();
        if state.history.ask_note(&key).is_some() {
            return Ok(());
        }
        let noted = Entry::Noted(Noted { value: RawValue::NULL.to_owned() });
        state.append(Some(&key), None, noted, &[], None, at)
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
