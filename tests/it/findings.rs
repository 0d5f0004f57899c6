//! What people have found out, and whether it can be true together with what is known.

use amends::command::{Answer, Command, Finding, Resolution};
use amends::{Effect, Error, Status, StepError};
use amends_tests::World;
use amends_tests::improvised::{Part, Stage, start};
use amends_tests::scripted::{self, Act, ONCE, Script, Scripted};
use futures::FutureExt;
use uuid::Uuid;

fn found(step: &str, finding: Finding) -> Resolution {
    let (step, finding) = (Some(step.to_owned()), Some(finding));
    Resolution { step, finding, evidence: "the bank's list".to_owned(), money: Vec::new() }
}

async fn resolve(world: &World, id: Uuid, resolution: Resolution) -> Result<Answer, Error> {
    let answer = world.engine().resolve(id, resolution, "anna", "asked").await?;
    Ok(answer.unwrap())
}

fn unanswered() -> Part<amends_tests::improvised::A> {
    let unknown = StepError::unknown("LOST", "no answer");
    Part::default().effect(Effect::AtMostOnce).acts([Act::Err(unknown)])
}

/// An instance that is stuck on a payout of which nobody knows whether it was made.
async fn stuck_on_a_payout() -> (World, Stage, Uuid) {
    let stage = Stage::new(unanswered(), Part::default(), Part::default());
    let world = stage
        .world(|saga, stage| async { saga.run(&stage.a, &"pay out".to_owned()).await }.boxed())
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Stuck);
    (world, stage, id)
}

#[tokio::test]
async fn of_two_who_say_how_it_goes_on_the_second_is_told_so_whatever_they_say() {
    let (world, stage, id) = stuck_on_a_payout().await;
    let applied = Finding::Applied("paid".into());
    assert_eq!(resolve(&world, id, found("a", applied)).await.unwrap(), Answer::Accepted);
    let second = resolve(&world, id, found("a", Finding::NotApplied)).await.unwrap();
    assert_eq!(second, Answer::AlreadyResumed);
    assert_eq!(world.command(id, Command::Resume).await, Answer::AlreadyResumed);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["a pay out"]);
    world.finish().await;
}

#[tokio::test]
async fn a_resume_that_was_read_keeps_nobody_from_saying_more() {
    let (world, _, id) = stuck_on_a_payout().await;
    assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Stuck);
    let applied = found("a", Finding::Applied("paid".into()));
    assert_eq!(resolve(&world, id, applied).await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn nobody_knows_better_than_a_live_child_what_it_does() {
    let script = Script::new(ONCE, [scripted::retry("down")]);
    let stage = Stage::new(unanswered(), Part::default(), Part::default()).child(&script);
    let world = stage
        .world(|saga, stage| {
            async {
                let child = saga.start_child::<Scripted>("pack", &7).await?;
                saga.run(&stage.a, &"1".to_owned()).await?;
                child.output().await?;
                saga.run(&stage.b, &"2".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Stuck);
    for finding in [Finding::NotApplied, Finding::Applied("packed".into()), Finding::Undone(None)] {
        let refused = resolve(&world, id, found("child:pack", finding)).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    world.finish().await;
}
