//! An order and its child, in the hands of people.

use super::order::{CHILD, Order};
use super::{Choices, every};
use crate::command::{Answer, ChildFate, ChildPolicy, ChildStanding, Command, Standing, answer};
use crate::history::Progress;
use crate::instance::Verdict;
use crate::record::ChildEnded;
use crate::status::Status;
use crate::step::{Effect, Failure};
use crate::store::family::{Descent, Member};
use crate::store::mail::Message;
use uuid::Uuid;

/// More rounds than any of these lives takes.
const ROUNDS_MAX: usize = 30;
const HELD_FOR: usize = 4;
/// After this the child cannot be taken back any more.
const PIVOT: &str = "ship";

/// What somebody says to the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Hold,
    Cancel,
    Terminate(Option<ChildPolicy>),
}

/// One that lives, and how it has ended.
struct Alive {
    order: Order,
    ended: Option<Status>,
}

impl Alive {
    fn new() -> Self {
        Self { order: Order::new(Effect::Idempotent { key_window: None }), ended: None }
    }

    fn status(&self) -> Status {
        self.ended.unwrap_or(self.order.state.status)
    }

    fn pass(&mut self, run: impl Fn(&mut Order) -> Result<(), Verdict>) {
        if self.ended.is_none() {
            self.ended = self.order.pass(&run).ok();
        }
    }

    /// What it has applied and not undone.
    fn left(&self) -> Vec<&String> {
        let applied = self.order.applied.keys();
        applied.filter(|step| !self.order.undone.contains(step)).collect()
    }
}

struct Family {
    parent: Alive,
    child: Option<Alive>,
    /// The order waits for the end of its child before it goes on.
    is_awaited: bool,
    has_pivot: bool,
}

impl Family {
    fn new(is_awaited: bool, has_pivot: bool) -> Self {
        Self { parent: Alive::new(), child: None, is_awaited, has_pivot }
    }

    /// A minute of both.
    fn live(&mut self, is_parent_first: bool) {
        if is_parent_first {
            self.live_parent();
        }
        self.live_child();
        if !is_parent_first {
            self.live_parent();
        }
        self.parent.order.pass_time(1);
        if let Some(child) = &mut self.child {
            child.order.pass_time(1);
        }
    }

    fn live_parent(&mut self) {
        if self.is_to_take_back() {
            assert_eq!(self.give_child(Command::Cancel, true), Answer::Accepted);
            return;
        }
        let (is_awaited, had_plan) = (self.is_awaited, self.has_plan());
        self.parent.pass(|order| {
            order.step("charge")?;
            order.start_child()?;
            order.sleep()?;
            if is_awaited {
                let _whatever = order.child()?;
            }
            order.step("pay")
        });
        let is_started = self.parent.order.state.history.step(CHILD).is_some();
        if is_started && self.child.is_none() {
            self.child = Some(Alive::new());
        }
        if self.has_plan() && !had_plan {
            // With the plan.
            self.tell(&Descent::new(Command::Cancel, None, &self.members()));
        }
        // A person has seen how the child has ended.
        let is_stuck = self.parent.ended.is_none() && self.parent.status() == Status::Stuck;
        if is_stuck && self.child.as_ref().is_some_and(|child| child.ended.is_some()) {
            self.parent.order.give(Command::Resume, None);
        }
    }

    fn live_child(&mut self) {
        let (has_pivot, is_heard) =
            (self.has_pivot, self.parent.ended.is_none() || self.has_plan());
        let Some(child) = &mut self.child else { return };
        let was = child.ended;
        child.pass(|order| {
            order.step("charge")?;
            order.sleep()?;
            order.step(if has_pivot { PIVOT } else { "pay" })?;
            order.state.past_pivot = has_pivot;
            order.sleep()
        });
        if let (None, Some(status), true) = (was, child.ended, is_heard) {
            let failure = (status != Status::Completed).then(|| Failure::new("CANCELLED", "no"));
            let (instance_id, output, parked) = (Uuid::nil(), None, false);
            let end = ChildEnded { instance_id, status, output, failure, parked };
            self.parent.order.send(Message::ChildEnded(end));
        }
    }

    fn has_plan(&self) -> bool {
        self.parent.order.state.history.undoing().is_some()
    }

