//! How children begin and end for their parents: open at the end of a run, let go of, started again,
//! too many, too deep, and told although others cannot be.

use std::time::Duration;

use amends::command::{Answer, Command, Finding, Resolution};
use amends::view::{Filter, InstanceView};
use amends::{Error, Halt, Saga, Status, StepError, Steps, Workflow};
use amends_tests::World;
use amends_tests::crash::Crash;
use amends_tests::family::{Book, Family, Plan, register};
use amends_tests::gates::Gates;
use amends_tests::improvised::{Part, Ran, Stage, start, start_request};
use amends_tests::kit::Kit;
use amends_tests::scripted::{Act, ONCE, Script, Scripted, retry, unknown};
use futures::FutureExt;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

async fn find(world: &World, key: &str) -> Option<InstanceView> {
    let filter = Filter { business_key: Some(key.to_owned()), limit: 2, ..Filter::default() };
    world.engine().instances(&filter).await.unwrap().pop()
}

async fn status(world: &World, key: &str) -> Option<Status> {
    find(world, key).await.map(|it| it.status)
}

/// What an instance is stuck with, and what that says.
async fn stuck(world: &World, id: Uuid) -> (String, String) {
    let view = world.instance(id).await;
    assert_eq!(view.status, Status::Stuck);
    let failure = view.failure.unwrap();
    (failure.code.to_string(), failure.message)
}

async fn again(world: &World, id: Uuid, step: &str) -> Result<Answer, Error> {
    let resolution = Resolution {
        step: Some(step.to_owned()),
        finding: Some(Finding::Again),
        evidence: "the address is mended".to_owned(),
        money: Vec::new(),
    };
    world.engine().resolve(id, resolution, "ann", "try again").await.map(Option::unwrap)
}

