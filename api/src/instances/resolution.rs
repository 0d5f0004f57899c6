//! What a person has found out, as it is sent with a resolve.
//!
//! Pure. Whether it fits the instance is for the engine to see.

use amends::{Currency, Money, MovementKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::command::{TEXT_CHARACTERS_MAX, is_line};
use crate::problem::Invalid;

/// What a person has found out about a step, about money that moved outside, or about both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The step, by its name in the history, such as `charge` or `charge#2`, or a wait. Without
    /// one, only money is put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "charge")]
    pub step: Option<String>,
    /// What became of the step; with a step, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Where that can be seen: a provider's reference, a statement, a letter.
    #[schema(example = "charge ch_7 in the provider's list", min_length = 1, max_length = 500)]
    pub evidence: String,
    /// Money that moved and is in no record yet. What the step itself moved need not be named: an
    /// output or a reference says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<Movement>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It was applied, and this is the step's output, as it would stand in the history.
    #[schema(example = json!({"applied": {"charge_id": "ch_7"}}))]
    Applied(Value),
    /// It was not applied, and is not on its way: it is attempted again.
    NotApplied,
    /// It is certainly not applied any more; the reference of what took it back, if there is one. Of a
    /// child that was stopped by force: nothing is left of it, nor of what it has started.
    #[schema(example = json!({"undone": "re_9"}))]
    Undone(Option<String>),
    /// Of a wait, such as `wait:parcel_packed`: the signal that has ended it cannot be read, and is
    /// given up. The wait goes on for the next one.
    Dropped,
    /// Of a child, such as `child:parcel`, that has ended with nothing left of it: what kept it from
    /// completing is put right, and another one is started in its place.
    Again,
}

/// Money that moved outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Movement {
    /// Which way.
    #[schema(schema_with = movement_kind_schema)]
    pub kind: MovementKind,
    /// How much, in minor units.
    #[schema(example = 5990, minimum = 1)]
    pub amount_minor: i64,
    /// The currency: three capital letters, as in ISO 4217.
    #[schema(value_type = String, example = "MYR", pattern = "^[A-Z]{3}$")]
    pub currency: Currency,
    /// The provider's reference.
    #[schema(example = "re_9", min_length = 1, max_length = 500)]
    pub reference: String,
}

/// The schema of a way in which money moves.
pub(super) fn movement_kind_schema() -> Object {
    let kinds =
        [MovementKind::Authorise, MovementKind::Capture, MovementKind::Refund, MovementKind::Void];
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Which way"))
        .enum_values(Some(kinds.map(MovementKind::as_str)))
        .build()
}

impl Resolution {
    /// Everything that is wrong with it, whatever instance it is about.
    pub(super) fn wrong(&self) -> Vec<Invalid> {
        let mut errors = Vec::new();
        let mut invalid = |pointer: String, detail: String| {
            errors.push(Invalid { pointer: format!("/resolution{pointer}"), detail });
        };
        let line = || format!("has to be a line of 1 to {TEXT_CHARACTERS_MAX} characters");
        match (&self.step, &self.finding) {
            (Some(_), None) => {
                invalid("/finding".to_owned(), "has to say what became of the step".to_owned());
            }
            (None, Some(_)) => {
                invalid("/step".to_owned(), "has to say which step this is about".to_owned());
            }
            (None, None) if self.money.is_empty() => {
                let detail = "has to say what became of a step, or what money has moved";
                invalid(String::new(), detail.to_owned());
            }
            _ => {}
        }
        if !is_line(&self.evidence) {
            invalid("/evidence".to_owned(), line());
        }
        if let Some(Finding::Undone(Some(reference))) = &self.finding
            && !is_line(reference)
        {
            invalid("/finding/undone".to_owned(), line());
        }
        for (index, movement) in self.money.iter().enumerate() {
            if movement.amount_minor < 1 {
                let detail = "must be at least 1; the kind says which way it moved";
                invalid(format!("/money/{index}/amount_minor"), detail.to_owned());
            }
            if !is_line(&movement.reference) {
                invalid(format!("/money/{index}/reference"), line());
            }
        }
        errors
    }
}

