//! What has to be undone, decided from the record alone.
//!
//! Pure: the worker executes this plan, a preview shows it, and both see the same hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::history::{History, Progress, RecordedStep};
use crate::registry::Steps;
use crate::sabotage::Bug;
use crate::step::{Compensation, Failure};

/// What is stuck because a step was done with an undo that this build does not declare any more.
pub(crate) const COMPENSATION_CHANGED: &str = "COMPENSATION_CHANGED";

/// Steps to undo, in the order of undoing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<PlannedStep>,
}

/// A step to undo. Its input and output are in its own record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedStep {
    /// The step's key in the history, such as `charge` or `charge#2`.
    pub(crate) step: String,
    /// Whether its effect is known to be applied; if not, its undo gets no output.
    pub(crate) known: bool,
}

impl Plan {
    /// SHA-256 over the length-prefixed steps, in hex.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for planned in &self.steps {
            hasher.update((planned.step.len() as u64).to_be_bytes());
            hasher.update(planned.step.as_bytes());
            hasher.update([u8::from(planned.known)]);
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Plans the compensation of everything that is done or may be done, latest first.
///
/// Fails where undoing is no longer possible or cannot be decided without a person: a pivot is done
/// or may be done, or a step of the history is not part of this build, or has lost its undo since.
pub(crate) fn plan_compensation(history: &History, steps: &Steps) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for recorded in history.steps().rev() {
        let known = match recorded.progress {
            Progress::Done { .. } => true,
            _ if Bug::PlanKnownOnly.is_on() => continue,
            Progress::Open | Progress::Failed { .. } if recorded.is_in_doubt() => false,
            Progress::Open | Progress::Failed { .. } => continue,
        };
        if recorded.child.is_some() {
            plan.steps.push(PlannedStep { step: recorded.key.clone(), known });
            continue;
        }
        let Some(step) = steps.get(recorded.name()) else {
            return Err(Failure::new(
                "STEP_MISSING",
                format!("step {} is in the history but not in this build", recorded.key),
            ));
        };
        match (step.facts().compensation, known) {
            (Compensation::Undo, _) => {
                plan.steps.push(PlannedStep { step: recorded.key.clone(), known });
            }
            (Compensation::Nothing, _) => nothing_to_undo(recorded)?,
            (Compensation::Pivot, true) => {
                return Err(Failure::new(
                    "PAST_PIVOT",
                    format!("{} is done, and nothing can be undone after it", recorded.key),
                ));
            }
            (Compensation::Pivot, false) => {
                return Err(Failure::new(
                    "PIVOT_UNKNOWN",
                    format!(
                        "nobody knows whether {} is done; find out before going on",
                        recorded.key
                    ),
                ));
            }
        }
    }
    if Bug::PlanForward.is_on() {
        plan.steps.reverse();
    }
    Ok(plan)
}

/// Accepts that this build declares nothing to undo of a step, if it was done as such.
fn nothing_to_undo(recorded: &RecordedStep) -> Result<(), Failure> {
    let was = match recorded.compensation {
        None | Some(Compensation::Nothing) => return Ok(()),
        Some(Compensation::Undo) => "had an undo",
        Some(Compensation::Pivot) => "was a pivot",
    };
    Err(Failure::new(
        COMPENSATION_CHANGED,
        format!("{} {was} when it was done, and has nothing to undo in this build", recorded.key),
    ))
}

