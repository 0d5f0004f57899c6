//! What may come from outside into the life of an order, and what holds at its end.

use std::cell::{Cell, RefCell};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::order::{Attempted, CHILD, CODE, Order};
use super::{Choices, every};
use crate::command::{Answer, Command, Finding, Resolution};
use crate::instance::Verdict;
use crate::record::{ChildEnded, MAIL_REFUSED};
use crate::status::Status;
use crate::step::{Effect, Failure};
use crate::store::mail::Message;

const KEYED: Effect = Effect::Idempotent { key_window: None };

fn resolution(step: &str, finding: Finding) -> Option<Resolution> {
    let (step, evidence) = (Some(step.to_owned()), "a letter".to_owned());
    Some(Resolution { step, finding: Some(finding), evidence, money: Vec::new() })
}

/// Three monthly charges; a release that is deployed at any moment has each of them made by another
/// step, for orders that have not come to the first one.
pub(super) fn every_month_is_charged_once(choices: &mut Choices) {
    let choices = RefCell::new(choices);
    let mut order = Order::new(KEYED);
    let deployed = Cell::new(false);
    let run = |order: &mut Order| {
        if !deployed.get() && choices.borrow_mut().one_of(&[false, true]) {
            deployed.set(true);
        }
        for _ in 0..3 {
            let is_new = deployed.get() && order.state.patched("pay", order.now)?;
            order.step(if is_new { "pay" } else { "charge" })?;
            order.sleep()?;
        }
        Ok(())
    };
    let status = order.live(run, |_, _| false);
    assert_eq!(status, Status::Completed);
    let charged: u32 = order.applied.values().sum();
    assert_eq!((charged, order.applied.len()), (3, 3), "{}", order.told());
}

/// What comes by mail, in any order, while the run waits for a signal.
pub(super) fn every_message_becomes_a_record(choices: &mut Choices) {
    let choices = RefCell::new(choices);
    let mut order = Order::new(KEYED);
    let run = |order: &mut Order| {
        if let Some(body) = order.wait("packed")?
            && body.get() != "1"
        {
            return Err(Verdict::Stick(Failure::new("SIGNAL_UNREADABLE", "packed")));
        }
        order.step("ship")
    };
    let sent = Cell::new(0);
    let status = order.live(run, |order, wait| {
        if sent.get() > 6 {
            return answer_what_is_asked(order, wait.is_none());
        }
        sent.set(sent.get() + 1);
        let said = ["nothing", "fine", "unreadable", "refused", "resume", "answer"];
        match choices.borrow_mut().one_of(&said) {
            "nothing" => return answer_what_is_asked(order, wait.is_none()),
            "fine" => signal(order, "1"),
            "unreadable" => signal(order, "\"one\""),
            "refused" => order.send(Message::Refused("too large".to_owned())),
            "resume" => drop(order.give(Command::Resume, None)),
            _ => return answer_what_is_asked(order, wait.is_none()),
        }
        true
    });
    assert_eq!(status, Status::Completed);
    let told = order.told();
    let refused = order.state.history.mail_refused();
    let asked = order.asked.iter().filter(|code| *code == MAIL_REFUSED).count();
    assert_eq!(refused > 0, asked > 0, "nobody was asked: {told}");
    assert_eq!(order.applied.values().sum::<u32>(), 1, "{told}");
}

fn signal(order: &mut Order, body: &str) {
    let body = RawValue::from_string(body.to_owned()).unwrap();
    order.send(Message::Signal { name: "packed".to_owned(), id: None, body });
}

/// A person answers what the order is stuck on.
fn answer_what_is_asked(order: &mut Order, is_stuck: bool) -> bool {
    if is_stuck {
        let unreadable = order.asked.last().is_some_and(|code| code == "SIGNAL_UNREADABLE");
        let answered = if unreadable {
            order.give(Command::Resolve, resolution("wait:packed", Finding::Dropped))
        } else {
            order.give(Command::Resume, None)
        };
        assert!(matches!(answered, Answer::Accepted | Answer::AlreadyResumed));
    }
    is_stuck
}

