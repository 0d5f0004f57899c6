//! Signals to instances.

use serde_json::value::RawValue;

use crate::engine::{Engine, Start, Started};
use crate::error::Error;
use crate::intake::{self, Birth};
use crate::limits::{refuse_key, refuse_payload};
use crate::reading::Reading;
use crate::signal::{SendSignal, Signalled};
use crate::store::Hint;
use crate::store::signal::{Judge, Sent, look_again, send_signal};
use crate::store::start::start_within;
use crate::store::write::Written;

impl Engine {
    /// Sends a signal; it is durable when this returns.
    ///
    /// Safe to repeat with the same signal id. The instance takes it when it waits for it; what it
    /// has not waited for when it ends is named in its last record. It has to be one that the
    /// instance's own version of the workflow takes; before there is an instance, the newest one.
    ///
    /// Fails with [`Error::SignalIdReused`] if this sender has used the id before, for a signal of
    /// this name to this instance that said something else, and with [`Error::UnknownVersion`] if
    /// the version of the instance is not registered here.
    pub async fn signal(&self, signal: SendSignal) -> Result<Signalled, Error> {
        let (judge, sent) = self.sent(signal).await?;
        let (also_judge, kept) = (judge.clone(), sent.clone());
        let store = self.store();
        let mut signalled = store
            .transact(move |connection| {
                Box::pin(async move { apart(send_signal(connection, &judge, &sent).await) })
            })
            .await??;
        if signalled == Signalled::Kept {
            self.worker().probes.reach("signal.kept").await;
            // An instance that was started meanwhile has not seen it.
            signalled = store
                .transact(move |connection| {
                    Box::pin(async move { apart(look_again(connection, &also_judge, &kept).await) })
                })
                .await??;
        }
        if let Signalled::Accepted(_) = signalled {
            self.ring().await;
        }
        Ok(signalled)
    }

    /// Sends a signal to the instance of a business key, which is started if there is none: the
    /// one place for all news about one thing, which are then handled in order.
    ///
    /// Both happen or neither. Where the start is refused, or is [`Started::Conflict`], there is no
    /// signal, and `None` is what became of it. Safe to repeat with the same delivery and signal id.
    pub async fn signal_or_start(
        &self,
        mut start: Start,
        signal: SendSignal,
    ) -> Result<(Started, Option<Signalled>), Error> {
        if start.workflow != signal.workflow || start.business_key != signal.business_key {
            let refusal = "the signal and the start are about different instances".to_owned();
            return Err(Error::InvalidInput(refusal));
        }
        let (judge, sent) = self.sent(signal).await?;
        start.business_key.clone_from(&sent.business_key);
        let worker = self.worker();
        let newborn = intake::prepare(&worker, start, None, Birth::new())?;
        let (write, subscriptions) = (newborn.write.clone(), worker.subscriptions.names());
        worker.probes.reach("signal.start").await;
        let (started, signalled) = self
            .store()
            .transact(move |connection| {
                Box::pin(async move {
                    let Some(new) = &write.start else {
                        return Err(Error::Unavailable);
                    };
                    let written = start_within(connection, &write, new, &subscriptions).await?;
                    let started = begun(written, write.instance_id)?;
                    if started == Started::Conflict {
                        return Ok((started, None));
                    }
                    let signalled = send_signal(connection, &judge, &sent).await?;
                    Ok((started, Some(signalled)))
                })
            })
            .await?;
        if let Started::New(_) = started {
            worker.take_on(newborn).await;
        }
        self.ring().await;
        Ok((started, signalled))
    }

    /// A signal that can be recorded, as it is sent.
    async fn sent(&self, signal: SendSignal) -> Result<(Judge, Sent), Error> {
        self.permit_intake()?;
        let SendSignal { workflow, business_key, name, body, sender, signal_id } = signal;
        let worker = self.worker();
        if worker.registry.newest(&workflow).is_none() {
            return Err(Error::UnknownWorkflow(workflow));
        }
        let refused = refuse_key("the business key", &business_key)
            .or_else(|| refuse_key("the sender", &sender))
            .or_else(|| signal_id.as_ref().and_then(|id| refuse_key("the signal id", id)))
            .or_else(|| refuse_payload(&body));
        refused.map_or(Ok(()), |refusal| Err(Error::InvalidInput(refusal)))?;
        let raw = RawValue::from_string(body.clone())
            .map_err(|error| Error::InvalidInput(format!("signal {name}: {error}")))?;
        let refused = Reading::signal(name.clone(), signal_id.clone(), raw).refuse();
        refused.map_or(Ok(()), |refusal| Err(Error::InvalidInput(refusal)))?;
        let business_key = self.stored_key(&workflow, business_key).await?;
        let at = worker.clock.now();
        let sent = Sent { business_key, name, body, sender, signal_id, at };
        Ok((Judge::new(&worker.registry, &workflow), sent))
    }

    /// Tells this process and others that there is mail.
    pub(super) async fn ring(&self) {
        let worker = self.worker();
        worker.due.notify_one();
        worker.mail.notify_one();
        self.store().hint(Hint::Due).await;
    }
}

/// What became of a start that was written.
pub(super) fn begun(written: Written, instance_id: uuid::Uuid) -> Result<Started, Error> {
    match written {
        Written::Yes => Ok(Started::New(instance_id)),
        Written::Replayed(instance_id) => Ok(Started::Replayed(instance_id)),
        Written::Duplicate(instance_id) => Ok(Started::Duplicate(instance_id)),
        Written::Conflict => Ok(Started::Conflict),
        Written::Refused(error) => Err(Error::InvalidInput(error)),
        Written::Fenced | Written::UnreadMail => Err(Error::Unavailable),
    }
}

/// A refusal is an answer, and no failure of the transaction that it was given in.
fn apart<T>(result: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match result {
        Err(error @ Error::Database(_)) => Err(error),
        answered => Ok(answered),
    }
}
