//! A crash at every probe point that an order reaches: the end is the same.
//!
//! The engine is stopped at the point for ever and lost with everything it has in memory; its
//! database connections and its row stay, as after a kill. The providers are real and remember.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Started, Status};
use amends_tests::crash::Crash;
use amends_tests::{World, orders, timeline};

const KEY: &str = "acme.myshopify.com/1001";

/// What the world looks like when all is over.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    status: Status,
    outline: Vec<String>,
    applied: Vec<(String, String)>,
    events: Vec<String>,
}

async fn ending(world: &World) -> Ending {
    let filter = amends::view::Filter { limit: 10, ..Default::default() };
    let instances = world.engine().instances(&filter).await.unwrap();
    let [instance] = instances.as_slice() else { panic!("not one instance: {instances:?}") };
    let mut events = Vec::new();
    for kind in world.recorder().kinds(KEY) {
        // At least once, in order: a repetition may only repeat what has just been said.
        if !events.contains(&kind) {
            events.push(kind);
        }
    }
    Ending {
        status: instance.status,
        outline: timeline::outline(&world.history(instance.instance_id).await),
        applied: world
            .providers()
            .applied(KEY)
            .await
            .into_iter()
            .map(|applied| (applied.provider, applied.operation))
            .collect(),
        events,
    }
}

/// Runs one order, with a crash at probe point number `nth`. Returns how it ended, and which points
/// were reached.
async fn run(fault: Option<(&str, &str, &str)>, nth: Option<usize>) -> (Ending, Vec<&'static str>) {
    let (crash, probes) = Crash::at(nth);
    let mut world = World::builder().probes(probes).build().await;
    if let Some((provider, operation, fault)) = fault {
        world.providers().fault(provider, operation, fault, None).await;
    }
    let order = orders::order("1001");
    let ran = async {
        let _ = world.start(&order).await;
        world.settle().await;
    };
    let crashed = tokio::select! {
        () = ran => false,
        () = crash.happened() => true,
    };
    if crashed {
        world.crash().await;
        // Whoever got no answer asks again.
        let again = world.start(&order).await.unwrap();
        assert!(!matches!(again, amends::Started::Conflict));
        world.outlive_lease().await;
        world.pass(Duration::from_secs(60)).await;
    }
    let ended = ending(&world).await;
    world.finish().await;
    crash.release();
    (ended, crash.reached())
}

async fn a_crash_at_every_point_ends_as_if_there_had_been_none(
    fault: Option<(&str, &str, &str)>,
    status: Status,
) {
    let (uninterrupted, points) = run(fault, None).await;
    assert_eq!(uninterrupted.status, status);
    assert!(points.len() > 20, "only {} points were reached", points.len());
    for (nth, point) in points.iter().enumerate() {
        let (ended, reached) = run(fault, Some(nth)).await;
        assert_eq!(reached.get(nth), Some(point), "the order of points is the same every time");
        assert_eq!(ended, uninterrupted, "after a crash at point {nth}, {point}");
    }
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
    let (_, points) = run(None, None).await;
    let mut answers = Vec::new();
    for (nth, point) in points.iter().enumerate() {
        let (crash, probes) = Crash::at(Some(nth));
        let mut world = World::builder().probes(probes).build().await;
        let order = orders::order("1001");
        tokio::select! {
            () = async { let _ = world.start(&order).await; world.settle().await } => {}
            () = crash.happened() => {}
        }
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
        crash.release();
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
