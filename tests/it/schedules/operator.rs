//! What people ask of schedules: pause, resume, fire now, fire for the past.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amends::Schedule;
use amends::schedule::{Backfill, ScheduleAnswer, ScheduleCommand};
use amends_tests::World;

use super::{
    DAY, FIRST, HOUR, NIGHTLY, UNTIL_TWO, accepted, ask, defined, detail, firings, keys, november,
    script, utc, view, with,
};

#[tokio::test]
async fn a_paused_schedule_does_not_fire_and_goes_on_as_its_gap_policy_says() {
    let world = with(NIGHTLY, script()).build().await;
    assert_eq!(ask(&world, ScheduleCommand::Resume).await, ScheduleAnswer::NotPaused);
    assert_eq!(ask(&world, ScheduleCommand::Pause).await, accepted(0, 0));
    assert_eq!(ask(&world, ScheduleCommand::Pause).await, ScheduleAnswer::AlreadyPaused);
    let pause = view(&world).await.paused.unwrap();
    assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("anna", "as agreed"));
    world.pass(UNTIL_TWO + 2 * DAY).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    assert!(view(&world).await.next.is_empty());
    assert_eq!(ask(&world, ScheduleCommand::Resume).await, accepted(0, 0));
    world.settle().await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-21T02:00+01:00"]);
    assert_eq!(view(&world).await.paused, None);
    world.finish().await;
}

#[tokio::test]
async fn a_pause_survives_a_restart_and_a_changed_definition() {
    let crons = ["0 2 * * *", "30 3 * * *"];
    let which = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&which);
    let mut world = World::builder()
        .engine(move |builder| {
            let cron = crons[shared.load(Ordering::SeqCst)];
            defined(builder, Schedule { cron, ..NIGHTLY }, &script())
        })
        .build()
        .await;
    ask(&world, ScheduleCommand::Pause).await;
    which.store(1, Ordering::SeqCst);
    world.restart().await;
    let changed = view(&world).await;
    assert_eq!((changed.cron.as_str(), changed.paused.is_some()), ("30 3 * * *", true));
    ask(&world, ScheduleCommand::Resume).await;
    assert_eq!(view(&world).await.next[0].to_rfc3339(), "2026-11-19T03:30:00+01:00");
    world.pass(UNTIL_TWO + HOUR).await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    world.pass(HOUR).await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-19T03:30+01:00"]);
    world.finish().await;
}

#[tokio::test]
async fn a_trigger_fires_for_the_present_minute_once_also_while_paused() {
    let world = with(NIGHTLY, script()).build().await;
    ask(&world, ScheduleCommand::Pause).await;
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, accepted(1, 0));
    world.settle().await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-18T12:06+01:00"]);
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, ScheduleAnswer::AlreadyFired);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, accepted(1, 0));
    world.settle().await;
    assert_eq!(keys(&world).await.len(), 2);
    assert_eq!(firings(&world).await, ["18 12:06 trigger started", "18 12:07 trigger started"]);
    world.finish().await;
}

#[tokio::test]
async fn a_minute_that_a_person_has_fired_is_not_fired_by_the_clock_as_well() {
    let world = with(NIGHTLY, script()).build().await;
    let moment = Duration::from_secs(1);
    world.pass(UNTIL_TWO - moment).await;
    world.advance(moment);
    assert_eq!(ask(&world, ScheduleCommand::Trigger).await, accepted(1, 0));
    world.settle().await;
    assert_eq!(keys(&world).await, [FIRST]);
    assert_eq!(firings(&world).await, ["19 02:00 trigger started"]);
    world.finish().await;
}

#[tokio::test]
async fn a_backfill_fires_what_has_not_fired_and_says_how_much_that_is() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(UNTIL_TWO + 3 * DAY).await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-22T02:00+01:00"]);
    let span = Backfill { until: utc("2026-11-22T01:00:00Z"), ..november(19, 22) };
    let preview = world.engine().preview_backfill("nightly", span).await.unwrap();
    assert_eq!(preview, Some(accepted(3, 1)));
    world.settle().await;
    assert_eq!((keys(&world).await.len(), detail(&world).await.commands.len()), (1, 0));

    assert_eq!(ask(&world, ScheduleCommand::Backfill(span)).await, accepted(3, 1));
    // Asked for again before anything has started, and after.
    assert_eq!(ask(&world, ScheduleCommand::Backfill(span)).await, accepted(0, 4));
    world.settle().await;
    assert_eq!(ask(&world, ScheduleCommand::Backfill(span)).await, accepted(0, 4));
    let expected = [22, 19, 20, 21].map(|day| format!("nightly/2026-11-{day}T02:00+01:00"));
    assert_eq!(keys(&world).await, expected);
    world.finish().await;
}

#[tokio::test]
async fn a_backfill_of_the_future_or_of_too_much_is_refused() {
    let minutely = Schedule { cron: "* * * * *", ..NIGHTLY };
    let world = with(minutely, script()).build().await;
    let future = ask(&world, ScheduleCommand::Backfill(november(18, 19))).await;
    assert_eq!(future, ScheduleAnswer::InvalidSpan);
    let much = ask(&world, ScheduleCommand::Backfill(november(1, 18))).await;
    assert_eq!(much, ScheduleAnswer::TooMany);
    world.settle().await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn who_asked_for_what_and_why_is_kept_for_ever_refusals_too() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(3 * DAY).await;
    ask(&world, ScheduleCommand::Resume).await;
    world.pass(Duration::from_secs(1)).await;
    ask(&world, ScheduleCommand::Backfill(november(19, 20))).await;
    let kept: Vec<_> = detail(&world)
        .await
        .commands
        .into_iter()
        .map(|it| (it.command, it.span.is_some(), it.actor, it.reason, it.answer))
        .collect();
    let line = |command: &str, span, answer: &str| {
        let text = str::to_owned;
        (text(command), span, text("anna"), text("as agreed"), text(answer))
    };
    assert_eq!(kept, [line("backfill", true, "accepted"), line("resume", false, "not_paused")]);
    let mut database = world.database().await;
    for change in [
        "update amends.schedule_command set actor = 'nobody'",
        "delete from amends.schedule_command",
        "truncate amends.schedule_command",
    ] {
        let refused = sqlx::query(change).execute(&mut database).await.unwrap_err();
        assert!(refused.to_string().contains("never changed"), "{change}: {refused}");
    }
    world.settle().await;
    world.finish().await;
}
