//! What a person has found out, for a resolve.

use serde::{Deserialize, Serialize};

use crate::money::Movement;

/// What a person has found out about a step, and how he knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The step's key in the history, such as `charge` or `charge#2`. None: only the money is put
    /// right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What became of the step. Given if and only if there is a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Where that can be seen: a provider's reference, a statement, a letter. Never empty.
    pub evidence: String,
    /// Money that moved without the engine's knowledge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<Movement>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The effect was applied, and this is the step's output.
    Applied(serde_json::Value),
    /// The effect was not applied, and is not on its way: the step is attempted again.
    NotApplied,
    /// The effect is certainly not applied any more; the reference under which it was taken back.
    Undone(Option<String>),
}
