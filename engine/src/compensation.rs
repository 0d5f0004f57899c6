//! What has to be undone, decided from the record alone.
//!
//! Pure: the worker executes this plan, a preview shows it, and both see the same hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::history::{History, Progress};
use crate::registry::Steps;
use crate::step::{Compensation, Failure};

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
/// or may be done, or a step of the history is not part of this build.
pub(crate) fn plan_compensation(history: &History, steps: &Steps) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for recorded in history.steps().rev() {
        let known = match recorded.progress {
            Progress::Done { .. } => true,
            Progress::Open | Progress::Failed { .. } if recorded.unknown => false,
            Progress::Open | Progress::Failed { .. } => continue,
        };
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
            (Compensation::Nothing, _) => {}
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
    Ok(plan)
}
