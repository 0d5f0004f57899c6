//! Instances that instances start: awaited, cancelled with their parent, taken back with it.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::view::{Filter, InstanceView};
use amends::{Delivery, Priority, Saga, Start, Status, StepError, Verdict};
use amends_tests::detour::{Detour, Loss};
use amends_tests::gates::Gates;
use amends_tests::improvised::{Part, Ran, Stage, start, start_request};
use amends_tests::scripted::{Act, ONCE, Script, Scripted, retry};
use amends_tests::{World, crash::Crash, orders};
use amends_workflows::fulfilment::Fulfilment;
use futures::FutureExt;

/// Runs `a`, then a child, then `b`.
fn a_child_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        let child = saga.start_child::<Scripted>("pack", &7).await?;
        let acted = child.output().await?;
        saga.run(&stage.b, &acted.output.to_string()).await
    }
    .boxed()
}

/// Runs one child at once, and another one an hour later.
fn two_children<'a>(saga: &'a Saga, _: &'a Stage) -> Ran<'a> {
    async {
        saga.start_child::<Scripted>("now", &7).await?.output().await?;
        saga.sleep(Duration::from_secs(3600)).await?;
        saga.start_child::<Scripted>("later", &7).await?.output().await?;
        Ok(String::new())
    }
    .boxed()
}

async fn child(world: &World) -> InstanceView {
    let filter = Filter { business_key: Some("it/pack".to_owned()), limit: 2, ..Filter::default() };
    let mut found = world.engine().instances(&filter).await.unwrap();
    assert_eq!(found.len(), 1, "there is one child");
    found.pop().unwrap()
}

fn fails() -> Act {
    Act::Err(StepError::fail("NO", "no"))
}

