//! How the calls that a dependency takes at a time are shared out among the workers that want to
//! make some. Pure: each worker comes to the same result by itself.

use uuid::Uuid;

/// What one worker holds of a dependency, and what it could use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stake {
    pub(crate) worker_id: Uuid,
    pub(crate) slots: u32,
    pub(crate) wanted: u32,
}

/// How many of `calls_max` slots the worker of `own` should hold beside the `others`.
///
/// Who is alone takes all of them. Nobody gives anything back as long as there is enough for all:
/// what is held is there for the next call. Otherwise all get equal shares, and what one does not want goes to those who do. What
/// cannot be shared evenly stays with those that hold more, so that it does not wander.
pub(crate) fn share(calls_max: u32, own: Stake, others: &[Stake]) -> u32 {
    let held: u32 = others.iter().map(|other| other.slots).sum();
    let free = calls_max.saturating_sub(held);
    if others.is_empty() {
        return free;
    }
    let most = |one: &Stake| one.wanted.max(one.slots);
    let is_enough = most(&own) + others.iter().map(most).sum::<u32>() <= calls_max;
    if is_enough || others.iter().all(|other| other.wanted <= other.slots) {
        return most(&own).min(free);
    }
    let mut all: Vec<Stake> = others.iter().copied().chain([own]).collect();
    let even = calls_max.div_ceil(all.len() as u32);
    all.sort_by_key(|one| (one.wanted.min(even), one.slots, one.worker_id));
    let mut left = calls_max;
    let mut shares = Vec::new();
    for (place, one) in all.iter().enumerate() {
        let even = left / (all.len() - place) as u32;
        let given = one.wanted.min(even);
        left -= given;
        shares.push(given);
    }
    for (one, given) in all.iter().zip(&mut shares).rev() {
        let more = left.min(one.wanted - *given);
        *given += more;
        left -= more;
    }
    let own = all.iter().position(|one| one.worker_id == own.worker_id);
    own.map_or(0, |place| shares[place]).min(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stakes(of: &[(u32, u32)]) -> Vec<Stake> {
        let worker_id = |number: usize| Uuid::from_u128(number as u128 + 1);
        let stake =
            |(number, &(slots, wanted))| Stake { worker_id: worker_id(number), slots, wanted };
        of.iter().enumerate().map(stake).collect()
    }

    /// Has each worker take its share in turn, so often that nothing changes any more.
    fn settled(calls_max: u32, mut stakes: Vec<Stake>) -> Vec<u32> {
        for _ in 0..4 {
            for place in 0..stakes.len() {
                let own = stakes.remove(place);
                let slots = share(calls_max, own, &stakes);
                stakes.insert(place, Stake { slots, ..own });
            }
        }
        stakes.iter().map(|stake| stake.slots).collect()
    }

    #[test]
    fn slots_go_to_those_who_want_them() {
        assert_eq!(settled(2, stakes(&[(1, 0), (1, 0), (0, 9), (0, 9)])), [0, 0, 1, 1]);
        assert_eq!(settled(10, stakes(&[(10, 20), (0, 3), (0, 20)])), [4, 3, 3]);
        assert_eq!(settled(10, stakes(&[(10, 20), (0, 3), (0, 2)])), [5, 3, 2]);
    }

    #[test]
    fn what_is_held_stays_as_long_as_nobody_lacks_it() {
        assert_eq!(settled(10, stakes(&[(8, 0), (0, 2)])), [8, 2]);
        assert_eq!(settled(10, stakes(&[(8, 0), (2, 5)])), [0, 5]);
    }

    #[test]
    fn a_single_slot_does_not_wander_while_it_is_used() {
        let used = stakes(&[(0, 30), (1, 1), (0, 2)]);
        assert_eq!(settled(1, used), [0, 1, 0]);
        assert_eq!(settled(1, stakes(&[(0, 30), (1, 0), (0, 2)])), [0, 0, 1]);
    }

    proptest! {
        #[test]
        fn no_slot_is_given_twice_and_none_is_kept_from_who_wants_it(
            calls_max in 1..40_u32,
            held in proptest::collection::vec((0..5_u32, 0..50_u32), 1..8),
        ) {
            let mut left = calls_max;
            let possible = held.into_iter().map(|(slots, wanted)| {
                let slots = slots.min(left);
                left -= slots;
                (slots, wanted)
            });
            let stakes = stakes(&possible.collect::<Vec<_>>());
            let wanted: Vec<u32> = stakes.iter().map(|stake| stake.wanted).collect();
            let slots = settled(calls_max, stakes);
            let sum: u32 = slots.iter().sum();
            prop_assert!(sum <= calls_max);
            let lacking = slots.iter().zip(&wanted).any(|(slots, wanted)| slots < wanted);
            prop_assert!(!lacking || sum == calls_max, "{slots:?} of {calls_max} for {wanted:?}");
            let even = calls_max / wanted.len() as u32;
            for (slots, wanted) in slots.iter().zip(&wanted) {
                prop_assert!(*slots >= even.min(*wanted), "{slots} of {even} for {wanted}");
            }
        }
    }
}
