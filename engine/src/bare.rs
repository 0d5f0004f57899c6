//! The bare write path: what an engine writes, without the engine, to measure the engine against.
//!
//! An engine that runs a few instances has its writes recorded. The bare path sends the same writes
//! again under new ids, through the same statement, while a relay scans and deletes as the engine's
//! does: the next write of an instance is sent only when the one before is durable. What is missing
//! is all that the engine does between commits. It tells where the engine's cost lies; it is no part
//! of running instances.

mod recorder;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::chain;
use crate::error::Error;
use crate::limits;
use crate::store::commit::commit;
use crate::store::write::{About, Change, NewDelivery, NewInstance, NewRecord, Write};
use crate::store::{Purpose, Session, Store, worker};
use crate::worker::new_id;

pub use recorder::Recorder;
use relay::Relay;

/// The name of the subscription that events are written for.
const SUBSCRIPTION: &str = "bare";

/// A bare writer with its relay.
pub struct Bare {
    store: Store,
    connection: Session,
    worker_id: Uuid,
    /// The writes of finished instances, each in their order; taken in turns.
    templates: Vec<Vec<Write>>,
    subscriptions: Vec<String>,
    /// What the orders of its instances are called, with a number each.
    name: String,
    /// How many there have been.
    born: usize,
    /// How many writes each batch had.
    batches: Vec<usize>,
}

/// How long a bare run took, and in which batches.
#[derive(Debug, Clone)]
pub struct Took {
    /// Until the last instance had ended.
    pub ended: Duration,
    /// Until the outbox was empty too.
    pub drained: Duration,
    /// How many writes each batch had.
    pub batches: Vec<usize>,
}

/// One instance on its way through its writes.
struct Writer {
    instance_id: Uuid,
    claim_id: Uuid,
    about: Arc<About>,
    /// The id of its delivery.
    external_id: String,
    template: usize,
    next: usize,
    head: [u8; 32],
}

impl Bare {
    /// Takes what `recorder` has of finished instances as the pattern of what to write, under keys
    /// that are made of `name`, which nobody else has used.
    pub async fn open(
        options: PgConnectOptions,
        recorder: &Recorder,
        name: &str,
    ) -> Result<Self, Error> {
        let templates = recorder.finished();
        if templates.is_empty() {
            return Err(Error::Stored("no finished instance has been recorded".to_owned()));
        }
        let store = Store::new(options);
        let mut connection = store.connect(Purpose::Alone).await?;
        let worker_id = new_id();
        let lease = Duration::from_secs(3600);
        let row = worker::NewWorker {
            worker_id,
            name: "bare",
            lease,
            relays: false,
            workflows: &[],
            subscriptions: &[],
            schedules: &[],
            zones: "",
        };
        worker::register(store.pool(), row, None).await?;
        let subscriptions = vec![SUBSCRIPTION.to_owned()];
        // Plans are made before the clock runs.
        commit(&mut connection, worker_id, std::iter::empty(), &subscriptions, None).await?;
        let (name, batches) = (name.to_owned(), Vec::new());
        Ok(Self { store, connection, worker_id, templates, subscriptions, name, born: 0, batches })
    }

