//! Signals to instances.

use crate::engine::{Engine, Start, Started};
use crate::error::Error;
use crate::limits::{refuse_key, refuse_payload};
use crate::signal::{SendSignal, Signalled};
use crate::store::Hint;
use crate::store::signal::{Sent, look_again, send_signal};

impl Engine {
    /// Sends a signal; it is durable when this returns.
    ///
    /// Safe to repeat with the same signal id. The instance takes it when it waits for it; what it
    /// has not waited for when it ends is named in its last record.
    pub async fn signal(&self, signal: SendSignal) -> Result<Signalled, Error> {
        self.check(&signal)?;
        let business_key = self.stored_key(&signal.workflow, signal.business_key).await?;
        let sent = Sent {
            workflow: signal.workflow,
            business_key,
            name: signal.name,
            body: signal.body,
            sender: signal.sender,
            signal_id: signal.signal_id,
            at: self.worker().clock.now(),
        };
        let kept = sent.clone();
        let store = self.store();
        let mut signalled = store
            .transact(move |connection| {
                Box::pin(async move { send_signal(connection, &sent).await })
            })
            .await?;
        if signalled == Signalled::Kept {
            self.worker().probes.reach("signal.kept").await;
            // An instance that was started meanwhile has not seen it.
            signalled = store
                .transact(move |connection| {
                    Box::pin(async move { look_again(connection, &kept).await })
                })
                .await?;
        }
        if let Signalled::Accepted(_) = signalled {
            self.ring().await;
        }
        Ok(signalled)
    }

    /// Sends a signal to the instance of a business key, which is started if there is none: the
    /// one place for all news about one thing, which are then handled in order.
    ///
    /// Safe to repeat with the same delivery and signal id.
    pub async fn signal_or_start(
        &self,
        start: Start,
        signal: SendSignal,
    ) -> Result<(Started, Signalled), Error> {
        if start.workflow != signal.workflow || start.business_key != signal.business_key {
            let refusal = "the signal and the start are about different instances".to_owned();
            return Err(Error::InvalidInput(refusal));
        }
        // The signal first: the instance it starts cannot end without it.
        let signalled = self.signal(signal).await?;
        let started = self.start(start).await?;
        Ok(match (started, signalled) {
            (Started::New(instance_id), Signalled::Kept) => {
                (started, Signalled::Accepted(instance_id))
            }
            pair => pair,
        })
    }

    fn check(&self, signal: &SendSignal) -> Result<(), Error> {
        let workflow = self
            .worker()
            .registry
            .newest(&signal.workflow)
            .cloned()
            .ok_or_else(|| Error::UnknownWorkflow(signal.workflow.clone()))?;
        let refused = refuse_key("the business key", &signal.business_key)
            .or_else(|| refuse_key("the sender", &signal.sender))
            .or_else(|| signal.signal_id.as_ref().and_then(|id| refuse_key("the signal id", id)))
            .or_else(|| refuse_payload(&signal.body))
            .or_else(|| workflow.signals().refuse(&signal.name, &signal.body));
        refused.map_or(Ok(()), |refusal| Err(Error::InvalidInput(refusal)))
    }

    /// Tells this process and others that there is mail.
    pub(super) async fn ring(&self) {
        let worker = self.worker();
        worker.due.notify_one();
        worker.mail.notify_one();
        self.store().hint(Hint::Due).await;
    }
}
