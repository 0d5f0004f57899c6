//! Publishing: at least once, in order per key, past what is blocked.

use std::time::Duration;

use amends::blocked::{AtHead, BlockedKey, KeyAnswer, KeyCommand};
use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::detour::{Detour, Loss};
use amends_tests::http::{Api, Call};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::cli::Terminal;
use crate::everywhere::stored;

const REFUSED: &str = "acme.myshopify.com/1001";
/// So many events are published of an order that is fulfilled.
const EVENTS: usize = 8;
const REFUSALS_MAX: u32 = 12;
/// More attempts than a key is given that is refused while others are taken.
const MANY: u32 = 30;

#[tokio::test]
async fn a_key_that_cannot_be_delivered_blocks_only_itself_and_keeps_its_order() {
    let world = World::new().await;
    let (blocked, free) = ("acme.myshopify.com/1001", "acme.myshopify.com/1002");
    world.recorder().refuse(blocked);
    world.start_order("1001").await;
    world.start_order("1002").await;
    world.settle().await;
    assert!(world.recorder().kinds(blocked).is_empty());
    assert_eq!(world.recorder().kinds(free).len(), EVENTS);
    world.recorder().accept_all();
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.recorder().kinds(blocked), world.recorder().kinds(free));
    world.finish().await;
}

#[tokio::test]
async fn an_event_at_which_its_sink_panics_is_delivered_later_and_in_order() {
    let world = World::new().await;
    world.recorder().panic_once();
    world.start_order("1001").await;
    world.settle().await;
    world.pass(Duration::from_secs(2)).await;
    let numbers: Vec<_> = world.recorder().arrived().iter().map(|event| event.number).collect();
    assert!(numbers.into_iter().eq(1..=EVENTS as u32));
    world.finish().await;
}

#[tokio::test]
async fn delivered_events_leave_nothing_in_the_outbox() {
    let world = World::new().await;
    world.start_order("1001").await;
    world.settle().await;
    let left: i64 = sqlx::query_scalar("select count(*) from amends.outbox")
        .fetch_one(&mut world.database().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    world.finish().await;
}

#[tokio::test]
async fn what_a_receiver_says_is_kept_whatever_it_says() {
    let world = World::new().await;
    world.recorder().refuse_saying(REFUSED, "no\0 room");
    world.start_order("1001").await;
    world.settle().await;
    assert_eq!(blocked(&world).await.error, "no\u{fffd} room");
    world.recorder().accept_all();
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.recorder().kinds(REFUSED).len(), EVENTS);
    world.finish().await;
}

/// A person who looks at it can let those behind it go on.
#[tokio::test]
async fn an_event_that_cannot_be_read_can_be_skipped_and_nobody_is_told_what_it_was() {
    let world = World::new().await;
    world.recorder().refuse(REFUSED);
    let id = world.start_order("1001").await;
    world.settle().await;
    let mut database = world.database().await;
    database.execute("set session_replication_role = replica").await.unwrap();
    let of_the_first = "select events::text from amends.record where seq = 0";
    let events: String = sqlx::query_scalar(of_the_first).fetch_one(&mut database).await.unwrap();
    let replace = "update amends.record set events = $1::json where seq = 0";
    sqlx::query(replace).bind("[]").execute(&mut database).await.unwrap();
    world.recorder().accept_all();
    world.pass(Duration::from_secs(2)).await;
    let unreadable = blocked(&world).await;
    assert_eq!(unreadable.event_id, format!("{id}/?"));
    assert_eq!(unreadable.error, "the record's events cannot be read: there are fewer of them");
    assert!(world.recorder().arrived().is_empty());
    ask(&world, &unreadable.event_id, KeyCommand::Skip).await.unwrap();
    world.settle().await;
    let numbers: Vec<_> = world.recorder().arrived().iter().map(|event| event.number).collect();
    assert!(numbers.into_iter().eq(2..=EVENTS as u32));
    // What every world is judged by at its end is as it was.
    sqlx::query(replace).bind(events).execute(&mut database).await.unwrap();
    world.finish().await;
}

