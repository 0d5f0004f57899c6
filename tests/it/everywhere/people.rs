//! What comes from outside: signals, commands, requests, questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amends::command::{Answer, Command, Finding, Resolution};
use amends::delivery::{Conclusion, DeliveryFilter, DeliveryOutcome};
use amends::intake_case::{CaseFilter, CaseProblem, NewCase, Stop};
use amends::schedule::{Backfill, ScheduleCommand};
use amends::view::Filter;
use amends::{
    Delivery, Effect, Engine, Gap, Overlap, Schedule, Start, Started, Status, StepError, Verdict,
};
use amends_tests::improvised::{A, B, Packed, Part, Ran, Stage, packed, start_request};
use amends_tests::kit::{Kit, KitBuilder};
use amends_tests::scripted::{ONCE, Script, Scripted};
use chrono::DateTime;
use futures::FutureExt;
use sqlx::{ConnectOptions, Connection};

use super::{HOUR, MINUTE, Seen, seen, text};

/// Waits for two parcels, sleeps, and waits for a third one in vain.
fn three_parcels<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async move {
        let name = |packed: Option<Packed>| packed.map_or(text("none"), |it| it.parcel);
        let first = saga.wait::<Packed>(HOUR).await?;
        saga.run(&stage.a, &name(first)).await?;
        let second = saga.wait::<Packed>(HOUR).await?;
        saga.run(&stage.b, &name(second)).await?;
        saga.sleep(MINUTE).await?;
        let third = saga.wait::<Packed>(HOUR).await?;
        saga.run(&stage.c, &name(third)).await
    }
    .boxed()
}

async fn send(kit: &Kit, business_key: &str, parcel: &str) {
    let signal = || packed(business_key, parcel);
    kit.ask(async |engine| engine.signal(signal()).await).await.unwrap();
}

/// Signals before there is an instance, while it waits, twice, and too late.
pub(super) async fn signals(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, three_parcels).await;
    send(&kit, "it", "one").await;
    send(&kit, "it", "one").await;
    let start = start_request("it");
    kit.begin(start.clone()).await;
    kit.settle().await;
    send(&kit, "it", "two").await;
    kit.settle().await;
    send(&kit, "it", "two").await;
    kit.pass(MINUTE).await;
    kit.pass(HOUR).await;
    send(&kit, "it", "three").await;
    let signal = packed("other", "four");
    let other = Start { business_key: text("other"), ..start };
    let both = async |engine: Engine| engine.signal_or_start(other.clone(), signal.clone()).await;
    kit.ask(both).await.unwrap();
    kit.settle().await;
    kit.finish().await;
    seen(&stage)
}

/// A hold, a release, a look at what a cancel would do, and the cancel.
pub(super) async fn cancel(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, a_then_parcels).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Hold).await, Answer::Accepted);
    send(&kit, "it", "one").await;
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Release).await, Answer::Accepted);
    kit.settle().await;
    let preview = kit.ask(async |engine| engine.preview(id, Command::Cancel).await).await;
    let plan = preview.unwrap().unwrap().plan.unwrap();
    let answer = kit.give(id, async |engine| {
        engine.cancel_as_shown(id, &plan.plan_hash, "anna", "asked by the customer").await
    });
    assert_eq!(answer.await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Cancel).await, Answer::AlreadyEnded);
    assert_eq!(kit.status(id).await, Status::Cancelled);
    kit.finish().await;
    seen(&stage)
}

fn a_then_parcels<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async move {
        saga.run(&stage.a, &text("1")).await?;
        saga.wait::<Packed>(HOUR).await?;
        saga.run(&stage.b, &text("2")).await?;
        saga.wait::<Packed>(HOUR).await?;
        Ok(text("never"))
    }
    .boxed()
}

