//! The command line as support uses it: what is typed, what is shown, and what it exits with.

use amends::{Started, Status};
use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::awaiting::{self, Packing};
use amends_tests::http::{Api, token};
use amends_tests::process::command;
use amends_tests::scripted::{self, Script, Scripted, unknown};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

/// A terminal of somebody from support, and all that has been typed and shown.
pub(crate) struct Terminal {
    server: String,
    instance_id: Uuid,
    pub(crate) session: String,
}

impl Terminal {
    /// A terminal that asks the server of a world, about one instance.
    pub(crate) async fn open(world: &World, instance_id: Uuid) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = Api::of(world).router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { server, instance_id, session: String::new() }
    }

    /// Types a line, in which `ID` stands for the instance. Returns what was shown.
    pub(crate) async fn types(&mut self, line: &[&str]) -> String {
        let id = self.instance_id.to_string();
        let arguments: Vec<_> = line.iter().map(|it| it.replace("ID", &id)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let token = token(Role::Operator);
        let settings = [("AMENDS_SERVER", &*self.server), ("AMENDS_TOKEN", token.as_str())];
        let output = command(&arguments, &settings).output().await.unwrap();
        let mut shown = [output.stdout, output.stderr].concat();
        if !output.status.success() {
            shown.extend(format!("{}\n", output.status).into_bytes());
        }
        let shown = String::from_utf8(shown).unwrap().replace(&id, "ID");
        self.session.push_str(&format!("$ amends {}\n{shown}\n", line.join(" ")));
        shown
    }

    /// Types a command with a reason.
    async fn commands(&mut self, line: &[&str]) {
        self.types(&[line, &["--reason", "asked by phone"]].concat()).await;
    }

    /// Types what shows the whole instance.
    pub(crate) async fn shows(&mut self) {
        self.types(&["instances", "show", "ID"]).await;
    }
}

async fn scripted(script: &Script) -> (World, Terminal) {
    let registered = script.clone();
    let extended = World::builder().engine(move |it| it.workflow(Scripted(registered.clone())));
    let world = extended.build().await;
    let Started::New(id) = world.engine().start(scripted::start("it")).await.unwrap() else {
        panic!("it did not start");
    };
    world.settle().await;
    let terminal = Terminal::open(&world, id).await;
    (world, terminal)
}

/// An order that is charged and waits for the carrier, who is down.
async fn charged() -> (World, Terminal) {
    let world = World::new().await;
    world.providers().fault("carrier", "ship", "down", None).await;
    let id = world.start_order("1001").await;
    world.settle().await;
    let terminal = Terminal::open(&world, id).await;
    (world, terminal)
}