/// Has the receiver refuse the first order's events, and take those of others, for so many attempts.
async fn refuse_while_others_are_taken(world: &World, attempts: u32) -> BlockedKey {
    world.recorder().refuse(REFUSED);
    world.start_order("1001").await;
    world.settle().await;
    for number in 1..attempts {
        world.start_order(&format!("2{number:03}")).await;
        world.pass(Duration::from_secs(300)).await;
    }
    blocked(world).await
}

async fn blocked(world: &World) -> BlockedKey {
    let blocked = world.engine().blocked_keys(None, 10).await.unwrap();
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    blocked.into_iter().next().unwrap()
}

async fn ask(world: &World, event_id: &str, command: KeyCommand) -> Option<KeyAnswer> {
    let event = AtHead { subscription: "recorder", key: REFUSED, event_id };
    world.engine().command_key(event, command, "anna", "they cannot read it").await.unwrap()
}

#[tokio::test]
async fn a_key_that_is_refused_while_others_are_taken_waits_for_a_person() {
    let world = World::new().await;
    let parked = refuse_while_others_are_taken(&world, MANY).await;
    assert!((REFUSALS_MAX..MANY).contains(&parked.attempts), "{parked:?}");
    assert_eq!((parked.key.as_str(), parked.next_try_at), (REFUSED, None));
    assert_eq!(parked.error, "refused by the test");
    world.recorder().accept_all();
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(blocked(&world).await, parked, "nobody tries it any more");

    assert_eq!(ask(&world, &parked.event_id, KeyCommand::Retry).await, Some(KeyAnswer::Accepted));
    world.settle().await;
    assert_eq!(world.engine().blocked_keys(None, 10).await.unwrap(), []);
    assert_eq!(world.recorder().kinds(REFUSED).len(), EVENTS);
    assert_eq!(ask(&world, &parked.event_id, KeyCommand::Retry).await, None);
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_is_skipped_is_told_of_in_its_place_and_those_behind_it_arrive() {
    let world = World::new().await;
    let parked = refuse_while_others_are_taken(&world, MANY).await;
    assert_eq!(parked.next_try_at, None);
    world.recorder().accept_all();
    let another = format!("{}/2", parked.instance_id);
    assert_eq!(ask(&world, &another, KeyCommand::Skip).await, Some(KeyAnswer::OtherEvent));
    world.settle().await;
    assert_eq!(blocked(&world).await, parked);
    assert_eq!(ask(&world, &parked.event_id, KeyCommand::Skip).await, Some(KeyAnswer::Accepted));
    world.settle().await;
    let arrived = world.recorder().arrived();
    let arrived: Vec<_> = arrived.iter().filter(|event| event.key == REFUSED).collect();
    assert!(arrived.iter().map(|event| event.number).eq(1..=EVENTS as u32));
    assert_eq!((arrived[0].kind.as_str(), &arrived[0].id), ("SKIPPED", &parked.event_id));
    assert_eq!(arrived[0].data, r#"{"skipped":"ORDER_CREATED"}"#);
    let answers: Vec<_> = world.engine().key_commands(None, 10).await.unwrap();
    let answers: Vec<_> = answers.iter().map(|given| given.answer.as_str()).collect();
    assert_eq!(answers, ["accepted", "other_event"]);
    world.finish().await;
}

#[tokio::test]
async fn a_person_may_end_the_wait_of_a_key_that_is_still_tried() {
    let world = World::new().await;
    let waiting = refuse_while_others_are_taken(&world, 3).await;
    assert!(waiting.next_try_at.unwrap() > world.now());
    world.recorder().accept_all();
    world.settle().await;
    assert!(world.recorder().kinds(REFUSED).is_empty());
    ask(&world, &waiting.event_id, KeyCommand::Retry).await.unwrap();
    world.settle().await;
    assert_eq!(world.recorder().kinds(REFUSED).len(), EVENTS);
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_has_no_key_parked() {
    let world = World::new().await;
    world.recorder().refuse(REFUSED);
    world.start_order("1001").await;
    for _ in 0..MANY {
        world.pass(Duration::from_secs(300)).await;
    }
    assert!(blocked(&world).await.next_try_at.is_some());
    world.recorder().accept_all();
    world.pass(Duration::from_secs(300)).await;
    assert_eq!(world.recorder().kinds(REFUSED).len(), EVENTS);
    world.finish().await;
}

#[tokio::test]
async fn support_finds_what_is_not_delivered_and_decides_about_it() {
    let world = World::new().await;
    let parked = refuse_while_others_are_taken(&world, MANY).await;
    world.recorder().accept_all();
    let mut terminal = Terminal::open(&world, parked.instance_id).await;
    terminal.types(&["events", "blocked"]).await;
    terminal.shows().await;
    let skip = ["events", "skip", "recorder", REFUSED];
    terminal.types(&[&skip[..], &["ID/4", "--reason", "asked by phone"]].concat()).await;
    terminal.types(&[&skip[..], &["ID/1", "--reason", "asked by phone"]].concat()).await;
    world.settle().await;
    terminal.types(&["events", "blocked"]).await;
    terminal.shows().await;
    terminal.types(&["events", "retry", "recorder", "nobody", "ID/1", "--reason", "why"]).await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn a_command_that_is_none_changes_nothing() {
    let world = World::new().await;
    let parked = refuse_while_others_are_taken(&world, MANY).await;
    let api = Api::of(&world);
    let good = json!({
        "command": "retry", "subscription": "recorder", "key": REFUSED,
        "event_id": parked.event_id, "reason": "asked by phone",
    });
    let but = |member: &str, value: Value| {
        let mut spoilt = good.clone();
        spoilt[member] = value;
        spoilt
    };
    for (what, body, status, code) in [
        ("an unknown command", but("command", json!("explode")), 422, "invalid_command"),
        ("no reason", but("reason", json!(" ")), 422, "invalid_command"),
        ("no event", but("event_id", Value::Null), 422, "invalid_command"),
        ("a key with NUL", but("key", json!("a\0b")), 400, "unacceptable_json"),
        ("a member too many", but("actor", json!("boss")), 422, "invalid_command"),
        ("an unknown key", but("key", json!("acme/1")), 404, "unknown_event"),
        ("an unknown subscription", but("subscription", json!("all")), 404, "unknown_event"),
        ("an event that is not the first", but("event_id", json!("1")), 409, "command_refused"),
    ] {
        let asked = Call::new("POST", "/events/blocked/commands").role(Role::Operator).json(&body);
        let differs = api.send(asked).await.differs_from_problem(status, code);
        assert!(differs.is_empty(), "{what}: {differs:?}");
    }
    world.settle().await;
    assert_eq!(blocked(&world).await, parked);
    world.recorder().accept_all();
    let asked = Call::new("POST", "/events/blocked/commands").role(Role::Operator).json(&good);
    assert_eq!(api.send(asked).await.status, 202);
    world.settle().await;
    world.finish().await;
}

/// Nobody tries it any more, so somebody has to know, as soon as the database takes it.
#[tokio::test]
async fn a_key_that_is_parked_is_shown_to_people_once_that_is_possible() {
    let detour = Detour::default();
    let world = World::builder().detour(&detour).build().await;
    let block = stored("insert into amends.key_block");
    for nth in [REFUSALS_MAX, REFUSALS_MAX + 1] {
        detour.lose_nth(&block, nth as usize, Loss::Request);
    }
    let parked = refuse_while_others_are_taken(&world, MANY).await;
    assert_eq!(detour.lost(), [block.clone(), block]);
    // No more attempts than if nothing had been lost.
    assert_eq!(parked.attempts, REFUSALS_MAX + 1);
    assert_eq!(parked.next_try_at, None);
    world.finish().await;
}
