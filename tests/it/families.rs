//! A cancel reaches everything that an instance has started, at once, or is refused.

use std::time::Duration;

use amends::command::{Answer, ChildStanding, Command};
use amends::preview::Preview;
use amends::view::{Filter, InstanceView};
use amends::{Status, StepError};
use amends_tests::family::{Book, Family, Plan, Ship, register};
use amends_tests::gates::Gates;
use amends_tests::kit::{Kit, KitBuilder};
use futures::future::join_all;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn kit(builder: KitBuilder, book: &Book) -> Kit {
    let book = book.clone();
    builder.build(move |engine| register(engine, &book)).await
}

async fn find(kit: &Kit, key: &str) -> Option<InstanceView> {
    let filter = Filter { business_key: Some(key.to_owned()), limit: 2, ..Filter::default() };
    kit.engine().instances(&filter).await.unwrap().pop()
}

async fn status(kit: &Kit, key: &str) -> Status {
    find(kit, key).await.unwrap().status
}

async fn code(kit: &Kit, key: &str) -> Option<String> {
    find(kit, key).await.unwrap().failure.map(|failure| failure.code.to_string())
}

async fn preview(kit: &Kit, id: Uuid) -> Preview {
    kit.engine().preview(id, Command::Cancel).await.unwrap().unwrap()
}

/// Where the children stand, by business key.
fn standings(preview: &Preview) -> Vec<(&str, ChildStanding)> {
    let mut standings: Vec<_> =
        preview.children.iter().map(|it| (it.business_key.as_str(), it.standing)).collect();
    standings.sort_by_key(|(key, _)| *key);
    standings
}

fn down() -> StepError {
    StepError::retry("DOWN", "later")
}

/// How many messages an instance has been sent.
async fn mail(kit: &Kit, key: &str) -> i32 {
    let count = "select mail_count from amends.instance where business_key = $1";
    sqlx::query_scalar(count).bind(key).fetch_one(&mut kit.database().await).await.unwrap()
}

async fn records(kit: &Kit) -> i64 {
    let count = "select count(*) from amends.record";
    sqlx::query_scalar(count).fetch_one(&mut kit.database().await).await.unwrap()
}

#[tokio::test]
async fn a_cancel_is_refused_for_a_child_past_its_pivot_and_nothing_changes() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    kit.attempt::<Ship>(1).about("it/p1").fails(down());
    let plan = Plan::of([("p1", Plan::ships()), ("p2", Plan::ships())]);
    let id = kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    let before = records(&kit).await;
    let shown = preview(&kit, id).await;
    assert_eq!(shown.answer, Answer::ChildPastPivot);
    let expected = [("it/p1", ChildStanding::Live), ("it/p2", ChildStanding::PastPivot)];
    assert_eq!(standings(&shown), expected);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::ChildPastPivot);
    let hash = shown.plan.unwrap().plan_hash;
    let as_shown = kit.engine().cancel_as_shown(id, &hash, "anna", "why").await.unwrap();
    assert_eq!(as_shown, Some(Answer::ChildPastPivot));
    kit.settle().await;
    assert_eq!(records(&kit).await, before);
    kit.pass(MINUTE).await;
    assert_eq!(book.standing(), ["it prepared", "it/p1 shipped", "it/p2 shipped"]);
    kit.pass(31 * DAY).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn an_accepted_cancel_is_told_to_every_live_child_with_its_acceptance() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    for child in ["it/p1", "it/p3", "it/p3/q"] {
        kit.attempt::<Ship>(1).about(child).fails(down());
    }
    let nested = Plan { ships: true, ..Plan::of([("q", Plan::ships())]).at_once() };
    let plan = Plan::of([("p1", Plan::ships()), ("p2", Plan::default()), ("p3", nested)]);
    let id = kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    assert_eq!(
        standings(&preview(&kit, id).await),
        [
            ("it/p1", ChildStanding::Live),
            ("it/p2", ChildStanding::Completed),
            ("it/p3", ChildStanding::Live),
            ("it/p3/q", ChildStanding::Live),
        ]
    );
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    for (child, told) in [("it/p1", 1), ("it/p2", 0), ("it/p3", 1), ("it/p3/q", 1)] {
        assert_eq!(mail(&kit, child).await, told, "{child}");
    }
    let kept = "select actor || ': ' || command || ' ' || answer from amends.command
                where instance_id = (select instance_id from amends.instance
                                     where business_key = 'it/p1')";
    let kept: Vec<String> =
        sqlx::query_scalar(kept).fetch_all(&mut kit.database().await).await.unwrap();
    assert_eq!(kept, [format!("instance {id}: cancel accepted")]);
    kit.settle().await;
    kit.pass(MINUTE).await;
    for key in ["it", "it/p1", "it/p2", "it/p3", "it/p3/q"] {
        assert_eq!(status(&kit, key).await, Status::Cancelled, "{key}");
    }
    assert_eq!(book.standing(), Vec::<String>::new());
    kit.finish().await;
}

