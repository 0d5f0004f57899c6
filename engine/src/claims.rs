//! What a worker takes up: what is due, what waits for a dependency, and what it has claimed without
//! having been told.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard};

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::error::Error;
use crate::instance::Instance;
use crate::limits;
use crate::lost_claims::LostClaims;
use crate::store::claim::{self, Claim, Claimed};
use crate::turns::Turns;
use crate::worker::{Worker, new_id};

impl Worker {
    /// Claims due instances, as many as there are permits for. Returns how many it got.
    pub(crate) async fn claim(self: &Arc<Self>) -> Result<usize, Error> {
        let found = self.find_lost_claims().await?;
        let permits = self.permits_for(limits::CLAIM_MAX);
        if permits.is_empty() {
            return Ok(found);
        }
        let mut workflows = self.workflows();
        let first = self.turns().version(workflows.0.len());
        // A flood of one version is not to keep the others waiting.
        workflows.0.rotate_left(first);
        workflows.1.rotate_left(first);
        let claim = self.claim_of(&workflows, permits.len());
        // What was never sent cannot have claimed anything.
        let mut lent = self.store.pool().acquire().await?;
        let (session, watch) = lent.lend()?;
        let portions = self.turns().portions(claim.limit);
        let claiming = watch.over(claim::claim_instances(session, &claim, &portions));
        let claimed = self.metrics.claim.time(claiming).await;
        let count = self.settle_claim(&claim, claimed, permits).await?;
        self.turns().claimed(count, claim.limit);
        Ok(found + count)
    }

    /// Claims instances that wait for the dependency `name`, at most `count`: of the first `of`
    /// those that have not moved for longest. Returns how many it got.
    pub(crate) async fn claim_parked(
        self: &Arc<Self>,
        name: &str,
        count: usize,
        of: u32,
    ) -> Result<usize, Error> {
        let permits = self.permits_for(count.min(limits::CLAIM_MAX));
        if permits.is_empty() {
            return Ok(0);
        }
        let workflows = self.workflows();
        let claim = self.claim_of(&workflows, permits.len());
        let mut lent = self.store.pool().acquire().await?;
        let (session, watch) = lent.lend()?;
        let claimed = watch.over(claim::claim_parked(session, &claim, name, of)).await;
        self.settle_claim(&claim, claimed, permits).await
    }

    /// How many more instances it can hold of those that are taken up. What comes in from outside
    /// begins at once, however many those are.
    pub(crate) fn places(&self) -> usize {
        let kept = self.settings.instances_max / limits::KEPT_FOR_INTAKE;
        self.permits.available_permits().saturating_sub(kept)
    }

    /// Permits to take up at most `count` instances.
    fn permits_for(&self, count: usize) -> Vec<OwnedSemaphorePermit> {
        let permit = || (self.places() > 0).then(|| self.permit()).flatten();
        std::iter::from_fn(permit).take(count).collect()
    }

    /// Names and versions of the workflows that it can run.
    pub(crate) fn workflows(&self) -> (Vec<String>, Vec<i32>) {
        let workflows = self.registry.iter();
        workflows
            .map(|workflow| (workflow.name().to_owned(), workflow.version().cast_signed()))
            .unzip()
    }

    /// A claim of so many instances of these workflows.
    pub(crate) fn claim_of<'a>(
        &self,
        workflows: &'a (Vec<String>, Vec<i32>),
        limit: usize,
    ) -> Claim<'a> {
        let (claim_id, worker_id, now) = (new_id(), self.worker_id, self.clock.pinned());
        Claim { claim_id, worker_id, workflows, limit, now }
    }

    /// Takes up what was claimed, and returns how many. What the lost answer to a claim held is
    /// looked for later.
    pub(crate) async fn settle_claim(
        self: &Arc<Self>,
        claim: &Claim<'_>,
        claimed: Result<Vec<Claimed>, Error>,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> Result<usize, Error> {
        match claimed {
            Ok(claimed) => Ok(self.take_up(claimed, permits).await),
            Err(error) => {
                self.lost_claims().add(claim.claim_id, self.clock.now());
                Err(error)
            }
        }
    }

    /// Takes up what was claimed by statements whose answers were lost, and returns how many.
    async fn find_lost_claims(self: &Arc<Self>) -> Result<usize, Error> {
        let now = self.clock.now();
        let lost = self.lost_claims().due(now);
        if lost.is_empty() {
            return Ok(0);
        }
        // Looked at first: what is held when the rows are read is driven already.
        let held: HashSet<Uuid> = self.held().keys().copied().collect();
        let mut found = claim::find_claimed(self.store.pool(), self.worker_id, &lost).await?;
        found.retain(|one| !held.contains(&one.instance_id));
        let permits: Vec<_> = std::iter::from_fn(|| self.permit()).take(found.len()).collect();
        if permits.len() == found.len() {
            self.lost_claims().looked(now);
        }
        Ok(self.take_up(found, permits).await)
    }

    async fn take_up(
        self: &Arc<Self>,
        claimed: Vec<Claimed>,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> usize {
        let mut count = 0;
        for (claimed, permit) in claimed.into_iter().zip(permits) {
            self.probes.reach("claim.after").await;
            // Only registered versions are claimed.
            if let Some(workflow) = self.registry.get(&claimed.workflow, claimed.version) {
                let workflow = Arc::clone(workflow);
                self.watch(&claimed);
                self.hold(Instance::claimed(Arc::clone(self), workflow, claimed), permit);
                count += 1;
            }
        }
        self.metrics.claimed.inc_by(count as u64);
        count
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lost_claims(&self) -> MutexGuard<'_, LostClaims> {
        self.lost_claims.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