/// A payment that may be made once; two people say what became of it, and one of them is wrong.
pub(super) fn of_two_people_the_first_is_believed(choices: &mut Choices) {
    let choices = RefCell::new(choices);
    let lost =
        choices.borrow_mut().one_of(&[&[Attempted::LostApplied], &[Attempted::LostUnapplied]]);
    let mut order = Order::new(Effect::AtMostOnce);
    order.attempts = lost;
    let run = |order: &mut Order| order.step("pay");
    let status = order.live(run, |order, wait| {
        if wait.is_some() {
            return true;
        }
        let is_applied = order.applied.contains_key("pay");
        let output = serde_json::json!({ "amount": 1 });
        let truth = if is_applied { Finding::Applied(output) } else { Finding::NotApplied };
        assert_eq!(order.give(Command::Resolve, resolution("pay", truth)), Answer::Accepted);
        let other = choices.borrow_mut().one_of(&[Command::Resolve, Command::Resume]);
        let mistake = resolution("pay", Finding::NotApplied);
        order.give(other, mistake.filter(|_| other == Command::Resolve));
        true
    });
    assert_eq!(status, Status::Completed);
    assert_eq!(order.applied["pay"], 1, "{}", order.told());
}

/// What keeps a step from being attempted: nothing, a person, a dependency, no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    Held,
    Parked,
    /// By a dependency, and then by a person.
    ParkedAndHeld,
    Alone,
}

/// A step that has to be tried within ten minutes, in an order that has to be done within thirty; or
/// the other way round.
pub(super) fn deadlines_count_what_could_be_used(choices: &mut Choices) {
    let choices = RefCell::new(choices);
    let [step, whole] = choices.borrow_mut().one_of(&[[10, 30], [30, 10]]).map(TimeDelta::minutes);
    let mut order = Order::new(KEYED);
    order.step_deadline = step.to_std().ok();
    order.deadline = whole.to_std().ok();
    order.attempts = &[Attempted::Down, Attempted::Down];
    let run = |order: &mut Order| order.step("pay");
    let (idle, kept_before) = (Cell::new(TimeDelta::zero()), Cell::new(0));
    let stood_still = |minutes| idle.set(idle.get() + TimeDelta::minutes(minutes));
    let status = order.live(run, |order, wait| {
        let waits = wait.is_some_and(|wait| wait.until.is_some_and(|until| until > order.now));
        if !waits || kept_before.get() == 2 {
            return true;
        }
        kept_before.set(kept_before.get() + 1);
        let kept = choices.borrow_mut().one_of(&[
            Kept::Nothing,
            Kept::Held,
            Kept::Parked,
            Kept::ParkedAndHeld,
            Kept::Alone,
        ]);
        let minutes = choices.borrow_mut().one_of(&[8, 20]);
        order.state.was_parked = matches!(kept, Kept::Parked | Kept::ParkedAndHeld);
        match kept {
            Kept::Nothing => {}
            Kept::Held => {
                hold(order, minutes);
                stood_still(minutes);
            }
            Kept::Parked => {
                // It is due before it is parked.
                order.pass_time(1);
                order.pass_time(minutes);
                stood_still(minutes);
            }
            Kept::ParkedAndHeld => {
                order.pass_time(1);
                order.pass_time(minutes);
                hold(order, minutes);
                stood_still(2 * minutes);
            }
            Kept::Alone => order.pass_time(minutes),
        }
        true
    });
    let began = order.attempted_at[0];
    let last = *order.attempted_at.last().unwrap();
    let used = |until: DateTime<Utc>| until - began - idle.get();
    let told = order.told();
    assert!(used(last) <= step && used(last) < whole, "an attempt was late: {told}");
    let is_over = used(order.now) >= whole || used(order.now) > step - TimeDelta::minutes(1);
    match status {
        Status::Completed => {}
        Status::Compensated => assert!(is_over, "it was given up too early: {told}"),
        other => panic!("{other}: {told}"),
    }
}

