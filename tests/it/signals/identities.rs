//! By what a signal is known: its name, its sender, and the sender's id.

use amends::{Delivery, Error, SendSignal, Signalled, Start, Started, Status};
use amends_tests::improvised::{Stage, packed, send, start, start_request};
use amends_tests::scripted::{ONCE, Script, Scripted, retry};
use futures::FutureExt;

use super::{MINUTE, stored, two_parcels};

/// A parcel that somebody reports under an id.
fn reported(sender: &str, parcel: &str, id: &str) -> SendSignal {
    let (sender, signal_id) = (sender.to_owned(), Some(id.to_owned()));
    SendSignal { sender, signal_id, ..packed("it", parcel) }
}

#[tokio::test]
async fn one_id_with_another_content_is_refused_loudly_and_nothing_is_lost() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let engine = world.engine();
    let kept = engine.signal(reported("dhl", "one", "1")).await;
    assert_eq!(kept.unwrap(), Signalled::Kept);
    let other = engine.signal(reported("dhl", "two", "1")).await;
    assert!(matches!(other, Err(Error::SignalIdReused)), "{other:?}");
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stage.log(), ["a one"]);
    let other = engine.signal(reported("dhl", "two", "1")).await;
    assert!(matches!(other, Err(Error::SignalIdReused)), "{other:?}");
    let again = engine.signal(reported("dhl", "one", "1")).await;
    assert_eq!(again.unwrap(), Signalled::Replayed(id));
    engine.signal(reported("dhl", "two", "2")).await.unwrap();
    world.settle().await;
    assert_eq!(stage.log(), ["a one", "b two"]);
    world.finish().await;
}

#[tokio::test]
async fn senders_that_count_alike_are_both_heard() {
    for is_early in [true, false] {
        let stage = Stage::plain();
        let world = stage.world(two_parcels).await;
        let engine = world.engine();
        if !is_early {
            start(&world, "it").await;
        }
        for (sender, parcel) in [("dhl", "one"), ("ups", "two")] {
            let signalled = engine.signal(reported(sender, parcel, "1")).await.unwrap();
            assert_eq!(signalled == Signalled::Kept, is_early, "{signalled:?}");
            let again = engine.signal(reported(sender, parcel, "1")).await.unwrap();
            assert_eq!(again == Signalled::Kept, is_early, "{again:?}");
        }
        assert_eq!(stored(&world, "early_signal").await, if is_early { 2 } else { 0 });
        if is_early {
            start(&world, "it").await;
        }
        world.settle().await;
        assert_eq!(stage.log(), ["a one", "b two"]);
        let again = engine.signal(reported("ups", "two", "1")).await.unwrap();
        assert!(matches!(again, Signalled::Replayed(_)), "{again:?}");
        world.finish().await;
    }
}

/// An id stands once in the column that releases ask for that know no other.
#[tokio::test]
async fn signals_that_an_earlier_release_has_kept_are_known() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    sqlx::query(
        r#"insert into amends.early_signal
               (workflow, business_key, signal_id, name, body, sender, sent_at)
           values ('improvised', 'it', '1', 'packed', '{"parcel":"one"}', 'dhl', now())
           on conflict (workflow, business_key, signal_id) where signal_id is not null do nothing"#,
    )
    .execute(&mut world.database().await)
    .await
    .unwrap();
    let engine = world.engine();
    assert_eq!(engine.signal(reported("dhl", "one", "1")).await.unwrap(), Signalled::Kept);
    let other = engine.signal(reported("dhl", "two", "1")).await;
    assert!(matches!(other, Err(Error::SignalIdReused)), "{other:?}");
    assert_eq!(engine.signal(reported("ups", "two", "1")).await.unwrap(), Signalled::Kept);
    start(&world, "it").await;
    world.settle().await;
    assert_eq!(stage.log(), ["a one", "b two"]);
    world.finish().await;
}

#[tokio::test]
async fn no_id_of_a_signal_is_in_the_way_of_how_a_child_has_ended() {
    let stage = Stage::plain().child(&Script::new(ONCE, [retry("down")]));
    let world = stage
        .world(|saga, stage| {
            async {
                saga.start_child::<Scripted>("pack", &7).await?.output().await?;
                saga.run(&stage.a, &"1".to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    let child = world.instances::<Scripted>().await.pop().unwrap().instance_id;
    for seq in 0..6 {
        let signal = reported("dhl", "one", &format!("{child}#{seq}"));
        assert_eq!(world.engine().signal(signal).await.unwrap(), Signalled::Accepted(id));
    }
    world.pass(MINUTE).await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_no_signal_behind() {
    let stage = Stage::plain();
    let world = stage.world(two_parcels).await;
    let engine = world.engine();
    let invalid = Start { input: "7".to_owned(), ..start_request("it") };
    let refused = engine.signal_or_start(invalid, packed("it", "one")).await;
    assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");

    let delivery = |body: &str| {
        let (source, external_id) = ("shop".to_owned(), "d_1".to_owned());
        Some(Delivery { source, external_id, body: body.into() })
    };
    let first = Start { delivery: delivery("a"), ..start_request("first") };
    engine.start(first).await.unwrap();
    let contradicts = Start { delivery: delivery("b"), ..start_request("it") };
    let answer = engine.signal_or_start(contradicts, packed("it", "one")).await;
    assert_eq!(answer.unwrap(), (Started::Conflict, None));

    let wrong = SendSignal { body: "7".to_owned(), ..packed("it", "one") };
    let refused = engine.signal_or_start(start_request("it"), wrong).await;
    assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    assert_eq!(stored(&world, "early_signal").await, 0);

    send(&world, "first", "two").await;
    send(&world, "first", "three").await;
    start(&world, "it").await;
    world.settle().await;
    assert_eq!(stage.log(), ["a two", "b three"], "nothing that was refused is taken");
    world.pass(120 * MINUTE).await;
    world.finish().await;
}
