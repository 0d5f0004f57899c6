//! What a feed has to tell the database: what is delivered, what is blocked, what is blocked no
//! longer. It is told in portions, under the fence, and stays here until it is.

use std::collections::{HashSet, VecDeque};

use super::marks::Marks;
use crate::error::Error;
use crate::limits;
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

    /// Lets go of blocks of other shards than these: the relay that has those shards finds their keys blocked anew.
    pub(super) fn let_go(&mut self, shards: &[i16]) {
        self.blocks.retain(|block| shards.contains(&block.shard));
        self.keys = self.blocks.iter().map(|block| block.key.clone()).collect();
    }

    /// Takes delivered rows out of the outbox. If this is not done, they are delivered again.
    /// Returns which are gone.
    pub(super) async fn delete(&mut self, worker: &Worker) -> Result<Vec<i64>, Error> {
        if self.delivered.is_empty() {
            return Ok(Vec::new());
        }
        worker.probes.reach("outbox.delete.before").await;
        let pool = worker.store.relay();
        fenced(worker, outbox::delete(pool, worker.worker_id, &self.delivered).await?);
        Ok(std::mem::take(&mut self.delivered))
    }

    /// Keeps what is blocked, and then what is blocked no longer. Says whether there was any of that.
    pub(super) async fn keep(
        &mut self,
        worker: &Worker,
        subscription: &str,
        marks: &mut Marks,
    ) -> Result<bool, Error> {
        let mut refused = Vec::new();
        let kept = self.keep_blocks(worker, subscription, &mut refused).await;
        self.blocks.extend(refused);
        kept?;
        let any_over = !self.over.is_empty();
        while !self.over.is_empty() {
            let count = limits::BLOCKS_MAX.min(self.over.len());
            let at = marks.next(worker.clock.now());
            let (pool, over) = (worker.store.relay(), &self.over[..count]);
            let released = key_block::release(pool, worker.worker_id, subscription, over, at);
            fenced(worker, released.await?);
            self.over.drain(..count);
        }
        Ok(any_over)
    }

    /// What the database refuses is alone in the end, and is tried again with the next ones.
    async fn keep_blocks(
        &mut self,
        worker: &Worker,
        subscription: &str,
        refused: &mut Vec<Block>,
    ) -> Result<(), Error> {
        let pool = worker.store.relay();
        while !self.blocks.is_empty() {
            let count = self.portion.min(self.blocks.len());
            let blocks = &self.blocks.make_contiguous()[..count];
            let kept = key_block::block(pool, worker.worker_id, subscription, blocks).await;
            match kept.map_err(Error::from) {
                Ok(is_worker) => fenced(worker, is_worker),
                Err(error) if error.is_transient() => return Err(error),
                Err(_) if count > 1 => {
                    self.portion = count / 2;
                    continue;
                }
                Err(error) => {
                    let block = self.blocks.pop_front();
                    let key = block.as_ref().map(|block| block.key.as_str());
                    tracing::warn!(%error, subscription, key, "a block could not be kept");
                    refused.extend(block);
                    continue;
                }
            }
            self.portion = (self.portion * 2).min(limits::BLOCKS_MAX);
            for block in self.blocks.drain(..count) {
                self.keys.remove(&block.key);
                if block.until.is_none() {
                    worker.metrics.keys_parked.inc();
                    let key = block.key;
                    tracing::error!(
                        subscription,
                        key,
                        "the receiver of {subscription} takes other events: {key} is parked"
                    );
                }
            }
        }
        Ok(())
    }
}

/// A worker whose row is gone is lost.
pub(super) fn fenced(worker: &Worker, is_worker: bool) {
    if !is_worker {
        worker.lost.cancel();
    }
}
