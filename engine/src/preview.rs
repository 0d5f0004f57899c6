//! What a command would do, before it is given. Pure.
//!
//! A cancel shows its plan: the very one that would be executed now, with its hash. A command that
//! has an instance go on shows what it would do to the world once more, and how safe that is.

use serde::Serialize;
use uuid::Uuid;

use crate::command::{Answer, ChildFate, ChildStanding, Command};
use crate::compensation::{Plan, plan_compensation};
use crate::history::{History, Progress, RecordedStep};
use crate::money::Movement;
use crate::record::{Entry, Record};
use crate::registry::{Facts, Steps};
use crate::status::Status;
use crate::step::{Effect, Failure};

/// What a command would do at this moment.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// The command.
    pub command: Command,
    /// What it would be answered.
    pub answer: Answer,
    /// What would be undone, latest first; for a cancel, and while compensation is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanPreview>,
    /// Why there is no plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Failure>,
    /// Effects that may be asked for once more.
    pub again: Vec<Again>,
    /// For a cancel, a hold, a release and a terminate: what the instance has started, and what that
    /// has started, with what the command would mean for it.
    pub children: Vec<ChildPreview>,
}

/// An instance that was started by the one that the command is for, or by a child of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildPreview {
    /// Its id.
    pub instance_id: Uuid,
    /// The instance that started it.
    pub parent_id: Uuid,
    /// Its workflow.
    pub workflow: String,
    /// Its business key.
    pub business_key: String,
    /// Its status.
    pub status: Status,
    /// Whether a hold is in force on it.
    pub is_held: bool,
    /// Where it stands.
    pub standing: ChildStanding,
    /// What the command would mean for it.
    pub fate: ChildFate,
}

/// A compensation plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanPreview {
    /// SHA-256 of the plan, in hex; the record of a plan that is executed has it too.
    pub plan_hash: String,
    /// The steps to undo, in order.
    pub steps: Vec<PlannedUndo>,
}

/// A step that would be undone.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedUndo {
    /// Its key in the history.
    pub step: String,
    /// Whether its effect is known to be applied; if not, the undo makes sure that it is not.
    pub known: bool,
    /// Money that the step is recorded to have moved.
    pub money: Vec<Movement>,
}

/// An effect that may be asked for once more.
#[derive(Debug, Clone, Serialize)]
pub struct Again {
    /// The step's key in the history.
    pub step: String,
    /// Whether it is the step's undo.
    pub is_undo: bool,
    /// How safe that is.
    pub safety: Safety,
}

/// How safe it is to ask for an effect once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// Certainly not applied before.
    NotApplied,
    /// Perhaps applied before; the provider applies the same key once.
    SameKey,
    /// Perhaps applied before; the provider is asked first.
    AskedFirst,
    /// Refused before; asked for under another key, because the first one would be refused again.
    NewKey,
    /// Perhaps applied before, and nothing prevents a second application: find out first.
    MayRepeat,
}

/// Previews a command on an instance with these records, which would be given this answer.
pub(crate) fn preview(
    command: Command,
    answer: Answer,
    history: &History,
    records: &[Record],
    steps: &Steps,
) -> Preview {
    let under_way = history.undoing().map(|undoing| undoing.plan.clone());
    let plan = match (under_way, command) {
        // After the end nothing happens any more.
        _ if answer == Answer::AlreadyEnded => None,
        (Some(plan), _) => Some(Ok(plan)),
        (None, Command::Cancel) => Some(plan_compensation(history, steps)),
        (None, _) => None,
    };
    let (plan, problem) = match plan {
        Some(Ok(plan)) => (Some(show(&plan, records)), None),
        Some(Err(failure)) => (None, Some(failure)),
        None => (None, None),
    };
    let goes_on = answer != Answer::AlreadyEnded
        && matches!(command, Command::Resume | Command::Retry | Command::Resolve);
    let again = if goes_on { again(history, steps) } else { Vec::new() };
    Preview { command, answer, plan, problem, again, children: Vec::new() }
}

fn show(plan: &Plan, records: &[Record]) -> PlanPreview {
    let money = |key: &str| {
        let of_step = records.iter().filter(|record| record.step.as_deref() == Some(key));
        let entries = of_step.filter_map(|it| Entry::parse(&it.kind, &it.payload).ok());
        entries.flat_map(|entry| entry.money().to_vec()).collect()
    };
    let steps = plan
        .steps
        .iter()
        .map(|planned| PlannedUndo {
            step: planned.step.clone(),
            known: planned.known,
            money: money(&planned.step),
        })
        .collect();
    PlanPreview { plan_hash: plan.hash(), steps }
}

