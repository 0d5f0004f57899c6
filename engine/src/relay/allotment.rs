//! Which shards the feeds of a worker may deliver, and that they have let go of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// What all feeds of a worker may deliver. It changes as a whole, and each change has a number.
#[derive(Debug, Clone, Default)]
pub(super) struct Allotment {
    pub(super) shards: Arc<Vec<i16>>,
    pub(super) number: u64,
}

/// What a feed and those who share things out say to each other.
#[derive(Debug, Default)]
pub(super) struct Tie {
    /// There is something to look for.
    pub(super) hint: Notify,
    /// The last allotment beyond which the feed has nothing under way any more.
    followed: AtomicU64,
    /// How often the feed has come round.
    turns: AtomicU64,
}

impl Tie {
    pub(super) fn follow(&self, number: u64) {
        self.followed.store(number, Ordering::Release);
    }

    pub(super) fn has_followed(&self, number: u64) -> bool {
        self.followed.load(Ordering::Acquire) >= number
    }

    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }
}

/// Those who share things out.
#[derive(Debug)]
pub(super) struct Allotter {
    sender: watch::Sender<Allotment>,
    ties: Vec<Arc<Tie>>,
    /// How often each feed had come round.
    turns: Vec<u64>,
}

impl Allotter {
    pub(super) fn new() -> Self {
        let sender = watch::Sender::new(Allotment::default());
        Self { sender, ties: Vec::new(), turns: Vec::new() }
    }

    /// Ties one more feed to it.
    pub(super) fn tie(&mut self) -> (watch::Receiver<Allotment>, Arc<Tie>) {
        let tie = Arc::new(Tie::default());
        self.ties.push(Arc::clone(&tie));
        self.turns.push(0);
        (self.sender.subscribe(), tie)
    }

    /// Allots these shards, if they are others than before.
    pub(super) fn allot(&self, shards: &[i16]) {
        self.sender.send_if_modified(|allotment| {
            let is_new = *allotment.shards != shards;
            if is_new {
                allotment.shards = Arc::new(shards.to_vec());
                allotment.number += 1;
            }
            is_new
        });
    }

    /// Whether no feed has anything under way of other shards than those that are allotted.
    pub(super) fn is_followed(&self) -> bool {
        let number = self.sender.borrow().number;
        self.ties.iter().all(|tie| tie.has_followed(number))
    }

    /// Passes on that there is something to look for.
    pub(super) fn hint(&self) {
        self.ties.iter().for_each(|tie| tie.hint.notify_one());
    }

    /// Whether every feed has come round since this was so the last time.
    pub(super) fn all_turned(&mut self) -> bool {
        let turns: Vec<_> = self.ties.iter().map(|tie| tie.turns()).collect();
        let all = turns.iter().zip(&self.turns).all(|(now, before)| now > before);
        if all {
            self.turns = turns;
        }
        all
    }
}
