//! What keeps everything going: limits of dependencies, delivery, workers that come and go.

use amends::blocked::{AtHead, KeyCommand};
use amends::{Dependency, Engine, Start, StepError};
use amends_tests::improvised::{A, Packed, Part, Ran, Stage, start_request};
use amends_tests::kit::{Kit, KitBuilder};
use amends_tests::scripted::Act;
use futures::FutureExt;
use tokio::task::yield_now;

use super::{HOUR, MINUTE, SECOND, Seen, seen, text};

fn event_then_a<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.publish(amends::Event::new("BEGUN", &1)).await?;
        saga.run(&stage.a, &text("1")).await
    }
    .boxed()
}

async fn begin(kit: &Kit, business_key: &str) {
    kit.begin(Start { business_key: text(business_key), ..start_request("it") }).await;
}

/// Calls through something with limits that is down for a while.
pub(super) async fn outage(kit: KitBuilder) -> Seen {
    let courier = Dependency::new("courier").down_after(1).concurrency(2).rate(100, SECOND);
    let a = Part::default().through("courier");
    let stage = Stage::new(a, Part::default(), Part::default()).dependency(courier);
    let kit = stage.kit(kit, event_then_a).await;
    kit.attempt::<Part<A>>(1).about("first").fails(StepError::retry("DOWN", "no answer"));
    begin(&kit, "first").await;
    kit.settle().await;
    for later in ["second", "third"] {
        begin(&kit, later).await;
    }
    kit.settle().await;
    kit.ask(async |engine| engine.dependencies().await).await.unwrap();
    for _ in 0..8 {
        kit.pass(MINUTE).await;
    }
    kit.finish().await;
    seen(&stage)
}

/// Events that a receiver does not take for a while, and people who want them tried again.
pub(super) async fn delivery(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let mut kit = stage.kit(kit, event_then_a).await;
    kit.recorder().refuse("it");
    begin(&kit, "it").await;
    kit.settle().await;
    // Whoever relays next knows what is blocked.
    kit.restart().await;
    kit.settle().await;
    let blocked = kit.ask(async |engine| engine.blocked_keys(None, 1).await).await.unwrap();
    // What could not be kept is not known: it is tried again by itself.
    let event_id = blocked.first().map_or("unknown", |blocked| &blocked.event_id);
    let event = AtHead { subscription: "recorder", key: "it", event_id };
    let retry = async |engine: Engine| {
        engine.command_key(event, KeyCommand::Retry, "anna", "asked by phone").await
    };
    kit.ask(retry).await.unwrap();
    kit.settle().await;
    kit.ask(async |engine| engine.key_commands(None, 1).await).await.unwrap();
    kit.recorder().accept_all();
    kit.pass(HOUR).await;
    kit.finish().await;
    seen(&stage)
}

/// Events of a subscription that no worker has, and a person who drops them.
pub(super) async fn leftovers(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, event_then_a).await;
    begin(&kit, "it").await;
    kit.settle().await;
    let mut database = kit.database().await;
    for statement in [
        "insert into amends.subscription (name) values ('gone')",
        "insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
         select 'gone', 0, 'improvised', 'it', instance_id, seq, 0
         from amends.record where events is not null",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    kit.settle().await;
    kit.pass(15 * MINUTE).await;
    kit.ask(async |engine| engine.leftovers().await).await.unwrap();
    for name in ["gone", "recorder"] {
        let drop = async |engine: Engine| engine.drop_leftover(name, "anna", "by phone").await;
        kit.ask(drop).await.unwrap();
    }
    assert!(kit.ask(async |engine| engine.leftovers().await).await.unwrap().is_empty());
    let commands = kit.ask(async |engine| engine.subscription_commands(9).await).await.unwrap();
    assert!(commands.iter().any(|it| it.answer == "dropped"), "{commands:?}");
    kit.finish().await;
    seen(&stage)
}

/// A worker that leaves, one that is lost, and whoever goes on with what they held.
pub(super) async fn successors(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let mut kit = stage.kit(kit, a_then_parcel).await;
    begin(&kit, "first").await;
    kit.restart().await;
    kit.settle().await;
    begin(&kit, "second").await;
    kit.crash().await;
    kit.outlive_lease().await;
    kit.pass(HOUR).await;
    kit.finish().await;
    seen(&stage)
}

/// An instance whose workers are lost one after the other, until it makes progress.
pub(super) async fn suspects(kit: KitBuilder) -> Seen {
    let a = Part::default().acts([Act::Hang, Act::Hang]);
    let b = Part::default().acts([Act::Hang]);
    let stage = Stage::new(a, b, Part::default());
    let mut kit = stage.kit(kit, a_then_b).await;
    let begun = async |count| {
        while stage.log().len() < count {
            yield_now().await;
        }
    };
    let under_way = async |kit: &Kit, count| {
        tokio::select! {
            () = kit.settle() => {}
            () = begun(count) => {}
        }
    };
    begin(&kit, "first").await;
    under_way(&kit, 1).await;
    let suspected = "update amends.instance set losses = 1";
    sqlx::query(suspected).execute(&mut kit.database().await).await.unwrap();
    kit.crash().await;
    kit.advance(MINUTE);
    // On trial.
    under_way(&kit, 2).await;
    kit.crash().await;
    kit.outlive_lease().await;
    kit.advance(10 * MINUTE);
    under_way(&kit, 4).await;
    kit.ask(async |engine| engine.try_suspects().await).await.unwrap();
    kit.crash().await;
    kit.outlive_lease().await;
    kit.pass(HOUR).await;
    kit.finish().await;
    seen(&stage)
}

fn a_then_b<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &text("1")).await?;
        saga.run(&stage.b, &text("2")).await
    }
    .boxed()
}

fn a_then_parcel<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &text("1")).await?;
        saga.wait::<Packed>(MINUTE).await?;
        saga.run(&stage.b, &text("2")).await
    }
    .boxed()
}

/// Two workers that share what there is to be delivered.
pub(super) async fn sharing(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let mut kit = stage.kit(kit, event_then_a).await;
    begin(&kit, "first").await;
    kit.settle().await;
    let beside = kit.succeed().await;
    for key in ["second", "third", "fourth"] {
        begin(&kit, key).await;
    }
    for _ in 0..3 {
        beside.run_dry().await;
        kit.settle().await;
    }
    kit.finish().await;
    seen(&stage)
}