fn again(history: &History, steps: &Steps) -> Vec<Again> {
    if history.undoing().is_some() {
        let undo = |step: &RecordedStep| step.undo.total > 0 && !step.compensated;
        let open = history.steps().filter(|step| undo(step));
        return open
            .map(|step| {
                // An undo makes sure that something is not applied: any number of them is one.
                let safety = if step.undo.are_refused() { Safety::NewKey } else { Safety::SameKey };
                Again { step: step.key.clone(), is_undo: true, safety }
            })
            .collect();
    }
    let open = history.steps().filter(|step| !matches!(step.progress, Progress::Done { .. }));
    open.filter_map(|step| {
        let facts = steps.get(step.name())?.facts();
        Some(Again { step: step.key.clone(), is_undo: false, safety: safety(step, facts) })
    })
    .collect()
}

fn safety(step: &RecordedStep, facts: Facts<'_>) -> Safety {
    match facts.effect {
        _ if step.needs_new_key() => Safety::NewKey,
        _ if !step.is_in_doubt() => Safety::NotApplied,
        // A step that is done was recorded so.
        Effect::Transaction => Safety::NotApplied,
        // The window of the key is watched when the step is asked for.
        Effect::Idempotent { .. } => Safety::SameKey,
        Effect::Queryable { .. } => Safety::AskedFirst,
        Effect::AtMostOnce => Safety::MayRepeat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use crate::step::{Compensation, StepError};

    fn look(command: Command, make: impl FnOnce(&mut History)) -> Preview {
        answered(command, Answer::Accepted, make)
    }

    fn answered(command: Command, answer: Answer, make: impl FnOnce(&mut History)) -> Preview {
        let mut history = History::new(Uuid::nil());
        let records = fake::recording(&mut history, make);
        let steps = fake::steps([("charge", Compensation::Undo), ("ship", Compensation::Undo)]);
        preview(command, answer, &history, &records, &steps)
    }

    #[test]
    fn a_cancel_shows_the_plan_that_would_be_executed() {
        let shown = look(Command::Cancel, |history| {
            fake::done(history, "charge");
            fake::interrupted(history, "ship");
        });
        let plan = shown.plan.unwrap();
        let steps: Vec<_> = plan.steps.iter().map(|it| (it.step.as_str(), it.known)).collect();
        assert_eq!(steps, [("ship", false), ("charge", true)]);
        assert!(shown.again.is_empty());
    }

    #[test]
    fn after_the_end_nothing_would_be_undone_or_asked_again() {
        for command in Command::ALL {
            let shown = answered(command, Answer::AlreadyEnded, |history| {
                fake::done(history, "charge");
                fake::interrupted(history, "ship");
            });
            assert!(shown.plan.is_none() && shown.problem.is_none(), "{command}");
            assert!(shown.again.is_empty(), "{command}");
        }
    }

    #[test]
    fn going_on_shows_what_is_asked_for_again_and_how_safe_that_is() {
        let safety = |make: fn(&mut History)| {
            let shown = look(Command::Resume, make);
            assert!(shown.plan.is_none());
            shown.again.iter().map(|again| again.safety).collect::<Vec<_>>()
        };
        let later = chrono::DateTime::from_timestamp(60, 0);
        assert_eq!(safety(|history| fake::done(history, "charge")), []);
        assert_eq!(
            safety(|history| fake::failed(history, "charge", &StepError::refused("X", "x"), None)),
            [Safety::NewKey]
        );
        assert_eq!(
            safety(|history| fake::failed(history, "charge", &StepError::fail("X", "x"), None)),
            [Safety::NotApplied]
        );
        assert_eq!(
            safety(|history| {
                let soon = chrono::DateTime::from_timestamp(60, 0);
                fake::failed(history, "charge", &StepError::unknown("X", "x"), soon);
                fake::failed(history, "charge", &StepError::fail("X", "x"), None);
            }),
            [Safety::SameKey]
        );
        assert_eq!(
            safety(|history| fake::failed(history, "charge", &StepError::unknown("X", "x"), None)),
            [Safety::SameKey]
        );
        let mut history = History::new(Uuid::nil());
        fake::failed(&mut history, "charge", &StepError::retry("X", "x"), later);
        let steps = fake::steps([("charge", Compensation::Undo)]);
        assert_eq!(again(&history, &steps)[0].safety, Safety::NotApplied);
    }
}