#[tokio::test]
async fn a_parent_waits_without_memory_for_what_its_child_answers() {
    let script = Script::new(ONCE, [retry("down")]);
    let stage = Stage::plain().child(&script);
    let world = stage.world(a_child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(world.instance(id).await.run_at, None);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(child(&world).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a 1", "b 7"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

#[tokio::test]
async fn children_are_as_urgent_as_their_parent_whoever_holds_it() {
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let stage = Stage::plain().child(&Script::new(ONCE, []));
        let mut world = stage.world(two_children).await;
        world.begin(Start { priority, ..start_request("it") }).await;
        world.settle().await;
        world.restart().await;
        world.pass(Duration::from_secs(3600)).await;
        let filter = Filter { limit: 9, ..Filter::default() };
        let found = world.engine().instances(&filter).await.unwrap();
        let found: Vec<_> = found.iter().map(|it| it.priority).collect();
        assert_eq!(found, [priority; 3]);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_child_that_fails_undoes_its_parent_for_the_same_reason() {
    let stage = Stage::plain().child(&Script::new(ONCE, [fails()]));
    let world = stage.world(a_child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(child(&world).await.status, Status::Compensated);
    insta::assert_snapshot!(world.timeline(id).await);
    assert_eq!(stage.log(), ["a 1", "undo a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn a_child_that_has_completed_is_taken_back_with_its_parent() {
    let script = Script::new(ONCE, []);
    let stage = Stage::new(Part::default(), Part::default().acts([fails()]), Part::default());
    let stage = stage.child(&script);
    let world = stage.world(a_child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Compensated);
    let taken_back = child(&world).await;
    assert_eq!(taken_back.status, Status::Cancelled);
    assert_eq!((script.ran(), script.undone()), (1, 1));
    assert_eq!(stage.log(), ["a 1", "b 7", "undo a 1"]);
    insta::assert_snapshot!(world.timeline(taken_back.instance_id).await);
    world.finish().await;
}

#[tokio::test]
async fn a_completed_child_that_this_build_cannot_undo_is_put_to_a_person() {
    let b = Part::default().acts([retry("down"), fails()]);
    let stage = Stage::new(Part::default(), b, Part::default()).child(&Script::new(ONCE, []));
    let world = stage.world(a_child_b).await;
    start(&world, "it").await;
    world.settle().await;
    let completed = child(&world).await;
    assert_eq!(completed.status, Status::Completed);
    // As if another build had run it; records do not change otherwise.
    let mut database = world.database().await;
    for statement in [
        "set session_replication_role = replica",
        "update amends.record set step = 'packed' where kind = 'step_done' and step = 'act'",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    world.pass(Duration::from_secs(60)).await;
    let stuck = child(&world).await;
    assert_eq!(stuck.status, Status::Stuck);
    assert_eq!(stuck.failure.unwrap().code, "STEP_MISSING");
    world.engine().abandon();
}

#[tokio::test]
async fn a_cancel_of_the_parent_reaches_a_child_that_waits() {
    let script = Script::new(ONCE, [retry("down"), retry("down")]);
    let stage = Stage::plain().child(&script);
    let world = stage.world(a_child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(child(&world).await.status, Status::Cancelled);
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(stage.log(), ["a 1", "undo a 1"]);
    world.finish().await;
}

#[tokio::test]
async fn people_cannot_take_back_a_completed_child_behind_its_parent() {
    let b = Part::default().acts([retry("down")]);
    let stage = Stage::new(Part::default(), b, Part::default()).child(&Script::new(ONCE, []));
    let world = stage.world(a_child_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    let child = child(&world).await.instance_id;
    assert_eq!(world.command(child, Command::Cancel).await, Answer::AlreadyEnded);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_child_past_its_pivot_puts_its_parent_to_a_person() {
    let stage = Stage::new(Part::default().acts([fails()]), Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| {
            async {
                let order = orders::order("1001");
                saga.start_child::<Fulfilment>("order", &order).await?.output().await?;
                saga.run(&stage.a, &"1".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let parent = world.instance(id).await;
    assert_eq!(parent.status, Status::Stuck);
    assert_eq!(parent.failure.unwrap().code, "CHILD_PAST_PIVOT");
    world.finish().await;
}

#[tokio::test]
async fn a_resume_leaves_how_a_child_has_ended_as_it_is() {
    let hour = Duration::from_secs(3600);
    let failure = amends::Failure::new("DOWN", "not now");
    let down = StepError::Retry { failure, after: Some(hour) };
    let b = Part::default().acts([Act::Err(down)]);
    let stage = Stage::new(Part::default(), b, Part::default().pivot());
    let stage = stage.child(&Script::new(ONCE, [fails(), fails()]));
    let world = stage
        .world(|saga, stage| {
            async {
                let first = saga.start_child::<Scripted>("pack", &7).await?;
                if first.ended().await?.is_err() {
                    saga.run(&stage.a, &"another way".to_owned()).await?;
                }
                saga.run(&stage.b, &"1".to_owned()).await?;
                saga.run(&stage.c, &"ship".to_owned()).await?;
                saga.start_child::<Scripted>("wrap", &8).await?.output().await?;
                Ok("end".to_owned())
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(stage.log(), ["a another way", "b 1", "b 1", "c ship"]);
    for _ in 0..2 {
        let failure = world.instance(id).await.failure.unwrap();
        assert_eq!(
            (world.instance(id).await.status, &*failure.code),
            (Status::Stuck, "PAST_PIVOT")
        );
        assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
        world.settle().await;
    }
    world.command(id, Command::Terminate).await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_business_key_that_is_taken_is_put_to_a_person_and_nothing_is_shared() {
    let script = Script::new(ONCE, []);
    let stage = Stage::plain().child(&script);
    let world = stage.world(a_child_b).await;
    world.engine().start(amends_tests::scripted::start("it/pack")).await.unwrap();
    let id = start(&world, "it").await;
    world.settle().await;
    let parent = world.instance(id).await;
    assert_eq!(parent.failure.unwrap().code, "CHILD_REFUSED");
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(script.undone(), 0, "somebody else's instance is left alone");
    world.finish().await;
}

/// The next worker takes up both, and the parent makes sure once more that there is a child.
#[tokio::test]
async fn a_child_that_is_taken_over_with_its_parent_is_run_by_one() {
    let script = Script::new(ONCE, [Act::Hang]);
    let b = Part::default().acts([Act::Hang]);
    let stage = Stage::new(Part::default(), b, Part::default()).child(&script);
    let mut world = stage
        .world(|saga, stage| {
            async {
                let child = saga.start_child::<Scripted>("pack", &7).await?;
                let output = saga.run(&stage.b, &"1".to_owned()).await?;
                child.output().await.map(|_| output)
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    while script.ran() == 0 || stage.log().is_empty() {
        tokio::task::yield_now().await;
    }
    world.crash().await;
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(script.ran(), 2, "once before the crash, and once after it");
    world.finish().await;
}

/// One batch says that there is to be such a child, and what that child has done.
#[tokio::test]
async fn a_child_that_is_born_again_in_the_batch_in_which_it_writes_is_run_by_one() {
    let (script, gates) = (Script::new(ONCE, [retry("busy")]), Gates::default());
    let stage = Stage::plain().child(&script);
    let world = stage.builder(a_child_b).probes(gates.probes()).build().await;
    let id = start(&world, "it").await;
    world.settle().await;
    // The parent looks once more whether there is a child, while that makes its next attempt.
    assert_eq!(world.command(id, Command::Retry).await, Answer::Accepted);
    gates.shut(&["child.before", "effect.after"]);
    let write_together = async {
        gates.reached("child.before").await;
        gates.reached("effect.after").await;
        // They queue up behind a batch that is under way.
        gates.shut(&["child.before", "effect.after", "commit.before"]);
        let (source, external_id) = ("test".to_owned(), "1".to_owned());
        let engine = world.engine();
        let delivery = engine.record_delivery(
            Delivery { source, external_id, body: Vec::new() },
            Verdict::ignored("TOPIC_UNUSED"),
        );
        let queue_up = async {
            gates.reached("commit.before").await;
            gates.shut(&["commit.before"]);
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            gates.shut(&[]);
        };
        tokio::join!(delivery, queue_up).0.unwrap();
    };
    tokio::join!(world.pass(Duration::from_secs(60)), write_together);
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(script.ran(), 2, "once in vain");
    world.finish().await;
}

#[tokio::test]
async fn a_child_whose_end_cannot_be_read_keeps_nobody_elses_parent_waiting() {
    let stage = Stage::plain().child(&Script::new(ONCE, [retry("down"), retry("down")]));
    let world = stage.world(a_child_b).await;
    start(&world, "it").await;
    let other = start(&world, "other").await;
    world.settle().await;
    let behind_our_back = "update amends.instance
        set status = 'completed', ended_at = now(), run_at = null where business_key = 'it/pack'";
    sqlx::query(behind_our_back).execute(&mut world.database().await).await.unwrap();
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.instance(other).await.status, Status::Completed);
    world.engine().abandon();
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_one_child_and_one_end() {
    for (fails_at_b, expected) in [(false, Status::Completed), (true, Status::Compensated)] {
        for nth in 0.. {
            let script = Script::new(ONCE, []);
            let acts = if fails_at_b { vec![fails(); 3] } else { Vec::new() };
            let b = Part::default().acts(acts);
            let stage = Stage::new(Part::default(), b, Part::default()).child(&script);
            let (crash, probes) = Crash::at(Some(nth));
            let mut world = stage.builder(a_child_b).probes(probes).build().await;
            let engine = world.engine().clone();
            let running = tokio::spawn(async move {
                let _ = engine.start(amends_tests::improvised::start_request("it")).await;
                let _ = engine.run_until_idle().await;
            });
            let crashed = tokio::select! {
                () = crash.happened() => true,
                _ = running => false,
            };
            world.crash().await;
            let _ = world.engine().start(amends_tests::improvised::start_request("it")).await;
            world.settle().await;
            world.outlive_lease().await;
            world.pass(Duration::from_secs(60)).await;
            let filter =
                Filter { business_key: Some("it".to_owned()), limit: 1, ..Filter::default() };
            let parent = world.engine().instances(&filter).await.unwrap().pop().unwrap();
            assert_eq!(parent.status, expected, "crash at point {nth}: {:?}", crash.reached());
            let ended = child(&world).await.status;
            let alright = if fails_at_b { Status::Cancelled } else { Status::Completed };
            assert_eq!(ended, alright, "crash at point {nth}: {:?}", crash.reached());
            world.finish().await;
            crash.release();
            if !crashed {
                for point in ["child.before", "child.ended", "effect.before", "commit.after"] {
                    assert!(crash.reached().contains(&point), "{point} was never reached");
                }
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_parent_goes_on_at_once_although_nobody_heard_that_its_child_was_claimed() {
    let claim = include_str!("../../engine/src/store/sql/claim_instances.sql");
    let detour = Detour::default();
    let stage = Stage::plain().child(&Script::new(ONCE, [retry("down")]));
    let world = stage.builder(a_child_b).detour(&detour).build().await;
    let id = start(&world, "it").await;
    world.settle().await;
    detour.lose_next(claim, Loss::Answer);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(detour.lost(), [claim]);
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}