    /// Whether the plan of the order undoes its child, which has completed.
    fn is_to_take_back(&self) -> bool {
        self.parent.order.undone.iter().any(|step| step == CHILD)
            && self.child.as_ref().is_some_and(|child| child.ended == Some(Status::Completed))
    }

    fn members(&self) -> Vec<Member> {
        let member = |child: &Alive| {
            let Standing { past_pivot, cancelled, compensating, held, .. } = child.order.standing();
            let (workflow, business_key) = ("pack".to_owned(), "1/pack".to_owned());
            let standing =
                ChildStanding::judge(child.status(), past_pivot, cancelled || compensating);
            Member {
                instance_id: Uuid::max(),
                parent_id: Uuid::nil(),
                workflow,
                business_key,
                status: child.status(),
                standing,
                is_held: held,
            }
        };
        self.child.iter().map(member).collect()
    }

    fn tell(&mut self, descent: &Descent) {
        for command in descent.fates().filter_map(ChildFate::command).collect::<Vec<_>>() {
            if let Some(child) = &mut self.child {
                child.order.command(command, None);
            }
        }
    }

    /// Gives the order a command, and its child with it.
    fn give(&mut self, command: Command, policy: Option<ChildPolicy>) -> Answer {
        let descent = Descent::new(command, policy, &self.members());
        let standing = Standing {
            status: self.parent.status(),
            child_past_pivot: descent.includes(ChildFate::Refuse),
            children_undecided: descent.includes(ChildFate::Undecided),
            ..self.parent.order.standing()
        };
        let answer = answer(command, standing);
        if answer == Answer::Accepted {
            self.parent.order.command(command, None);
            self.tell(&descent);
        }
        answer
    }

    /// Gives the child a command, on behalf of its parent or of a person.
    fn give_child(&mut self, command: Command, by_parent: bool) -> Answer {
        let ancestors_ended = self.parent.ended.is_some() && !by_parent;
        let child = self.child.as_mut().expect("it is there");
        let status = child.status();
        let standing = Standing { status, by_parent, ancestors_ended, ..child.order.standing() };
        let answer = answer(command, standing);
        if answer == Answer::Accepted {
            child.order.command(command, None);
            child.ended = None;
        }
        answer
    }

    fn has_ended(&self) -> bool {
        self.parent.ended.is_some()
            && self.child.as_ref().is_none_or(|it| it.ended.is_some())
            && !self.is_to_take_back()
    }

    fn child_ended(&self) -> Option<Status> {
        self.child.as_ref().and_then(|child| child.ended)
    }

    fn child_left(&self) -> Vec<&String> {
        self.child.as_ref().map(Alive::left).unwrap_or_default()
    }

    fn attempts(&self) -> usize {
        let of = |alive: &Alive| alive.order.attempted_at.len();
        of(&self.parent) + self.child.as_ref().map_or(0, of)
    }

    fn is_past_pivot(&self) -> bool {
        self.child.as_ref().is_some_and(|child| child.order.state.past_pivot)
    }

    fn told(&self) -> String {
        let child = self.child.as_ref().map(|child| child.order.told());
        format!("{}, {}", self.parent.order.told(), child.unwrap_or_default())
    }

    /// Lives to the end of both.
    fn live_on(&mut self, is_parent_first: bool) {
        for _ in 0..ROUNDS_MAX {
            if self.has_ended() {
                return;
            }
            self.live(is_parent_first);
        }
        panic!("it lives for ever: {}", self.told());
    }
}

/// How the family stood when somebody said something.
struct Before {
    attempts: usize,
    /// The child was live.
    was_live: bool,
    was_over: bool,
    was_past_pivot: bool,
}

impl Before {
    fn of(family: &Family) -> Self {
        Self {
            attempts: family.attempts(),
            was_live: family.child.as_ref().is_some_and(|child| child.ended.is_none()),
            was_over: family.parent.ended.is_some(),
            was_past_pivot: family.is_past_pivot(),
        }
    }
}

