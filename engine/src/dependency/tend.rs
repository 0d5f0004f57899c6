//! Looking after dependencies: what this worker saw becomes known to all, and who waits is let
//! through as the dependency can take it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::Pass;
use super::gate::Gate;
use super::health::State;
use super::slots::{self, Stake};
use crate::error::Error;
use crate::limits;
use crate::store::Hint;
use crate::store::dependency::{self as rows, Row};
use crate::worker::Worker;

/// Looks after every dependency. Says how many instances were taken up that waited for one.
pub(crate) async fn tend(worker: &Arc<Worker>) -> Result<u64, Error> {
    for gate in worker.dependencies.iter() {
        report(worker, gate).await?;
    }
    let mut taken_up = 0;
    let pool = worker.store.pool();
    let workflows = worker.workflows();
    for row in rows::read(pool, &workflows, worker.clock.pinned()).await? {
        taken_up += match worker.dependencies.get(&row.name) {
            Some(gate) => look_after(worker, gate, row).await?,
            // Nothing that this build runs calls it any more.
            None if row.parked => {
                take_up(worker, &row.name, limits::TAKEN_UP_MAX, In::Order).await?
            }
            None => 0,
        };
    }
    Ok(taken_up)
}

/// Tells the others what this worker has seen.
async fn report(worker: &Worker, gate: &Gate) -> Result<(), Error> {
    let (pool, now) = (worker.store.pool(), worker.clock.pinned());
    let name = gate.dependency.name;
    let is_up = gate.health().state == State::Up;
    if gate.take_answered() && !is_up {
        rows::note_answer(pool, name, now).await?;
    }
    let Some(failure) = gate.take_down() else {
        return Ok(());
    };
    let read = rows::read(pool, &worker.workflows(), now).await?;
    let Some(row) = read.into_iter().find(|row| row.name == name) else {
        return Ok(());
    };
    let down = row.health.failed(row.present, row.answered);
    if rows::turn(pool, name, &row.health, &down, Some(&failure)).await? {
        tracing::warn!(
            dependency = name,
            code = %failure.code,
            "{name} does not answer ({failure}); whoever needs it waits"
        );
    }
    Ok(())
}

async fn look_after(worker: &Arc<Worker>, gate: &Gate, row: Row) -> Result<u64, Error> {
    let pool = worker.store.pool();
    let name = gate.dependency.name;
    let is_wanted = row.parked || gate.is_awaited();
    let mut health = row.health;
    let mut next_turn = None;
    // Whoever can take nobody up leaves it to others to let somebody try.
    let is_mine = health.state == State::Recovering || gate.is_awaited() || worker.places() > 0;
    if health.state != State::Up && health.tend_at <= row.present && is_mine {
        let (next, count) = health.tended(row.present, row.answered, is_wanted);
        if next != health && rows::turn(pool, name, &health, &next, None).await? {
            if next.state == State::Up {
                tracing::info!(dependency = name, "{name} answers again");
            }
            gate.turned(next.clone());
            // Those who are let through are taken up here: only this worker admits them.
            next_turn = Some((count, if next.admitted == 1 { In::Turn } else { In::Order }));
            health = next;
        }
    }
    let more = match health.state {
        State::Up if row.parked => worker.places() as u32,
        State::Recovering => gate.turn().unwrap_or(0),
        _ => 0,
    };
    let is_up = health.state == State::Up;
    gate.set_health(health);
    share(worker, gate, more).await?;
    let mut taken_up = 0;
    if let Some((count, order)) = next_turn {
        taken_up += take_up(worker, name, count, order).await?;
    }
    if is_up && row.parked {
        let ahead = row.present + worker.settings.linger - row.next_call_at;
        taken_up += take_up(worker, name, room(gate, ahead), In::Order).await?;
    }
    Ok(taken_up)
}

/// Who is taken up first of those who wait.
#[derive(Debug, Clone, Copy)]
enum In {
    /// The most urgent and oldest.
    Order,
    /// Of the first of them, those that have not moved for longest. So none spends all its attempts
    /// on finding out whether a dependency is up again, and one whose calls always fail does not
    /// keep the others waiting.
    Turn,
}

/// So many instances take turns at finding out whether a dependency is up again.
const TRIED_IN_TURN: u32 = 100;

/// Takes up instances that wait for a dependency, as far as this worker can hold them.
async fn take_up(worker: &Arc<Worker>, name: &str, count: u32, order: In) -> Result<u64, Error> {
    let of = match order {
        In::Order => count,
        In::Turn => count.max(TRIED_IN_TURN),
    };
    Ok(worker.claim_parked(name, count as usize, of).await? as u64)
}

