//! Follows the schedules of this build: looks at the clock, starts instances.
//!
//! Any number of processes do this side by side. What is decided is written where nobody else has
//! decided since; what is started is started under a business key that the firing has for ever. So
//! a process that is lost between two of these leaves nothing that the next one would do twice.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::decide::{Head, Plan, Standing, Turn, turn};
use super::definition::Definition;
use super::{Definitions, Firing};
use crate::engine::{Engine, Start, Started};
use crate::error::Error;
use crate::priority::Priority;
use crate::step::Failure;
use crate::store::schedule as rows;
use crate::worker::Parts;

/// Stores the definitions of this build.
pub(crate) async fn define(parts: &Parts) -> Result<(), Error> {
    if parts.schedules.is_empty() {
        return Ok(());
    }
    let now = rows::present(parts.store.pool(), parts.clock.pinned()).await?;
    for definition in parts.schedules.iter() {
        let schedule = definition.schedule;
        let row = rows::NewSchedule {
            name: schedule.name,
            definition: definition.text(),
            cron: schedule.cron,
            zone: schedule.zone,
            workflow: definition.workflow,
            gap: schedule.gap.to_string(),
            overlap: schedule.overlap.to_string(),
            next_at: definition.timetable.after(now),
        };
        rows::define(parts.store.pool(), row).await?;
    }
    Ok(())
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
    let parts = engine.parts();
    let definitions: &Arc<Definitions> = &parts.schedules;
    if definitions.is_empty() {
        return Ok(0);
    }
    let pool = parts.store.pool();
    let mut count = 0;
    for standing in rows::due(pool, &definitions.texts(), parts.clock.pinned()).await? {
        let Some(definition) = definitions.get(&standing.name) else { continue };
        let done = match turn(definition, &standing) {
            Turn::Rest => continue,
            Turn::Plan(plan) => write(engine, definition, &standing, plan).await,
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
    let planned = rows::Planned {
        standing,
        next_at: plan.next_at,
        missed: plan.missed,
        keys: plan.firings.iter().map(|at| definition.timetable.key(*at)).collect(),
        times: plan.firings,
        skipped: plan.skipped.as_ref(),
    };
    parts.probes.reach("schedule.decided").await;
    if !rows::plan(parts.store.pool(), engine.worker().worker_id, &planned).await? {
        return Ok(false);
    }
    parts.probes.reach("schedule.planned").await;
    if let Some((from, _)) = plan.missed {
        let from = definition.timetable.key(from);
        tracing::warn!(
            schedule.name = name,
            "schedule {name} let firings go that were missed, from {from} on"
        );
    }
    if let Some(skipped) = &plan.skipped {
        parts.metrics.firings_skipped.inc();
        tracing::warn!(schedule.name = name, "schedule {name} skipped a firing: {skipped}");
    }
    Ok(true)
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
    let firing =
        Firing { schedule: definition.schedule.name, at: definition.timetable.local(head.at) };
    let input = match definition.input(&firing) {
        Ok(input) => input,
        Err(refused) => return Ok(Err(refused)),
    };
    let start = Start {
        workflow: definition.workflow,
        business_key: format!("{}/{}", definition.schedule.name, head.key),
        input,
        delivery: None,
        priority: Priority::Normal,
    };
    match engine.start(start).await {
        Ok(Started::New(id) | Started::Replayed(id) | Started::Duplicate(id)) => Ok(Ok(id)),
        // Only a delivery can conflict, and there is none.
        Ok(Started::Conflict) => Err(Error::Unavailable),
        Err(Error::InvalidInput(why)) => Ok(Err(Failure::new("INPUT_REFUSED", why))),
        Err(error) => Err(error),
    }
}
