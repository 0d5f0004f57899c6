//! A cancel of a parent races its child's pivot: whoever is told something is told the truth.

use amends::Status;
use amends::command::{Answer, Command};
use amends_tests::family::{Book, Done, Family, Plan, register};
use amends_tests::kit::Kit;
use futures::future::join_all;

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