fn refusal(answer: Result<Answer, Error>) -> String {
    match answer {
        Err(Error::InvalidInput(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn fails() -> Act {
    Act::Err(StepError::fail("NO", "no"))
}

/// Runs `a`, starts a child that it does not wait for, and runs `b`.
fn a_open_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.start_child::<Scripted>("pack", &7).await?;
        saga.run(&stage.b, &"2".to_owned()).await
    }
    .boxed()
}

#[tokio::test]
async fn a_run_that_ends_before_its_child_is_stuck_and_goes_on_when_that_has_ended() {
    for child_fails in [false, true] {
        let last = if child_fails { fails() } else { Act::Succeed };
        let script = Script::new(ONCE, [retry("down"), last]);
        let stage = Stage::plain().child(&script);
        let world = stage.world(a_open_b).await;
        let id = start(&world, "it").await;
        world.settle().await;
        let (code, message) = stuck(&world, id).await;
        assert_eq!(code, "CHILD_OPEN");
        let child = find(&world, "it/pack").await.unwrap().instance_id;
        let says = format!("the run has ended, and child:pack (instance {child}) has not");
        assert!(message.starts_with(&says), "{message}");
        assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
        world.settle().await;
        assert_eq!(stuck(&world, id).await.0, "CHILD_OPEN", "it has still not ended");
        world.pass(MINUTE).await;
        assert_eq!(stuck(&world, id).await.0, "CHILD_OPEN", "a person has to say so");
        assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
        world.settle().await;
        if child_fails {
            assert_eq!(stuck(&world, id).await.0, "CHILD_UNHEARD", "that is another matter");
            assert_eq!(world.command(id, Command::Resume).await, Answer::Accepted);
            world.settle().await;
        }
        assert_eq!(world.instance(id).await.status, Status::Completed);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_is_stuck_with_an_open_child_is_cancelled_with_it() {
    let script = Script::new(ONCE, [retry("down")]);
    let stage = Stage::plain().child(&script);
    let world = stage.world(a_open_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stuck(&world, id).await.0, "CHILD_OPEN");
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(status(&world, "it/pack").await, Some(Status::Cancelled));
    assert_eq!(stage.log(), ["a 1", "b 2", "undo b 2", "undo a 1"]);
    world.finish().await;
}

/// Runs `a`, starts an instance that it lets go of, and runs `b`.
fn a_detached_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.run(&stage.a, &"1".to_owned()).await?;
        saga.start_detached::<Scripted>("pack", &7).await?;
        saga.run(&stage.b, &"2".to_owned()).await
    }
    .boxed()
}

#[tokio::test]
async fn what_is_let_go_of_is_started_once_and_neither_awaited_nor_undone() {
    for (b, ended) in [(Act::Succeed, Status::Completed), (fails(), Status::Compensated)] {
        let script = Script::new(ONCE, [retry("down"), retry("down")]);
        let b = Part::default().acts([retry("down"), b]);
        let stage = Stage::new(Part::default(), b, Part::default()).child(&script);
        let mut world = stage.world(a_detached_b).await;
        let id = start(&world, "it").await;
        world.settle().await;
        let preview = world.engine().preview(id, Command::Cancel).await.unwrap().unwrap();
        assert!(preview.children.is_empty());
        assert_eq!(preview.plan.unwrap().steps.len(), 1, "a is undone, and nothing else");
        assert_eq!(world.command(id, Command::Hold).await, Answer::Accepted);
        world.settle().await;
        assert!(!find(&world, "it/pack").await.unwrap().held);
        assert_eq!(world.command(id, Command::Release).await, Answer::Accepted);
        world.restart().await;
        world.pass(Duration::from_secs(1)).await;
        assert_eq!(world.instance(id).await.status, ended);
        assert_eq!(status(&world, "it/pack").await, Some(Status::Waiting));
        world.pass(MINUTE).await;
        assert_eq!(status(&world, "it/pack").await, Some(Status::Completed));
        assert_eq!(world.instance(id).await.status, ended);
        assert_eq!((script.ran(), script.undone()), (3, 0));
        world.finish().await;
    }
}

#[tokio::test]
async fn what_would_be_let_go_of_is_not_started_after_a_cancel() {
    let script = Script::new(ONCE, []);
    let (gates, stage) = (Gates::default(), Stage::plain().child(&script));
    let world = stage.builder(a_detached_b).probes(gates.probes()).build().await;
    gates.shut(&["effect.after"]);
    let cancelled = async {
        let id = start(&world, "it").await;
        gates.reached("effect.after").await;
        assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
        gates.shut(&[]);
        id
    };
    let id = cancelled.await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(status(&world, "it/pack").await, None);
    world.finish().await;
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_one_instance_that_is_let_go_of() {
    for nth in 0.. {
        let script = Script::new(ONCE, []);
        let (crash, probes) = Crash::at(Some(nth));
        let stage = Stage::plain().child(&script);
        let mut world = stage.builder(a_detached_b).probes(probes).build().await;
        let engine = world.engine().clone();
        let running = tokio::spawn(async move {
            let _ = engine.start(start_request("it")).await;
            let _ = engine.run_until_idle().await;
        });
        let crashed = tokio::select! {
            () = crash.happened() => true,
            _ = running => false,
        };
        world.crash().await;
        let _ = world.engine().start(start_request("it")).await;
        world.settle().await;
        world.outlive_lease().await;
        world.pass(MINUTE).await;
        for key in ["it", "it/pack"] {
            let ended = status(&world, key).await;
            assert_eq!(ended, Some(Status::Completed), "{key}, point {nth}: {:?}", crash.reached());
        }
        assert!(script.ran() <= 2, "once before the crash, and once after it");
        world.finish().await;
        crash.release();
        if !crashed {
            break;
        }
    }
}

/// Starts a child, passes the pivot `c`, and needs what the child answers for `b`.
fn child_c_b<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        let child = saga.start_child::<Scripted>("pack", &7).await?;
        saga.run(&stage.c, &"ship".to_owned()).await?;
        let acted = child.output().await?;
        saga.run(&stage.b, &acted.output.to_string()).await
    }
    .boxed()
}

#[tokio::test]
async fn a_child_that_has_failed_is_started_again_for_a_parent_that_cannot_be_undone() {
    let script = Script::new(ONCE, [fails(), retry("down"), fails()]);
    let stage = Stage::new(Part::default(), Part::default(), Part::default().pivot());
    let stage = stage.child(&script);
    let mut world = stage.world(child_c_b).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stuck(&world, id).await.0, "PAST_PIVOT");
    for step in ["c", "child:wrap"] {
        refusal(again(&world, id, step).await);
    }
    assert_eq!(again(&world, id, "child:pack").await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(status(&world, "it/pack").await, Some(Status::Compensated));
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Waiting));
    assert_eq!(world.instance(id).await.status, Status::Waiting);
    world.restart().await;
    world.pass(MINUTE).await;
    assert_eq!(stuck(&world, id).await.0, "PAST_PIVOT", "it has failed once more");
    assert_eq!(again(&world, id, "child:pack").await.unwrap(), Answer::Accepted);
    world.restart().await;
    world.settle().await;
    assert_eq!(status(&world, "it/pack#3").await, Some(Status::Completed));
    assert_eq!(world.instance(id).await.status, Status::Completed);
    assert_eq!(stage.log(), ["c ship", "b 7"]);
    insta::assert_snapshot!(world.timeline(id).await);
    world.finish().await;
}

