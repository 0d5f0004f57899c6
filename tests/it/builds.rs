//! What a build has to bring for instances that another build has begun: also for children that have
//! completed, and for what is undone.

mod families;
mod stock;
mod undoing;

use amends::check::{Checked, Report};
use amends::{Engine, EngineBuilder};
use amends_tests::World;

/// Holds a build against what a world has.
async fn check(
    world: &World,
    with: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> (Report, Vec<Checked>) {
    let mut all = Vec::new();
    let builder = with(Engine::builder(world.options()));
    let report = builder.check(|checked| all.push(checked.clone())).await.unwrap();
    (report, all)
}