/// An instance that waits for its next attempt, then is stuck, and one that is given up.
pub(super) async fn stuck(kit: KitBuilder) -> Seen {
    let b = Part::default().effect(Effect::AtMostOnce);
    let stage = Stage::new(Part::default(), b, Part::default());
    let kit = stage
        .kit(kit, |saga, stage| {
            async {
                saga.run(&stage.a, &text("1")).await?;
                saga.run(&stage.b, &text("2")).await
            }
            .boxed()
        })
        .await;
    kit.attempt::<Part<A>>(1).fails(StepError::retry("BUSY", "later"));
    kit.attempt::<Part<B>>(1).fails(StepError::unknown("LOST", "the answer was lost"));
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    assert_eq!(kit.command(id, Command::Retry).await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Stuck);
    let found = Resolution {
        step: Some(text("b")),
        finding: Some(Finding::Applied("2".into())),
        evidence: text("a letter"),
        money: Vec::new(),
    };
    let resolved = kit.give(id, async |engine| {
        engine.resolve(id, found.clone(), "anna", "as the letter says").await
    });
    assert_eq!(resolved.await, Answer::Accepted);
    kit.settle().await;
    assert_eq!(kit.status(id).await, Status::Completed);
    let given_up = kit.begin(Start { business_key: text("other"), ..start_request("it") }).await;
    kit.settle().await;
    assert_eq!(kit.command(given_up, Command::Terminate).await, Answer::Accepted);
    kit.settle().await;
    kit.finish().await;
    seen(&stage)
}

const NIGHTLY: Schedule = Schedule {
    name: "nightly",
    cron: "0 2 * * *",
    zone: "Europe/Berlin",
    gap: Gap::All { max: 50 },
    overlap: Overlap::Start,
};

async fn ask(kit: &Kit, command: ScheduleCommand) {
    let given = async |engine: Engine| {
        engine.command_schedule("nightly", command, "anna", "as agreed").await
    };
    kit.ask(given).await.unwrap().unwrap();
}

/// A schedule that fires, is triggered, paused, filled up and resumed, and then defined otherwise.
pub(super) async fn schedules(kit: KitBuilder) -> Seen {
    let script = Script::new(ONCE, []);
    let registered = script.clone();
    let is_changed = Arc::new(AtomicBool::new(false));
    let changed = Arc::clone(&is_changed);
    let mut kit = kit
        .build(move |engine| {
            let cron = if changed.load(Ordering::SeqCst) { "0 3 * * *" } else { NIGHTLY.cron };
            let schedule = Schedule { cron, ..NIGHTLY };
            engine.workflow(Scripted(registered.clone())).schedule::<Scripted>(schedule, |_| 7)
        })
        .await;
    kit.pass(14 * HOUR).await;
    kit.settle().await;
    ask(&kit, ScheduleCommand::Trigger).await;
    ask(&kit, ScheduleCommand::Pause).await;
    kit.pass(24 * HOUR).await;
    let (from, until) = (kit.now() - 24 * HOUR, kit.now());
    let span = Backfill { from, until };
    kit.ask(async |engine| engine.preview_backfill("nightly", span).await).await.unwrap();
    ask(&kit, ScheduleCommand::Backfill(span)).await;
    ask(&kit, ScheduleCommand::Resume).await;
    // What a schedule could not do is done at the next look.
    for _ in 0..4 {
        kit.settle().await;
    }
    is_changed.store(true, Ordering::SeqCst);
    kit.restart().await;
    kit.settle().await;
    let detail = kit.ask(async |engine| engine.schedule("nightly").await).await.unwrap().unwrap();
    let firings = detail.firings.into_iter();
    let mut seen: Vec<_> =
        firings.map(|it| format!("{} {} {}", it.at, it.kind, it.state.as_str())).collect();
    seen.push(format!("{} attempts", script.ran().min(3)));
    kit.finish().await;
    seen
}

/// A start within the transaction of a caller, who repeats it until he knows of its commit.
pub(super) async fn start_within(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, a_then_event).await;
    for key in ["one", "two"] {
        let delivery = Delivery { source: text("test"), external_id: text(key), body: key.into() };
        let start = Start { delivery: Some(delivery), ..start_request(key) };
        while begin_within(&kit, start.clone()).await.is_err() {}
    }
    kit.settle().await;
    kit.finish().await;
    seen(&stage)
}

#[expect(clippy::disallowed_methods, reason = "the caller's own transaction")]
async fn begin_within(kit: &Kit, start: Start) -> Result<Started, amends::Error> {
    let mut caller = kit.way().connect().await?;
    let mut transaction = caller.begin().await?;
    let started = kit.engine().start_within(&mut transaction, start).await?;
    transaction.commit().await?;
    Ok(started)
}

