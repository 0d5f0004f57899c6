//! Events of subscriptions that no server has any more.

use std::time::Duration;

use amends::leftover::SubscriptionAnswer;
use amends::{Engine, Event, Halt, Milestone, Saga, Start, Steps, Workflow};
use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::http::{Api, Call};
use amends_tests::sink::Recorder;
use serde_json::{Value, json};

use crate::cli::Terminal;
use crate::versions::Builds;

const MINUTE: Duration = Duration::from_secs(60);
const KEY: &str = "acme/1";

/// Tells of its start and of its end.
struct Tells;

impl Workflow for Tells {
    const NAME: &'static str = "tells";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = String;

    fn steps(&self) -> Steps {
        Steps::new()
    }

    fn events(&self, milestone: Milestone<'_, Self>) -> Vec<Event> {
        match milestone {
            Milestone::Started { .. } => vec![Event::new("STARTED", &1)],
            Milestone::Completed { .. } => vec![Event::new("COMPLETED", &2)],
            _ => vec![],
        }
    }

    async fn run(&self, _: &Saga, input: String) -> Result<String, Halt> {
        Ok(input)
    }
}

/// Two receivers of events, and the builds that deliver to them.
struct Receivers {
    kept: Recorder,
    old: Recorder,
}

impl Receivers {
    fn new() -> Self {
        Self { kept: Recorder::default(), old: Recorder::default() }
    }

    async fn with_both(&self, builds: &Builds) -> Engine {
        let (kept, old) = (self.kept.clone(), self.old.clone());
        let open = builds
            .open(|it| it.workflow(Tells).subscription("kept", kept).subscription("old", old));
        open.await
    }

    async fn with_one(&self, builds: &Builds) -> Engine {
        builds.open(|it| it.workflow(Tells).subscription("kept", self.kept.clone())).await
    }

    /// Events wait that the old receiver has not taken, of a build that has left.
    async fn leave(&self, builds: &Builds) {
        self.old.refuse(KEY);
        let engine = self.with_both(builds).await;
        start(&engine).await;
        engine.shutdown().await.unwrap();
        self.old.accept_all();
        assert_eq!(self.kept.kinds(KEY), ["STARTED", "COMPLETED"]);
    }
}

async fn start(engine: &Engine) {
    let request = Start {
        workflow: "tells",
        business_key: KEY.to_owned(),
        input: "\"it\"".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    };
    engine.start(request).await.unwrap();
    engine.run_until_idle().await.unwrap();
}

/// How many rows every relay has to walk.
async fn waiting(world: &World) -> i64 {
    let count = sqlx::query_scalar("select count(*) from amends.outbox");
    count.fetch_one(&mut world.database().await).await.unwrap()
}

/// What is left: of which subscription, how many.
async fn left(engine: &Engine) -> Vec<(String, i64)> {
    let leftovers = engine.leftovers().await.unwrap();
    leftovers.into_iter().map(|it| (it.subscription, it.events)).collect()
}

