//! Chance that is the same in every run: a seed, and what follows from it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A sequence of numbers as good as random. It is drawn from by everybody who holds it.
#[derive(Debug)]
pub struct Chance(AtomicU64);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        // SplitMix64.
        let mut state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (state ^ (state >> 31)) % limit
    }

    /// Lets others go first, fewer than `turns_max` times.
    pub async fn dawdle(&self, turns_max: u64) {
        for _ in 0..self.below(turns_max) {
            tokio::task::yield_now().await;
        }
    }
}
