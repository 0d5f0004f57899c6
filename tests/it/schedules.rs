//! What is started by the clock: once, at its local time, whoever looks, whoever is lost.

mod clocks;
mod definitions;
mod operator;
mod over_http;
mod processes;

use std::time::Duration;

use amends::schedule::{Backfill, ScheduleAnswer, ScheduleCommand, ScheduleDetail, ScheduleView};
use amends::view::{Filter, InstanceView};
use amends::{
    Engine, EngineBuilder, Error, Failure, Gap, Overlap, Priority, Schedule, Status, StepError,
};
use amends_tests::scripted::{Act, ONCE, Script, Scripted};
use amends_tests::{World, WorldBuilder, cluster};
use chrono::{DateTime, Utc};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Two at night in Berlin. Worlds begin on 2026-11-18 at 12:06:40 there.
const NIGHTLY: Schedule = Schedule {
    name: "nightly",
    cron: "0 2 * * *",
    zone: "Europe/Berlin",
    gap: Gap::Last,
    overlap: Overlap::Skip,
};
/// From the beginning to the first night.
const UNTIL_TWO: Duration = Duration::from_secs(13 * 3600 + 53 * 60 + 20);
const FIRST: &str = "nightly/2026-11-19T02:00+01:00";

fn with(schedule: Schedule, script: Script) -> WorldBuilder {
    World::builder().engine(move |builder| defined(builder, schedule, &script))
}

fn defined(builder: EngineBuilder, schedule: Schedule, script: &Script) -> EngineBuilder {
    builder.workflow(Scripted(script.clone())).schedule::<Scripted>(schedule, |_| 7)
}

fn script() -> Script {
    Script::new(ONCE, [])
}

/// A script of which so many attempts, one after the other, each take effect so much later.
fn slow(times: usize, by: Duration) -> Script {
    let failure = Failure::new("TRY_AGAIN", "not yet");
    let later = Act::Err(StepError::Retry { failure, after: Some(by) });
    Script::new(ONCE, std::iter::repeat_n([later, Act::Succeed], times).flatten())
}

async fn instances(world: &World) -> Vec<InstanceView> {
    let filter = Filter { limit: 200, ..Filter::default() };
    let mut instances = world.engine().instances(&filter).await.unwrap();
    instances.reverse();
    instances
}

async fn keys(world: &World) -> Vec<String> {
    instances(world).await.into_iter().map(|instance| instance.business_key).collect()
}

async fn detail(world: &World) -> ScheduleDetail {
    world.engine().schedule("nightly").await.unwrap().unwrap()
}

async fn view(world: &World) -> ScheduleView {
    detail(world).await.schedule
}

/// What became of the firings, oldest first: `day state code`.
async fn firings(world: &World) -> Vec<String> {
    let mut firings = detail(world).await.firings;
    firings.reverse();
    let line = |firing: amends::schedule::FiringView| {
        let code = firing.failure.map(|failure| failure.code.into_owned()).unwrap_or_default();
        let at = firing.at.format("%d %H:%M");
        format!("{at} {} {} {code}", firing.kind, firing.state.as_str()).trim_end().to_owned()
    };
    firings.into_iter().map(line).collect()
}

async fn ask(world: &World, command: ScheduleCommand) -> ScheduleAnswer {
    let engine = world.engine();
    engine.command_schedule("nightly", command, "anna", "as agreed").await.unwrap().unwrap()
}

fn accepted(planned: usize, already: usize) -> ScheduleAnswer {
    ScheduleAnswer::Accepted { planned, already }
}

