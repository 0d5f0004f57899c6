//! One scenario again and again, each time with a crash at another probe point.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::KitBuilder;
use super::ending::{Ending, Endings};
use crate::crash::Crash;

/// Runs a scenario to its end, and then once for every probe point that the engine reaches, with a
/// crash there. The engine that takes over has to come to the same end. Returns the points at which
/// it was crashed.
///
/// The scenario builds one kit with the builder that it is given, does what it wants, and ends with
/// [`super::Kit::finish`]. It notices nothing of the crash: whatever it was just doing goes on with
/// the next engine, at the same time of the clock. So what it asserts on the way has to hold with
/// and without a crash; where it can crash in the middle of a step that is queried after a quiet
/// period, it lets that time pass.
///
/// Compared are the status of every instance, its records but those that only a crash leaves, its
/// events, and what the scenario returns. That should be what the outside world has seen, such as
/// the calls that a provider has applied: only by this does a step show that is not idempotent.
///
/// # Panics
///
/// With the name of the probe point, if a crash there makes a difference, or if the scenario panics.
pub async fn crash_everywhere<T: Debug + PartialEq>(
    scenario: impl AsyncFn(KitBuilder) -> T,
) -> Vec<&'static str> {
    let (uninterrupted, _) = run(&scenario, None).await;
    let mut crashed = Vec::new();
    loop {
        let nth = crashed.len();
        let (ended, crash) = run(&scenario, Some(nth)).await;
        if !crash.has_happened() {
            return crashed;
        }
        let point = crash.reached()[nth];
        let whence = format!("a crash at point {nth}, {point}, makes a difference");
        let difference = uninterrupted.0.difference(&ended.0);
        assert!(uninterrupted.0 == ended.0, "{whence}:\n{difference}");
        assert_eq!(uninterrupted.1, ended.1, "{whence}");
        crashed.push(point);
    }
}

async fn run<T>(
    scenario: &impl AsyncFn(KitBuilder) -> T,
    nth: Option<usize>,
) -> ((Ending, T), Crash) {
    let endings = Arc::new(Endings::default());
    let (builder, crash) = KitBuilder::crashing_at(nth, Arc::clone(&endings));
    match AssertUnwindSafe(scenario(builder)).catch_unwind().await {
        Ok(returned) => ((endings.take(), returned), crash),
        Err(panic) => {
            let point = nth.and_then(|nth| crash.reached().get(nth).copied());
            if let (Some(nth), Some(point)) = (nth, point) {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                panic!("with a crash at point {nth}, {point}: {}", message.unwrap_or("a panic"));
            }
            std::panic::resume_unwind(panic)
        }
    }
}