#[tokio::test]
async fn a_cancel_is_refused_for_a_grandchild_past_its_pivot_also_where_its_parent_has_completed() {
    for ended in [false, true] {
        let book = Book::default();
        let kit = kit(Kit::builder(), &book).await;
        let middle = Plan::of([("q", Plan::ships())]);
        let middle = if ended { middle.at_once() } else { middle };
        let id = kit.start::<Family>("it", &Plan::of([("p", middle)])).await;
        kit.settle().await;
        let expected = if ended { Status::Completed } else { Status::Waiting };
        assert_eq!(status(&kit, "it/p").await, expected);
        assert_eq!(kit.command(id, Command::Cancel).await, Answer::ChildPastPivot);
        if !ended {
            let middle = find(&kit, "it/p").await.unwrap().instance_id;
            assert_eq!(kit.command(middle, Command::Cancel).await, Answer::ChildPastPivot);
        }
        kit.pass(31 * DAY).await;
        kit.pass(31 * DAY).await;
        assert_eq!(kit.status(id).await, Status::Completed);
        kit.finish().await;
    }
}

#[tokio::test]
async fn a_child_of_which_nothing_is_left_is_no_obstacle_nor_is_what_is_below_it() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    kit.attempt::<Ship>(1).about("it/p1/q").fails(down());
    let p1 = Plan::of([("q", Plan::ships())]);
    let id = kit.start::<Family>("it", &Plan::of([("p1", p1), ("p2", Plan::default())])).await;
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.settle().await;
    let child = find(&kit, "it/p1").await.unwrap().instance_id;
    assert_eq!(kit.command(child, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    let shown = preview(&kit, id).await;
    assert_eq!(shown.answer, Answer::Accepted);
    let expected = [("it/p1", ChildStanding::Undone), ("it/p2", ChildStanding::Completed)];
    assert_eq!(standings(&shown), expected);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    assert_eq!(book.standing(), Vec::<String>::new());
    kit.finish().await;
}

#[tokio::test]
async fn a_child_stopped_by_force_is_put_to_a_person_after_the_others_were_told() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    for child in ["it/p1", "it/p2"] {
        kit.attempt::<Ship>(1).about(child).fails(down());
    }
    let plan = Plan::of([("p1", Plan::ships()), ("p2", Plan::ships())]);
    let id = kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    let stopped = find(&kit, "it/p2").await.unwrap().instance_id;
    assert_eq!(kit.command(stopped, Command::Terminate).await, Answer::Accepted);
    kit.settle().await;
    let shown = preview(&kit, id).await;
    let expected = [("it/p1", ChildStanding::Live), ("it/p2", ChildStanding::Terminated)];
    assert_eq!(standings(&shown), expected);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    kit.pass(MINUTE).await;
    assert_eq!(code(&kit, "it").await.as_deref(), Some("CHILD_TERMINATED"));
    assert_eq!(status(&kit, "it/p1").await, Status::Cancelled);
    assert_eq!(book.standing(), ["it prepared", "it/p2 prepared"]);
    kit.finish().await;
}