/// Starts a child, and waits for it in one branch while `a` runs in the other.
fn child_beside_a<'a>(saga: &'a Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        let child = saga.start_child::<Scripted>("pack", &7).await?;
        saga.run(&stage.a, &"1".to_owned()).await?;
        child.output().await?;
        Ok(String::new())
    }
    .boxed()
}

#[tokio::test]
async fn a_child_that_was_started_again_is_undone_with_its_parent_and_the_first_is_not() {
    let script = Script::new(ONCE, [fails()]);
    let a = Part::default().effect(amends::Effect::AtMostOnce).acts([unknown()]);
    let stage = Stage::new(a, Part::default(), Part::default()).child(&script);
    let world = stage.world(child_beside_a).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stuck(&world, id).await.0, "OUTCOME_UNKNOWN");
    assert_eq!(again(&world, id, "child:pack").await.unwrap(), Answer::Accepted);
    world.settle().await;
    assert_eq!(stuck(&world, id).await.0, "OUTCOME_UNKNOWN", "that is another matter");
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Completed));
    let why = refusal(again(&world, id, "child:pack").await);
    assert_eq!(why, "child:pack has completed");
    let preview = world.engine().preview(id, Command::Cancel).await.unwrap().unwrap();
    let plan: Vec<_> = preview.plan.unwrap().steps.into_iter().map(|it| it.step).collect();
    assert_eq!(plan, ["a", "child:pack"]);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(status(&world, "it/pack").await, Some(Status::Compensated));
    assert_eq!(status(&world, "it/pack#2").await, Some(Status::Cancelled));
    assert_eq!(script.undone(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_before_the_child_is_started_again_finds_nothing_of_it() {
    let script = Script::new(ONCE, [fails()]);
    let a = Part::default().effect(amends::Effect::AtMostOnce).acts([unknown()]);
    let stage = Stage::new(a, Part::default(), Part::default()).child(&script);
    let world = stage.world(child_beside_a).await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(again(&world, id, "child:pack").await.unwrap(), Answer::Accepted);
    assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    assert_eq!(status(&world, "it/pack#2").await, None);
    world.finish().await;
}

#[tokio::test]
async fn a_child_without_which_the_run_has_gone_on_is_not_started_again() {
    let script = Script::new(ONCE, [fails()]);
    let a = Part::default().effect(amends::Effect::AtMostOnce).acts([unknown()]);
    let stage = Stage::new(a, Part::default(), Part::default()).child(&script);
    let world = stage
        .world(|saga, stage| {
            async {
                let child = saga.start_child::<Scripted>("pack", &7).await?;
                let way = if child.ended().await?.is_ok() { "one way" } else { "another way" };
                saga.run(&stage.a, &way.to_owned()).await
            }
            .boxed()
        })
        .await;
    let id = start(&world, "it").await;
    world.settle().await;
    assert_eq!(stuck(&world, id).await.0, "OUTCOME_UNKNOWN");
    let why = refusal(again(&world, id, "child:pack").await);
    assert!(why.starts_with("the run has heard how child:pack has ended"), "{why}");
    world.command(id, Command::Cancel).await;
    world.settle().await;
    assert_eq!(world.instance(id).await.status, Status::Cancelled);
    world.finish().await;
}

/// Starts one child under a name.
async fn names(key: &str, name: &'static str) -> (World, Uuid) {
    let stage = Stage::plain().child(&Script::new(ONCE, []));
    let world = stage
        .world(move |saga, stage| {
            async move {
                saga.run(&stage.a, &"1".to_owned()).await?;
                saga.start_child::<Scripted>(name, &7).await?.output().await?;
                Ok(String::new())
            }
            .boxed()
        })
        .await;
    let id = start(&world, key).await;
    world.settle().await;
    (world, id)
}

#[tokio::test]
async fn a_child_that_cannot_have_its_key_is_refused_before_anything_is_recorded_of_it() {
    let long = "k".repeat(490);
    for (key, name) in [("it", "one/two"), (long.as_str(), "a_longer_name")] {
        let (world, id) = names(key, name).await;
        let (code, message) = stuck(&world, id).await;
        assert_eq!(code, "CHILD_REFUSED", "{message}");
        let started = "select count(*) from amends.record where kind = 'child_started'";
        let mut database = world.database().await;
        let started: i64 = sqlx::query_scalar(started).fetch_one(&mut database).await.unwrap();
        assert_eq!(started, 0);
        assert_eq!(world.command(id, Command::Cancel).await, Answer::Accepted);
        world.settle().await;
        assert_eq!(world.instance(id).await.status, Status::Cancelled);
        world.finish().await;
    }
}

async fn family(plan: &Plan) -> (Kit, Uuid, Book) {
    let book = Book::default();
    let kit = {
        let book = book.clone();
        Kit::builder().build(move |engine| register(engine, &book)).await
    };
    let id = kit.start::<Family>("it", plan).await;
    kit.settle().await;
    (kit, id, book)
}

async fn refused(kit: &Kit) -> Vec<InstanceView> {
    let status = Some(Status::Stuck);
    let filter = Filter { status, limit: 9, ..Filter::default() };
    kit.engine().instances(&filter).await.unwrap()
}

#[tokio::test]
async fn what_starts_itself_comes_to_an_end() {
    let deepest = (0..18).fold(Plan::default(), |plan, _| Plan::of([("c", plan)]).at_once());
    let (kit, id, book) = family(&deepest).await;
    let refused = refused(&kit).await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].business_key, format!("it{}", "/c".repeat(16)));
    assert_eq!(refused[0].failure.as_ref().unwrap().code, "CHILD_REFUSED");
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    assert_eq!(book.standing(), Vec::<String>::new());
    kit.finish().await;
}