/// Somebody holds the order for a while; what is read meanwhile is read at its own time.
fn hold(order: &mut Order, minutes: i64) {
    assert_eq!(order.give(Command::Hold, None), Answer::Accepted);
    order.read_mail().unwrap();
    order.pass_time(minutes);
    assert_eq!(order.give(Command::Release, None), Answer::Accepted);
    order.read_mail().unwrap();
}

/// A child that ends in any way, before a payment that a person has to find out about or that
/// fails, or before a cancel.
pub(super) fn a_child_ends_once_and_nothing_of_it_is_forgotten(choices: &mut Choices) {
    let choices = RefCell::new(choices);
    let lost = choices.borrow_mut().one_of(&[&[][..], &[Attempted::LostUnapplied]]);
    let mut order = Order::new(Effect::AtMostOnce);
    order.attempts = lost;
    let run = |order: &mut Order| {
        let _whatever = order.child()?;
        order.step("pay")
    };
    let ended = Cell::new(None);
    let status = order.live(run, |order, wait| {
        if wait.is_some() && ended.get().is_none() {
            let statuses = [Status::Completed, Status::Compensated, Status::Terminated];
            let status = choices.borrow_mut().one_of(&statuses);
            ended.set(Some(status));
            let failure = (status != Status::Completed).then(|| Failure::new(CODE, "no"));
            let (instance_id, output) = (Uuid::nil(), None);
            let end = ChildEnded { instance_id, status, output, failure, parked: false };
            let is_heard = choices.borrow_mut().one_of(&[true, false]);
            order.send(if is_heard {
                Message::ChildEnded(end)
            } else {
                Message::Refused("too large".to_owned())
            });
            return true;
        }
        if wait.is_some() {
            return false;
        }
        let said = [Command::Resume, Command::Resolve, Command::Cancel];
        match choices.borrow_mut().one_of(&said) {
            Command::Resolve
                if order.asked.last().is_some_and(|code| code == "OUTCOME_UNKNOWN") =>
            {
                order.give(Command::Resolve, resolution("pay", Finding::NotApplied));
            }
            Command::Resume if order.asked.len() > 3 => drop(order.give(Command::Cancel, None)),
            Command::Cancel => drop(order.give(Command::Cancel, None)),
            _ => drop(order.give(Command::Resume, None)),
        }
        true
    });
    let told = order.told();
    let may_be_left = ended.get() != Some(Status::Compensated);
    match status {
        Status::Completed => assert_eq!(order.applied["pay"], 1, "{told}"),
        Status::Cancelled | Status::Compensated => {
            let is_undone = order.undone.iter().any(|key| key == CHILD);
            assert!(is_undone || !may_be_left, "what the child did stays: {told}");
        }
        other => panic!("{other}: {told}"),
    }
}

#[test]
fn a_release_never_has_a_month_charged_twice_or_not_at_all() {
    assert!(every(every_month_is_charged_once) >= 5);
}

#[test]
fn whatever_comes_by_mail_is_recorded_and_what_cannot_be_is_put_to_a_person() {
    assert!(every(every_message_becomes_a_record) >= 1_000);
}

#[test]
fn of_two_people_who_contradict_each_other_the_second_is_told_so() {
    assert!(every(of_two_people_the_first_is_believed) >= 4);
}

#[test]
fn a_deadline_is_kept_and_runs_only_while_something_can_be_done() {
    assert!(every(deadlines_count_what_could_be_used) >= 50);
}

#[test]
fn a_parent_hears_once_how_its_child_has_ended_and_takes_back_what_may_be_left() {
    assert!(every(a_child_ends_once_and_nothing_of_it_is_forgotten) >= 10);
}