#[tokio::test]
async fn what_a_subscription_leaves_behind_is_shown_and_walked_by_nobody() {
    let world = World::new().await;
    let (builds, receivers) = (Builds::of(&world), Receivers::new());
    receivers.leave(&builds).await;
    let engine = receivers.with_one(&builds).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(left(&engine).await, [("old".to_owned(), 2)]);
    assert_eq!(waiting(&world).await, 2, "a server may be on its way");
    builds.advance(10 * MINUTE);
    engine.run_until_idle().await.unwrap();
    assert_eq!((left(&engine).await, waiting(&world).await), (vec![("old".to_owned(), 2)], 0));

    // A worker that has the subscription again delivers it, in its order.
    engine.shutdown().await.unwrap();
    let engine = receivers.with_both(&builds).await;
    engine.run_until_idle().await.unwrap();
    assert_eq!(receivers.old.kinds(KEY), ["STARTED", "COMPLETED"]);
    assert_eq!((left(&engine).await, waiting(&world).await), (vec![], 0));
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn what_an_earlier_release_delivers_is_not_known_and_nothing_of_it_is_taken_for_left() {
    let world = World::new().await;
    let (builds, receivers) = (Builds::of(&world), Receivers::new());
    receivers.leave(&builds).await;
    let engine = receivers.with_one(&builds).await;
    let old = receivers.with_both(&builds).await;
    let earlier = "update amends.worker
                   set subscriptions = null, lease_until = lease_until + interval '1 day'
                   where subscriptions @> '{old}'";
    sqlx::query(earlier).execute(&mut world.database().await).await.unwrap();
    for _ in 0..2 {
        engine.run_until_idle().await.unwrap();
        builds.advance(10 * MINUTE);
    }
    assert_eq!((left(&engine).await, waiting(&world).await), (vec![], 2));
    old.abandon();
    engine.abandon();
    world.finish().await;
}

#[tokio::test]
async fn a_person_drops_what_no_server_delivers_and_nothing_else() {
    let world = World::new().await;
    let (builds, receivers) = (Builds::of(&world), Receivers::new());
    receivers.leave(&builds).await;
    let engine = receivers.with_one(&builds).await;
    engine.run_until_idle().await.unwrap();
    builds.advance(10 * MINUTE);
    engine.run_until_idle().await.unwrap();
    let drop = async |subscription: &str| {
        engine.drop_leftover(subscription, "ann", "the receiver is no more").await.unwrap()
    };
    assert_eq!(drop("kept").await, Some(SubscriptionAnswer::InUse));
    assert_eq!(drop("unheard-of").await, None);
    assert_eq!(drop("old").await, Some(SubscriptionAnswer::Dropped { events: 2 }));
    assert_eq!(drop("old").await, None);
    let commands = engine.subscription_commands(10).await.unwrap();
    let mut kept: Vec<_> = commands
        .iter()
        .map(|it| (it.subscription.as_str(), it.answer.as_str(), it.events))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, [("kept", "in_use", 0), ("old", "dropped", 2)]);
    assert_eq!((left(&engine).await, waiting(&world).await), (vec![], 0));
    engine.shutdown().await.unwrap();

    let engine = receivers.with_both(&builds).await;
    engine.run_until_idle().await.unwrap();
    assert!(receivers.old.arrived().is_empty());
    assert_eq!(engine.blocked_keys(None, 10).await.unwrap(), []);
    engine.abandon();
    world.finish().await;
}

/// Events of a subscription that nobody has ever seen a server of.
async fn leave_behind(world: &World) {
    let mut database = world.database().await;
    for statement in [
        "insert into amends.subscription (name) values ('old')",
        "insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
         select 'old', 0, 'fulfilment', 'acme.myshopify.com/1001', instance_id, seq, 0
         from amends.record where events is not null",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
}

#[tokio::test]
async fn support_finds_what_is_left_and_drops_it() {
    let world = World::new().await;
    let id = world.start_order("1001").await;
    world.settle().await;
    leave_behind(&world).await;
    world.settle().await;
    let mut terminal = Terminal::open(&world, id).await;
    terminal.types(&["events", "leftover"]).await;
    terminal.types(&["events", "drop", "recorder", "--reason", "asked by phone"]).await;
    terminal.types(&["events", "drop", "old", "--reason", "asked by phone"]).await;
    terminal.types(&["events", "drop", "old", "--reason", "asked by phone"]).await;
    terminal.types(&["events", "leftover"]).await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn a_command_that_is_none_drops_nothing() {
    let world = World::new().await;
    world.start_order("1001").await;
    world.settle().await;
    leave_behind(&world).await;
    world.settle().await;
    let api = Api::of(&world);
    let good = json!({ "command": "drop", "subscription": "old", "reason": "asked by phone" });
    let but = |member: &str, value: Value| {
        let mut spoilt = good.clone();
        spoilt[member] = value;
        spoilt
    };
    let ask = |body: &Value| {
        Call::new("POST", "/events/leftover/commands").role(Role::Operator).json(body)
    };
    for (what, body, status, code) in [
        ("an unknown command", but("command", json!("skip")), 422, "invalid_command"),
        ("no reason", but("reason", json!(" ")), 422, "invalid_command"),
        ("no subscription", but("subscription", Value::Null), 422, "invalid_command"),
        ("a name with NUL", but("subscription", json!("a\0b")), 400, "unacceptable_json"),
        ("an unknown subscription", but("subscription", json!("all")), 404, "unknown_event"),
        ("one that is there", but("subscription", json!("recorder")), 409, "command_refused"),
    ] {
        let differs = api.send(ask(&body)).await.differs_from_problem(status, code);
        assert!(differs.is_empty(), "{what}: {differs:?}");
    }
    let events = waiting(&world).await;
    assert!(events > 0);
    let dropped = api.send(ask(&good)).await;
    assert_eq!(
        (dropped.status, dropped.json()),
        (200, json!({"answer": "dropped", "events": events}))
    );
    assert_eq!(waiting(&world).await, 0);
    world.finish().await;
}
