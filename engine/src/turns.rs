//! Who comes first at a claim, so that nobody waits for ever behind a flood of others. Pure.

use crate::priority::Priority;

/// Of so many claims that leave something behind, one begins with the lower priorities.
const STRICT: usize = 3;
/// Which part of such a claim each of them may have.
const SHARE: usize = 4;

/// Whose turn it is, over the claims of a worker.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    claims: usize,
    /// How many claims in a row have kept to the order of the priorities and been full.
    full: usize,
    /// Whether the lowest priority was the first of the lower ones last time.
    lowest_was_first: bool,
}

impl Turns {
    /// Which of so many versions comes first: each time another one.
    pub(crate) fn version(&mut self, versions: usize) -> usize {
        self.claims = self.claims.wrapping_add(1);
        self.claims.checked_rem(versions).unwrap_or_default()
    }

    /// How many of each priority a claim of at most `limit` may take, in the order in which it takes
    /// them. As a rule the lower ones have what the higher ones leave.
    pub(crate) fn portions(&mut self, limit: usize) -> [(Priority, usize); 3] {
        let (high, normal, low) = (Priority::High, Priority::Normal, Priority::Low);
        if self.full < STRICT {
            return [(high, limit), (normal, limit), (low, limit)];
        }
        self.full = 0;
        self.lowest_was_first = !self.lowest_was_first;
        let share = limit.div_ceil(SHARE);
        if self.lowest_was_first {
            [(low, share), (normal, share), (high, limit)]
        } else {
            [(normal, share), (low, share), (high, limit)]
        }
    }

    /// A claim has taken so many of at most `limit`. One that is full may have left others behind.
    pub(crate) fn claimed(&mut self, count: usize, limit: usize) {
        self.full = if count < limit { 0 } else { self.full + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of each priority are taken in so many claims, if there is no end of any of them.
    fn taken(claims: usize, limit: usize) -> [usize; 3] {
        let mut turns = Turns::default();
        let mut taken = [0; 3];
        for _ in 0..claims {
            let mut left = limit;
            for (priority, most) in turns.portions(limit) {
                let count = most.min(left);
                taken[priority.number() as usize] += count;
                left -= count;
            }
            turns.claimed(limit - left, limit);
        }
        taken
    }

    #[test]
    fn lower_priorities_have_a_share_of_what_a_flood_would_take() {
        assert_eq!(taken(8, 400), [2800, 200, 200]);
        assert_eq!(taken(8, 1), [6, 1, 1]);
    }

    #[test]
    fn the_order_is_kept_as_long_as_nothing_is_left_behind() {
        let mut turns = Turns::default();
        for _ in 0..20 {
            assert_eq!(turns.portions(10)[0], (Priority::High, 10));
            turns.claimed(9, 10);
        }
    }

    #[test]
    fn each_version_is_first_in_its_turn() {
        let mut turns = Turns::default();
        let mut first: Vec<_> = (0..3).map(|_| turns.version(3)).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert_eq!(turns.version(0), 0);
    }
}
