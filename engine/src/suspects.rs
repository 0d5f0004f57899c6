//! Trying suspects, a few at a time: see [`crate::quarantine`] for whom, when and how many.

use std::sync::{Arc, MutexGuard};

use crate::error::Error;
use crate::quarantine::{Quarantine, lost_after_max};
use crate::store::claim::Claimed;
use crate::store::suspect;
use crate::worker::Worker;

impl Worker {
    /// Clears the suspects that can be cleared, and takes up others to be tried. Returns how many
    /// were cleared or taken up.
    pub(crate) async fn try_suspects(self: &Arc<Self>) -> Result<usize, Error> {
        let cleared = self.clear_suspects().await?;
        let taken_up = self.take_up_suspects().await;
        let on_trial = self.quarantine().on_trial().map_or(0, |(_, count)| count);
        self.metrics.suspects_on_trial.set(i64::try_from(on_trial).unwrap_or(i64::MAX));
        Ok(cleared + taken_up?)
    }

    /// Watches an instance that was claimed, if it has lost workers before.
    pub(crate) fn watch(&self, claimed: &Claimed) {
        let now = self.clock.now();
        self.quarantine().watch(claimed.instance_id, claimed.lost, now);
    }

    async fn clear_suspects(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let cleared = self.quarantine().review(now, |id| self.standing(id));
        let count = cleared.progressed.len() + cleared.survived.len();
        if count > 0 {
            let (progressed, survived) = (&cleared.progressed, &cleared.survived);
            suspect::clear(self.store.pool(), self.worker_id, progressed, survived).await?;
            self.quarantine().clear(&cleared);
        }
        Ok(count)
    }

    async fn take_up_suspects(self: &Arc<Self>) -> Result<usize, Error> {
        let workflows = self.workflows();
        let lived = (self.clock.now() - self.since).num_seconds();
        let lived = i32::try_from(lived.max(0)).unwrap_or(i32::MAX);
        let on_trial = self.quarantine().on_trial();
        let (level, count) = match on_trial {
            Some(on_trial) => on_trial,
            None => match suspect::next_level(self.store.pool(), &workflows, lived).await? {
                Some(level) => (level, 0),
                None => return Ok(0),
            },
        };
        let room = self.quarantine().room(level, count);
        let permits: Vec<_> = std::iter::from_fn(|| self.permit()).take(room).collect();
        if permits.is_empty() {
            return Ok(0);
        }
        let claim = self.claim_of(&workflows, permits.len());
        let lost_after = lost_after_max(lived, level);
        let mut lent = self.store.pool().acquire().await?;
        let (session, watch) = lent.lend()?;
        let claiming = suspect::claim_suspects(session, &claim, level, lost_after);
        let claimed = watch.over(claiming).await;
        self.settle_claim(&claim, claimed, permits).await
    }

    fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        self.quarantine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