/// How many of those who wait may come. `ahead`: how far calls may be ahead of those that have a
/// turn.
fn room(gate: &Gate, ahead: TimeDelta) -> u32 {
    let free = gate.slots.available_permits() as u32;
    // One for each free slot, and one that is there when its call ends.
    let by_slots = gate.dependency.calls_max.map(|_| free * 2 + gate.take_ended());
    let by_rate = gate.dependency.rate.map(|rate| {
        let calls = |ahead: Duration| ahead.as_nanos() / rate.interval().as_nanos().max(1) + 1;
        ahead.to_std().map_or(0, |ahead| u32::try_from(calls(ahead)).unwrap_or(u32::MAX))
    });
    let most = Some(limits::TAKEN_UP_MAX);
    [by_slots, by_rate, most].into_iter().flatten().min().unwrap_or_default()
}

/// Takes this worker's share of the calls at a time. `more`: how many instances it could take up
/// that wait in the database.
async fn share(worker: &Worker, gate: &Gate, more: u32) -> Result<(), Error> {
    let Some(calls_max) = gate.dependency.calls_max else {
        return Ok(());
    };
    let (pool, name, worker_id) = (worker.store.pool(), gate.dependency.name, worker.worker_id);
    let wanted = gate.calls().saturating_add(more).min(calls_max);
    let own = Stake { worker_id, slots: gate.slots_held() as u32, wanted };
    let (stored, others) = stakes(rows::stakes(pool, name).await?, worker_id);
    let lack = |stake: &Stake| stake.wanted > stake.slots;
    let others_lack = others.iter().any(lack);
    let slots =
        if wanted == 0 && own.slots == 0 { 0 } else { slots::share(calls_max, own, &others) };
    let own = Stake { slots, ..own };
    let stored_lacks = stored.as_ref().is_some_and(lack);
    let is_told = stored.map_or(0, |stored| stored.wanted) == wanted;
    // What an earlier write has not said, since it was lost, others still take to be held here.
    if slots != stored.map_or(0, |stored| stored.slots)
        || slots as usize != gate.slots_held()
        || !is_told && (others_lack || stored_lacks || lack(&own))
    {
        // Slots in use are given back when they come free.
        let keep = gate.resize(gate.slots_held().min(slots as usize)) as u32;
        let granted = worker
            .store
            .transact(move |connection| {
                Box::pin(async move {
                    let held = rows::lock_stakes(connection, name).await?;
                    let (_, others) = stakes(held, worker_id);
                    let left = calls_max.saturating_sub(others.iter().map(|it| it.slots).sum());
                    let granted = Stake { slots: keep.max(slots.min(left)), ..own };
                    rows::hold_slots(connection, name, granted).await?;
                    Ok(granted.slots)
                })
            })
            .await?;
        gate.resize(granted as usize);
        if others_lack || granted < wanted {
            worker.store.hint(Hint::Slots).await;
        }
    }
    gate.set_lacking(others_lack || more > 0, (gate.slots_held() as u32) < wanted);
    Ok(())
}

/// What one worker has, if it has a row, and what the others have.
fn stakes(mut all: Vec<Stake>, worker_id: Uuid) -> (Option<Stake>, Vec<Stake>) {
    let place = all.iter().position(|stake| stake.worker_id == worker_id);
    (place.map(|place| all.swap_remove(place)), all)
}

impl Worker {
    /// The right to call a dependency now; `None` if whoever asks has to wait for it without
    /// memory.
    pub(crate) async fn enter(&self, name: &str) -> Result<Option<Pass>, Error> {
        let Some(gate) = self.dependencies.get(name) else {
            return Ok(Some(Pass::free()));
        };
        let Some(mut pass) = gate.admit() else {
            return Ok(None);
        };
        if gate.dependency.calls_max.is_some() {
            let slot = match gate.free_slot() {
                Some(slot) => slot,
                None => {
                    let next = Arc::clone(&gate.slots).acquire_owned();
                    match self.clock.within(self.settings.linger, next).await {
                        Some(Ok(slot)) => slot,
                        _ => return Ok(None),
                    }
                }
            };
            pass = pass.with_slot(slot);
        }
        let Some(rate) = gate.dependency.rate else {
            return Ok(Some(pass));
        };
        let turn = match gate.next_turn(self.clock.now(), rate) {
            Some(turn) => turn,
            None => {
                let interval = rate.interval();
                let linger = self.settings.linger;
                // A tenth of a second's worth at a time, if that long is waited in memory.
                let span = limits::TURNS_SPAN.min(linger);
                let count = (span.as_nanos() / interval.as_nanos().max(1)).clamp(1, 1000);
                let (pool, pinned) = (self.store.pool(), self.clock.pinned());
                let wait =
                    rows::reserve(pool, name, count as u32, interval, linger, pinned).await?;
                let Some(wait) = wait else {
                    return Ok(None);
                };
                let first = self.clock.now() + wait;
                gate.add_turns((1..count as u32).map(|n| first + interval * n).collect());
                first
            }
        };
        self.clock.sleep_until(turn).await;
        Ok(Some(pass))
    }
}
