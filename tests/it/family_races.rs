//! A cancel of a parent races its child's pivot: whoever is told something is told the truth.

use amends::Status;
use amends::command::{Answer, Command};
use amends_tests::family::{Book, Done, Family, Plan, register};
use amends_tests::kit::Kit;
use futures::future::join_all;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::races::{Race, turns};

const PREPARED: Done = Done { prepared: true, shipped: false };
const SHIPPED: Done = Done { prepared: true, shipped: true };

#[tokio::test]
async fn a_cancel_wins_against_the_pivot_of_a_child_or_is_told_that_it_was_too_late() {
    let (book, mut race) = (Book::default(), Race::seeded(6));
    let registered = book.clone();
    let kit = Kit::new(move |engine| register(engine, &registered)).await;
    let plan = Plan::of([("p", Plan::ships())]).at_once();
    for keys in turns() {
        let (mut cancelled, mut shipped) = (0, 0);
        book.pace(race.handicap_of_second());
        let answers = join_all(keys.iter().map(async |key| {
            let id = kit.start::<Family>(key, &plan).await;
            race.first_may_start().await;
            (id, kit.command(id, Command::Cancel).await)
        }));
        let answers = answers.await;
        kit.settle().await;
        for (key, (id, answer)) in keys.iter().zip(answers) {
            let done = (book.of(key), book.of(&format!("{key}/p")));
            match (answer, kit.status(id).await) {
                (Answer::Accepted, Status::Cancelled) => {
                    assert_eq!(done, (Done::default(), Done::default()), "{key}");
                    cancelled += 1;
                }
                (Answer::ChildPastPivot | Answer::AlreadyEnded, Status::Completed) => {
                    assert_eq!(done, (PREPARED, SHIPPED), "{key}");
                    shipped += 1;
                }
                untrue => panic!("{key}: {untrue:?}"),
            }
        }
        race.turn(cancelled, shipped);
    }
    race.both_have_won();
    kit.finish().await;
}

/// Waits until a statement of somebody else waits for a lock.
async fn until_somebody_waits(database: &mut PgConnection) {
    let waiting = "select exists (select from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut *database).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

/// A row that is born while a cancel waits for its parent is not in what the cancel has locked.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the stranger's own transaction")]
async fn who_is_born_while_a_cancel_waits_for_its_family_is_told_of_it() {
    let book = Book::default();
    let kit = Kit::new(move |engine| register(engine, &book)).await;
    let id = kit.start::<Family>("it", &Plan::of([("p", Plan::of([]))])).await;
    kit.settle().await;
    let (mut stranger, mut watcher) = (kit.database().await, kit.database().await);
    let mut birth = stranger.begin().await.unwrap();
    let lock = "select instance_id from amends.instance where parent_id = $1 for update";
    let parent: Uuid = sqlx::query_scalar(lock).bind(id).fetch_one(&mut *birth).await.unwrap();
    let born = async {
        until_somebody_waits(&mut watcher).await;
        let bear = "insert into amends.instance
                    select (jsonb_populate_record(i, jsonb_build_object(
                        'instance_id', gen_random_uuid(), 'parent_id', instance_id,
                        'business_key', 'born'))).*
                    from amends.instance i where instance_id = $1
                    returning instance_id";
        let born: Uuid =
            sqlx::query_scalar(bear).bind(parent).fetch_one(&mut *birth).await.unwrap();
        birth.commit().await.unwrap();
        born
    };
    let (answer, born) = tokio::join!(kit.command(id, Command::Cancel), born);
    assert_eq!(answer, Answer::Accepted);
    let told = "select count(*) from amends.mail where instance_id = $1 and name = 'cancel'";
    let told: i64 = sqlx::query_scalar(told).bind(born).fetch_one(&mut watcher).await.unwrap();
    assert_eq!(told, 1);
    // It has no history to be driven by.
    kit.engine().abandon();
}
