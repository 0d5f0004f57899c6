//! What a person has found out, for a resolve.
//!
//! Pure. Whether it fits the instance is for the engine to see.

use serde::{Deserialize, Serialize};

use crate::limits::refuse_line;
use crate::money::Movement;

/// What a person has found out about a step, and how he knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The step's key in the history, such as `charge` or `charge#2`, or that of a wait, such as
    /// `wait:packed`. None: only the money is put right.
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
    /// The effect is certainly not applied any more; the reference under which it was taken back. Of
    /// a child that was stopped by force: nothing is left of it, nor of what it has started.
    Undone(Option<String>),
    /// Of a wait: the signal that has ended it cannot be read, and is given up. The wait goes on.
    Dropped,
    /// Of a child that has ended with nothing left of it: what kept it from completing is put right,
    /// and another one is started in its place.
    Again,
}

impl Resolution {
    /// Why it cannot be taken, whatever instance it is about, if it cannot.
    pub(crate) fn refuse(&self) -> Option<String> {
        let says = |what: &str| Some(what.to_owned());
        match (&self.step, &self.finding) {
            (Some(_), None) | (None, Some(_)) => {
                return says("a resolution has a step and a finding, or neither");
            }
            (None, None) if self.money.is_empty() => {
                return says("without a step, money has moved; say which");
            }
            _ => {}
        }
        if let Some(Finding::Undone(Some(reference))) = &self.finding
            && let Some(refusal) = refuse_line("the reference", reference)
        {
            return Some(refusal);
        }
        let movement = |movement: &Movement| match movement.money.amount_minor {
            ..1 => says("an amount of money is at least 1; the kind says which way it moved"),
            _ => refuse_line("the reference of money", &movement.reference),
        };
        refuse_line("the evidence", &self.evidence).or_else(|| self.money.iter().find_map(movement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(resolution: serde_json::Value) -> Option<String> {
        serde_json::from_value::<Resolution>(resolution).unwrap().refuse()
    }

    #[test]
    fn what_could_not_be_recorded_or_says_nothing_is_refused() {
        let money = |amount_minor: i64, reference: &str| {
            serde_json::json!([{ "kind": "refund", "amount_minor": amount_minor,
                "currency": "EUR", "reference": reference }])
        };
        let found = |finding: serde_json::Value, money: serde_json::Value, evidence: &str| {
            let step = (!finding.is_null()).then_some("charge");
            serde_json::json!({ "step": step, "finding": finding, "money": money,
                "evidence": evidence })
        };
        let (none, undone) = (serde_json::json!([]), serde_json::json!({ "undone": "re_9" }));
        assert_eq!(refusal(found(undone.clone(), none.clone(), "seen")), None);
        assert_eq!(refusal(found(serde_json::Value::Null, money(1, "re"), "seen")), None);
        for wrong in [
            found(serde_json::Value::Null, none.clone(), "seen"),
            found(serde_json::Value::Null, money(0, "re"), "seen"),
            found(serde_json::Value::Null, money(-5, "re"), "seen"),
            found(serde_json::Value::Null, money(1, "re\0"), "seen"),
            found(serde_json::json!({ "undone": "" }), none.clone(), "seen"),
            found(undone.clone(), none.clone(), " "),
            found(undone, none, "two\nlines"),
        ] {
            assert!(refusal(wrong.clone()).is_some(), "{wrong}");
        }
    }
}
