//! Commands go down the tree as the person who gives them has chosen, and the preview says so.

use std::time::Duration;

use amends::command::{Answer, ChildFate, ChildPolicy, Command};
use amends::preview::Preview;
use amends::view::{Filter, InstanceView};
use amends::{Status, StepError};
use amends_tests::family::{Book, Family, Plan, Ship, register};
use amends_tests::kit::Kit;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn kit(book: &Book) -> Kit {
    let book = book.clone();
    Kit::builder().build(move |engine| register(engine, &book)).await
}

async fn find(kit: &Kit, key: &str) -> InstanceView {
    let filter = Filter { business_key: Some(key.to_owned()), limit: 2, ..Filter::default() };
    kit.engine().instances(&filter).await.unwrap().pop().unwrap()
}

async fn statuses<const N: usize>(kit: &Kit, keys: [&str; N]) -> Vec<Status> {
    let mut statuses = Vec::new();
    for key in keys {
        statuses.push(find(kit, key).await.status);
    }
    statuses
}

async fn terminate(kit: &Kit, id: Uuid, policy: ChildPolicy) -> Answer {
    kit.engine().terminate(id, policy, "anna", "enough").await.unwrap().unwrap()
}

/// What a command means for each child, by business key.
fn fates(preview: &Preview) -> Vec<(&str, ChildFate)> {
    let children = preview.children.iter();
    let mut fates: Vec<_> = children.map(|it| (it.business_key.as_str(), it.fate)).collect();
    fates.sort_by_key(|(key, _)| *key);
    fates
}

async fn preview(kit: &Kit, id: Uuid, command: Command) -> Preview {
    kit.engine().preview(id, command).await.unwrap().unwrap()
}

/// A family of which `it/p1`, `it/p3` and `it/p3/q` wait for their next attempt to ship, and `it/p2`
/// has completed.
async fn waiting(kit: &Kit) -> Uuid {
    for child in ["it/p1", "it/p3", "it/p3/q"] {
        kit.attempt::<Ship>(1).about(child).fails(StepError::retry("DOWN", "later"));
    }
    let nested = Plan { ships: true, ..Plan::of([("q", Plan::ships())]).at_once() };
    let plan = Plan::of([("p1", Plan::ships()), ("p2", Plan::default()), ("p3", nested)]);
    let id = kit.start::<Family>("it", &plan).await;
    kit.settle().await;
    id
}

#[tokio::test]
async fn a_hold_keeps_everything_below_from_acting_until_it_is_released() {
    let book = Book::default();
    let kit = kit(&book).await;
    let id = waiting(&kit).await;
    let shown = preview(&kit, id, Command::Hold).await;
    let (hold, unchanged) = (ChildFate::Hold, ChildFate::Unchanged);
    let expected = [("it/p1", hold), ("it/p2", unchanged), ("it/p3", hold), ("it/p3/q", hold)];
    assert_eq!((shown.answer, fates(&shown)), (Answer::Accepted, expected.to_vec()));
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.pass(DAY).await;
    assert_eq!(
        book.standing(),
        ["it prepared", "it/p1 prepared", "it/p2 prepared", "it/p3 prepared", "it/p3/q prepared"]
    );
    for (key, held) in [("it/p1", true), ("it/p2", false), ("it/p3", true), ("it/p3/q", true)] {
        assert_eq!(find(&kit, key).await.held, held, "{key}");
    }
    let shown = preview(&kit, id, Command::Release).await;
    let release = ChildFate::Release;
    let expected =
        [("it/p1", release), ("it/p2", unchanged), ("it/p3", release), ("it/p3/q", release)];
    assert_eq!(fates(&shown), expected);
    assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
    kit.pass(MINUTE).await;
    let expected = ["it prepared", "it/p1 shipped", "it/p2 prepared"];
    assert_eq!(book.standing()[..3], expected);
    kit.pass(31 * DAY).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn a_hold_on_what_is_being_undone_already_is_lifted_by_a_cancel_above_it() {
    let book = Book::default();
    let kit = kit(&book).await;
    let id = waiting(&kit).await;
    let child = find(&kit, "it/p1").await.instance_id;
    assert_eq!(kit.command(child, Command::Cancel).await, Answer::Accepted);
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(find(&kit, "it/p1").await.status, Status::Waiting, "it is held");
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::Accepted);
    kit.pass(MINUTE).await;
    let ended = statuses(&kit, ["it", "it/p1", "it/p2", "it/p3", "it/p3/q"]).await;
    assert_eq!(ended, [Status::Cancelled; 5]);
    assert_eq!(book.standing(), Vec::<String>::new());
    kit.finish().await;
}

#[tokio::test]
async fn a_terminate_that_says_nothing_of_live_children_is_refused_and_changes_nothing() {
    let book = Book::default();
    let kit = kit(&book).await;
    let id = waiting(&kit).await;
    let shown = preview(&kit, id, Command::Terminate).await;
    let (open, unchanged) = (ChildFate::Undecided, ChildFate::Unchanged);
    let expected = [("it/p1", open), ("it/p2", unchanged), ("it/p3", open), ("it/p3/q", open)];
    assert_eq!((shown.answer, fates(&shown)), (Answer::ChildrenUndecided, expected.to_vec()));
    assert_eq!(kit.command(id, Command::Terminate).await, Answer::ChildrenUndecided);
    kit.pass(MINUTE).await;
    let shipped = ["it prepared", "it/p1 shipped", "it/p2 prepared", "it/p3 shipped"];
    assert_eq!(book.standing()[..4], shipped);
    kit.pass(31 * DAY).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    kit.finish().await;
}

