//! The bare write path: the rows of an instance without an engine, to measure the engine against.
//!
//! It takes one instance that an engine has run, and writes the same rows under new ids, commit by
//! commit, through the same statement: the next commit of an instance is sent only when the one
//! before is durable. What is missing is all that the engine does between commits. This is the
//! limit that the engine is compared with; it is no part of running instances.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::chain;
use crate::error::Error;
use crate::history;
use crate::intake::object;
use crate::limits;
use crate::priority::Priority;
use crate::record::{Entry, Record};
use crate::relay::GATHER;
use crate::status::Status;
use crate::store::commit::commit;
use crate::store::write::{About, Change, NewDelivery, NewInstance, NewRecord, Write};
use crate::store::{Store, claim, outbox, read, worker};
use crate::worker::new_id;

/// The rows of a finished instance, commit by commit.
struct Template {
    workflow: String,
    version: u32,
    attributes: Vec<(&'static str, String)>,
    attributes_json: String,
    body: Vec<u8>,
    /// The records of each commit; the last one also ends the instance.
    commits: Vec<Vec<(Record, u32, Vec<crate::money::Movement>)>>,
}

/// A bare writer with its relay.
pub struct Bare {
    store: Store,
    connection: PgConnection,
    worker_id: Uuid,
    template: Template,
    subscriptions: Vec<String>,
}

/// How long a bare run took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Until the last instance had ended.
    pub ended: Duration,
    /// Until the outbox was empty too.
    pub drained: Duration,
}

/// One instance on its way through its commits.
struct Writer {
    instance_id: Uuid,
    claim_id: Uuid,
    about: Arc<About>,
    next: usize,
    head: [u8; 32],
}

impl Bare {
    /// Takes the completed instance `template` as the pattern of what to write.
    pub async fn open(options: PgConnectOptions, template: Uuid) -> Result<Self, Error> {
        let store = Store::new(options);
        let mut connection = store.connect().await?;
        let worker_id = new_id();
        let lease = Duration::from_secs(3600);
        let row =
            worker::NewWorker { worker_id, name: "bare", lease, relays: false, schedules: &[] };
        worker::register(store.pool(), row, None).await?;
        let template = Template::of(&store, template).await?;
        let subscriptions = vec!["bare".to_owned()];
        // Plans are made before the clock runs.
        commit(&mut connection, worker_id, std::iter::empty(), &subscriptions, None).await?;
        Ok(Self { store, connection, worker_id, template, subscriptions })
    }

    /// How many commits an instance takes, one after the other.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.template.commits.len()
    }

    /// Writes `count` instances one after the other, with nothing beside them, and returns how long
    /// one took.
    pub async fn run_alone(&mut self, count: u32) -> Result<Duration, Error> {
        let clock = crate::clock::Clock::system();
        let began = clock.now();
        self.write(count as usize, 1).await?;
        let took = (clock.now() - began).to_std().unwrap_or_default();
        self.relay_until(Arc::new(AtomicBool::new(true))).await?;
        Ok(took / count.max(1))
    }

    /// Writes `count` instances, `concurrency` at a time, while a relay takes their events out of
    /// the outbox.
    pub async fn run(&mut self, count: usize, concurrency: usize) -> Result<Took, Error> {
        let clock = crate::clock::Clock::system();
        let began = clock.now();
        let done = Arc::new(AtomicBool::new(false));
        let relay = tokio::spawn(self.relay_until(Arc::clone(&done)));
        self.write(count, concurrency).await?;
        let ended = clock.now() - began;
        done.store(true, Ordering::Release);
        relay.await.map_err(|error| Error::Stored(error.to_string()))??;
        let drained = clock.now() - began;
        Ok(Took {
            ended: ended.to_std().unwrap_or_default(),
            drained: drained.to_std().unwrap_or_default(),
        })
    }

    fn relay_until(
        &self,
        done: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send + 'static {
        relay(self.store.clone(), self.worker_id, self.subscriptions.clone(), done)
    }

    async fn write(&mut self, count: usize, concurrency: usize) -> Result<(), Error> {
        let mut line = Line { born: 0, count, room: concurrency, ready: VecDeque::new() };
        let mut batch = self.template.batch(&mut line);
        while !batch.is_empty() {
            let (mut writers, writes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let template = &self.template;
            // The next batch is made while this one is on its way.
            let (committed, mut next) = tokio::join!(
                commit(
                    &mut self.connection,
                    self.worker_id,
                    writes.iter(),
                    &self.subscriptions,
                    None
                ),
                async { template.batch(&mut line) },
            );
            let committed = committed?;
            if !writes.iter().all(|write| committed.includes(write)) {
                return Err(Error::Stored("the bare write path lost a write".to_owned()));
            }
            let before = writers.len();
            writers.retain(|writer| writer.next < self.template.commits.len());
            line.room += before - writers.len();
            line.ready.extend(writers);
            if next.is_empty() {
                next = self.template.batch(&mut line);
            }
            batch = next;
        }
        Ok(())
    }
}

/// Instances that may go on, and how many more may be born.
struct Line {
    born: usize,
    count: usize,
    room: usize,
    ready: VecDeque<Writer>,
}

