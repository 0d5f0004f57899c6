//! Schedules as people ask for them over HTTP, and what is refused.

use amends_api::auth::Role;
use amends_api::schedules::command::ScheduleCommandAccepted;
use amends_api::schedules::view::{ScheduleDetail, Schedules};
use amends_tests::World;
use amends_tests::http::{Answer, Api, Call, token};
use amends_tests::process::command;
use serde_json::{Value, json};

use super::{DAY, NIGHTLY, UNTIL_TWO, keys, script, with};

fn ask(command: &Value) -> Call {
    Call::new("POST", "/schedules/nightly/commands").role(Role::Operator).json(command)
}

fn backfill(from: &str, until: &str) -> Value {
    json!({ "command": "backfill", "reason": "was down", "from": from, "until": until })
}

async fn shown(api: &Api) -> ScheduleDetail {
    serde_json::from_slice(&api.send(Call::get("/schedules/nightly")).await.body).unwrap()
}

fn accepted(answer: &Answer) -> (u16, usize, usize) {
    let body: ScheduleCommandAccepted = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body.answer, "accepted");
    (answer.status, body.planned, body.already)
}

#[tokio::test]
async fn a_schedule_can_be_found_and_looked_at() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(UNTIL_TWO).await;
    let api = Api::of(&world);
    let listed = api.send(Call::get("/schedules")).await;
    let listed: Schedules = serde_json::from_slice(&listed.body).unwrap();
    let [schedule] = listed.items.as_slice() else { panic!("not one: {listed:?}") };
    assert_eq!((schedule.name.as_str(), schedule.is_defined), ("nightly", true));
    assert_eq!(schedule.next[0].to_rfc3339(), "2026-11-20T02:00:00+01:00");

    let detail = shown(&api).await;
    assert_eq!(detail.schedule.last_instance_id, detail.firings[0].instance_id);
    let id = detail.firings[0].instance_id.unwrap();
    assert_eq!(api.send(Call::get(format!("/instances/{id}"))).await.status, 200);
    world.finish().await;
}

#[tokio::test]
async fn commands_are_carried_out_and_kept_with_the_name_of_the_token() {
    let world = with(NIGHTLY, script()).build().await;
    let api = Api::of(&world);
    let plain = |command: &str| ask(&json!({ "command": command, "reason": "  asked for  " }));
    assert_eq!(accepted(&api.send(plain("pause")).await), (202, 0, 0));
    let pause = shown(&api).await.schedule.paused.unwrap();
    assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("operator", "asked for"));
    let again = api.send(plain("pause")).await;
    assert!(again.differs_from_problem(409, "command_refused").is_empty());
    assert_eq!(again.json()["answer"], "already_paused");
    assert_eq!(accepted(&api.send(plain("trigger")).await), (202, 1, 0));
    assert_eq!(accepted(&api.send(plain("resume")).await), (202, 0, 0));
    world.settle().await;
    assert_eq!(keys(&world).await, ["nightly/2026-11-18T12:06+01:00"]);
    let commands = shown(&api).await.commands;
    let kept = commands.iter().map(|it| (it.command.as_str(), it.answer.as_str()));
    let mut kept: Vec<_> = kept.collect();
    kept.reverse();
    assert_eq!(
        kept,
        [
            ("pause", "accepted"),
            ("pause", "already_paused"),
            ("trigger", "accepted"),
            ("resume", "accepted")
        ]
    );
    world.finish().await;
}