fn a_then_event<'a>(saga: &'a amends::Saga, stage: &'a Stage) -> Ran<'a> {
    async {
        saga.publish(amends::Event::new("BEGUN", &1)).await?;
        saga.run(&stage.a, &text("1")).await
    }
    .boxed()
}

fn unused() -> Verdict {
    Verdict::ignored("TOPIC_UNUSED")
}

/// The same order by the same delivery, by another one, and by one that is not what it was.
pub(super) async fn duplicates(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, a_then_event).await;
    let by = |external_id: &str, body: &str| Delivery {
        source: text("test"),
        external_id: text(external_id),
        body: body.into(),
    };
    let start = |delivery| Start { delivery: Some(delivery), ..start_request("it") };
    let mut told = Vec::new();
    for delivery in [by("1", "a"), by("1", "a"), by("2", "a"), by("1", "b")] {
        told.push(match kit.request(start(delivery)).await.unwrap() {
            Started::New(id) | Started::Replayed(id) | Started::Duplicate(id) => Some(id),
            Started::Conflict => None,
        });
    }
    assert!(told[0].is_some());
    assert_eq!(told[1..], [told[0], told[0], None]);
    kit.ask(async |engine| engine.record_delivery(by("3", "a"), unused()).await).await.unwrap();
    kit.ask(async |engine| engine.record_delivery(by("3", "a"), unused()).await).await.unwrap();
    kit.settle().await;
    kit.finish().await;
    seen(&stage)
}

/// A delivery that contradicts what it is about is put to a person, who settles it.
pub(super) async fn cases(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, three_parcels).await;
    let by = |external_id: &str, body: &str| Delivery {
        source: text("test"),
        external_id: text(external_id),
        body: body.into(),
    };
    let id = kit.begin(Start { delivery: Some(by("1", "a")), ..start_request("it") }).await;
    kit.settle().await;
    kit.ask(async |engine| engine.record_delivery(by("2", "b"), unused()).await).await.unwrap();
    let open = async |engine: Engine| {
        let case = NewCase {
            source: text("test"),
            external_id: text("2"),
            workflow: start_request("it").workflow.to_owned(),
            business_key: Some(text("it")),
            instance_id: Some(id),
            stop: Stop::BeforePivot,
            message: text("it differs"),
            problems: Vec::new(),
            event: amends::Event::new("CONTRADICTED", &1),
        };
        engine.open_case(case).await
    };
    for _ in 0..2 {
        kit.ask(open).await.unwrap();
    }
    assert!(kit.instance(id).await.held);
    let origin = kit.ask(async |engine| engine.origin(id).await).await.unwrap().unwrap();
    assert_eq!(origin.delivery, Some((text("test"), text("1"))));
    let filter = CaseFilter { limit: 10, ..CaseFilter::default() };
    let found = kit.ask(async |engine| engine.cases(&filter).await).await.unwrap();
    assert_eq!(found.len(), 1);
    let case_id = found[0].case_id;
    for _ in 0..2 {
        let settled =
            kit.ask(async |engine| engine.settle_case(case_id, "anna", "why").await).await;
        settled.unwrap().unwrap();
    }
    kit.settle().await;
    let told = kit.recorder().kinds("it");
    assert!(told.contains(&text("CONTRADICTED")), "{told:?}");
    kit.finish().await;
    seen(&stage)
}

/// The case of a delivery that cannot be carried out.
fn odd(external_id: &str) -> NewCase {
    NewCase {
        source: text("test"),
        external_id: text(external_id),
        workflow: start_request("it").workflow.to_owned(),
        business_key: Some(text("it")),
        instance_id: None,
        stop: Stop::No,
        message: text("it is odd"),
        problems: vec![CaseProblem {
            pointer: text("/a"),
            field: None,
            detail: text("is missing"),
        }],
        event: amends::Event::new("ODD", &1),
    }
}

