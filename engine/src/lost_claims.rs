//! Claims whose answers were lost: what they took is looked for by their names.
//!
//! A statement whose connection is gone may still be at work, or stand still and go on an hour
//! later. So a claim is never forgotten as long as its worker lives; it is only looked for less
//! often.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::limits;

/// The lost claims of a worker.
#[derive(Debug, Default)]
pub(crate) struct LostClaims(Vec<LostClaim>);

#[derive(Debug)]
struct LostClaim {
    claim_id: Uuid,
    since: DateTime<Utc>,
    next_look: DateTime<Utc>,
}

impl LostClaims {
    /// Adds a claim that was made at `now`.
    pub(crate) fn add(&mut self, claim_id: Uuid, now: DateTime<Utc>) {
        self.0.push(LostClaim { claim_id, since: now, next_look: now });
    }

    /// The claims that are to be looked for at `now`.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Vec<Uuid> {
        self.0.iter().filter(|lost| lost.next_look <= now).map(|lost| lost.claim_id).collect()
    }

    /// Everything was taken up that the due claims had taken by `now`.
    pub(crate) fn looked(&mut self, now: DateTime<Utc>) {
        let timeout = TimeDelta::from_std(limits::STATEMENT_TIMEOUT).unwrap_or_default();
        for lost in self.0.iter_mut().filter(|lost| lost.next_look <= now) {
            let is_old = now - lost.since > timeout * 2;
            lost.next_look = if is_old { now + timeout } else { now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_lost_claim_is_looked_for_at_every_turn_while_its_statement_may_be_at_work_and_then_rarely()
    {
        let mut lost = LostClaims::default();
        lost.add(Uuid::nil(), at(0));
        for now in [0, 1, 30, 60, 61] {
            assert_eq!(lost.due(at(now)), [Uuid::nil()], "{now} s");
            lost.looked(at(now));
        }
        assert!(lost.due(at(62)).is_empty());
        assert_eq!(lost.due(at(91)), [Uuid::nil()]);
        // Not everything could be taken up.
        assert_eq!(lost.due(at(92)), [Uuid::nil()]);
        lost.looked(at(92));
        assert!(lost.due(at(121)).is_empty());
        assert_eq!(lost.due(at(7200)), [Uuid::nil()]);
    }
}
