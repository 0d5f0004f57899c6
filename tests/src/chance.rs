//! Numbers that look random and follow from a seed alone, today as in any later build.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// A stream of numbers (SplitMix64). It is drawn from by everybody who holds it.
#[derive(Debug)]
pub struct Chance(AtomicU64);

impl Chance {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The stream of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The stream of a seed for a purpose and a number; streams know nothing of each other.
    #[must_use]
    pub fn of(seed: u64, purpose: &str, number: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_be_bytes())
            .chain_update(number.to_be_bytes())
            .chain_update(purpose)
            .finalize();
        Self::seeded(digest.iter().take(8).fold(0, |state, byte| state << 8 | u64::from(*byte)))
    }

    /// Any number.
    pub fn any(&self) -> u64 {
        let state = self.0.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// A number of a range that is not empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Lets others go first, fewer than `turns_max` times.
    pub async fn dawdle(&self, turns_max: u64) {
        for _ in 0..self.below(turns_max) {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_follows_from_seed_purpose_and_number_alone() {
        let first = |seed, purpose, number| Chance::of(seed, purpose, number).any();
        assert_eq!(first(7, "order", 1), first(7, "order", 1));
        let others = [first(8, "order", 1), first(7, "kill", 1), first(7, "order", 2)];
        assert!(others.iter().all(|other| *other != first(7, "order", 1)));
    }

    #[test]
    fn a_percentage_comes_out_as_asked() {
        let chance = Chance::of(7, "percent", 0);
        let hits = (0..10_000).filter(|_| chance.percent(20)).count();
        assert!((1_850..2_150).contains(&hits), "{hits}");
    }
}