/// Whether a pivot is recorded as done, or as perhaps done, so that nothing can be undone any more.
pub(crate) fn is_past_pivot(history: &History, steps: &Steps) -> bool {
    history.steps().filter(|recorded| steps.is_pivot(recorded.name())).any(|recorded| {
        let is_done = matches!(recorded.progress, Progress::Done { .. });
        is_done || recorded.unknown || recorded.begun
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use crate::step::StepError;
    use chrono::DateTime;
    use uuid::Uuid;

    /// What the history may say of a step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Said {
        Done,
        /// Refused by the provider.
        Refused,
        /// This attempt was certainly not applied, and no other one will be.
        Failed,
        /// Perhaps applied, and given up.
        Unknown,
        /// Certainly not applied, to be tried again.
        Waiting,
        /// Unknown first, then refused under the same key: not applied.
        UnknownThenRefused,
        /// Unknown first, then failed for good by what says nothing of the first: still perhaps
        /// applied.
        UnknownThenFailed,
        /// Unknown first, then not reached at all: still perhaps applied.
        UnknownThenDown,
        /// The worker was lost in the middle.
        Interrupted,
        /// An at-most-once call was announced, and nothing more is known.
        Begun,
    }

    const SAID: [Said; 10] = [
        Said::Done,
        Said::Refused,
        Said::Failed,
        Said::Unknown,
        Said::Waiting,
        Said::UnknownThenRefused,
        Said::UnknownThenFailed,
        Said::UnknownThenDown,
        Said::Interrupted,
        Said::Begun,
    ];
    const KINDS: [Compensation; 3] =
        [Compensation::Undo, Compensation::Nothing, Compensation::Pivot];
    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

    fn say(history: &mut History, step: &str, said: Said) {
        let later = DateTime::from_timestamp(60, 0);
        let unknown = StepError::unknown("X", "x");
        let refusal = StepError::refused("X", "x");
        let failure = StepError::fail("X", "x");
        let down = StepError::retry("X", "x");
        match said {
            Said::Done => fake::done(history, step),
            Said::Refused => fake::failed(history, step, &refusal, None),
            Said::Failed => fake::failed(history, step, &failure, None),
            Said::Unknown => fake::failed(history, step, &unknown, None),
            Said::Waiting => fake::failed(history, step, &down, later),
            Said::UnknownThenRefused => {
                fake::failed(history, step, &unknown, later);
                fake::failed(history, step, &refusal, None);
            }
            Said::UnknownThenFailed => {
                fake::failed(history, step, &unknown, later);
                fake::failed(history, step, &failure, None);
            }
            Said::UnknownThenDown => {
                fake::failed(history, step, &unknown, later);
                fake::failed(history, step, &down, None);
            }
            Said::Interrupted => fake::interrupted(history, step),
            Said::Begun => fake::begun(history, step),
        }
    }

    fn is_known(said: Said) -> Option<bool> {
        match said {
            Said::Done => Some(true),
            Said::Unknown
            | Said::UnknownThenFailed
            | Said::UnknownThenDown
            | Said::Interrupted
            | Said::Begun => Some(false),
            Said::Refused | Said::Failed | Said::Waiting | Said::UnknownThenRefused => None,
        }
    }

    /// Every history of up to five steps: all but the last one done, the last one anything, each
    /// step of every kind.
    #[test]
    fn the_plan_mirrors_what_is_done_or_may_be_done_and_nothing_else() {
        let mut checked = 0;
        for length in 0..=NAMES.len() {
            for kinds in combinations(length) {
                let steps = fake::steps(NAMES.iter().copied().zip(kinds.iter().copied()));
                for last in SAID {
                    let said: Vec<_> = (0..length)
                        .map(|index| if index + 1 == length { last } else { Said::Done })
                        .collect();
                    let mut history = History::new(Uuid::nil());
                    for (name, said) in NAMES.iter().zip(&said) {
                        say(&mut history, name, *said);
                    }
                    check(&history, &steps, &kinds, &said);
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 10 * (1 + 3 + 9 + 27 + 81 + 243));
    }

    fn check(history: &History, steps: &Steps, kinds: &[Compensation], said: &[Said]) {
        let plan = plan_compensation(history, steps);
        let applied: Vec<_> = (0..said.len())
            .filter_map(|index| is_known(said[index]).map(|known| (index, known)))
            .collect();
        let pivot = applied.iter().rev().find(|(index, _)| kinds[*index] == Compensation::Pivot);
        if let Some((_, known)) = pivot {
            let code = if *known { "PAST_PIVOT" } else { "PIVOT_UNKNOWN" };
            assert_eq!(plan.unwrap_err().code, code, "{kinds:?} {said:?}");
            assert!(is_past_pivot(history, steps), "{kinds:?} {said:?}");
            return;
        }
        assert!(!is_past_pivot(history, steps), "{kinds:?} {said:?}");
        let expected: Vec<_> = applied
            .into_iter()
            .rev()
            .filter(|(index, _)| kinds[*index] == Compensation::Undo)
            .map(|(index, known)| PlannedStep { step: NAMES[index].to_owned(), known })
            .collect();
        assert_eq!(plan.unwrap().steps, expected, "{kinds:?} {said:?}");
    }

    fn combinations(length: usize) -> Vec<Vec<Compensation>> {
        (0..length).fold(vec![Vec::new()], |shorter, _| {
            shorter
                .iter()
                .flat_map(|kinds| KINDS.map(|kind| [kinds.clone(), vec![kind]].concat()))
                .collect()
        })
    }

    #[test]
    fn the_same_plan_has_the_same_hash_and_another_one_another() {
        let planned = |step: &str, known| PlannedStep { step: step.to_owned(), known };
        let plan = Plan { steps: vec![planned("charge", true), planned("reserve", true)] };
        assert_eq!(plan.hash(), plan.clone().hash());
        for other in [
            Plan { steps: vec![planned("reserve", true), planned("charge", true)] },
            Plan { steps: vec![planned("charge", false), planned("reserve", true)] },
            Plan { steps: vec![planned("charge", true)] },
            Plan { steps: vec![planned("chargereserve", true)] },
        ] {
            assert_ne!(plan.hash(), other.hash());
        }
    }

    #[test]
    fn a_step_that_has_lost_its_undo_is_put_to_a_person_and_any_other_change_is_followed() {
        let planned = |was, is| {
            let mut history = History::new(Uuid::nil());
            fake::done_with(&mut history, "one", was);
            let plan = plan_compensation(&history, &fake::steps([("one", is)]));
            plan.map(|plan| plan.steps.len()).map_err(|failure| failure.code)
        };
        let changed = || Err(COMPENSATION_CHANGED.into());
        let (undo, nothing, pivot) =
            (Compensation::Undo, Compensation::Nothing, Compensation::Pivot);
        for was in [None, Some(nothing), Some(undo), Some(pivot)] {
            let is_lost = matches!(was, Some(Compensation::Undo | Compensation::Pivot));
            assert_eq!(planned(was, nothing), if is_lost { changed() } else { Ok(0) }, "{was:?}");
            assert_eq!(planned(was, undo), Ok(1), "{was:?}");
            assert_eq!(planned(was, pivot), Err("PAST_PIVOT".into()), "{was:?}");
        }
    }

    #[test]
    fn a_step_that_this_build_does_not_have_is_put_to_a_person() {
        let mut history = History::new(Uuid::nil());
        fake::done(&mut history, "gone");
        let plan = plan_compensation(&history, &fake::steps([]));
        assert_eq!(plan.unwrap_err().code, "STEP_MISSING");
    }

    #[test]
    fn a_history_that_is_loaded_means_what_it_meant_when_it_was_made() {
        for last in SAID {
            let mut made = History::new(Uuid::nil());
            let records = fake::recording(&mut made, |history| {
                say(history, "one", Said::Done);
                say(history, "two", last);
            });
            let loaded = History::load(Uuid::nil(), &records).unwrap();
            assert_eq!(format!("{loaded:?}"), format!("{made:?}"), "{last:?}");
        }
    }
}