#[tokio::test]
async fn a_terminate_does_to_live_children_what_the_person_says() {
    use ChildFate::{Cancel, Terminate, Unchanged};
    use Status::{Cancelled, Completed, Terminated};
    for (policy, fate, ended, left) in [
        (ChildPolicy::Terminate, Terminate, Terminated, "prepared"),
        (ChildPolicy::Cancel, Cancel, Cancelled, ""),
        (ChildPolicy::Leave, Unchanged, Completed, "shipped"),
    ] {
        let book = Book::default();
        let kit = kit(&book).await;
        let id = waiting(&kit).await;
        let shown = kit.engine().preview_terminate(id, policy).await.unwrap().unwrap();
        let expected = [("it/p1", fate), ("it/p2", Unchanged), ("it/p3", fate), ("it/p3/q", fate)];
        assert_eq!((shown.answer, fates(&shown)), (Answer::Accepted, expected.to_vec()));
        assert_eq!(terminate(&kit, id, policy).await, Answer::Accepted);
        kit.pass(MINUTE).await;
        let reached = statuses(&kit, ["it", "it/p1", "it/p2", "it/p3", "it/p3/q"]).await;
        assert_eq!(reached, [Terminated, ended, Completed, ended, ended], "{policy}");
        let expected: Vec<_> = ["it", "it/p1", "it/p2", "it/p3", "it/p3/q"]
            .into_iter()
            .map(|key| match key {
                "it" | "it/p2" => format!("{key} prepared"),
                _ => format!("{key} {left}"),
            })
            .filter(|line| !line.ends_with(' '))
            .collect();
        assert_eq!(book.standing(), expected, "{policy}");
        kit.finish().await;
    }
}

#[tokio::test]
async fn a_terminate_that_cancels_is_refused_for_a_live_child_past_its_pivot() {
    let book = Book::default();
    let kit = kit(&book).await;
    let middle = Plan { ships: true, ..Plan::of([]) };
    let id = kit.start::<Family>("it", &Plan::of([("p", middle), ("q", Plan::ships())])).await;
    kit.settle().await;
    let shown = kit.engine().preview_terminate(id, ChildPolicy::Cancel).await.unwrap().unwrap();
    assert_eq!(fates(&shown), [("it/p", ChildFate::Refuse), ("it/q", ChildFate::Unchanged)]);
    assert_eq!(terminate(&kit, id, ChildPolicy::Cancel).await, Answer::ChildPastPivot);
    assert_eq!(terminate(&kit, id, ChildPolicy::Leave).await, Answer::Accepted);
    kit.pass(31 * DAY).await;
    assert_eq!(statuses(&kit, ["it", "it/p"]).await, [Status::Terminated, Status::Completed]);
    kit.finish().await;
}

#[tokio::test]
async fn a_completed_child_is_taken_back_by_people_once_everything_above_it_has_ended() {
    let book = Book::default();
    let kit = kit(&book).await;
    let middle = Plan::of([("q", Plan::default())]).at_once();
    let id = kit.start::<Family>("it", &Plan::of([("p", middle), ("r", Plan::ships())])).await;
    kit.settle().await;
    let [p, q, r] = ["it/p", "it/p/q", "it/r"].map(|key| find(&kit, key));
    let (p, q, r) = tokio::join!(p, q, r);
    for child in [&p, &q] {
        assert_eq!(child.status, Status::Completed);
        let answer = kit.command(child.instance_id, Command::Cancel).await;
        assert_eq!(answer, Answer::AlreadyEnded, "its output is relied upon");
    }
    kit.pass(31 * DAY).await;
    assert_eq!(kit.status(id).await, Status::Completed);
    let shown = preview(&kit, p.instance_id, Command::Cancel).await;
    assert_eq!(shown.answer, Answer::Accepted);
    assert_eq!(fates(&shown), [("it/p/q", ChildFate::TakeBack)]);
    assert_eq!(shown.plan.unwrap().steps.len(), 2);
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::AlreadyEnded, "it is no child");
    assert_eq!(kit.command(r.instance_id, Command::Cancel).await, Answer::PastPivot);
    assert_eq!(kit.command(p.instance_id, Command::Cancel).await, Answer::Accepted);
    let again = kit.command(p.instance_id, Command::Cancel).await;
    assert_eq!(again, Answer::AlreadyCancelling);
    kit.settle().await;
    let ended = statuses(&kit, ["it", "it/p", "it/p/q"]).await;
    assert_eq!(ended, [Status::Completed, Status::Cancelled, Status::Cancelled]);
    assert_eq!(book.standing(), ["it prepared", "it/r shipped"]);
    kit.finish().await;
}

#[tokio::test]
async fn what_was_left_by_a_terminate_is_taken_back_by_people() {
    let book = Book::default();
    let kit = kit(&book).await;
    let id = kit.start::<Family>("it", &Plan::of([("p", Plan::default())])).await;
    kit.settle().await;
    // Nothing live is below it: it need not be said what becomes of that.
    assert_eq!(kit.command(id, Command::Terminate).await, Answer::Accepted);
    kit.settle().await;
    let child = find(&kit, "it/p").await.instance_id;
    assert_eq!(kit.command(child, Command::Cancel).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(find(&kit, "it/p").await.status, Status::Cancelled);
    assert_eq!(book.standing(), ["it prepared"]);
    kit.finish().await;
}
