//! A command that comes again under its id is given once, and gets the same answer again.

use amends::command::{Answer, Command, Finding, Resolution};
use amends::{Effect, Error, Requester, Saga, StepError};
use amends_tests::improvised::{B, Packed, Part, Ran, Stage, start_request};
use amends_tests::kit::Kit;
use futures::FutureExt;
use futures::future::join_all;
use uuid::Uuid;

fn waits<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.run(&stage.b, &"2".to_owned()).await?;
        saga.wait::<Packed>(std::time::Duration::from_secs(3600)).await?;
        Ok("done".to_owned())
    }
    .boxed()
}

fn anna(request: &str) -> Requester<'_> {
    Requester::new("anna").request(request)
}

async fn given(kit: &Kit, id: Uuid) -> i64 {
    let count = "select count(*) from amends.command where instance_id = $1";
    sqlx::query_scalar(count).bind(id).fetch_one(&mut kit.database().await).await.unwrap()
}

#[tokio::test]
async fn a_repeated_cancel_is_accepted_again_and_given_once() {
    let kit = Stage::plain().kit(Kit::builder(), waits).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    let engine = kit.engine();
    let cancel = || engine.command(id, Command::Cancel, anna("one"), "why");
    assert_eq!(cancel().await.unwrap(), Some(Answer::Accepted));
    assert_eq!(cancel().await.unwrap(), Some(Answer::Accepted));
    kit.settle().await;
    // Also when the instance has ended.
    assert_eq!(cancel().await.unwrap(), Some(Answer::Accepted));
    assert_eq!(given(&kit, id).await, 1);
    let by_another_request = engine.command(id, Command::Cancel, anna("two"), "why").await;
    assert_eq!(by_another_request.unwrap(), Some(Answer::AlreadyEnded));
    kit.finish().await;
}

#[tokio::test]
async fn a_refusal_stays_a_refusal_though_the_command_would_be_accepted_by_now() {
    let kit = Stage::plain().kit(Kit::builder(), waits).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    let engine = kit.engine();
    let release = || engine.command(id, Command::Release, anna("one"), "why");
    assert_eq!(release().await.unwrap(), Some(Answer::NotHeld));
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    assert_eq!(release().await.unwrap(), Some(Answer::NotHeld));
    kit.settle().await;
    assert!(kit.instance(id).await.held);
    kit.finish().await;
}

#[tokio::test]
async fn the_same_id_for_something_else_is_refused_and_does_nothing() {
    let kit = Stage::plain().kit(Kit::builder(), waits).await;
    let id = kit.begin(start_request("it")).await;
    let other = kit.begin(start_request("other")).await;
    kit.settle().await;
    let engine = kit.engine();
    let hash = "0".repeat(64);
    let held = engine.command(id, Command::Hold, anna("one"), "why").await.unwrap();
    assert_eq!(held, Some(Answer::Accepted));
    let finding = Resolution { step: None, finding: None, evidence: "a".into(), money: vec![] };
    let money = amends::Movement {
        kind: amends::MovementKind::Refund,
        money: amends::Money { amount_minor: 1, currency: "EUR".parse().unwrap() },
        reference: "r".to_owned(),
    };
    let finding = Resolution { money: vec![money], ..finding };
    for answer in [
        engine.command(other, Command::Hold, anna("one"), "why").await,
        engine.command(id, Command::Cancel, anna("one"), "why").await,
        engine.command(id, Command::Hold, anna("one"), "another reason").await,
        engine.command(id, Command::Hold, Requester::new("bob").request("one"), "why").await,
        engine.cancel_as_shown(id, &hash, anna("one"), "why").await,
        engine.resolve(id, finding, anna("one"), "why").await,
    ] {
        assert!(matches!(answer, Err(Error::RequestIdReused)), "{answer:?}");
    }
    assert_eq!((given(&kit, id).await, given(&kit, other).await), (1, 0));
    kit.finish().await;
}

#[tokio::test]
async fn a_repeated_resolve_is_not_held_against_what_it_has_changed() {
    let stage =
        Stage::new(Part::default(), Part::default().effect(Effect::AtMostOnce), Part::default());
    let kit = stage.kit(Kit::builder(), waits).await;
    kit.attempt::<Part<B>>(1).fails(StepError::unknown("LOST", "the answer was lost"));
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    let found = Resolution {
        step: Some("b".to_owned()),
        finding: Some(Finding::Applied("2".into())),
        evidence: "a letter".to_owned(),
        money: Vec::new(),
    };
    let engine = kit.engine();
    let resolve = || engine.resolve(id, found.clone(), anna("one"), "as the letter says");
    assert_eq!(resolve().await.unwrap(), Some(Answer::Accepted));
    kit.settle().await;
    assert_eq!(resolve().await.unwrap(), Some(Answer::Accepted));
    let not = Resolution { finding: Some(Finding::NotApplied), ..found.clone() };
    let other = engine.resolve(id, not, anna("one"), "as the letter says").await;
    assert!(matches!(other, Err(Error::RequestIdReused)), "{other:?}");
    assert_eq!(given(&kit, id).await, 1);
    kit.finish().await;
}

#[tokio::test]
async fn of_one_request_that_comes_often_at_the_same_time_one_is_given() {
    let kit = Stage::plain().kit(Kit::builder(), waits).await;
    let ids = [kit.begin(start_request("it")).await, kit.begin(start_request("other")).await];
    kit.settle().await;
    let engine = kit.engine();
    let same = join_all((0..5).map(|_| engine.command(ids[0], Command::Hold, anna("one"), "why")));
    for answer in same.await {
        assert_eq!(answer.unwrap(), Some(Answer::Accepted));
    }
    let mixed =
        join_all((0..6).map(|n| engine.command(ids[n % 2], Command::Cancel, anna("two"), "why")));
    let mixed = mixed.await;
    let accepted = mixed.iter().filter(|it| matches!(it, Ok(Some(Answer::Accepted)))).count();
    let reused = mixed.iter().filter(|it| matches!(it, Err(Error::RequestIdReused))).count();
    assert_eq!((accepted, reused), (3, 3), "{mixed:?}");
    assert_eq!(given(&kit, ids[0]).await + given(&kit, ids[1]).await, 2);
    kit.engine().abandon();
}
