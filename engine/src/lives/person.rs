//! What people say along a life, and that what they were told is what happens.

use super::life::{Life, NAMES};
use super::world::settling_time;
use crate::command::{Answer, Command, Finding, Resolution, Standing, answer};
use crate::compensation::{is_past_pivot, plan_compensation};
use crate::history::Progress;
use crate::preview::preview;
use crate::record::{CommandRead, Entry};
use crate::status::{Status, Transition};
use crate::step::{Compensation, Effect};

/// What comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    None,
    Given(Command),
    WorkerLost,
}

impl Life<'_> {
    /// Now and then somebody says something, or the worker is lost between two records.
    pub(super) fn be_disturbed(&mut self) {
        if self.scope.disturbances == 0 || self.is_calm {
            return;
        }
        let disturbance = self.choices.one_of(&[
            Disturbance::None,
            Disturbance::WorkerLost,
            Disturbance::Given(Command::Cancel),
            Disturbance::Given(Command::Hold),
            Disturbance::Given(Command::Terminate),
        ]);
        match disturbance {
            Disturbance::None => {}
            Disturbance::WorkerLost => self.lose_the_worker(),
            Disturbance::Given(command) => {
                self.scope.disturbances -= 1;
                self.give(command, None);
            }
        }
    }

    /// Now and then somebody says something between the announcement of an attempt and the attempt:
    /// the row does not say yet that it is tried, and the attempt is not made.
    pub(super) fn is_stopped_before(&mut self, step: usize) -> bool {
        let is_announced =
            self.effect == Effect::AtMostOnce || self.kinds[step] == Compensation::Pivot;
        if !is_announced || self.scope.disturbances == 0 || self.is_calm {
            return false;
        }
        let said = [None, Some(Command::Cancel), Some(Command::Hold), Some(Command::Terminate)];
        let Some(command) = self.choices.one_of(&said) else {
            return false;
        };
        self.scope.disturbances -= 1;
        self.give(command, None) == Answer::Accepted
    }

    /// Now and then somebody does not want to wait.
    pub(super) fn is_hurried(&mut self) -> bool {
        let may_be = self.scope.disturbances > 0 && !self.is_calm;
        let is_hurried = may_be && self.choices.one_of(&[false, true]);
        if is_hurried {
            self.scope.disturbances -= 1;
            assert_eq!(self.give(Command::Retry, None), Answer::Accepted);
        }
        is_hurried
    }

    /// A person lets it go on after a hold, or ends it.
    pub(super) fn release(&mut self) {
        if self.status != Status::Stuck {
            self.transit(Transition::Wait);
        }
        self.transit(Transition::Claim);
        let command = self.choices.one_of(&[Command::Release, Command::Cancel, Command::Terminate]);
        if self.give(command, None) != Answer::Accepted {
            assert_eq!(self.give(Command::Release, None), Answer::Accepted);
        }
    }

    /// A person does what can be done about an instance that is stuck. From then on all goes well.
    pub(super) fn ask_a_person(&mut self) {
        self.transit(Transition::Claim);
        let said = [Command::Resolve, Command::Resume, Command::Cancel, Command::Terminate];
        let command = if self.is_calm { Command::Resolve } else { self.choices.one_of(&said) };
        self.is_calm = true;
        let resolution = self.finding();
        match (command, resolution) {
            (Command::Resolve, None) => {
                assert_eq!(self.give(Command::Resume, None), Answer::Accepted);
            }
            (Command::Resolve, resolution) => {
                assert_eq!(self.give(Command::Resolve, resolution), Answer::Accepted);
            }
            (command, _) => {
                self.give(command, None);
            }
        }
    }

    /// The truth about the first step that is in doubt or cannot be undone, found out when nothing
    /// is on its way any more.
    fn finding(&mut self) -> Option<Resolution> {
        self.now += settling_time();
        self.world.pass(self.now);
        let undoing = self.history.undoing().is_some();
        let step = (0..self.kinds.len()).find(|step| {
            self.history.step(NAMES[*step]).is_some_and(|recorded| {
                if undoing {
                    recorded.undo.total > 0 && !recorded.compensated
                } else {
                    recorded.unknown || recorded.begun
                }
            })
        })?;
        let finding = if undoing {
            self.world.undo_by_hand(step);
            Finding::Undone(None)
        } else if self.world.applied[step] {
            Finding::Applied(serde_json::json!({ "amount": 1 }))
        } else {
            Finding::NotApplied
        };
        let evidence = "a letter".to_owned();
        let step = Some(NAMES[step].to_owned());
        Some(Resolution { step, finding: Some(finding), evidence, money: Vec::new() })
    }

    /// Gives a command, which becomes a record if it is accepted.
    fn give(&mut self, command: Command, resolution: Option<Resolution>) -> Answer {
        let answer = answer(command, self.standing(false));
        if answer == Answer::Accepted {
            self.promise_and_record(command, resolution);
        }
        answer
    }

    fn promise_and_record(&mut self, command: Command, resolution: Option<Resolution>) {
        if command == Command::Cancel {
            let preview =
                preview(command, Answer::Accepted, &self.history, &self.records, &self.steps);
            assert_eq!(preview.problem, None, "{:?}", self.told());
            let shown = preview.plan.unwrap().steps.into_iter().map(|it| it.step).collect();
            self.promised = Some(shown);
        }
        let reason = "asked for".to_owned();
        let step = resolution.as_ref().and_then(|resolution| resolution.step.clone());
        let new_keys = matches!(command, Command::Resume | Command::Resolve)
            .then(|| self.history.keys_to_give_up(resolution.as_ref()));
        let (money, parked) = (Vec::new(), false);
        let read = CommandRead { command, reason, resolution, new_keys, money, parked };
        self.append(None, Entry::Command(read));
        if self.status == Status::Stuck && matches!(command, Command::Resume | Command::Resolve) {
            let undoing = self.history.undoing().is_some();
            self.transit(if undoing { Transition::Compensate } else { Transition::Resume });
        }
        if let Some(step) = step {
            self.pivots.settle(&step, &self.steps);
            self.settle_pivots();
        }
    }

    /// The row says that a pivot may be done only where one was called or is in doubt.
    pub(super) fn judge_pivot(&self) {
        let is_called_or_in_doubt =
            is_past_pivot(&self.history, &self.steps) || self.history.is_interrupted();
        assert!(!self.past_pivot || is_called_or_in_doubt, "{:?}", self.told());
    }

    /// A cancel is accepted where it can happen, refused where a pivot is or may be done, and the
    /// plan is of the same opinion.
    pub(super) fn judge_cancel(&self) {
        let plan = plan_compensation(&self.history, &self.steps);
        match answer(Command::Cancel, self.standing(false)) {
            Answer::Accepted => assert!(plan.is_ok(), "{plan:?} {:?}", self.told()),
            Answer::PastPivot if !self.history.is_interrupted() => {
                assert!(plan.is_err(), "{:?}", self.told());
            }
            _ => {}
        }
    }

    /// A parent that is being undone takes back its child that has completed.
    pub(super) fn is_taken_back(&mut self) -> bool {
        let may_be = self.status == Status::Completed && self.scope.disturbances > 0;
        if !may_be || answer(Command::Cancel, self.standing(true)) != Answer::Accepted {
            return false;
        }
        if !self.choices.one_of(&[false, true]) {
            return false;
        }
        self.scope.disturbances -= 1;
        self.transit(Transition::Claim);
        self.promise_and_record(Command::Cancel, None);
        true
    }

    fn standing(&self, by_parent: bool) -> Standing {
        Standing {
            status: self.status,
            past_pivot: self.past_pivot,
            cancelled: self.history.cancelled().is_some(),
            compensating: self.history.undoing().is_some(),
            resumed: false,
            held: self.history.is_held(),
            by_parent,
            ancestors_ended: false,
            child_past_pivot: false,
            children_undecided: false,
        }
    }

    /// Whether a step is recorded as done.
    pub(super) fn is_done(&self, step: usize) -> bool {
        self.history
            .step(NAMES[step])
            .is_some_and(|recorded| matches!(recorded.progress, Progress::Done { .. }))
    }
}
