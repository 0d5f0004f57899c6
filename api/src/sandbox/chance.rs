//! The seeded mix of faults for chaos runs.
//!
//! Pure: what a call meets follows from the seed, its key and how often the key has been seen,
//! never from time or from other calls, so that a run can be repeated.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::operation::Operation;

/// How many calls of a hundred meet which kind of trouble. The rest go well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mix {
    /// Two runs with the same seed and the same calls meet the same faults.
    pub(super) seed: u64,
    /// The answer leaves open whether the effect was applied; sometimes it was.
    #[serde(default)]
    pub(super) unknown_percent: u8,
    /// The card is declined; charges only.
    #[serde(default)]
    pub(super) decline_percent: u8,
    /// The parcel is refused; shipments only.
    #[serde(default)]
    pub(super) refuse_percent: u8,
    /// An error before anything is applied.
    #[serde(default)]
    pub(super) error_percent: u8,
    /// The money is taken late, perhaps after the caller has given up; charges only.
    #[serde(default)]
    pub(super) late_percent: u8,
    /// A gateway answers, whichever, in the place of the provider, which has carried the call out,
    /// or has not, or does so late.
    #[serde(default)]
    pub(super) gateway_percent: u8,
    /// How long a time-out holds the connection.
    #[serde(default)]
    pub(super) delay_ms: Option<u64>,
    /// How late what is late is applied.
    #[serde(default)]
    pub(super) late_ms: Option<u64>,
}

/// Two numbers that are as good as random, yet the same for the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draw {
    /// Which kind of trouble: 0 to 99.
    pub(super) percent: u64,
    /// Which fault of that kind.
    pub(super) variant: u64,
}

/// Draws for the `nth` (from 1) sight of a key.
pub(super) fn draw(seed: u64, key: &str, nth: u64) -> Draw {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(nth.to_be_bytes());
    hash.update(key.as_bytes());
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let digest = hash.finalize();
    Draw { percent: number(&digest[..8]) % 100, variant: number(&digest[8..16]) }
}

impl Mix {
    /// Whether the shares leave room for each other.
    pub(super) fn is_possible(&self) -> bool {
        let shares = [
            self.unknown_percent,
            self.error_percent,
            self.decline_percent,
            self.refuse_percent,
            self.late_percent,
            self.gateway_percent,
        ];
        shares.iter().map(|&share| u64::from(share)).sum::<u64>() <= 100
    }

    /// How long a fault of the mix takes.
    pub(super) fn delay_ms_of(&self, fault: Fault) -> Option<u64> {
        if matches!(fault, Fault::Slow | Fault::Late) { self.late_ms } else { self.delay_ms }
    }

