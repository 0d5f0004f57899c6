//! What comes in from outside, made ready to be written: validated first, so that nothing that
//! cannot be stored reaches a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::delivery::{Delivery, Verdict};
use crate::engine::Start;
use crate::error::Error;
use crate::history::{History, micros};
use crate::limits::{refuse_key, refuse_payload};
use crate::record::{Entry, Parent, Started};
use crate::registry::AnyWorkflow;
use crate::store::write::{About, Bearer, NewDelivery, NewInstance, NewRecord, Write};
use crate::worker::{Worker, new_id};

/// An instance that is about to be written for the first time.
pub(crate) struct Newborn {
    pub(crate) write: Write,
    pub(crate) history: History,
    pub(crate) workflow: Arc<dyn AnyWorkflow>,
    /// The right to hold it at once; without one, some worker will claim it.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Who is born, and on whose behalf.
pub(crate) struct Birth {
    pub(crate) instance_id: Uuid,
    pub(crate) parent: Option<Parent>,
    /// How many instances it is below, if it has no parent and is below some.
    pub(crate) depth: Option<u32>,
    pub(crate) bearer: Option<Bearer>,
}

impl Birth {
    /// Of a new instance without a parent.
    pub(crate) fn new() -> Self {
        Self::under(new_id())
    }

    /// The same, under an id that it has already.
    pub(crate) fn under(instance_id: Uuid) -> Self {
        Self { instance_id, parent: None, depth: None, bearer: None }
    }
}

/// Makes a start ready to be written, of an instance that is born claimed if there is a permit.
pub(crate) fn prepare(
    worker: &Worker,
    start: Start,
    permit: Option<OwnedSemaphorePermit>,
    birth: Birth,
) -> Result<Newborn, Error> {
    let invalid = |what: String| Error::InvalidInput(what);
    let workflow = worker
        .registry
        .newest(start.workflow)
        .ok_or_else(|| Error::UnknownWorkflow(start.workflow.to_owned()))?;
    refuse_key("the business key", &start.business_key).map_or(Ok(()), |why| Err(invalid(why)))?;
    refuse_payload(&start.input).map_or(Ok(()), |why| Err(invalid(why)))?;
    let prepared = workflow.prepare(&start.input).map_err(|error| invalid(error.to_string()))?;
    for (name, value) in &prepared.attributes {
        refuse_key(name, value).map_or(Ok(()), |why| Err(invalid(why)))?;
    }
    let delivery = start.delivery.map(|delivery| received(worker, delivery)).transpose()?;
    let Birth { instance_id, parent, depth, bearer } = birth;
    let at = micros(worker.clock.now());
    let entry = Entry::Started(Started {
        workflow: workflow.name().to_owned(),
        version: workflow.version(),
        business_key: start.business_key.clone(),
        parent,
        depth,
        input: RawValue::from_string(start.input).map_err(|error| invalid(error.to_string()))?,
    });
    let mut history = History::new(instance_id);
    let record = history
        .append(None, None, entry, &prepared.events, None, at)
        .map_err(|error| invalid(error.to_string()))?;
    let events = prepared.events.len() as u32;
    let attributes_json =
        object(&prepared.attributes).map_err(|error| invalid(error.to_string()))?;
    let about = About { workflow: workflow.name().to_owned(), business_key: start.business_key };
    let write = Write {
        instance_id,
        claim_id: None,
        about: Arc::new(about),
        delivery,
        start: Some(NewInstance {
            version: workflow.version(),
            claim_id: permit.is_some().then(new_id),
            priority: start.priority,
            bearer,
            attributes: prepared.attributes,
            attributes_json,
            created_at: at,
        }),
        change: None,
        records: vec![Arc::new(NewRecord { record, events, money: Vec::new() })],
    };
    Ok(Newborn { write, history, workflow: Arc::clone(workflow), permit })
}

/// Attributes as a JSON object, in their order of names.
pub(crate) fn object(attributes: &[(&'static str, String)]) -> Result<String, serde_json::Error> {
    serde_json::to_string(&attributes.iter().cloned().collect::<BTreeMap<_, _>>())
}

/// Makes a delivery that starts nothing ready to be written.
pub(crate) fn delivery_only(
    worker: &Worker,
    delivery: Delivery,
    verdict: Verdict,
) -> Result<Write, Error> {
    let refused = refuse_key("the reason", &verdict.reason)
        .or_else(|| verdict.business_key.as_deref().and_then(|key| refuse_key("the key", key)));
    refused.map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
    Ok(Write {
        instance_id: new_id(),
        claim_id: None,
        about: Arc::new(About { workflow: String::new(), business_key: String::new() }),
        delivery: Some(NewDelivery { verdict: Some(verdict), ..received(worker, delivery)? }),
        start: None,
        change: None,
        records: Vec::new(),
    })
}

fn received(worker: &Worker, delivery: Delivery) -> Result<NewDelivery, Error> {
    for (what, text) in
        [("the delivery's source", &delivery.source), ("the delivery's id", &delivery.external_id)]
    {
        refuse_key(what, text).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
    }
    Ok(NewDelivery {
        digest: Sha256::digest(&delivery.body).into(),
        source: delivery.source,
        external_id: delivery.external_id,
        body: delivery.body,
        verdict: None,
        received_at: micros(worker.clock.now()),
    })
}