impl From<Resolution> for amends::command::Resolution {
    fn from(resolution: Resolution) -> Self {
        let Resolution { step, finding, evidence, money } = resolution;
        let money = money.into_iter().map(amends::Movement::from).collect();
        Self {
            step,
            finding: finding.map(amends::command::Finding::from),
            evidence: evidence.trim().to_owned(),
            money,
        }
    }
}

impl From<Finding> for amends::command::Finding {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Applied(output) => Self::Applied(output),
            Finding::NotApplied => Self::NotApplied,
            Finding::Undone(reference) => Self::Undone(reference),
            Finding::Dropped => Self::Dropped,
            Finding::Again => Self::Again,
        }
    }
}

impl From<Movement> for amends::Movement {
    fn from(movement: Movement) -> Self {
        let Movement { kind, amount_minor, currency, reference } = movement;
        Self { kind, money: Money { amount_minor, currency }, reference }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut resolution: Value) -> Option<Resolution> {
        resolution["evidence"] = json!("a letter");
        serde_json::from_value(resolution).ok()
    }

    fn pointers(resolution: Value) -> Vec<String> {
        let wrong = read(resolution).expect("a resolution").wrong();
        wrong.into_iter().map(|invalid| invalid.pointer).collect()
    }

    fn refund(amount_minor: i64) -> Value {
        json!({"kind": "refund", "amount_minor": amount_minor, "currency": "EUR",
            "reference": "re_9"})
    }

    #[test]
    fn a_finding_is_written_as_it_will_stand_in_the_history() {
        for finding in [json!({"applied": {"charge_id": "ch_7"}}), json!("not_applied")]
            .into_iter()
            .chain([json!("dropped"), json!("again")])
            .chain([json!({"undone": "re_9"}), json!({"undone": null})])
        {
            let sent = read(json!({"step": "charge", "finding": finding, "money": [refund(5)]}));
            let kept = amends::command::Resolution::from(sent.expect("a resolution"));
            let kept = serde_json::to_value(kept).expect("JSON");
            assert_eq!(kept["finding"], finding);
            assert_eq!(kept["money"], json!([refund(5)]));
        }
    }

    #[test]
    fn what_says_too_little_or_two_things_is_pointed_at() {
        let none: [&str; 0] = [];
        assert_eq!(pointers(json!({"step": "charge", "finding": "not_applied"})), none);
        assert_eq!(pointers(json!({"money": [refund(1)]})), none);
        assert_eq!(pointers(json!({})), ["/resolution"]);
        assert_eq!(pointers(json!({"step": "charge"})), ["/resolution/finding"]);
        assert_eq!(pointers(json!({"finding": "not_applied"})), ["/resolution/step"]);
        assert_eq!(
            pointers(json!({"money": [refund(1), refund(0)]})),
            ["/resolution/money/1/amount_minor"]
        );
        let undone = json!({"step": "charge", "finding": {"undone": " "}});
        assert_eq!(pointers(undone), ["/resolution/finding/undone"]);
    }

    #[test]
    fn nothing_that_is_sent_is_ignored() {
        for sent in [
            json!({"finding": {"applied": 1, "undone": "re_9"}}),
            json!({"finding": "applied"}),
            json!({"finding": "lost"}),
            json!({"surprise": 1}),
            json!({"money": [{"kind": "refund", "amount_minor": 1, "currency": "EUR",
                "reference": "re_9", "to": "me"}]}),
            json!({"money": [{"kind": "steal", "amount_minor": 1, "currency": "EUR",
                "reference": "re_9"}]}),
        ] {
            assert_eq!(read(sent.clone()), None, "{sent}");
        }
    }
}