/// A failed step undoes everything, as a cancel does, but nobody asks first whether it can.
#[tokio::test]
async fn a_plan_for_a_failed_step_tells_every_live_child_though_one_is_past_its_pivot() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    kit.attempt::<Ship>(1).about("it").fails(down());
    kit.attempt::<Ship>(2).about("it").fails(StepError::fail("NO", "no"));
    for attempt in 1..=2 {
        kit.attempt::<Ship>(attempt).about("it/p1").fails(down());
    }
    let plan = Plan { ships: true, ..Plan::of([("p1", Plan::ships()), ("p2", Plan::ships())]) };
    kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    assert_eq!(book.standing(), ["it prepared", "it/p1 prepared", "it/p2 shipped"]);
    kit.pass(Duration::from_secs(2)).await;
    assert_eq!(code(&kit, "it").await.as_deref(), Some("CHILD_PAST_PIVOT"));
    assert_eq!(status(&kit, "it/p1").await, Status::Cancelled);
    kit.pass(DAY).await;
    assert_eq!(book.standing(), ["it prepared", "it/p2 shipped"]);
    kit.finish().await;
}

#[tokio::test]
async fn a_child_that_is_being_started_while_its_parent_is_cancelled_is_never_born() {
    for command in [Command::Cancel, Command::Hold] {
        let (book, gates) = (Book::default(), Gates::default());
        let kit = kit(Kit::builder().probes(gates.probes()), &book).await;
        gates.shut(&["child.before"]);
        let id = kit.start::<Family>("it", &Plan::of([("p", Plan::ships())])).await;
        let is_told = async {
            gates.reached("child.before").await;
            assert_eq!(kit.command(id, command).await, Answer::Accepted);
            gates.shut(&[]);
        };
        tokio::join!(kit.settle(), is_told);
        assert!(find(&kit, "it/p").await.is_none(), "{command}");
        if command == Command::Hold {
            assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
            kit.settle().await;
            assert_eq!(status(&kit, "it/p").await, Status::Completed);
            kit.finish().await;
            continue;
        }
        assert_eq!(kit.status(id).await, Status::Cancelled);
        assert_eq!(book.standing(), Vec::<String>::new());
        kit.finish().await;
    }
}

#[tokio::test]
async fn of_three_cancels_that_wait_for_one_row_one_is_accepted() {
    let book = Book::default();
    let kit = kit(Kit::builder(), &book).await;
    let id = kit.start::<Family>("it", &Plan::of([("p", Plan::default())])).await;
    kit.settle().await;
    for round in 0..2 {
        // The second time the whole family has been told.
        let mut database = kit.database().await;
        sqlx::raw_sql("begin; select from amends.instance for update")
            .execute(&mut database)
            .await
            .unwrap();
        let answers = join_all((0..3).map(|_| kit.command(id, Command::Cancel)));
        let let_go = async {
            wait_for_waiters(&kit, 3).await;
            sqlx::raw_sql("commit").execute(&mut database).await.unwrap();
        };
        let (mut answers, ()) = tokio::join!(answers, let_go);
        answers.sort_by_key(|answer| answer.as_str());
        let first = [Answer::Accepted, Answer::AlreadyCancelling][round];
        let later = Answer::AlreadyCancelling;
        assert_eq!(answers, [first, later, later]);
    }
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Cancelled);
    kit.finish().await;
}

/// Comes back when so many sessions of the engine wait for a lock.
async fn wait_for_waiters(kit: &Kit, count: i64) {
    let mut database = kit.database().await;
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut database).await.unwrap() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_look_at_what_a_cancel_would_do_waits_for_no_lock_and_takes_none() {
    let kit = kit(Kit::builder(), &Book::default()).await;
    let id = kit.start::<Family>("it", &Plan::of([("p", Plan::default())])).await;
    kit.settle().await;
    let mut database = kit.database().await;
    sqlx::raw_sql("begin; select from amends.instance for update")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(preview(&kit, id).await.answer, Answer::Accepted);
    sqlx::raw_sql("commit").execute(&mut database).await.unwrap();
    kit.engine().abandon();
}