    /// The fault that a draw stands for, if it stands for any with this operation.
    pub(super) fn fault(&self, operation: Operation, draw: Draw) -> Option<Fault> {
        const UNKNOWN: [Fault; 3] = [Fault::ErrorAfter, Fault::TimeoutBefore, Fault::TimeoutAfter];
        const ERROR: [Fault; 2] = [Fault::ErrorBefore, Fault::Down];
        const GATEWAY: [Fault; 3] = [Fault::GatewayBefore, Fault::GatewayAfter, Fault::Late];
        let pick = |faults: &[Fault]| {
            let index = draw.variant % faults.len() as u64;
            faults.get(usize::try_from(index).ok()?).copied()
        };
        let unknown_end = u64::from(self.unknown_percent);
        let error_end = unknown_end + u64::from(self.error_percent);
        let decline_end = error_end + u64::from(self.decline_percent);
        let refuse_end = decline_end + u64::from(self.refuse_percent);
        let late_end = refuse_end + u64::from(self.late_percent);
        let gateway_end = late_end + u64::from(self.gateway_percent);
        match draw.percent {
            share if share < unknown_end => pick(&UNKNOWN),
            share if share < error_end => pick(&ERROR),
            share if share < decline_end => {
                (operation == Operation::Charge).then_some(Fault::Decline)
            }
            share if share < refuse_end => (operation == Operation::Ship).then_some(Fault::Refuse),
            share if share < late_end => (operation == Operation::Charge).then_some(Fault::Slow),
            share if share < gateway_end => pick(&GATEWAY),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: Mix = Mix {
        seed: 7,
        unknown_percent: 20,
        decline_percent: 10,
        refuse_percent: 5,
        error_percent: 15,
        late_percent: 10,
        gateway_percent: 20,
        delay_ms: Some(400),
        late_ms: Some(1_200),
    };

    #[test]
    fn a_draw_depends_on_seed_key_and_sight_alone() {
        assert_eq!(draw(7, "order-1/charge", 1), draw(7, "order-1/charge", 1));
        let others = [draw(8, "order-1/charge", 1), draw(7, "x", 1), draw(7, "order-1/charge", 2)];
        assert!(others.iter().all(|other| *other != draw(7, "order-1/charge", 1)));
    }

    #[test]
    fn a_draw_stays_what_it_was_in_earlier_releases() {
        let expected = Draw { percent: 6, variant: 3_411_743_308_635_109_051 };
        assert_eq!(draw(7, "order-1/charge", 1), expected);
    }

    #[test]
    fn the_shares_come_out_as_asked() {
        let faults: Vec<Option<Fault>> = (0..10_000)
            .map(|n| MIX.fault(Operation::Charge, draw(MIX.seed, &format!("order-{n}"), 1)))
            .collect();
        let share = |of: &[Fault]| {
            faults.iter().filter(|fault| fault.is_some_and(|fault| of.contains(&fault))).count()
        };
        let unknown = share(&[Fault::ErrorAfter, Fault::TimeoutBefore, Fault::TimeoutAfter]);
        assert!((1_850..2_150).contains(&unknown), "{unknown}");
        assert!((570..770).contains(&share(&[Fault::TimeoutAfter])));
        assert!((1_350..1_650).contains(&share(&[Fault::ErrorBefore, Fault::Down])));
        assert!((900..1_100).contains(&share(&[Fault::Decline])));
        assert_eq!(share(&[Fault::Refuse]), 0);
        assert!((900..1_100).contains(&share(&[Fault::Slow])));
        let gateway = share(&[Fault::GatewayBefore, Fault::GatewayAfter, Fault::Late]);
        assert!((1_850..2_150).contains(&gateway), "{gateway}");
    }

    #[test]
    fn declines_meet_charges_only_and_refusals_shipments_only() {
        let decline = Draw { percent: 35, variant: 0 };
        assert_eq!(MIX.fault(Operation::Charge, decline), Some(Fault::Decline));
        assert_eq!(MIX.fault(Operation::Refund, decline), None);
        let refuse = Draw { percent: 49, variant: 0 };
        assert_eq!(MIX.fault(Operation::Ship, refuse), Some(Fault::Refuse));
        assert_eq!(MIX.fault(Operation::Reserve, refuse), None);
        assert_eq!(MIX.fault(Operation::Ship, Draw { percent: 50, variant: 0 }), None);
    }

    #[test]
    fn what_is_late_meets_charges_only_and_has_a_delay_of_its_own() {
        let late = Draw { percent: 59, variant: 0 };
        assert_eq!(MIX.fault(Operation::Charge, late), Some(Fault::Slow));
        assert_eq!(MIX.fault(Operation::Reserve, late), None);
        assert_eq!(MIX.delay_ms_of(Fault::Late), Some(1_200));
        assert_eq!(MIX.delay_ms_of(Fault::Slow), Some(1_200));
        assert_eq!(MIX.delay_ms_of(Fault::TimeoutAfter), Some(400));
    }

    #[test]
    fn gateways_answer_whatever_is_asked_for() {
        let drawn = |variant| Draw { percent: 60, variant };
        for operation in [Operation::Charge, Operation::Refund, Operation::Send] {
            let faults = [0, 1, 2].map(|variant| MIX.fault(operation, drawn(variant)));
            let expected = [Fault::GatewayBefore, Fault::GatewayAfter, Fault::Late];
            assert_eq!(faults, expected.map(Some));
        }
        assert_eq!(MIX.fault(Operation::Charge, Draw { percent: 80, variant: 0 }), None);
    }

    #[test]
    fn shares_above_a_hundred_are_impossible() {
        assert!(MIX.is_possible());
        assert!(!Mix { error_percent: 36, ..MIX }.is_possible());
    }
}