/// What cannot be carried out when it comes is kept, and put to a person, who has one carried out
/// and lets the other be.
pub(super) async fn kept(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, three_parcels).await;
    let by = |external_id: &str| Delivery {
        source: text("test"),
        external_id: text(external_id),
        body: b"odd".into(),
    };
    let failed = || Verdict {
        outcome: DeliveryOutcome::Failed,
        reason: text("ODD"),
        business_key: Some(text("it")),
    };
    for external_id in ["1", "2"] {
        kit.ask(async |engine| engine.record_delivery(by(external_id), failed()).await)
            .await
            .unwrap();
        let open = async |engine: Engine| engine.open_case(odd(external_id)).await;
        kit.ask(open).await.unwrap();
    }
    let list = async |outcome, about| {
        let filter = DeliveryFilter { outcome, about, limit: 10, before: None };
        kit.ask(async |engine| engine.deliveries(&filter).await).await.unwrap()
    };
    let failed = Some(DeliveryOutcome::Failed);
    let open = list(failed, None).await;
    assert!(list(None, None).await.len() >= 2);
    assert_eq!(open.len(), 2);
    let [second, first] = [open[0].delivery_id, open[1].delivery_id];
    let (view, body) = kit.ask(async |engine| engine.delivery(first).await).await.unwrap().unwrap();
    assert_eq!((view, &body[..]), (open[1].clone(), &b"odd"[..]));

    let person = ("anna", "it is all right");
    let started =
        kit.ask(async |engine| engine.start_kept(first, start_request("it")).await).await.unwrap();
    assert!(matches!(started, Started::New(id) | Started::Replayed(id) if id == first));
    let conclude = async |delivery_id, outcome, as_of| {
        let conclusion = || Conclusion { outcome, reason: None, instance_id: Some(first), as_of };
        let told = async |engine: Engine| {
            engine.conclude_delivery(delivery_id, conclusion(), person).await
        };
        kit.ask(told).await.unwrap();
    };
    conclude(first, DeliveryOutcome::Started, None).await;
    conclude(second, DeliveryOutcome::Failed, Some(DateTime::UNIX_EPOCH)).await;
    let latest = kit.ask(async |engine| engine.latest_news(first, first).await).await.unwrap();
    assert_eq!(latest.map(|it| it.delivery.external_id), Some(text("2")));
    assert!(
        kit.ask(async |engine| engine.latest_news(first, second).await).await.unwrap().is_none()
    );
    let named = kit.ask(async |engine| engine.delivery_of("test", "2").await).await.unwrap();
    assert_eq!(named.map(|it| it.delivery_id), Some(second));
    let filter = CaseFilter { settled: Some(false), limit: 10, ..CaseFilter::default() };
    let cases = kit.ask(async |engine| engine.cases(&filter).await).await.unwrap();
    assert_eq!(cases.iter().map(|case| case.delivery_id).collect::<Vec<_>>(), [second]);
    let case_id = cases[0].case_id;
    let case = kit.ask(async |engine| engine.case(case_id).await).await.unwrap().unwrap();
    assert_eq!(case.problems[0].pointer, "/a");
    kit.ask(async |engine| engine.settle_case(case_id, "anna", "why").await).await.unwrap();
    let about = Some((start_request("it").workflow.to_owned(), text("it")));
    let outcomes: Vec<_> = list(None, about).await.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [DeliveryOutcome::Ignored, DeliveryOutcome::Started]);
    let ignored = list(Some(DeliveryOutcome::Ignored), None).await;
    assert_eq!(ignored[0].decided_by.as_deref(), Some("anna"));
    kit.settle().await;
    kit.finish().await;
    seen(&stage)
}

/// Everything that can be asked without changing anything.
pub(super) async fn questions(kit: KitBuilder) -> Seen {
    let stage = Stage::plain();
    let kit = stage.kit(kit, three_parcels).await;
    let id = kit.begin(start_request("it")).await;
    kit.settle().await;
    let filter = Filter { status: Some(Status::Waiting), limit: 10, ..Filter::default() };
    let found = kit.ask(async |engine| engine.instances(&filter).await).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(kit.instance(id).await.instance_id, id);
    assert_eq!(kit.history(id).await[0].kind, "started");
    let versions = kit.ask(async |engine| engine.versions().await).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.live.waiting).sum::<u64>(), 1);
    kit.ask(async |engine| engine.ready().await).await.unwrap();
    let schedules = kit.ask(async |engine| engine.schedules().await).await.unwrap();
    assert!(schedules.is_empty());
    let verified = kit.ask(async |_| amends::verify::verify(kit.way(), |_| ()).await).await;
    assert_eq!(verified.unwrap().instances, 1);
    let checked = kit.ask(async |_| Engine::builder(kit.way()).check(|_| ()).await).await;
    assert_eq!(checked.unwrap().instances(), 1);
    kit.finish().await;
    seen(&stage)
}
