//! What workflows do: steps, branches, children, transactions, and the undoing of each.

use amends::command::{Answer, Command};
use amends::{Effect, Status, StepError, Undone};
use amends_tests::World;
use amends_tests::family::{Book, Family, Plan, Prepare, Ship, register};
use amends_tests::improvised::{A, B, Part, Stage, start_request};
use amends_tests::kit::{Kit, KitBuilder};
use amends_tests::scripted::{ONCE, QUERYABLE, Script, Scripted};
use amends_tests::shop::{self, Shop, stock};
use futures::FutureExt;

use super::{HOUR, MINUTE, Seen, seen, text};

fn refused() -> StepError {
    StepError::refused("REFUSED", "no")
}

/// What an order does to the outside world, one thing after the other.
pub(super) async fn order(kit: KitBuilder) -> Seen {
    order_with(kit, None).await
}

/// The same when the carrier refuses the parcel.
pub(super) async fn refused_order(kit: KitBuilder) -> Seen {
    order_with(kit, Some(("carrier", "ship", "refuse"))).await
}

async fn order_with(kit: KitBuilder, fault: Option<(&str, &str, &str)>) -> Seen {
    let world = World::builder().kit(kit).build().await;
    if let Some((provider, operation, fault)) = fault {
        world.providers().fault(provider, operation, fault, None).await;
    }
    world.start_order("1001").await;
    world.settle().await;
    let applied = world.providers().applied("acme.myshopify.com/1001").await.into_iter();
    let applied = applied.map(|applied| format!("{} {}", applied.provider, applied.operation));
    let applied = applied.collect();
    world.finish().await;
    applied
}

/// Three steps side by side, one of which is attempted twice and then fails for good.
pub(super) async fn branches(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage
        .kit(kit, |saga, stage| {
            async {
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
    kit.attempt::<Part<B>>(1).fails(StepError::retry("BUSY", "later"));
    kit.attempt::<Part<B>>(2).fails(refused());
    kit.undo::<Part<A>>(1).fails(StepError::retry("BUSY", "later"));
    kit.begin(start_request("it")).await;
    for _ in 0..4 {
        kit.pass(MINUTE).await;
    }
    kit.finish().await;
    seen(&stage)
}

/// Runs `a`, then a child, then `b`.
fn a_child_b<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> amends_tests::improvised::Ran<'a> {
    async {
        saga.run(&stage.a, &text("1")).await?;
        let child = saga.start_child::<Scripted>("pack", &7).await?;
        let acted = child.output().await?;
        saga.run(&stage.b, &acted.output.to_string()).await
    }
    .boxed()
}

/// An instance that starts another and waits for it; this one takes its time.
pub(super) async fn child(kit: KitBuilder) -> Seen {
    let stage = Stage::plain().child(&Script::new(ONCE, []));
    let kit = stage.kit(kit, a_child_b).await;
    kit.attempt::<Script>(1).fails(StepError::retry("BUSY", "later"));
    kit.begin(start_request("it")).await;
    kit.settle().await;
    kit.pass(MINUTE).await;
    kit.finish().await;
    seen(&stage)
}

/// The same when the parent fails thereafter, and takes the child back.
pub(super) async fn child_taken_back(kit: KitBuilder) -> Seen {
    let stage = Stage::plain().child(&Script::new(ONCE, []));
    let kit = stage.kit(kit, a_child_b).await;
    kit.attempt::<Part<B>>(1).fails(refused());
    kit.begin(start_request("it")).await;
    kit.settle().await;
    kit.pass(MINUTE).await;
    kit.finish().await;
    seen(&stage)
}

/// Stock that is taken and given back by transactions, around a step that fails.
pub(super) async fn transactions(kit: KitBuilder) -> Seen {
    let shop = Shop::default();
    let builder = shop.builder(|saga, shop, key| {
        async move {
            saga.transaction(&shop.take, &text("tea,cup")).await?;
            saga.run(&shop.a, &key).await?;
            saga.transaction(&shop.take, &text("tea")).await
        }
        .boxed()
    });
    let world = shop::open(builder.kit(kit), 10).await;
    world.attempt::<Part<A>>(1).about("second").fails(refused());
    for key in ["first", "second"] {
        world.begin(shop::start_request(key)).await;
        world.settle().await;
    }
    for _ in 0..3 {
        world.pass(MINUTE).await;
    }
    let stock = format!("{:?}", stock(&world).await);
    world.finish().await;
    vec![stock]
}

/// Steps of which nobody knows at first what became of them.
pub(super) async fn lost_answers(kit: KitBuilder) -> Seen {
    let lost = || StepError::unknown("LOST", "the answer was lost");
    let a = Part::default().effect(QUERYABLE).undos([Undone::nothing(), Undone::by("late")]);
    let stage = Stage::new(a, Part::default(), Part::default());
    let kit = stage
        .kit(kit, |saga, stage| {
            async {
                saga.run(&stage.a, &text("x")).await?;
                saga.run(&stage.b, &text("y")).await
            }
            .boxed()
        })
        .await;
    kit.attempt::<Part<A>>(1).applies_then(lost());
    kit.attempt::<Part<B>>(1).applies_then(lost());
    kit.begin(start_request("it")).await;
    for _ in 0..12 {
        kit.pass(MINUTE).await;
    }
    kit.finish().await;
    seen(&stage)
}

/// A step that may be attempted once only. It is, and is done.
pub(super) async fn at_most_once(kit: KitBuilder) -> Seen {
    let a = Part::default().effect(Effect::AtMostOnce);
    let stage = Stage::new(a, Part::default(), Part::default());
    let kit =
        stage.kit(kit, |saga, stage| async { saga.run(&stage.a, &text("x")).await }.boxed()).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    kit.pass(HOUR).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
    stage.log()
}

async fn family(kit: KitBuilder) -> (Kit, Book) {
    let book = Book::default();
    let registered = book.clone();
    (kit.build(move |engine| register(engine, &registered)).await, book)
}

/// A family that is cancelled half-way. The child takes its time to be undone, so that its end
/// comes after its parent's plan in any case.
pub(super) async fn family_cancelled(kit: KitBuilder) -> Seen {
    let (kit, book) = family(kit).await;
    kit.undo::<Prepare>(1).about("it/p").fails(StepError::retry("BUSY", "later"));
    let id = kit.start::<Family>("it", &Plan::of([("p", Plan::of([]))])).await;
    kit.settle().await;
    let preview = kit.ask(async |engine| engine.preview(id, Command::Cancel).await).await;
    assert_eq!(preview.unwrap().unwrap().children.len(), 1);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    kit.pass(MINUTE).await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    kit.finish().await;
    book.standing()
}

/// A family that is undone because a step has failed.
pub(super) async fn family_undone(kit: KitBuilder) -> Seen {
    let (kit, book) = family(kit).await;
    kit.attempt::<Ship>(1).about("it").fails(refused());
    let plan = Plan { ships: true, ..Plan::of([("p", Plan::of([]))]) };
    let id = kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Compensated);
    kit.finish().await;
    book.standing()
}
