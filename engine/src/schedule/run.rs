//! Follows the schedules of this build: looks at the clock, starts instances.
//!
//! Any number of processes do this side by side. What is decided is written where nobody else has
//! decided since; what is started is started under a business key that the firing has for ever. So
//! a process that is lost between two of these leaves nothing that the next one would do twice.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::decide::{Adopted, Head, LetGo, Plan, Standing, Turn, turn};
use super::definition::Definition;
use super::{Definitions, Firing};
use crate::engine::{Engine, Start, Started};
use crate::error::Error;
use crate::step::Failure;
use crate::store::schedule as rows;
use crate::worker::Parts;

/// Makes the definitions of this build known. Which of those that are known counts is decided when
/// they are looked at.
pub(crate) async fn introduce(parts: &Parts) -> Result<(), Error> {
    if parts.schedules.is_empty() {
        return Ok(());
    }
    let now = rows::present(parts.store.pool(), parts.clock.pinned()).await?;
    for definition in parts.schedules.iter() {
        let next_at = definition.timetable.after(now);
        rows::introduce(parts.store.pool(), &rows::Stored::of(definition), now, next_at).await?;
    }
    Ok(())
}

/// Has the definitions of this build count, where they do, and their next firings found by its time
/// zones. What cannot be done now is done at the next look.
pub(crate) async fn define(engine: &Engine) {
    loop {
        match look(engine, Look::Define).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the schedules could not be defined yet; they will be");
                return;
            }
        }
    }
}

/// Follows the schedules until the engine is closed.
pub(crate) async fn watch(engine: Engine, closed: CancellationToken) {
    let (poll, clock) = (engine.parts().settings.poll, engine.parts().clock.clone());
    if engine.parts().schedules.is_empty() {
        return;
    }
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = clock.sleep(poll) => {}
        }
        while !closed.is_cancelled() {
            match run_due(&engine).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the schedules could not be looked at; they will be");
                    break;
                }
            }
        }
    }
}

/// Does the next thing of every schedule that has something to do. Returns how many were changed;
/// those that somebody else has changed meanwhile are not among them.
pub(crate) async fn run_due(engine: &Engine) -> Result<usize, Error> {
    look(engine, Look::Follow).await
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Whatever there is to do.
    Follow,
    /// What does not count yet as this build defines it.
    Define,
}

async fn look(engine: &Engine, look: Look) -> Result<usize, Error> {
    let parts = engine.parts();
    let definitions: &Arc<Definitions> = &parts.schedules;
    if definitions.is_empty() {
        return Ok(0);
    }
    let (pool, now) = (parts.store.pool(), parts.clock.pinned());
    let mut count = 0;
    for standing in rows::due(pool, definitions, look == Look::Define, now).await? {
        let Some(definition) = definitions.get(&standing.name) else { continue };
        let done = match turn(definition, &standing) {
            Turn::Rest => continue,
            Turn::Plan(_) | Turn::Start(_) if look == Look::Define && standing.is_ours => continue,
            Turn::Plan(plan) => write(engine, definition, &standing, plan).await,
            Turn::Define(adopted) => adopt(engine, definition, &standing, adopted).await,
            Turn::Start(head) => start(engine, definition, &standing, head).await,
        };
        match done {
            Ok(changed) => count += usize::from(changed),
            Err(error) => {
                let name = &standing.name;
                tracing::warn!(%error, schedule.name = name, "schedule {name} could not fire; it will be tried again");
            }
        }
    }
    Ok(count)
}

async fn write(
    engine: &Engine,
    definition: &Definition,
    standing: &Standing,
    plan: Plan,
) -> Result<bool, Error> {
    let (parts, name) = (engine.parts(), &standing.name);
    parts.probes.reach("schedule.decided").await;
    if !rows::plan(parts.store.pool(), engine.worker().worker_id, standing, &plan).await? {
        return Ok(false);
    }
    parts.probes.reach("schedule.planned").await;
    warn_of_missed(definition, standing, plan.missed);
    if let Some(skipped) = &plan.skipped {
        parts.metrics.firings_skipped.inc();
        tracing::warn!(schedule.name = name, "schedule {name} skipped a firing: {skipped}");
    }
    Ok(true)
}

/// Stores a definition of this build, where it counts and is not stored.
async fn adopt(
    engine: &Engine,
    definition: &Definition,
    standing: &Standing,
    adopted: Adopted,
) -> Result<bool, Error> {
    let (pool, worker_id) = (engine.parts().store.pool(), engine.worker().worker_id);
    let stored = rows::Stored::of(definition);
    if !rows::adopt(pool, worker_id, standing, &stored, &adopted).await? {
        return Ok(false);
    }
    let name = &standing.name;
    tracing::info!(schedule.name = name, "schedule {name} counts as this process defines it");
    warn_of_missed(definition, standing, adopted.missed);
    Ok(true)
}

fn warn_of_missed(definition: &Definition, standing: &Standing, missed: Option<LetGo>) {
    if let Some((from, _)) = missed {
        let name = &standing.name;
        let from = standing.before.as_ref().unwrap_or(&definition.timetable).key(from);
        tracing::warn!(
            schedule.name = name,
            "schedule {name} let firings go that were missed, from {from} on"
        );
    }
}

async fn start(
    engine: &Engine,
    definition: &Definition,
    standing: &Standing,
    head: Head,
) -> Result<bool, Error> {
    let (parts, worker_id) = (engine.parts(), engine.worker().worker_id);
    let outcome = started(engine, definition, &head).await?;
    parts.probes.reach("schedule.started").await;
    let known = outcome.as_ref().copied();
    if !rows::settle(parts.store.pool(), worker_id, standing, &head, known).await? {
        return Ok(false);
    }
    match outcome {
        Ok(_) => drop(parts.metrics.firings_started.inc()),
        Err(refused) => {
            let (name, key) = (&standing.name, &head.key);
            tracing::error!(
                schedule.name = name,
                "schedule {name} could not start {key}: {refused}"
            );
        }
    }
    Ok(true)
}

/// Starts the instance of a firing, or finds the one that was started for it.
async fn started(
    engine: &Engine,
    definition: &Definition,
    head: &Head,
) -> Result<Result<Uuid, Failure>, Error> {
    let firing = Firing { schedule: definition.schedule.name, at: head.local()? };
    let input = match definition.input(&firing) {
        Ok(input) => input,
        Err(refused) => return Ok(Err(refused)),
    };
    let start = Start {
        workflow: definition.workflow,
        business_key: format!("{}/{}", definition.schedule.name, head.key),
        input,
        delivery: None,
        priority: definition.priority,
    };
    match engine.start(start).await {
        Ok(Started::New(id) | Started::Replayed(id) | Started::Duplicate(id)) => Ok(Ok(id)),
        // Only a delivery can conflict, and there is none.
        Ok(Started::Conflict) => Err(Error::Unavailable),
        Err(Error::InvalidInput(why)) => Ok(Err(Failure::new("INPUT_REFUSED", why))),
        Err(error) => Err(error),
    }
}
