//! Looking after dependencies: what this worker saw becomes known to all, and who waits is let
//! through as the dependency can take it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::Pass;
use super::gate::Gate;
use super::health::State;
use crate::error::Error;
use crate::limits;
use crate::step::StepError;
use crate::store::dependency::{self as rows, Row};
use crate::worker::Worker;

/// Looks after every dependency. Says how many instances were let through.
pub(crate) async fn tend(worker: &Worker) -> Result<u64, Error> {
    if worker.dependencies.iter().next().is_none() {
        return Ok(0);
    }
    for gate in worker.dependencies.iter() {
        report(worker, gate).await?;
    }
    let mut released = 0;
    let pool = worker.store.pool();
    for row in rows::read(pool, worker.clock.pinned()).await? {
        if let Some(gate) = worker.dependencies.get(&row.name) {
            released += look_after(worker, gate, row).await?;
        }
    }
    Ok(released)
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
    let read = rows::read(pool, now).await?;
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

async fn look_after(worker: &Worker, gate: &Gate, row: Row) -> Result<u64, Error> {
    let pool = worker.store.pool();
    let name = gate.dependency.name;
    let mut health = row.health;
    let mut released = 0;
    if health.state != State::Up && health.tend_at <= row.present {
        let (next, count) = health.tended(row.present, row.answered, row.parked);
        if rows::turn(pool, name, &health, &next, None).await? {
            if next.state == State::Up {
                tracing::info!(dependency = name, "{name} answers again");
            }
            let now = worker.clock.pinned();
            released += if next.admitted == 1 {
                rows::release_one(pool, name, now).await?
            } else {
                rows::release(pool, name, count, now).await?
            };
            health = next;
        }
    }
    let is_up = health.state == State::Up;
    gate.set_health(health);
    share(worker, gate).await?;
    if is_up && row.parked {
        let ahead = row.present + worker.settings.linger - row.next_call_at;
        let room = room(gate, ahead);
        released += rows::release(pool, name, room, worker.clock.pinned()).await?;
    }
    if released > 0 {
        worker.due.notify_one();
    }
    Ok(released)
}

/// How many of those who wait may come. `ahead`: how far calls may be ahead of those that have a
/// turn.
fn room(gate: &Gate, ahead: TimeDelta) -> u32 {
    let free = gate.slots.available_permits() as u32;
    let by_slots = gate.dependency.calls_max.map(|_| free + gate.take_ended());
    let by_rate = gate.dependency.rate.map(|rate| {
        let calls = |ahead: Duration| ahead.as_nanos() / rate.interval().as_nanos().max(1) + 1;
        ahead.to_std().map_or(0, |ahead| u32::try_from(calls(ahead)).unwrap_or(u32::MAX))
    });
    let most = Some(limits::RELEASE_MAX);
    [by_slots, by_rate, most].into_iter().flatten().min().unwrap_or_default()
}

/// Takes this worker's share of the calls at a time: as much as there are workers, and never more
/// than the others leave.
async fn share(worker: &Worker, gate: &Gate) -> Result<(), Error> {
    let Some(calls_max) = gate.dependency.calls_max else {
        return Ok(());
    };
    let (rank, workers) = rows::rank(worker.store.pool(), worker.worker_id).await?;
    let workers = workers.max(1);
    let fair = calls_max / workers + u32::from(rank < calls_max % workers);
    let held = gate.slots_held();
    let wanted = if (fair as usize) < held { gate.resize(fair as usize) as u32 } else { fair };
    if wanted as usize == held {
        return Ok(());
    }
    let (name, worker_id) = (gate.dependency.name, worker.worker_id);
    let granted = worker
        .store
        .transact(move |connection| {
            Box::pin(rows::hold_slots(connection, name, worker_id, wanted, calls_max))
        })
        .await?;
    gate.resize(granted as usize);
    Ok(())
}

impl Worker {
    /// Learns from how a call has ended.
    pub(crate) fn heed<T>(&self, pass: &Pass, result: &Result<T, StepError>) {
        if pass.report(result) {
            self.tending.notify_one();
        }
    }

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
            let free = Arc::clone(&gate.slots).acquire_owned();
            match self.clock.within(self.settings.linger, free).await {
                Some(Ok(slot)) => pass = pass.with_slot(slot),
                _ => return Ok(None),
            }
        }
        let Some(rate) = gate.dependency.rate else {
            return Ok(Some(pass));
        };
        let turn = match gate.next_turn() {
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