impl Template {
    async fn of(store: &Store, instance_id: Uuid) -> Result<Self, Error> {
        let missing = || Error::Stored(format!("{instance_id} is no completed instance"));
        let view = read::instance(store.pool(), instance_id).await?.ok_or_else(missing)?;
        let mut histories = claim::histories(store.pool(), &[instance_id]).await?;
        let records = histories.remove(&instance_id).ok_or_else(missing)?;
        let mut commits: Vec<Vec<_>> = Vec::new();
        for record in records {
            let entry = Entry::parse(&record.kind, &record.payload).map_err(Error::Stored)?;
            let events = record.events.as_deref().map_or(Ok(0), history::count);
            let events = events.map_err(|error| Error::Stored(error.to_string()))?;
            let row = (record, events, entry.money().to_vec());
            match (entry, commits.last_mut()) {
                (Entry::Ended(_), Some(last)) => last.push(row),
                _ => commits.push(vec![row]),
            }
        }
        let body = commits
            .first()
            .and_then(|first| first.first())
            .map(|(record, ..)| record.payload.clone().into_bytes())
            .unwrap_or_default();
        // The names are the workflow's own, known when it was compiled; here they are data.
        let attributes: Vec<(&'static str, String)> = view
            .attributes
            .into_iter()
            .map(|(name, value)| (&*Box::leak(name.into_boxed_str()), value))
            .collect();
        let attributes_json =
            object(&attributes).map_err(|error| Error::Stored(error.to_string()))?;
        Ok(Self {
            workflow: view.workflow,
            version: view.version,
            attributes,
            attributes_json,
            body,
            commits,
        })
    }

    /// The next batch: writers that may go on, then new ones while there is room.
    fn batch(&self, line: &mut Line) -> Vec<(Writer, Write)> {
        let mut batch = Vec::with_capacity(limits::BATCH_WRITES_MAX);
        while batch.len() < limits::BATCH_WRITES_MAX {
            let mut writer = match line.ready.pop_front() {
                Some(writer) => writer,
                None if line.born < line.count && line.room > 0 => {
                    line.born += 1;
                    line.room -= 1;
                    self.writer()
                }
                None => break,
            };
            let write = self.write(&mut writer);
            batch.push((writer, write));
        }
        batch
    }

    fn writer(&self) -> Writer {
        let instance_id = new_id();
        let about = Arc::new(About {
            workflow: self.workflow.clone(),
            business_key: format!("bare.example.com/{instance_id}"),
        });
        Writer { instance_id, claim_id: new_id(), about, next: 0, head: chain::GENESIS }
    }

    /// The next write of an instance: the same rows, chained under its own id.
    fn write(&self, writer: &mut Writer) -> Write {
        let rows = self.commits.get(writer.next).map(Vec::as_slice).unwrap_or_default();
        let records: Vec<_> = rows
            .iter()
            .map(|(record, events, money)| {
                let mut record = record.clone();
                record.hash = chain::hash(writer.instance_id, &record, &writer.head);
                writer.head = record.hash;
                Arc::new(NewRecord { record, events: *events, money: money.clone() })
            })
            .collect();
        let at = rows.first().map(|(record, ..)| record.at).unwrap_or_default();
        let first = writer.next == 0;
        writer.next += 1;
        let last = writer.next == self.commits.len();
        let head = records.last().map_or(0, |new| new.record.seq);
        Write {
            instance_id: writer.instance_id,
            claim_id: (!first).then_some(writer.claim_id),
            about: Arc::clone(&writer.about),
            delivery: first.then(|| NewDelivery {
                source: "bare".to_owned(),
                external_id: writer.instance_id.to_string(),
                digest: writer.head,
                body: self.body.clone(),
                received_at: at,
            }),
            start: first.then(|| NewInstance {
                version: self.version,
                claim_id: Some(writer.claim_id),
                priority: Priority::Normal,
                bearer: None,
                attributes: self.attributes.clone(),
                attributes_json: self.attributes_json.clone(),
                created_at: at,
            }),
            change: last.then_some(Change {
                revision: 1,
                status: Status::Completed,
                released: true,
                run_at: None,
                parked_on: None,
                failure: None,
                past_pivot: true,
                mail_read: 0,
                head: (head, writer.head),
                at,
            }),
            records,
        }
    }
}

/// Takes rows out of the outbox, reading what they point at, until it is empty and `done`.
async fn relay(
    store: Store,
    worker_id: Uuid,
    subscriptions: Vec<String>,
    done: Arc<AtomicBool>,
) -> Result<(), sqlx::Error> {
    let shards: Vec<i16> = (0..limits::SHARDS as i16).collect();
    let clock = crate::clock::Clock::system();
    let mut from = 0;
    loop {
        // Read before the scan: what is written before the last look is seen by it.
        let last_look = done.load(Ordering::Acquire);
        let rows =
            outbox::scan(store.pool(), &shards, &subscriptions, from, limits::SCAN_MAX).await?;
        // One writer with one connection draws ids in the order of its commits.
        from = rows.last().map_or(from, |row| row.outbox_id);
        let ids: Vec<i64> = rows.iter().map(|row| row.outbox_id).collect();
        if !ids.is_empty() {
            outbox::delete(store.pool(), worker_id, &ids).await?;
        } else if last_look {
            return Ok(());
        } else {
            clock.sleep(GATHER).await;
        }
    }
}