fn utc(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn november(from: u32, until: u32) -> Backfill {
    let day = |day: u32| utc(&format!("2026-11-{day:02}T00:00:00Z"));
    Backfill { from: day(from), until: day(until) }
}

#[tokio::test]
async fn it_fires_at_its_local_time_and_not_before_and_once() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(UNTIL_TWO - Duration::from_secs(1)).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(keys(&world).await, [FIRST]);
    world.pass(Duration::from_secs(60)).await;
    world.pass(HOUR).await;
    assert_eq!(keys(&world).await, [FIRST]);
    assert_eq!(instances(&world).await[0].status, Status::Completed);
    world.pass(DAY - HOUR).await;
    assert_eq!(keys(&world).await, [FIRST, "nightly/2026-11-20T02:00+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn the_input_is_made_of_the_firing() {
    let world = World::builder()
        .engine(|builder| {
            builder.workflow(Scripted(script())).schedule::<Scripted>(NIGHTLY, |firing| {
                assert_eq!(firing.schedule, "nightly");
                firing.at.format("%m%d").to_string().parse().unwrap()
            })
        })
        .build()
        .await;
    // Heard of at ten in the morning.
    world.pass(UNTIL_TWO + 8 * HOUR).await;
    let history = world.history(instances(&world).await[0].instance_id).await;
    let started: serde_json::Value = serde_json::from_str(history[0].payload.get()).unwrap();
    assert_eq!(started["input"], 1119);
    world.finish().await;
}

#[tokio::test]
async fn after_an_outage_the_gap_policy_says_what_fires() {
    let all = |max| Gap::All { max };
    let skip = |grace| Gap::Skip { grace };
    for (gap, fired, missed_until) in [
        (Gap::Last, &[22][..], Some(22)),
        (skip(HOUR), &[22], Some(22)),
        (skip(Duration::from_secs(1)), &[], Some(23)),
        (all(10), &[19, 20, 21, 22], None),
        (all(2), &[21, 22], Some(21)),
    ] {
        let world = with(Schedule { gap, ..NIGHTLY }, script()).build().await;
        world.pass(UNTIL_TWO + 3 * DAY + HOUR / 2).await;
        let expected: Vec<_> =
            fired.iter().map(|day| format!("nightly/2026-11-{day}T02:00+01:00")).collect();
        assert_eq!(keys(&world).await, expected, "{gap}");
        let missed = view(&world).await.missed;
        let days = missed.map(|missed| (missed.from, missed.before.unwrap()));
        let local = |day| utc(&format!("2026-11-{day}T01:00:00Z")).fixed_offset();
        assert_eq!(days, missed_until.map(|day| (local(19), local(day))), "{gap}");
        world.pass(DAY - HOUR / 2).await;
        assert_eq!(keys(&world).await.len(), fired.len() + 1, "{gap}");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_firing_that_meets_the_one_before_is_skipped_and_recorded() {
    let world = with(NIGHTLY, slow(1, 30 * HOUR)).build().await;
    world.pass(UNTIL_TWO).await;
    world.pass(DAY).await;
    let skipped = "20 02:00 due skipped PREVIOUS_NOT_ENDED";
    assert_eq!(firings(&world).await, ["19 02:00 due started", skipped]);
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, ScheduleAnswer::PreviousNotEnded);
    world.pass(DAY).await;
    assert_eq!(keys(&world).await, [FIRST, "nightly/2026-11-21T02:00+01:00"]);
    // What was skipped can be made up for.
    assert_eq!(ask(&world, ScheduleCommand::Backfill(november(19, 21))).await, accepted(1, 1));
    world.settle().await;
    assert_eq!(firings(&world).await[1], "20 02:00 backfill started");
    world.finish().await;
}

#[tokio::test]
async fn a_firing_may_overlap_where_the_schedule_says_so() {
    let overlapping = Schedule { overlap: Overlap::Start, ..NIGHTLY };
    let world = with(overlapping, slow(1, 30 * HOUR)).build().await;
    world.pass(UNTIL_TWO).await;
    world.pass(DAY).await;
    let statuses: Vec<_> = instances(&world).await.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [Status::Waiting, Status::Completed]);
    world.pass(2 * DAY).await;
    world.finish().await;
}

#[tokio::test]
async fn what_is_caught_up_waits_for_its_turn_where_nothing_may_overlap() {
    let all = Schedule { gap: Gap::All { max: 10 }, ..NIGHTLY };
    let world = with(all, slow(3, HOUR)).build().await;
    world.pass(UNTIL_TWO + 2 * DAY).await;
    for count in 1..=3 {
        let going: Vec<_> = instances(&world).await;
        assert_eq!(going.len(), count);
        let waiting = going.iter().filter(|it| it.status == Status::Waiting).count();
        assert_eq!(waiting, 1, "of {count}");
        world.pass(HOUR).await;
    }
    assert!(instances(&world).await.iter().all(|it| it.status == Status::Completed));
    world.finish().await;
}

#[tokio::test]
async fn instances_have_the_priority_of_their_schedule() {
    for (priority, script) in [(Priority::Low, script()), (Priority::High, script())] {
        let world = World::builder()
            .engine(move |builder| {
                let builder = builder.workflow(Scripted(script.clone()));
                builder.schedule::<Scripted>(NIGHTLY.priority(priority), |_| 7)
            })
            .build()
            .await;
        world.pass(UNTIL_TWO).await;
        world.pass(HOUR).await;
        assert_eq!(ask(&world, ScheduleCommand::Trigger).await, accepted(1, 0));
        world.settle().await;
        let priorities: Vec<_> = instances(&world).await.iter().map(|it| it.priority).collect();
        assert_eq!(priorities, [priority; 2]);
        assert_eq!(view(&world).await.priority, priority);
        world.finish().await;
    }
    let world = with(NIGHTLY, script()).build().await;
    assert_eq!(view(&world).await.priority, Priority::Normal);
    world.finish().await;
}

#[tokio::test]
async fn summer_time_makes_a_night_shorter_and_never_empty() {
    let world = with(NIGHTLY, script()).build().await;
    // To the noon before 2027-03-28, when Berlin has no two o'clock.
    world.pass(129 * DAY).await;
    let before = keys(&world).await.len();
    world.pass(UNTIL_TWO).await;
    world.pass(DAY).await;
    assert_eq!(
        keys(&world).await[before..],
        ["nightly/2027-03-28T03:00+02:00", "nightly/2027-03-29T02:00+02:00"]
    );
    world.finish().await;
}

#[tokio::test]
async fn an_input_that_cannot_be_made_is_recorded_and_the_schedule_goes_on() {
    let world = World::builder()
        .engine(|builder| {
            builder.workflow(Scripted(script())).schedule::<Scripted>(NIGHTLY, |firing| {
                let day = firing.at.format("%d").to_string();
                assert!(day != "19", "as the test says");
                7
            })
        })
        .build()
        .await;
    world.pass(UNTIL_TWO).await;
    assert_eq!(firings(&world).await, ["19 02:00 due refused INPUT_REFUSED"]);
    world.pass(DAY).await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-20T02:00+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_a_schedule_is_refused_when_the_engine_opens_all_of_it_at_once() {
    let mistaken = |schedule: Schedule| {
        move |builder: EngineBuilder| builder.schedule::<Scripted>(schedule, |_| 7)
    };
    let mut builder = Engine::builder(cluster::database().await);
    for schedule in [
        Schedule { name: "", ..NIGHTLY },
        Schedule { name: "a/b", ..NIGHTLY },
        Schedule { name: "often", cron: "61 2 * * *", ..NIGHTLY },
        Schedule { name: "never", cron: "0 0 31 2 *", ..NIGHTLY },
        Schedule { name: "nowhere", zone: "Europe/Bonn", ..NIGHTLY },
        Schedule { name: "nothing", gap: Gap::All { max: 0 }, ..NIGHTLY },
        Schedule { name: "much", gap: Gap::All { max: 1_001 }, ..NIGHTLY },
        Schedule { name: "twice", ..NIGHTLY },
        Schedule { name: "twice", ..NIGHTLY },
    ] {
        builder = mistaken(schedule)(builder);
    }
    let Err(Error::Registration(message)) = builder.open().await else { panic!("it opened") };
    for part in [
        "\"\" is no name for a schedule",
        "\"a/b\" is no name for a schedule",
        "schedule \"often\": cron \"61 2 * * *\"",
        "schedule \"never\": cron \"0 0 31 2 *\" never fires",
        "schedule \"nowhere\": \"Europe/Bonn\" is no zone",
        "schedule \"nothing\" would catch up 0 firings",
        "schedule \"much\" would catch up 1001 firings",
        "schedule \"twice\" is defined twice",
        "schedule \"twice\" starts scripted, which is not registered",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}
