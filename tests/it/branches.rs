//! Steps side by side, and timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Started, Status, StepError};
use amends_tests::crash::Crash;
use amends_tests::improvised::{Packed, Part, Stage, send, start, start_request};
use amends_tests::scripted::{Act, retry};
use futures::FutureExt;

const MINUTE: Duration = Duration::from_secs(60);

/// Branches begin in any order.
fn sorted(mut log: Vec<String>) -> Vec<String> {
    log.sort();
    log
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn one_failing_branch_lets_the_others_finish_and_then_everything_is_undone() {
    let fails = Part::default().acts([Act::Err(StepError::fail("NO", "no"))]);
    let stage = Stage::new(Part::default(), fails, Part::default());
    let world = stage
        .world(|saga, stage| {
            async move {
                let (one, two, three) = (text("1"), text("2"), text("3"));
                tokio::try_join!(
                    saga.run(&stage.a, &one),
                    saga.run(&stage.b, &two),
                    saga.run(&stage.c, &three),
                )?;
                Ok(text("never"))
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    let mut log = stage.log();
    let undone = log.split_off(3);
    assert_eq!(sorted(log), ["a 1", "b 2", "c 3"]);
    assert_eq!(sorted(undone), ["undo a 1", "undo c 3"]);
    world.finish().await;
}

#[tokio::test]
async fn a_branch_that_waits_for_its_next_attempt_does_not_hold_up_the_others() {
    let slow = Part::default().acts([retry("down"), retry("down"), retry("down")]);
    let stage = Stage::new(slow, Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| {
            async move {
                let (one, two, three) = (text("1"), text("2"), text("3"));
                let others = async {
                    saga.run(&stage.b, &two).await?;
                    saga.run(&stage.c, &three).await
                };
                tokio::try_join!(saga.run(&stage.a, &one), others)?;
                Ok(text("done"))
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let waiting = world.instance(id).await;
    assert_eq!(waiting.status, Status::Waiting);
    assert!(waiting.run_at.is_some());
    assert_eq!(sorted(stage.log()), ["a 1", "b 2", "c 3"]);
    world.pass(MINUTE).await;
    world.pass(MINUTE).await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log().split_off(3), ["a 1", "a 1", "a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn branches_run_the_same_step_under_names() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| {
            async move {
                let (one, two) = (text("1"), text("2"));
                let (left, right) = (saga.at("left"), saga.at("right"));
                tokio::try_join!(left.run(&stage.a, &one), right.run(&stage.a, &two))?;
                saga.sleep(MINUTE).await?;
                saga.run(&stage.b, &text("3")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(sorted(stage.log()), ["a 1", "a 2", "b 3"]);
    let steps = world.history(id).await.into_iter().filter_map(|record| record.step);
    let steps = sorted(steps.collect());
    assert_eq!(steps, ["a#left", "a#right", "b", "timer:sleep", "timer:sleep"]);
    world.finish().await;
}

#[tokio::test]
async fn an_unnamed_repetition_in_two_branches_is_put_to_a_person() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| {
            async move {
                let (one, two) = (text("1"), text("2"));
                tokio::try_join!(saga.run(&stage.a, &one), saga.run(&stage.a, &two))?;
                Ok(text("never"))
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let instance = world.instance(id).await;
    assert_eq!(instance.status, Status::Stuck);
    assert_eq!(instance.failure.unwrap().code, "OCCURRENCE_UNNAMED");
    world.finish().await;
}

#[tokio::test]
async fn one_branch_waits_for_a_signal_while_the_other_works() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| {
            async move {
                let one = text("1");
                let packed = async {
                    let packed = saga.wait::<Packed>(Duration::MAX).await?;
                    saga.run(&stage.b, &packed.map_or(text("none"), |it| it.parcel)).await
                };
                let work = async {
                    saga.run(&stage.a, &one).await?;
                    saga.sleep(MINUTE).await
                };
                tokio::try_join!(packed, work)?;
                saga.run(&stage.c, &text("end")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.run_at, None, "nothing but a signal is waited for");
    send(&world, "it", "one").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a 1", "b one", "c end"]);
    world.finish().await;
}

#[tokio::test]
async fn a_sleep_survives_a_crash_and_is_not_begun_anew() {
    let stage = Stage::plain();
    let mut world = stage
        .world(|saga, stage| {
            async move {
                let before = saga.now().await?;
                saga.sleep(10 * MINUTE).await?;
                let drawn = format!("{before} {} {}", saga.random(), saga.random());
                saga.run(&stage.a, &drawn).await?;
                saga.sleep(MINUTE).await?;
                Ok(drawn)
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(9 * MINUTE).await;
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(stage.log().len(), 0);
    world.pass(MINUTE).await;
    assert_eq!(stage.log().len(), 1);
    // What the step was given is the same in the replay that ends the instance.
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_reaches_every_branch() {
    let down = || Part::default().acts([retry("down"), retry("down")]);
    let stage = Stage::new(down(), Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| {
            async move {
                let (one, two) = (text("1"), text("2"));
                let sleeper = async {
                    saga.run(&stage.b, &two).await?;
                    saga.sleep(60 * MINUTE).await
                };
                tokio::try_join!(saga.run(&stage.a, &one), sleeper)?;
                saga.run(&stage.c, &text("never")).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log().last().unwrap(), "undo b 2");
    assert_eq!(sorted(stage.log()), ["a 1", "b 2", "undo b 2"]);
    world.finish().await;
}

#[tokio::test]
async fn code_may_change_under_live_instances_behind_a_marker() {
    let is_new = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_new);
    let stage = Stage::plain();
    let world = stage
        .world(move |saga, stage| {
            let is_new = flag.load(Ordering::SeqCst);
            async move {
                if is_new && saga.patched("b-first").await? {
                    saga.run(&stage.b, &text("new")).await?;
                }
                saga.run(&stage.a, &text("1")).await?;
                saga.sleep(MINUTE).await?;
                saga.run(&stage.c, &text("end")).await
            }
            .boxed()
        })
        .await;
    let old = start(&world, "old").await;
    world.settle().await;
    is_new.store(true, Ordering::SeqCst);
    let new = start(&world, "new").await;
    world.settle().await;
    world.pass(MINUTE).await;
    assert_eq!(world.instance(old).await.status, Status::Completed);
    assert_eq!(world.instance(new).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a 1", "b new", "a 1", "c end", "c end"]);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_after_a_crash_undoes_every_branch_that_may_have_been_under_way() {
    let (a, b) = (Part::default().acts([Act::Hang]), Part::default().acts([Act::Hang]));
    let stage = Stage::new(a, b, Part::default());
    let mut world = stage
        .world(|saga, stage| {
            async move {
                let (one, two) = (text("1"), text("2"));
                tokio::try_join!(
                    saga.sleep(60 * MINUTE),
                    saga.run(&stage.a, &one),
                    saga.run(&stage.b, &two),
                )?;
                Ok(text("never"))
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    while stage.log().len() < 2 {
        tokio::task::yield_now().await;
    }
    world.crash().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(sorted(stage.log().split_off(2)), ["undo a 1", "undo b 2"]);
    world.finish().await;
}

/// Whatever a lost worker had under way in its branches, a cancel that was accepted leaves nothing
/// of it.
#[tokio::test]
async fn a_cancel_after_a_crash_at_every_point_leaves_nothing_of_any_branch() {
    let mut answers = Vec::new();
    for nth in 0.. {
        let (crash, probes) = Crash::at(Some(nth));
        let stage = Stage::plain();
        let builder = stage.builder(|saga, stage| {
            async move {
                let (one, two, three) = (text("1"), text("2"), text("3"));
                let long = async {
                    saga.run(&stage.b, &two).await?;
                    saga.run(&stage.c, &three).await
                };
                tokio::try_join!(saga.sleep(MINUTE), saga.run(&stage.a, &one), long)?;
                Ok(text("done"))
            }
            .boxed()
        });
        let mut world = builder.probes(probes).build().await;
        tokio::select! {
            () = async { start(&world, "it").await; world.settle().await; world.pass(MINUTE).await } => {}
            () = crash.happened() => {}
        }
        if !crash.has_happened() {
            break;
        }
        let point = crash.reached()[nth];
        world.crash().await;
        let started = world.engine().start(start_request("it")).await.unwrap();
        let (Started::New(id) | Started::Duplicate(id)) = started else { panic!("{started:?}") };
        let answer = world.command(id, Command::Cancel).await;
        world.outlive_lease().await;
        world.pass(MINUTE).await;
        let (status, log) = (world.instance(id).await.status, stage.log());
        if answer == Answer::Accepted {
            assert_eq!(status, Status::Cancelled, "at point {nth}, {point}");
            for part in ["a 1", "b 2", "c 3"] {
                let last = log.iter().rposition(|it| it == part);
                let undone = log.iter().rposition(|it| *it == format!("undo {part}"));
                assert!(
                    last.is_none() || undone > last,
                    "{log:?} at point {nth}, {point}: {}",
                    world.timeline(id).await
                );
            }
        } else {
            assert_eq!((answer, status), (Answer::AlreadyEnded, Status::Completed));
        }
        answers.push(answer);
        world.finish().await;
        crash.release();
    }
    assert!(answers.contains(&Answer::Accepted) && answers.contains(&Answer::AlreadyEnded));
}