#[tokio::test]
async fn a_cancel_is_looked_at_and_then_given_as_it_was_shown() {
    let (world, mut terminal) = charged().await;
    let shown = terminal.types(&["preview", "ID", "cancel"]).await;
    let hash = shown.split("--plan-hash ").nth(1).unwrap().split(' ').next().unwrap();
    terminal.commands(&["cancel", "ID", "--plan-hash", &"0".repeat(64)]).await;
    terminal.commands(&["cancel", "ID", "--plan-hash", hash]).await;
    world.settle().await;
    terminal.types(&["preview", "ID", "cancel"]).await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn a_server_is_asked_to_examine_itself_and_its_database() {
    let world = World::new().await;
    let mut terminal = Terminal::open(&world, Uuid::nil()).await;
    let server = terminal.server.clone();
    let shown = terminal.types(&["doctor", "--server", &server]).await;
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    let release = env!("CARGO_PKG_VERSION");
    assert_eq!(lines[0], format!("fine     server    release {release}, ready"));
    // That of the tests is none that a server would start on.
    assert!(lines[1].starts_with("problem  database  it runs with fsync = off"), "{shown}");
    assert_eq!(lines[3..], ["amends: there is 1 problem", "exit status: 1"], "{shown}");

    world.engine().abandon();
    let shown = terminal.types(&["doctor", "--json", "--server", &server]).await;
    let found: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    let of = |index: usize| (&found[index]["about"], &found[index]["severity"]);
    assert_eq!(
        (of(0), of(1)),
        ((&json!("server"), &json!("problem")), (&json!("database"), &json!("problem")))
    );
    assert!(found[0]["found"].as_str().unwrap().contains("not ready: this worker"), "{found}");
    assert!(shown.ends_with("amends: there are 2 problems\nexit status: 1\n"), "{shown}");
    world.finish().await;
}

#[tokio::test]
async fn a_held_order_is_shown_as_held_and_goes_on_when_it_is_released() {
    let (world, mut terminal) = charged().await;
    terminal.commands(&["hold", "ID"]).await;
    world.settle().await;
    terminal.shows().await;
    terminal.commands(&["retry", "ID"]).await;
    terminal.types(&["preview", "ID", "release"]).await;
    terminal.commands(&["release", "ID"]).await;
    terminal.commands(&["release", "ID"]).await;
    world.providers().heal().await;
    terminal.types(&["preview", "ID", "retry"]).await;
    terminal.commands(&["retry", "ID"]).await;
    insta::assert_snapshot!(terminal.session);
    world.settle().await;
    assert_eq!(world.instance(terminal.instance_id).await.status, Status::Completed);
    world.finish().await;
}

#[tokio::test]
async fn nobody_stops_an_order_by_force_without_saying_that_he_means_it() {
    let (world, mut terminal) = charged().await;
    terminal.commands(&["terminate", "ID"]).await;
    terminal.commands(&["terminate", "ID", "--yes"]).await;
    world.settle().await;
    terminal.shows().await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn what_was_found_out_about_a_step_is_told_and_shown() {
    let script = Script::new(amends::Effect::AtMostOnce, [unknown()]);
    let (world, mut terminal) = scripted(&script).await;
    terminal.types(&["preview", "ID", "resume"]).await;
    let resolve = ["resolve", "ID", "--evidence", "statement 7"];
    for found in [
        &["--step", "act", "--undone", "re_9"][..],
        &["--step", "act", "--applied", "\"seven\""],
        &["--step", "act"],
        &[],
        &["--step", "act", "--applied", "7"],
    ] {
        terminal.commands(&[&resolve, found].concat()).await;
    }
    world.settle().await;
    terminal.shows().await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn money_that_moved_outside_is_put_right() {
    let script = Script::new(scripted::ONCE, []).takes_money_under("ch_1");
    let (world, mut terminal) = scripted(&script).await;
    for money in ["refund:0:EUR:re_9", "refund:100:EUR:re_9"] {
        terminal.commands(&["resolve", "ID", "--evidence", "statement 7", "--money", money]).await;
    }
    world.settle().await;
    terminal.shows().await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}

#[tokio::test]
async fn news_is_sent_before_and_while_an_instance_waits_for_it_and_after_its_end() {
    let world = World::builder().engine(|engine| engine.workflow(Packing)).build().await;
    let Started::New(id) = world.engine().start(awaiting::start("order-1")).await.unwrap() else {
        panic!("it did not start");
    };
    let mut terminal = Terminal::open(&world, id).await;
    let mut signals = async |key: &str, rest: &[&str]| {
        let line = [&["signal", "packing", key, "parcel_packed"], rest].concat();
        terminal.types(&line).await;
    };
    let packed = |number| ["--body", r#"{"parcel":"p_1"}"#, "--id", number];
    signals("order-2", &packed("scan-1")).await;
    signals("order-1", &[]).await;
    world.settle().await;
    signals("order-1", &packed("scan-1")).await;
    signals("order-1", &packed("scan-1")).await;
    signals("order-1", &packed("scan-2")).await;
    world.settle().await;
    world.pass(awaiting::REST).await;
    signals("order-1", &packed("scan-3")).await;
    terminal.shows().await;
    insta::assert_snapshot!(terminal.session);
    world.finish().await;
}