/// Starts another one of its kind and lets it go.
struct Successor;

impl Workflow for Successor {
    const NAME: &'static str = "successor";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new()
    }

    async fn run(&self, saga: &Saga, (): ()) -> Result<(), Halt> {
        saga.start_detached::<Self>("next", &()).await.map(drop)
    }
}

#[tokio::test]
async fn what_starts_its_own_kind_and_lets_it_go_comes_to_an_end_too() {
    let kit = Kit::builder().build(|engine| engine.workflow(Successor)).await;
    kit.start::<Successor>("it", &()).await;
    kit.settle().await;
    let refused = refused(&kit).await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].business_key, format!("it{}", "/next".repeat(16)));
    assert_eq!(refused[0].failure.as_ref().unwrap().code, "CHILD_REFUSED");
    assert_eq!(kit.command(refused[0].instance_id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    kit.finish().await;
}

#[tokio::test]
async fn an_instance_with_a_thousand_children_starts_no_more() {
    let names: Vec<_> = (0..1_001).map(|n| format!("p{n}")).collect();
    let plan = Plan::of(names.iter().map(|name| (name.as_str(), Plan::default()))).at_once();
    let (kit, id, _) = family(&plan).await;
    let refused = refused(&kit).await;
    assert_eq!(refused.len(), 1);
    let failure = refused[0].failure.as_ref().unwrap();
    assert_eq!((refused[0].instance_id, &*failure.code), (id, "CHILD_REFUSED"));
    assert!(failure.message.contains("has started 1000 others"), "{}", failure.message);
    kit.engine().abandon();
}

#[tokio::test]
async fn five_hundred_children_that_cannot_be_read_keep_no_other_parent_waiting() {
    let (gates, stage) = (Gates::default(), Stage::plain().child(&Script::new(ONCE, [])));
    let mut world = stage
        .builder(|saga, _| {
            async {
                let acted = saga.start_child::<Scripted>("pack", &7).await?.output().await?;
                Ok(acted.output.to_string())
            }
            .boxed()
        })
        .probes(gates.probes())
        .build()
        .await;
    gates.shut(&["child.ended"]);
    let id = start(&world, "it").await;
    gates.reached("child.ended").await;
    world.crash().await;
    gates.shut(&[]);
    let unreadable = "insert into amends.instance
            (instance_id, workflow, version, business_key, status, head_seq, head_hash, created_at,
             updated_at, ended_at, attributes, priority, parent_id)
        select lpad(to_hex(n), 32, '0')::uuid, workflow, version, business_key || '/' || n,
               'completed', head_seq, head_hash, created_at, updated_at, created_at, attributes,
               priority, instance_id
        from amends.instance, generate_series(1, 500) n
        where business_key = 'it'";
    sqlx::query(unreadable).execute(&mut world.database().await).await.unwrap();
    world.outlive_lease().await;
    assert_eq!(world.instance(id).await.status, Status::Completed);
    world.engine().abandon();
}
