//! A crash at every probe point that an order reaches: the end is the same.
//!
//! The engine is stopped at the point for ever and lost with everything it has in memory; only its
//! row stays, as after a kill. The providers are real and remember.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Started, Status};
use amends_tests::crash::Crash;
use amends_tests::kit::crash_everywhere;
use amends_tests::{World, orders, timeline};
use uuid::Uuid;

const KEY: &str = "acme.myshopify.com/1001";

async fn a_crash_at_every_point_ends_as_if_there_had_been_none(
    fault: Option<(&str, &str, &str)>,
    status: Status,
) {
    let points = crash_everywhere(async |kit| {
        let world = World::builder().kit(kit).build().await;
        if let Some((provider, operation, fault)) = fault {
            world.providers().fault(provider, operation, fault, None).await;
        }
        let id = world.start_order("1001").await;
        world.settle().await;
        assert_eq!(world.status(id).await, status);
        let seen = seen(&world, id).await;
        world.finish().await;
        seen
    });
    let points = points.await;
    assert!(points.len() > 20, "only {} points were reached", points.len());
}

/// Steps are taken one after the other, so that order counts: of the records, of what the providers
/// did, and of the events.
async fn seen(world: &World, id: Uuid) -> [Vec<String>; 3] {
    let applied = world.providers().applied(KEY).await.into_iter();
    let mut events = Vec::new();
    for kind in world.recorder().kinds(KEY) {
        // At least once, in order: a repetition may only repeat what has just been said.
        if !events.contains(&kind) {
            events.push(kind);
        }
    }
    [
        timeline::outline(&world.history(id).await),
        applied.map(|applied| format!("{} {}", applied.provider, applied.operation)).collect(),
        events,
    ]
}

#[tokio::test]
async fn a_good_order_survives_a_crash_at_every_point() {
    a_crash_at_every_point_ends_as_if_there_had_been_none(None, Status::Completed).await;
}

#[tokio::test]
async fn a_refused_shipment_survives_a_crash_at_every_point() {
    let fault = Some(("carrier", "ship", "refuse"));
    a_crash_at_every_point_ends_as_if_there_had_been_none(fault, Status::Compensated).await;
}

#[tokio::test]
async fn a_declined_payment_survives_a_crash_at_every_point() {
    let fault = Some(("payment", "charge", "decline"));
    a_crash_at_every_point_ends_as_if_there_had_been_none(fault, Status::Compensated).await;
}

/// The worker is lost at each point in turn, and a person cancels before anybody else has taken the
/// order up: whatever he is told is what happens.
#[tokio::test]
async fn a_cancel_after_a_crash_at_every_point_is_answered_truly() {
    let mut answers = Vec::new();
    for nth in 0.. {
        let (crash, probes) = Crash::at(Some(nth));
        let mut world = World::builder().probes(probes).build().await;
        let order = orders::order("1001");
        tokio::select! {
            () = async { let _ = world.start(&order).await; world.settle().await } => {}
            () = crash.happened() => {}
        }
        if !crash.has_happened() {
            break;
        }
        let point = crash.reached()[nth];
        world.crash().await;
        let started = world.start(&order).await.unwrap();
        let (Started::New(id) | Started::Replayed(id)) = started else { panic!("{started:?}") };
        let answer = world.command(id, Command::Cancel).await;
        world.outlive_lease().await;
        world.pass(Duration::from_secs(60)).await;
        let status = world.instance(id).await.status;
        let expected = match answer {
            Answer::Accepted => Status::Cancelled,
            Answer::PastPivot | Answer::AlreadyEnded => Status::Completed,
            other => panic!("at point {nth}: {other:?}"),
        };
        assert_eq!(status, expected, "told {answer:?} at point {nth}, {point}");
        check_effects(&world, status).await;
        answers.push(answer);
        world.finish().await;
    }
    for answer in [Answer::Accepted, Answer::PastPivot, Answer::AlreadyEnded] {
        assert!(answers.contains(&answer), "no crash led to {answer:?}");
    }
}

/// A cancelled order leaves nothing applied; a completed one everything, once.
async fn check_effects(world: &World, status: Status) {
    let counts = world.providers().counts(KEY).await;
    let count = |operation: &str| counts.get(operation).copied().unwrap_or_default();
    for (applied, undone) in [("reserve", "release"), ("issue", "void"), ("charge", "refund")] {
        assert!(count(applied) <= 1, "{applied} was applied twice");
        match status {
            Status::Completed => assert_eq!((count(applied), count(undone)), (1, 0), "{applied}"),
            _ => assert_eq!(count(applied), count(undone), "{applied}"),
        }
    }
    assert_eq!(count("ship"), usize::from(status == Status::Completed));
}

/// An order whose shipment is refused, with these probes.
async fn refused_world(probes: amends::probe::Probes) -> World {
    let world = World::builder().probes(probes).build().await;
    world.providers().fault("carrier", "ship", "refuse", None).await;
    world
}

/// A provider that is asked again repeats what it said first, so it has to be known that it was.
#[tokio::test]
async fn a_worker_that_is_lost_in_the_middle_of_an_undo_leaves_a_record() {
    let (watch, probes) = Crash::at(None);
    let world = refused_world(probes).await;
    world.start_order("1001").await;
    world.settle().await;
    world.finish().await;
    let nth = watch.reached().iter().position(|point| *point == "undo.after");
    let (crash, probes) = Crash::at(nth);
    let mut world = refused_world(probes).await;
    let id = world.start_order("1001").await;
    tokio::select! {
        () = world.settle() => {}
        () = crash.happened() => {}
    }
    assert_eq!(world.status(id).await, Status::Compensating);
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(world.status(id).await, Status::Compensated);
    let kinds: Vec<_> = world.history(id).await.into_iter().map(|it| it.kind).collect();
    let planned = kinds.iter().position(|kind| kind == "compensation_planned").unwrap();
    assert_eq!(kinds[planned + 1], "worker_lost", "{kinds:?}");
    world.finish().await;
}
