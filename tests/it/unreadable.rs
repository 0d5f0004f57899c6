//! Instances whose records a build cannot read.

use std::time::Duration;

use amends::command::{Answer, Command};
use amends::{Event, Halt, Milestone, Saga, Start, Started, Status, Steps, Workflow};
use amends_tests::World;
use amends_tests::sink::Recorder;

use crate::versions::Builds;

/// Tells of its start, of itself, and of its end.
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
            Milestone::Terminated { input, .. } => vec![Event::new("STOPPED", input)],
            _ => vec![],
        }
    }

    async fn run(&self, saga: &Saga, _: String) -> Result<String, Halt> {
        saga.publish(Event::new("TOLD", &3)).await?;
        saga.sleep(Duration::from_secs(3600)).await?;
        Ok("end".to_owned())
    }
}

#[tokio::test]
async fn the_end_by_force_is_told_under_a_number_of_its_own_whatever_cannot_be_read() {
    let world = World::new().await;
    let (builds, recorder) = (Builds::of(&world), Recorder::default());
    let engine =
        builds.open(|it| it.workflow(Tells).subscription("events", recorder.clone())).await;
    let request = Start {
        workflow: "tells",
        business_key: "it".to_owned(),
        input: "\"order 7\"".to_owned(),
        delivery: None,
        priority: amends::Priority::Normal,
    };
    let started = engine.start(request).await.unwrap();
    let Started::New(id) = started else { panic!("{started:?}") };
    engine.run_until_idle().await.unwrap();
    let mut database = world.database().await;
    for statement in [
        "set session_replication_role = replica",
        "update amends.record set kind = 'of_a_newer_build' where kind = 'timer_started'",
    ] {
        sqlx::query(statement).execute(&mut database).await.unwrap();
    }
    builds.advance(Duration::from_secs(3600));
    engine.run_until_idle().await.unwrap();
    let stuck = engine.instance(id).await.unwrap().unwrap();
    assert_eq!(stuck.failure.unwrap().code, "RECORD_UNREADABLE");

    let answer = engine.command(id, Command::Terminate, "ann", "why").await.unwrap();
    assert_eq!(answer, Some(Answer::Accepted));
    engine.run_until_idle().await.unwrap();
    assert_eq!(engine.instance(id).await.unwrap().unwrap().status, Status::Terminated);
    let told: Vec<_> = recorder.arrived().into_iter().map(|it| (it.id, it.kind, it.data)).collect();
    let event = |number, kind: &str, data: &str| {
        (format!("{id}/{number}"), kind.to_owned(), data.to_owned())
    };
    let expected =
        [event(1, "STARTED", "1"), event(2, "TOLD", "3"), event(3, "STOPPED", "\"order 7\"")];
    assert_eq!(told, expected);
    engine.abandon();
}
