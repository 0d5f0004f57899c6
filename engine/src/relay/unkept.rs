//! What a feed has to tell the database: what is delivered, what is blocked, what is blocked no
//! longer. It is told in portions, under the fence, and stays here until it is.

use std::collections::{HashSet, VecDeque};

use super::locked::Locked;
use super::marks::Marks;
use crate::error::Error;
use crate::limits;
use crate::store::commit::shard;
use crate::store::key_block::{self, Block, Over};
use crate::store::outbox;
use crate::worker::Worker;

/// What is not kept yet.
#[derive(Debug)]
pub(super) struct Unkept {
    delivered: Vec<i64>,
    blocks: VecDeque<Block>,
    /// The keys of the blocks.
    keys: HashSet<String>,
    over: Vec<Over>,
    /// What of all this waits for others.
    locked: Locked,
    /// How many blocks are written at a time: one that the database does not take is alone in the end.
    portion: usize,
}

impl Default for Unkept {
    fn default() -> Self {
        Self {
            delivered: Vec::new(),
            blocks: VecDeque::new(),
            keys: HashSet::new(),
            over: Vec::new(),
            locked: Locked::default(),
            portion: limits::BLOCKS_MAX,
        }
    }
}

impl Unkept {
    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.blocks.is_empty() && self.over.is_empty()
    }

    /// Whether a key is blocked of which the database does not know it yet.
    pub(super) fn blocks(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Keys whose blocks are over of which the database does not know it yet.
    pub(super) fn keys_over(&self) -> HashSet<&str> {
        self.over.iter().map(|over| over.key.as_str()).collect()
    }

    pub(super) fn delivered(&mut self, outbox_id: i64) {
        self.delivered.push(outbox_id);
    }

    pub(super) fn block(&mut self, block: Block) {
        if self.keys.insert(block.key.clone()) {
            self.blocks.push_back(block);
        }
    }

    pub(super) fn over(&mut self, over: impl IntoIterator<Item = Over>) {
        self.over.extend(over);
    }

    /// How many keys wait until the database takes what is about them.
    pub(super) fn keys_waiting(&self) -> usize {
        self.blocks.len() + self.over.len()
    }

    /// Lets go of what is about other shards than these: the relay that has those shards finds it anew.
    pub(super) fn let_go(&mut self, shards: &[i16]) {
        self.blocks.retain(|block| shards.contains(&block.shard));
        self.keys = self.blocks.iter().map(|block| block.key.clone()).collect();
        self.over.retain(|over| shards.contains(&shard(&over.key)));
    }

    /// Looks which of the rows that others have locked are free by now.
    pub(super) async fn look_again(
        &mut self,
        worker: &Worker,
        subscription: &str,
    ) -> Result<(), Error> {
        self.locked.look_again(worker, subscription).await
    }

    /// Takes delivered rows out of the outbox. If this is not done, they are delivered again.
    /// Returns which are gone.
    pub(super) async fn delete(&mut self, worker: &Worker) -> Result<Vec<i64>, Error> {
        loop {
            let is_locked = |id: &i64| self.locked.has_event(*id);
            let (locked, free): (Vec<_>, Vec<_>) =
                self.delivered.iter().partition(|id| is_locked(id));
            if free.is_empty() {
                return Ok(free);
            }
            worker.probes.reach("outbox.delete.before").await;
            let pool = worker.store.relay();
            match outbox::delete(pool, worker.worker_id, &free).await.map_err(Error::from) {
                Ok(is_worker) => {
                    fenced(worker, is_worker);
                    self.delivered = locked;
                    return Ok(free);
                }
                Err(error) if self.locked.explains_events(worker, &error, &free).await? => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what is blocked, and then what is blocked no longer. Says whether there was any of that.
    pub(super) async fn keep(
        &mut self,
        worker: &Worker,
        subscription: &str,
        marks: &mut Marks,
    ) -> Result<bool, Error> {
        let mut put_by = Vec::new();
        let kept = self.keep_blocks(worker, subscription, &mut put_by).await;
        self.blocks.extend(put_by);
        kept?;
        let mut locked = Vec::new();
        let released = self.release(worker, subscription, marks, &mut locked).await;
        self.over.extend(locked);
        released
    }

    /// What the database refuses is alone in the end, and is put by; so is what somebody has locked.
    async fn keep_blocks(
        &mut self,
        worker: &Worker,
        subscription: &str,
        put_by: &mut Vec<Block>,
    ) -> Result<(), Error> {
        let pool = worker.store.relay();
        self.put_locked_blocks_by(put_by);
        while !self.blocks.is_empty() {
            let count = self.portion.min(self.blocks.len());
            let blocks = &self.blocks.make_contiguous()[..count];
            let kept = key_block::block(pool, worker.worker_id, subscription, blocks).await;
            match kept.map_err(Error::from) {
                Ok(is_worker) => fenced(worker, is_worker),
                Err(error) if error.is_transient() => {
                    let keys: Vec<_> = blocks.iter().map(|it| it.key.clone()).collect();
                    let locked = &mut self.locked;
                    if locked.explains_keys(worker, &error, subscription, &keys).await? {
                        self.put_locked_blocks_by(put_by);
                        continue;
                    }
                    return Err(error);
                }
                Err(_) if count > 1 => {
                    self.portion = count / 2;
                    continue;
                }
                Err(error) => {
                    let block = self.blocks.pop_front();
                    let key = block.as_ref().map(|block| block.key.as_str());
                    tracing::warn!(%error, subscription, key, "a block could not be kept");
                    put_by.extend(block);
                    continue;
                }
            }
            self.portion = (self.portion * 2).min(limits::BLOCKS_MAX);
            for block in self.blocks.drain(..count) {
                self.keys.remove(&block.key);
                if block.until.is_none() {
                    tell_parked(worker, subscription, &block.key);
                }
            }
        }
        Ok(())
    }

    fn put_locked_blocks_by(&mut self, put_by: &mut Vec<Block>) {
        if self.locked.any_key() {
            let blocks = std::mem::take(&mut self.blocks).into_iter();
            let (locked, free): (Vec<_>, _) = blocks.partition(|it| self.locked.has_key(&it.key));
            self.blocks = free.into();
            put_by.extend(locked);
        }
    }

    /// Has blocks be over. Says whether there were any that are not locked.
    async fn release(
        &mut self,
        worker: &Worker,
        subscription: &str,
        marks: &mut Marks,
        put_by: &mut Vec<Over>,
    ) -> Result<bool, Error> {
        let mut any_released = false;
        self.put_locked_over_by(put_by);
        while !self.over.is_empty() {
            let count = limits::BLOCKS_MAX.min(self.over.len());
            let at = marks.next(worker.clock.now());
            let (pool, over) = (worker.store.relay(), &self.over[..count]);
            let released = key_block::release(pool, worker.worker_id, subscription, over, at).await;
            match released.map_err(Error::from) {
                Ok(is_worker) => fenced(worker, is_worker),
                Err(error) => {
                    let keys: Vec<_> = over.iter().map(|it| it.key.clone()).collect();
                    let locked = &mut self.locked;
                    if locked.explains_keys(worker, &error, subscription, &keys).await? {
                        self.put_locked_over_by(put_by);
                        continue;
                    }
                    return Err(error);
                }
            }
            self.over.drain(..count);
            any_released = true;
        }
        Ok(any_released)
    }

    fn put_locked_over_by(&mut self, put_by: &mut Vec<Over>) {
        if self.locked.any_key() {
            put_by.extend(self.over.extract_if(.., |it| self.locked.has_key(&it.key)));
        }
    }
}

fn tell_parked(worker: &Worker, subscription: &str, key: &str) {
    worker.metrics.keys_parked.inc();
    tracing::error!(
        subscription,
        key,
        "the receiver of {subscription} takes other events: {key} is parked"
    );
}

/// A worker whose row is gone is lost.
pub(super) fn fenced(worker: &Worker, is_worker: bool) {
    if !is_worker {
        worker.lost.cancel();
    }
}
