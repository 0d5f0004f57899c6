//! Calls that a run begins and then drops: it is told at once, in the first pass and in every
//! replay, and nothing that had been begun is lost. Calls that are only held, or halted together
//! with their run, are no mistake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amends::check::Misfit;
use amends::command::{Answer, Command};
use amends::{Effect, Engine, Saga, Status, StepError};
use amends_tests::World;
use amends_tests::improvised::{Packed, Part, Ran, Stage, send, start, start_request};
use amends_tests::kit::{KitBuilder, crash_everywhere};
use amends_tests::scripted::Act;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

type Run = for<'a> fn(&'a Saga, &'a Stage) -> Ran<'a>;

fn text(text: &str) -> String {
    text.to_owned()
}

/// The message of an instance that is stuck for having dropped a call.
async fn dropped(world: &World, id: Uuid) -> String {
    let instance = world.instance(id).await;
    assert_eq!(instance.status, Status::Stuck, "{}", world.timeline(id).await);
    let failure = instance.failure.unwrap();
    assert_eq!(failure.code, "BRANCH_DROPPED", "{}", failure.message);
    failure.message
}

/// Races of a wait and a sleep that the wait wins.
#[expect(clippy::too_many_lines, reason = "a list of runs, each of which is short")]
fn races() -> [(&'static str, Run); 8] {
    [
        ("the winner is polled first", |saga, stage| {
            async {
                tokio::select! {
                    biased;
                    packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                    slept = saga.sleep(MINUTE) => slept?,
                }
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("the loser is polled first", |saga, stage| {
            async {
                tokio::select! {
                    biased;
                    slept = saga.sleep(MINUTE) => slept?,
                    packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                }
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("whichever is polled first", |saga, stage| {
            async {
                tokio::select! {
                    slept = saga.sleep(MINUTE) => slept?,
                    packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                }
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("in a loop", |saga, stage| {
            async {
                for _ in 0..3 {
                    tokio::select! {
                        packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                        slept = saga.sleep(MINUTE) => slept?,
                    }
                }
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("futures::select", |saga, stage| {
            async {
                {
                    let packed = std::pin::pin!(saga.wait::<Packed>(Duration::MAX));
                    let slept = std::pin::pin!(saga.sleep(MINUTE));
                    futures::future::select(packed, slept).await;
                }
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("a set that is not emptied", |saga, stage| {
            async {
                let wait = async { saga.wait::<Packed>(Duration::MAX).await.map(drop) };
                let mut set = FuturesUnordered::from_iter([saga.sleep(MINUTE).boxed()]);
                set.push(wait.boxed());
                if let Some(first) = set.next().await {
                    first?;
                }
                drop(set);
                saga.run(&stage.a, &text("1")).await
            }
            .boxed()
        }),
        ("in a branch beside another", |saga, stage| {
            async {
                let (one, two) = (text("1"), text("2"));
                let race = async {
                    tokio::select! {
                        biased;
                        packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                        slept = saga.sleep(MINUTE) => slept?,
                    }
                    saga.run(&stage.a, &one).await
                };
                let long = async {
                    saga.sleep_until(chrono::DateTime::<chrono::Utc>::MAX_UTC).await?;
                    saga.run(&stage.b, &two).await
                };
                tokio::try_join!(race, long).map(|(done, _)| done)
            }
            .boxed()
        }),
        ("and then the run returns", |saga, _| {
            async {
                let mut slept = std::pin::pin!(saga.sleep(MINUTE));
                tokio::select! {
                    biased;
                    packed = saga.wait::<Packed>(Duration::MAX) => drop(packed?),
                    slept = &mut slept => slept?,
                }
                Ok(text("done"))
            }
            .boxed()
        }),
    ]
}

#[tokio::test]
async fn a_race_is_put_to_a_person_as_soon_as_it_is_decided() {
    for (what, run) in races() {
        let stage = Stage::plain();
        let mut world = stage.world(run).await;
        let id = start(&world, "it").await;
        world.settle().await;
        assert_eq!(world.instance(id).await.status, Status::Waiting, "{what}");
        // The pass that decides it begins from the record alone.
        world.restart().await;
        send(&world, "it", "one").await;
        world.settle().await;
        let message = dropped(&world, id).await;
        assert!(message.starts_with("timer:sleep was begun"), "{what}: {message}");
        assert!(message.contains("tokio::try_join!"), "{what}: {message}");
        assert_eq!(stage.log().len(), 0, "{what}: an effect came after it");
        world.finish().await;
    }
}

/// A race that is decided between two passes.
async fn race(builder: KitBuilder) -> Status {
    let stage = Stage::plain();
    let kit = stage.kit(builder, races()[0].1).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    let request = amends_tests::improvised::packed("it", "one");
    kit.ask(async |engine| engine.signal(request.clone()).await).await.unwrap();
    kit.settle().await;
    let instance = kit.instance(id).await;
    assert_eq!(instance.failure.unwrap().code, "BRANCH_DROPPED");
    kit.finish().await;
    instance.status
}

#[tokio::test]
async fn a_race_is_found_whatever_crashes() {
    assert!(crash_everywhere(race).await.len() > 8);
}

#[tokio::test]
async fn a_build_that_drops_a_call_is_found_before_it_is_deployed() {
    let stage = Stage::plain();
    let joined: Run = |saga, stage| {
        async {
            let packed = async { saga.wait::<Packed>(Duration::MAX).await.map(drop) };
            tokio::try_join!(saga.sleep(MINUTE), packed)?;
            saga.run(&stage.a, &text("1")).await
        }
        .boxed()
    };
    let world = stage.world(joined).await;
    start(&world, "it").await;
    world.settle().await;
    send(&world, "it", "one").await;
    world.settle().await;
    for (what, run) in &races()[..6] {
        let mut misfits = Vec::new();
        let build = stage.engine(*run)(Engine::builder(world.options()));
        build.check(|checked| misfits.push(checked.misfit.clone())).await.unwrap();
        let found = matches!(&misfits[..], [Some(Misfit::Fails(why))] if why.contains("DROPPED"));
        assert!(found, "{what}: {misfits:?}");
    }
    let build = stage.engine(joined)(Engine::builder(world.options()));
    assert_eq!(build.check(|_| ()).await.unwrap().fits, 1);
    world.finish().await;
}

/// A world whose run drops what it had begun, until it is mended.
async fn until_mended(stage: &Stage, broken: Run, mended: Run) -> (World, Arc<AtomicBool>) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_mended);
    let world =
        stage
            .world(move |saga, stage| {
                if flag.load(Ordering::SeqCst) { mended(saga, stage) } else { broken(saga, stage) }
            })
            .await;
    (world, is_mended)
}

#[tokio::test]
async fn a_mended_run_goes_on_without_what_the_race_had_left_open() {
    let stage = Stage::plain();
    let (world, is_mended) = until_mended(&stage, races()[0].1, |saga, stage| {
        async {
            let packed = saga.wait::<Packed>(MINUTE).await?;
            saga.run(&stage.a, &packed.map_or(text("none"), |it| it.parcel)).await
        }
        .boxed()
    })
    .await;
    let id = start(&world, "it").await;
    world.settle().await;
    send(&world, "it", "one").await;
    world.settle().await;
    dropped(&world, id).await;
    world.command(id, Command::Resume).await;
    world.settle().await;
    dropped(&world, id).await;
    is_mended.store(true, Ordering::SeqCst);
    world.command(id, Command::Resume).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed, "{}", world.timeline(id).await);
    assert_eq!(stage.log(), ["a one"]);
    world.finish().await;
}

#[tokio::test]
async fn an_attempt_whose_call_is_dropped_is_recorded_and_not_made_again() {
    let stage = Stage::plain();
    let (world, is_mended) = until_mended(
        &stage,
        |saga, stage| {
            async {
                let one = text("1");
                tokio::select! {
                    biased;
                    () = async { while stage.log().is_empty() { tokio::task::yield_now().await } } => {}
                    done = saga.run(&stage.a, &one) => drop(done?),
                }
                saga.run(&stage.b, &text("2")).await
            }
            .boxed()
        },
        |saga, stage| {
            async {
                saga.run(&stage.a, &text("1")).await?;
                saga.run(&stage.b, &text("2")).await
            }
            .boxed()
        },
    )
    .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert!(dropped(&world, id).await.starts_with("step a was begun"));
    is_mended.store(true, Ordering::SeqCst);
    world.command(id, Command::Resume).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a 1", "b 2"]);
    world.finish().await;
}

#[tokio::test]
async fn a_call_that_was_announced_and_never_left_is_not_in_doubt() {
    let once = Part::default().effect(Effect::AtMostOnce);
    let stage = Stage::new(once, Part::default(), Part::default());
    let (world, is_mended) = until_mended(
        &stage,
        |saga, stage| {
            async {
                let (one, at) = (text("1"), saga.at("x"));
                tokio::select! {
                    biased;
                    done = at.run(&stage.a, &one) => drop(done?),
                    () = tokio::task::yield_now() => {}
                }
                Ok(text("never"))
            }
            .boxed()
        },
        |saga, stage| async { saga.at("x").run(&stage.a, &text("1")).await }.boxed(),
    )
    .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert!(dropped(&world, id).await.starts_with("step a#x was begun"));
    assert_eq!(stage.log().len(), 0);
    is_mended.store(true, Ordering::SeqCst);
    world.command(id, Command::Resume).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed, "{}", world.timeline(id).await);
    assert_eq!(stage.log(), ["a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn what_a_dropped_branch_did_is_undone_by_a_cancel() {
    let stage = Stage::plain();
    let world = stage
        .world(|saga, stage| {
            async {
                let one = text("1");
                let limit = async {
                    while stage.log().is_empty() {
                        tokio::task::yield_now().await
                    }
                };
                tokio::select! {
                    biased;
                    () = limit => Ok(text("too late")),
                    done = saga.run(&stage.a, &one) => done,
                }
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    dropped(&world, id).await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a 1", "undo a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn a_call_that_is_held_and_awaited_later_or_never_polled_is_no_mistake() {
    let stage = Stage::plain();
    let mut world = stage
        .world(|saga, stage| {
            async {
                let (one, two) = (text("1"), text("2"));
                drop(saga.run(&stage.c, &two));
                drop(saga.wait::<Packed>(Duration::ZERO));
                let mut packed = std::pin::pin!(saga.wait::<Packed>(Duration::MAX));
                tokio::select! {
                    biased;
                    early = &mut packed => drop(early?),
                    done = async {
                        saga.run(&stage.a, &one).await?;
                        saga.sleep(MINUTE).await
                    } => {
                        done?;
                        packed.await?;
                    }
                }
                saga.run(&stage.b, &two).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    world.pass(MINUTE).await;
    world.restart().await;
    send(&world, "it", "one").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed, "{}", world.timeline(id).await);
    assert_eq!(stage.log(), ["a 1", "b 2"]);
    world.finish().await;
}

#[tokio::test]
async fn a_run_that_is_halted_or_panics_is_told_as_that() {
    let stage = Stage::new(
        Part::default().acts([Act::Err(StepError::fail("NO", "no"))]),
        Part::default(),
        Part::default(),
    );
    let halted: Run = |saga, stage| {
        async {
            let one = text("1");
            let packed = async { saga.wait::<Packed>(Duration::MAX).await.map(drop) };
            tokio::select! {
                biased;
                packed = packed => packed?,
                done = saga.run(&stage.a, &one) => drop(done?),
            }
            Ok(text("never"))
        }
        .boxed()
    };
    let world = stage.world(halted).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    world.finish().await;

    let panics: Run = |saga, stage| {
        async {
            let one = text("1");
            let panics = async {
                let done = saga.run(&stage.a, &one).await?;
                assert!(done.is_empty(), "the test wants it");
                Ok(done)
            };
            tokio::try_join!(saga.sleep(MINUTE), panics).map(|((), done)| done)
        }
        .boxed()
    };
    let world = Stage::plain().world(panics).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.failure.unwrap().code, "WORKFLOW_PANICKED");
    world.finish().await;
}

/// A fan of many branches whose answers came in another order than they are asked for.
#[tokio::test]
async fn branches_that_are_joined_go_on_whatever_the_order_of_their_answers() {
    let stage = Stage::plain();
    let mut world = stage
        .world(|saga, stage| {
            async move {
                let branches = (0..70_u64).map(|n| async move {
                    tokio::task::yield_now().await;
                    saga.sleep((70 - n) as u32 * MINUTE).await?;
                    tokio::task::yield_now().await;
                    saga.at(format!("n{n}")).run(&stage.a, &n.to_string()).await?;
                    saga.sleep((n % 7) as u32 * MINUTE).await
                });
                futures::future::try_join_all(branches).await?;
                Ok(text("done"))
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    for _ in 0..8 {
        world.pass(10 * MINUTE).await;
        world.restart().await;
    }
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed, "{}", world.timeline(id).await);
    assert_eq!(stage.log().len(), 70);
    world.finish().await;
}