    /// How many commits an instance takes, one after the other.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.templates.first().map_or(0, Vec::len)
    }

    /// Writes `count` instances one after the other, and empties the outbox only then.
    pub async fn run_alone(&mut self, count: usize) -> Result<Took, Error> {
        let clock = crate::clock::Clock::system();
        let began = clock.now();
        let relay = self.relay();
        self.write(count, 1, &relay).await?;
        let ended = clock.now() - began;
        relay.finish();
        relay.run().await?;
        Ok(self.took(ended, clock.now() - began))
    }

    /// Writes `count` instances, `concurrency` at a time, while a relay takes their events out of
    /// the outbox.
    pub async fn run(&mut self, count: usize, concurrency: usize) -> Result<Took, Error> {
        let clock = crate::clock::Clock::system();
        let began = clock.now();
        let relay = self.relay();
        let running = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.run().await }
        });
        self.write(count, concurrency, &relay).await?;
        let ended = clock.now() - began;
        relay.finish();
        running.await.map_err(|error| Error::Stored(error.to_string()))??;
        Ok(self.took(ended, clock.now() - began))
    }

    /// Leaves the database as a worker does.
    pub async fn close(mut self) -> Result<(), Error> {
        let leaving = worker::TakeOver::Leaving;
        worker::take_over(&mut self.connection, self.worker_id, leaving, None).await?;
        self.connection.close().await?;
        self.store.pool().close().await;
        Ok(())
    }

    fn relay(&self) -> Arc<Relay> {
        Arc::new(Relay::new(self.store.clone(), self.worker_id, SUBSCRIPTION))
    }

    fn took(&mut self, ended: chrono::TimeDelta, drained: chrono::TimeDelta) -> Took {
        Took {
            ended: ended.to_std().unwrap_or_default(),
            drained: drained.to_std().unwrap_or_default(),
            batches: std::mem::take(&mut self.batches),
        }
    }

    async fn write(
        &mut self,
        count: usize,
        concurrency: usize,
        relay: &Relay,
    ) -> Result<(), Error> {
        let (name, born) = (self.name.clone(), self.born);
        self.born += count;
        let ready = VecDeque::new();
        let mut line = Line { name, born, born_max: self.born, room: concurrency, ready };
        let mut batch = line.batch(&self.templates);
        while !batch.is_empty() {
            let (mut writers, writes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let templates = &self.templates;
            // The next batch is made while this one is on its way.
            let (committed, mut next) = tokio::join!(
                commit(
                    &mut self.connection,
                    self.worker_id,
                    writes.iter(),
                    &self.subscriptions,
                    None
                ),
                async { line.batch(templates) },
            );
            let committed = committed?;
            if !writes.iter().all(|write| committed.includes(write)) {
                return Err(Error::Stored("the bare write path lost a write".to_owned()));
            }
            self.batches.push(writes.len());
            if writes.iter().any(Write::publishes) {
                relay.published();
            }
            let before = writers.len();
            writers.retain(|writer| writer.has_more(templates));
            line.room += before - writers.len();
            line.ready.extend(writers);
            if next.is_empty() {
                next = line.batch(templates);
            }
            batch = next;
        }
        Ok(())
    }
}

/// Instances that may go on, and how many more may be born.
struct Line {
    name: String,
    born: usize,
    born_max: usize,
    room: usize,
    ready: VecDeque<Writer>,
}

impl Line {
    /// The next batch: writers that may go on, then new ones while there is room.
    fn batch(&mut self, templates: &[Vec<Write>]) -> Vec<(Writer, Write)> {
        let mut batch = Vec::with_capacity(limits::BATCH_WRITES_MAX);
        while batch.len() < limits::BATCH_WRITES_MAX {
            let mut writer = match self.ready.pop_front() {
                Some(writer) => writer,
                None if self.born < self.born_max && self.room > 0 => {
                    let template = self.born % templates.len().max(1);
                    let external_id = format!("{}-{}", self.name, self.born);
                    self.born += 1;
                    self.room -= 1;
                    match Writer::of(templates, template, external_id) {
                        Some(writer) => writer,
                        None => break,
                    }
                }
                None => break,
            };
            let Some(write) = writer.write(templates) else { break };
            batch.push((writer, write));
        }
        batch
    }
}

impl Writer {
    /// A new instance that is to be written as the one of this template was.
    fn of(templates: &[Vec<Write>], template: usize, external_id: String) -> Option<Self> {
        let first = templates.get(template)?.first()?;
        let instance_id = new_id();
        let about = Arc::new(About {
            workflow: first.about.workflow.clone(),
            // As long as the engine's own: keys are in many rows and indexes.
            business_key: format!("bench.example.com/{external_id}"),
        });
        let (claim_id, head) = (new_id(), chain::GENESIS);
        Some(Self { instance_id, claim_id, about, external_id, template, next: 0, head })
    }

    fn has_more(&self, templates: &[Vec<Write>]) -> bool {
        templates.get(self.template).is_some_and(|writes| self.next < writes.len())
    }

    /// The next write of an instance: the same rows, chained under its own id.
    fn write(&mut self, templates: &[Vec<Write>]) -> Option<Write> {
        let pattern = templates.get(self.template)?.get(self.next)?;
        self.next += 1;
        let records = pattern.records.iter().map(|new| self.record(new)).collect();
        Some(Write {
            instance_id: self.instance_id,
            claim_id: pattern.claim_id.map(|_| self.claim_id),
            about: Arc::clone(&self.about),
            delivery: pattern.delivery.as_ref().map(|delivery| NewDelivery {
                external_id: self.external_id.clone(),
                ..delivery.clone()
            }),
            start: pattern.start.as_ref().map(|start| NewInstance {
                claim_id: start.claim_id.map(|_| self.claim_id),
                ..start.clone()
            }),
            change: pattern
                .change
                .as_ref()
                .map(|change| Change { head: (change.head.0, self.head), ..change.clone() }),
            records,
        })
    }

    fn record(&mut self, new: &NewRecord) -> Arc<NewRecord> {
        let mut record = new.record.clone();
        record.hash = chain::hash(self.instance_id, &record, &self.head);
        self.head = record.hash;
        Arc::new(NewRecord { record, events: new.events, money: new.money.clone() })
    }
}