#[tokio::test]
async fn a_backfill_can_be_tried_before_it_is_carried_out() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(UNTIL_TWO + 3 * DAY).await;
    let api = Api::of(&world);
    let span = backfill("2026-11-19T00:00:00+08:00", "2026-11-22T00:00:00+01:00");
    let mut dry = span.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(accepted(&api.send(ask(&dry)).await), (200, 3, 0));
    world.settle().await;
    assert_eq!(keys(&world).await.len(), 1);
    assert_eq!(accepted(&api.send(ask(&span)).await), (202, 3, 0));
    world.settle().await;
    assert_eq!(keys(&world).await.len(), 4);
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_command_is_refused_and_leaves_no_trace() {
    let world = with(NIGHTLY, script()).build().await;
    let api = Api::of(&world);
    let span = backfill("2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z");
    let but = |member: &str, value: Value| {
        let mut spoilt = span.clone();
        spoilt[member] = value;
        ask(&spoilt)
    };
    let good = json!({ "command": "pause", "reason": "why" });
    let to = |name: &str| {
        Call::new("POST", format!("/schedules/{name}/commands")).role(Role::Operator).json(&good)
    };
    for (what, call, status, code) in [
        ("an unknown schedule", Call::get("/schedules/weekly"), 404, "unknown_schedule"),
        ("a command to an unknown schedule", to("weekly"), 404, "unknown_schedule"),
        ("a name with NUL", to("a%00b"), 400, "invalid_path"),
        ("a name that is not text", Call::get("/schedules/%ff"), 400, "invalid_path"),
        ("an unknown command", but("command", json!("explode")), 422, "invalid_command"),
        ("a pause of a span", but("command", json!("pause")), 422, "invalid_command"),
        ("no reason", but("reason", json!(" ")), 422, "invalid_command"),
        ("a reason with NUL", but("reason", json!("a\0b")), 400, "unacceptable_json"),
        ("an endless reason", but("reason", json!("a".repeat(501))), 422, "invalid_command"),
        ("no beginning", but("from", Value::Null), 422, "invalid_command"),
        ("no end", but("until", Value::Null), 422, "invalid_command"),
        ("a time that is none", but("from", json!("yesterday")), 422, "invalid_command"),
        (
            "a time without a zone",
            but("from", json!("2026-11-10T00:00:00")),
            422,
            "invalid_command",
        ),
        ("an end before", but("until", json!("2026-11-09T00:00:00Z")), 422, "invalid_command"),
        ("a member too many", but("actor", json!("boss")), 422, "invalid_command"),
    ] {
        let differs = api.send(call).await.differs_from_problem(status, code);
        assert!(differs.is_empty(), "{what}: {differs:?}");
    }
    assert!(shown(&api).await.commands.is_empty());
    for (until, from, answer) in [
        ("2999-01-01T00:00:00Z", "2026-11-10T00:00:00Z", "invalid_span"),
        ("2026-11-10T00:00:00Z", "0001-01-01T00:00:00Z", "too_many"),
    ] {
        let refused = api.send(ask(&backfill(from, until))).await;
        assert!(refused.differs_from_problem(409, "command_refused").is_empty());
        assert_eq!(refused.json()["answer"], answer);
    }
    world.settle().await;
    assert_eq!(keys(&world).await, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_server_without_schedules_lists_none() {
    let world = World::new().await;
    let listed = Api::of(&world).send(Call::get("/schedules")).await;
    assert_eq!((listed.status, listed.text()), (200, r#"{"items":[]}"#));
    world.finish().await;
}

#[tokio::test]
async fn the_command_line_asks_the_server_and_tells_what_it_says() {
    let world = with(NIGHTLY, script()).build().await;
    world.pass(UNTIL_TWO + 3 * DAY).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let router = Api::of(&world).router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let token = token(Role::Operator);
    let settings = [("AMENDS_SERVER", server.as_str()), ("AMENDS_TOKEN", token.as_str())];
    let typed = async |line: &str| {
        let mut words = vec!["schedules"];
        words.extend(line.split(' '));
        let output = command(&words, &settings).output().await.unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8(said).unwrap().trim_end().to_owned()
    };
    let backfill = "backfill nightly --from 2026-11-20T00:00:00+01:00 \
                    --until 2026-11-22T02:00:00+01:00 --reason late";
    let mut told = Vec::new();
    for line in [
        &format!("{backfill} --dry-run"),
        backfill,
        "pause nightly --reason holidays",
        "pause nightly --reason holidays",
        "trigger nightly --reason now",
        "resume nightly --reason back",
        "show weekly",
    ] {
        told.push(typed(line).await);
    }
    assert_eq!(
        told,
        [
            "2 firings would start; 1 have fired, or will anyway",
            "2 firings will start; 1 have fired, or will anyway",
            "accepted: pause will happen",
            "amends: the schedule is paused already (command_refused)",
            "amends: the instance of the firing before has not ended, and this schedule lets none \
             overlap (command_refused)",
            "accepted: resume will happen",
            "amends: there is no such schedule (unknown_schedule)",
        ],
    );
    world.settle().await;
    let listed = typed("list").await;
    assert!(listed.contains("2026-11-23T02:00:00+01:00"), "{listed}");
    let shown = typed("show nightly").await;
    for part in ["0 2 * * * (Europe/Berlin)", "backfill  started", "holidays"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    world.finish().await;
}
