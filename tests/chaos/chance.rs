//! Numbers that look random and follow from a seed alone, today as in any later build.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// A stream of numbers for one purpose (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of a seed for a purpose and a number; streams know nothing of each other.
    pub(crate) fn of(seed: u64, purpose: &str, number: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_be_bytes())
            .chain_update(number.to_be_bytes())
            .chain_update(purpose)
            .finalize();
        Self(digest.iter().take(8).fold(0, |state, byte| state << 8 | u64::from(*byte)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range that is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_follows_from_seed_purpose_and_number_alone() {
        let first = |seed, purpose, number| Chance::of(seed, purpose, number).next();
        assert_eq!(first(7, "order", 1), first(7, "order", 1));
        let others = [first(8, "order", 1), first(7, "kill", 1), first(7, "order", 2)];
        assert!(others.iter().all(|other| *other != first(7, "order", 1)));
    }

    #[test]
    fn a_percentage_comes_out_as_asked() {
        let mut chance = Chance::of(7, "percent", 0);
        let hits = (0..10_000).filter(|_| chance.percent(20)).count();
        assert!((1_850..2_150).contains(&hits), "{hits}");
    }
}