/// An order that starts a child, awaited or not, and a person who says something at any moment.
pub(super) fn a_family_does_what_people_say(choices: &mut Choices) {
    let is_awaited = choices.one_of(&[true, false]);
    let mut family = Family::new(is_awaited, choices.one_of(&[false, true]));
    let is_parent_first = choices.one_of(&[true, false]);
    for _ in 0..choices.one_of(&[0, 1, 2, 3, 4, 5]) {
        family.live(is_parent_first);
    }
    let said = choices.one_of(&[
        Said::Nothing,
        Said::Hold,
        Said::Cancel,
        Said::Terminate(None),
        Said::Terminate(Some(ChildPolicy::Terminate)),
        Said::Terminate(Some(ChildPolicy::Cancel)),
        Said::Terminate(Some(ChildPolicy::Leave)),
    ]);
    let before = Before::of(&family);
    let answer = match said {
        Said::Nothing => Answer::AlreadyRunning,
        Said::Hold => family.give(Command::Hold, None),
        Said::Cancel => family.give(Command::Cancel, None),
        Said::Terminate(policy) => family.give(Command::Terminate, policy),
    };
    if said == Said::Hold && answer == Answer::Accepted {
        for _ in 0..HELD_FOR {
            family.live(is_parent_first);
        }
        assert_eq!(family.attempts(), before.attempts, "it is held: {}", family.told());
        assert_eq!(family.give(Command::Release, None), Answer::Accepted);
    }
    family.live_on(is_parent_first);
    family.judge(said, answer, &before);
    family.take_back_what_was_left(is_parent_first);
}

impl Family {
    /// Whether it has become of it what was said.
    fn judge(&self, said: Said, answer: Answer, before: &Before) {
        let told = self.told();
        let (parent, child) = (self.parent.ended, self.child_ended());
        match (said, answer) {
            (Said::Cancel, Answer::Accepted) => {
                assert_eq!(parent, Some(Status::Cancelled), "{told}");
                let left = (self.parent.left(), self.child_left());
                assert!(left.0.is_empty() && left.1.is_empty(), "{left:?} stays: {told}");
            }
            (Said::Cancel | Said::Terminate(Some(ChildPolicy::Cancel)), Answer::ChildPastPivot) => {
                assert!(before.was_past_pivot, "{told}");
            }
            (Said::Terminate(None), Answer::ChildrenUndecided) => {
                assert!(before.was_live, "{told}");
            }
            (Said::Terminate(policy), Answer::Accepted) => {
                assert_eq!(parent, Some(Status::Terminated), "{told}");
                let goes_on = self.attempts() > before.attempts;
                match policy.filter(|_| before.was_live) {
                    None => assert!(!before.was_live && !goes_on, "nobody has said so: {told}"),
                    Some(ChildPolicy::Terminate) => assert!(!goes_on, "it goes on: {told}"),
                    Some(ChildPolicy::Cancel) => {
                        assert_eq!(self.child_left(), Vec::<&String>::new(), "{told}");
                    }
                    Some(ChildPolicy::Leave) => {
                        assert_eq!(child, Some(Status::Completed), "{told}");
                    }
                }
            }
            (_, Answer::AlreadyEnded) => assert!(before.was_over, "{told}"),
            (said, answer) => {
                assert!(matches!(said, Said::Nothing | Said::Hold), "{answer:?}: {told}");
                assert_eq!(parent, Some(Status::Completed), "{told}");
            }
        }
        if parent == Some(Status::Completed) {
            assert_eq!(child, Some(Status::Completed), "it has ended before its child: {told}");
            let heard = self.parent.order.state.history.step(CHILD).map(|step| &step.progress);
            assert!(matches!(heard, Some(Progress::Done { .. })), "it has not heard: {told}");
        }
    }

    /// What has completed below what was stopped can still be taken back.
    fn take_back_what_was_left(&mut self, is_parent_first: bool) {
        let is_left = self.child_ended() == Some(Status::Completed)
            && self.parent.ended == Some(Status::Terminated);
        if !is_left {
            return;
        }
        let answer = self.give_child(Command::Cancel, false);
        self.live_on(is_parent_first);
        if self.is_past_pivot() {
            assert_eq!(answer, Answer::PastPivot, "{}", self.told());
        } else {
            assert_eq!(answer, Answer::Accepted, "{}", self.told());
            assert_eq!(self.child_left(), Vec::<&String>::new(), "{}", self.told());
        }
    }
}

#[test]
fn a_family_does_what_people_say_of_it_and_nobody_in_it_is_left_behind() {
    assert!(every(a_family_does_what_people_say) >= 300);
}
