//! One scenario again and again, each time with a crash at another probe point, or with another
//! request to the database lost.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::KitBuilder;
use super::ending::{Ending, Endings};
use crate::crash::Crash;
use crate::detour::{Detour, Loss};

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
    let expected = run(&scenario, KitBuilder::default(), String::new).await;
    let mut crashed = Vec::new();
    loop {
        let nth = crashed.len();
        let (crash, probes) = Crash::at(Some(nth));
        let point = || crash.reached().get(nth).copied().unwrap_or("which is not reached");
        let whence = || format!("a crash at point {nth}, {}", point());
        let ended = run(&scenario, KitBuilder::default().crash(&crash, probes), whence).await;
        if !crash.has_happened() {
            return crashed;
        }
        compare(&expected, &ended, whence);
        crashed.push(point());
    }
}

/// More than a scenario takes, whatever happens meanwhile.
const END: Duration = Duration::from_secs(60);

/// How far apart requests are that are lost in one run.
const APART: usize = 8;

/// Runs a scenario to its end, and then again and again, with requests to the database lost,
/// together with their connections, before the database has heard of them, with the answers to them
/// lost, and with the database hearing of them too late. The engine goes on, and has to come to the
/// same end. Returns the statements that this was done to, all that the scenario makes.
///
/// A run for each request would take too long: each loses every eighth, from another one on. What
/// is asked again after a loss moves those that follow, so statements that were spared by all runs
/// are lost by name afterwards, several in a run.
///
/// What is said of scenarios at [`crash_everywhere`] holds here too, save that nothing crashes:
/// what asks the engine for something past the kit does it by [`super::Kit::ask`].
///
/// # Panics
///
/// With the statements, if their loss makes a difference, or if they cannot be lost, or if the
/// scenario panics.
pub async fn lose_everywhere<T: Debug + PartialEq>(
    scenario: impl AsyncFn(KitBuilder) -> T,
) -> BTreeSet<String> {
    let (expected, requests) = undisturbed(&scenario).await;
    for loss in [Loss::Request, Loss::Answer] {
        let mut spared: BTreeSet<&String> = requests.iter().collect();
        for first in 0..APART {
            let these = (first..requests.len()).step_by(APART);
            let lost = lose(&scenario, &expected, Detour::losing(these, loss), loss).await;
            spared.retain(|statement| !lost.contains(statement));
        }
        for together in [APART, 1] {
            let left: Vec<_> = spared.iter().copied().collect();
            for some in left.chunks(together) {
                let detour = Detour::default();
                some.iter().for_each(|statement| detour.lose_next(statement, loss));
                let lost = lose(&scenario, &expected, detour, loss).await;
                spared.retain(|statement| !lost.contains(statement));
            }
        }
        assert!(spared.is_empty(), "nothing loses a {loss:?} of {spared:#?}");
    }
    for first in 0..APART {
        let these = (first..requests.len()).step_by(APART);
        lose(&scenario, &expected, Detour::losing(these, Loss::Late), Loss::Late).await;
    }
    requests.into_iter().collect()
}

/// Runs a scenario to its end, and then once more with a request of the first statement lost, or the
/// answer to it, and then the request of the second one that comes of this.
///
/// # Panics
///
/// If the second one comes of no loss of the first one, and as [`lose_everywhere`] does.
pub async fn lose_both<T: Debug + PartialEq>(
    scenario: impl AsyncFn(KitBuilder) -> T,
    [first, second]: [&str; 2],
    loss: Loss,
) {
    let (expected, requests) = undisturbed(&scenario).await;
    for nth in 0..requests.iter().filter(|statement| *statement == first).count() {
        let detour = Detour::default();
        detour.lose_nth(first, nth, loss);
        detour.lose_next(second, loss);
        if lose(&scenario, &expected, detour, loss).await == [first, second] {
            return;
        }
    }
    panic!("nobody asks for {second:?} after a loss of {first:?}");
}

/// How a scenario ends if nothing is lost, and the requests that it makes.
async fn undisturbed<T>(scenario: &impl AsyncFn(KitBuilder) -> T) -> ((Ending, T), Vec<String>) {
    let usual = Detour::default();
    let ended = run(scenario, KitBuilder::default().detour(&usual), String::new).await;
    (ended, usual.requests())
}

/// Runs a scenario that is to end as expected, whatever is lost. Returns what was.
async fn lose<T: Debug + PartialEq>(
    scenario: &impl AsyncFn(KitBuilder) -> T,
    expected: &(Ending, T),
    detour: Detour,
    loss: Loss,
) -> Vec<String> {
    let whence = || format!("each {loss:?} of {:#?} lost", detour.lost());
    let ended = run(scenario, KitBuilder::default().detour(&detour), whence).await;
    compare(expected, &ended, whence);
    detour.lost()
}

/// Runs a scenario once, as it is. Returns the probe points that it reaches, and the requests that
/// it makes of the database.
pub async fn watch<T>(scenario: impl AsyncFn(KitBuilder) -> T) -> (Vec<&'static str>, Vec<String>) {
    let (crash, probes) = Crash::at(None);
    let detour = Detour::default();
    scenario(KitBuilder::default().probes(probes).detour(&detour)).await;
    (crash.reached(), detour.requests())
}

/// Runs a scenario; one that panics says with what.
async fn run<T>(
    scenario: &impl AsyncFn(KitBuilder) -> T,
    builder: KitBuilder,
    whence: impl Fn() -> String,
) -> (Ending, T) {
    let endings = Arc::new(Endings::default());
    let builder = builder.endings(&endings);
    let ended = tokio::time::timeout(END, AssertUnwindSafe(scenario(builder)).catch_unwind());
    match ended.await {
        Ok(Ok(returned)) => (endings.take(), returned),
        Err(_) => panic!("with {}: it does not come to an end", whence()),
        Ok(Err(panic)) => {
            let whence = whence();
            if whence.is_empty() {
                std::panic::resume_unwind(panic)
            }
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            panic!("with {whence}: {}", message.unwrap_or("a panic"));
        }
    }
}

fn compare<T: Debug + PartialEq>(
    expected: &(Ending, T),
    ended: &(Ending, T),
    whence: impl Fn() -> String,
) {
    let difference = expected.0.difference(&ended.0);
    assert!(expected.0 == ended.0, "{}, makes a difference:\n{difference}", whence());
    assert_eq!(expected.1, ended.1, "{}, makes a difference", whence());
}
