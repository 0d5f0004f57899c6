//! The deliveries of a feed that are under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Next, StreamExt};
use tokio_util::sync::CancellationToken;

use super::deliver::{Ran, deliver};
use crate::lanes::Attempt;
use crate::sink::Sink;

#[derive(Default)]
pub(super) struct UnderWay {
    running: FuturesUnordered<BoxFuture<'static, Ran>>,
    shards: BTreeMap<i16, Shard>,
    /// How many are of something old.
    old: usize,
    /// How many there have ever been.
    started: usize,
}

/// Those of one shard.
#[derive(Debug, Default)]
struct Shard {
    count: usize,
    /// Ends them.
    cut: CancellationToken,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn old(&self) -> usize {
        self.old
    }

    pub(super) fn started(&self) -> usize {
        self.started
    }

    pub(super) fn start(&mut self, sink: Arc<dyn Sink>, attempt: Attempt) {
        self.started += 1;
        self.old += usize::from(!attempt.is_new);
        let shard = self.shards.entry(attempt.row.shard).or_default();
        shard.count += 1;
        self.running.push(Box::pin(deliver(sink, attempt, shard.cut.clone())));
    }

    /// The next one that ends.
    pub(super) fn next(&mut self) -> Next<'_, FuturesUnordered<BoxFuture<'static, Ran>>> {
        self.running.next()
    }

    pub(super) fn ended(&mut self, attempt: &Attempt) {
        self.old -= usize::from(!attempt.is_new);
        if let Some(shard) = self.shards.get_mut(&attempt.row.shard) {
            shard.count -= 1;
            if shard.count == 0 {
                self.shards.remove(&attempt.row.shard);
            }
        }
    }

    /// Whether any is of another shard than these.
    pub(super) fn any_beyond(&self, shards: &[i16]) -> bool {
        self.shards.keys().any(|shard| !shards.contains(shard))
    }

    /// Ends those that are of other shards than these, whether their receiver has heard of them or
    /// not.
    pub(super) fn cut_beyond(&self, shards: &[i16]) {
        let beyond = self.shards.iter().filter(|(shard, _)| !shards.contains(shard));
        beyond.for_each(|(_, shard)| shard.cut.cancel());
    }
}
