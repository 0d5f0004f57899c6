//! `GET /instances/{id}/preview`: what a command would do, before it is given.

use amends::command::{Answer, ChildFate, ChildPolicy, ChildStanding, Command};
use amends::{Currency, MovementKind};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use super::command::{command_schema, policy_schema, why};
use super::resolution::movement_kind_schema;
use super::show::unknown;
use super::unreadable;
use crate::app::App;
use crate::openapi::Previewing;
use crate::path::Id;
use crate::problem::{Code, Problem};
use crate::timeline::{amount, moved, thing};
use crate::view::Failure;

/// Which command to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The command.
    #[param(inline, value_type = CommandName)]
    command: String,
    /// With `terminate`: what becomes of what the instance has started.
    #[serde(default)]
    #[param(inline, value_type = Option<PolicyName>)]
    children: Option<String>,
}

/// The schema of a command, for a parameter.
struct CommandName;

impl PartialSchema for CommandName {
    fn schema() -> RefOr<Schema> {
        command_schema().into()
    }
}

impl ToSchema for CommandName {}

/// The schema of what becomes of children, for a parameter.
struct PolicyName;

impl PartialSchema for PolicyName {
    fn schema() -> RefOr<Schema> {
        policy_schema().into()
    }
}

impl ToSchema for PolicyName {}

/// What a command would do at this moment. Nothing of it has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// The command.
    #[schema(schema_with = command_schema)]
    pub command: Command,
    /// What it would be answered.
    #[schema(value_type = String, example = "accepted")]
    pub answer: Answer,
    /// What it would be answered, in words.
    #[schema(example = "cancel would be accepted")]
    pub text: String,
    /// What would be undone, latest first: for a cancel, and while everything is being undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Why there is no plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Failure>,
    /// What may be asked of the outside world once more.
    pub again: Vec<Again>,
    /// For a cancel, a hold, a release and a terminate: what the instance has started, and what that
    /// has started.
    #[serde(default)]
    pub children: Vec<Child>,
}

/// An instance that was started by the one that the command is for, or by a child of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PreviewedChild)]
pub struct Child {
    /// Its id.
    pub instance_id: Uuid,
    /// The instance that started it.
    pub parent_id: Uuid,
    /// Its workflow.
    #[schema(example = "fulfilment")]
    pub workflow: String,
    /// Its business key.
    #[schema(example = "acme/1001/parcel")]
    pub business_key: String,
    /// Its status.
    #[schema(example = "waiting")]
    pub status: String,
    /// Where it stands.
    #[schema(schema_with = standing_schema)]
    pub standing: ChildStanding,
    /// Whether a hold is in force on it.
    pub held: bool,
    /// What the command would mean for it.
    #[schema(schema_with = fate_schema)]
    pub fate: ChildFate,
    /// The same, in words.
    #[schema(example = "is cancelled at once")]
    pub text: String,
}

fn standing_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Where it stands"))
        .enum_values(Some(STANDINGS))
        .build()
}

/// The words of [`ChildStanding`].
const STANDINGS: [&str; 6] =
    ["live", "completed", "past_pivot", "being_undone", "undone", "terminated"];

fn fate_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("What the command would mean for it"))
        .enum_values(Some(FATES))
        .build()
}

/// The words of [`ChildFate`].
const FATES: [&str; 9] = [
    "cancel",
    "take_back",
    "refuse",
    "ask_person",
    "hold",
    "release",
    "terminate",
    "undecided",
    "unchanged",
];

/// What would be undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Names the plan. A cancel that has it happens as shown, or not at all.
    #[schema(example = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub plan_hash: String,
    /// The steps, in the order in which they would be undone.
    pub steps: Vec<PlannedUndo>,
}

/// A step that would be undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedUndo {
    /// Its name in the history.
    #[schema(example = "charge")]
    pub step: String,
    /// Whether it is known to be applied; if not, its undo makes sure that it is not.
    pub known: bool,
    /// What would be undone, in words.
    #[schema(example = "undo the charge: charged 59.90 MYR (ch_000002)")]
    pub text: String,
    /// The money that it has moved.
    pub money: Vec<Moved>,
}

/// Money that a step has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Which way.
    #[schema(schema_with = movement_kind_schema)]
    pub kind: MovementKind,
    /// How much, as people write it.
    #[schema(example = "59.90 MYR")]
    pub amount: String,
    /// How much, in minor units.
    #[schema(example = 5990)]
    pub amount_minor: i64,
    /// The currency.
    #[schema(value_type = String, example = "MYR")]
    pub currency: Currency,
    /// The provider's reference.
    #[schema(example = "ch_000002")]
    pub reference: String,
}

/// What may be asked of the outside world once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Again {
    /// The step's name in the history.
    #[schema(example = "charge")]
    pub step: String,
    /// Whether it is the step's undo.
    pub is_undo: bool,
    /// How safe that is.
    pub safety: Safety,
    /// The same, in words.
    #[schema(
        example = "ask for the charge again: it may have succeeded, and the provider does the \
                   same request once"
    )]
    pub text: String,
}

/// How safe it is to ask for something once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// It has certainly not been applied.
    NotApplied,
    /// It may have been applied; the provider applies the same key once.
    SameKey,
    /// It may have been applied; the provider is asked first.
    AskedFirst,
    /// It was refused, and is asked for under another key.
    NewKey,
    /// It may have been applied, and nothing prevents a second time: find out first, then resolve.
    MayRepeat,
}

/// Shows what a command would do to an instance at this moment.
#[utoipa::path(
    get,
    path = "/instances/{id}/preview",
    operation_id = "preview_command",
    tag = "instances",
    params(("id" = Uuid, Path, description = "The instance"), Wanted),
    responses((status = 200, description = "What it would do", body = Preview), Previewing)
)]
pub(crate) async fn preview(
    State(app): State<App>,
    Id(instance_id): Id,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Preview>, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidQuery, detail);
    let Query(Wanted { command, children }) = wanted.map_err(|_| {
        let detail = "there are the query parameters command, once, and children, for a terminate";
        invalid(detail.to_owned())
    })?;
    let command: Command =
        command.parse().map_err(|unknown| invalid(format!("command: {unknown}")))?;
    let policy = children.as_deref().map(str::parse::<ChildPolicy>).transpose();
    let policy = policy.map_err(|unknown| invalid(format!("children: {unknown}")))?;
    let engine = app.engine();
    let seen = match (command, policy) {
        (Command::Terminate, Some(policy)) => engine.preview_terminate(instance_id, policy).await,
        (_, None) => engine.preview(instance_id, command).await,
        (_, Some(_)) => {
            let detail = "children: only a terminate says what becomes of children";
            return Err(invalid(detail.to_owned()));
        }
    };
    let seen = seen.map_err(unreadable)?;
    seen.map(|seen| Json(seen.into())).ok_or_else(unknown)
}

impl From<amends::preview::Preview> for Preview {
    fn from(seen: amends::preview::Preview) -> Self {
        let amends::preview::Preview { command, answer, plan, problem, again, children } = seen;
        let text = match answer {
            Answer::Accepted => format!("{command} would be accepted"),
            refusal => format!("{command} would be refused: {}", why(refusal)),
        };
        Self {
            command,
            answer,
            text,
            plan: plan.map(Plan::from),
            problem: problem.map(Failure::from),
            again: again.into_iter().map(Again::from).collect(),
            children: children.into_iter().map(Child::from).collect(),
        }
    }
}

impl From<amends::preview::ChildPreview> for Child {
    fn from(child: amends::preview::ChildPreview) -> Self {
        let amends::preview::ChildPreview { instance_id, parent_id, standing, fate, .. } = child;
        let text = match (fate, standing) {
            (ChildFate::Cancel, _) => "is cancelled at once",
            (ChildFate::TakeBack, _) => "has completed, and is taken back in its turn",
            (ChildFate::Refuse, _) => {
                "is past its point of no return: nothing above it can be undone"
            }
            (ChildFate::AskPerson, _) => {
                "was stopped by force: a person has to find out what is left of it"
            }
            (ChildFate::Hold, _) => "is held, and begins nothing more",
            (ChildFate::Release, ChildStanding::BeingUndone) => {
                "is being undone already; it is released, and goes on"
            }
            (ChildFate::Release, _) => "is released, and goes on",
            (ChildFate::Terminate, _) => "is stopped by force; nothing of it is undone",
            (ChildFate::Undecided, _) => "is live: say what becomes of it",
            (ChildFate::Unchanged, ChildStanding::BeingUndone) => "is being undone already",
            (ChildFate::Unchanged, ChildStanding::Undone) => "has been undone",
            (ChildFate::Unchanged, ChildStanding::Terminated) => "was stopped by force",
            (ChildFate::Unchanged, _) if child.status.is_terminal() => {
                "has completed, and stays so"
            }
            (ChildFate::Unchanged, _) if child.is_held => "is held, and stays so",
            (ChildFate::Unchanged, _) => "goes on as it is",
        };
        Self {
            instance_id,
            parent_id,
            workflow: child.workflow,
            business_key: child.business_key,
            status: child.status.as_str().to_owned(),
            standing,
            held: child.is_held,
            fate,
            text: text.to_owned(),
        }
    }
}

impl From<amends::preview::PlanPreview> for Plan {
    fn from(plan: amends::preview::PlanPreview) -> Self {
        let steps = plan.steps.into_iter().map(PlannedUndo::from).collect();
        Self { plan_hash: plan.plan_hash, steps }
    }
}

impl From<amends::preview::PlannedUndo> for PlannedUndo {
    fn from(planned: amends::preview::PlannedUndo) -> Self {
        let amends::preview::PlannedUndo { step, known, money } = planned;
        let thing = thing(&step);
        let text = match known {
            false => format!("make sure that nothing is left of {thing}, which may have succeeded"),
            true if money.is_empty() => format!("undo {thing}"),
            true => format!("undo {thing}: {}", moved(&step, &money)),
        };
        Self { step, known, text, money: money.into_iter().map(Moved::from).collect() }
    }
}

impl From<amends::Movement> for Moved {
    fn from(movement: amends::Movement) -> Self {
        let amends::Movement { kind, money, reference } = movement;
        let amends::Money { amount_minor, currency } = money;
        Self { kind, amount: amount(money), amount_minor, currency, reference }
    }
}

impl From<amends::preview::Again> for Again {
    fn from(again: amends::preview::Again) -> Self {
        let amends::preview::Again { step, is_undo, safety } = again;
        let safety = Safety::from(safety);
        let thing = thing(&step);
        let what = if is_undo { format!("undo {thing}") } else { format!("ask for {thing}") };
        Self { text: format!("{what} again: {}", safety.in_words()), step, is_undo, safety }
    }
}

impl From<amends::preview::Safety> for Safety {
    fn from(safety: amends::preview::Safety) -> Self {
        match safety {
            amends::preview::Safety::NotApplied => Self::NotApplied,
            amends::preview::Safety::SameKey => Self::SameKey,
            amends::preview::Safety::AskedFirst => Self::AskedFirst,
            amends::preview::Safety::NewKey => Self::NewKey,
            amends::preview::Safety::MayRepeat => Self::MayRepeat,
        }
    }
}

impl Safety {
    fn in_words(self) -> &'static str {
        match self {
            Self::NotApplied => "it has certainly not succeeded before",
            Self::SameKey => "it may have succeeded, and the provider does the same request once",
            Self::AskedFirst => "it may have succeeded, and the provider is asked first",
            Self::NewKey => "it was refused, and counts as a new request",
            Self::MayRepeat => {
                "it may have succeeded, and nothing prevents a second time; find out first, then \
                 resolve"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use amends::preview::{self as engine, PlanPreview};
    use serde_json::json;

    use super::*;

    fn seen(answer: Answer, plan: Option<PlanPreview>, again: Vec<engine::Again>) -> Preview {
        let (command, children) = (Command::Cancel, Vec::new());
        engine::Preview { command, answer, plan, problem: None, again, children }.into()
    }

    #[test]
    fn a_plan_says_what_happens_to_the_money_and_what_nobody_knows() {
        let charged = amends::Movement {
            kind: MovementKind::Capture,
            money: amends::Money {
                amount_minor: 5990,
                currency: "MYR".parse().expect("a currency"),
            },
            reference: "ch_2".to_owned(),
        };
        let undo = |step: &str, known, money| {
            let step = step.to_owned();
            engine::PlannedUndo { step, known, money }
        };
        let steps = vec![
            undo("ship", false, vec![]),
            undo("charge", true, vec![charged]),
            undo("issue_invoice", true, vec![]),
        ];
        let plan = PlanPreview { plan_hash: "00".to_owned(), steps };
        let shown = seen(Answer::Accepted, Some(plan), Vec::new());
        assert_eq!(shown.text, "cancel would be accepted");
        let steps = shown.plan.expect("a plan").steps;
        assert_eq!(
            steps.iter().map(|planned| planned.text.as_str()).collect::<Vec<_>>(),
            [
                "make sure that nothing is left of the shipment, which may have succeeded",
                "undo the charge: charged 59.90 MYR (ch_2)",
                "undo the invoice",
            ]
        );
        assert_eq!(
            serde_json::to_value(&steps[1].money).expect("JSON"),
            json!([{"kind": "capture", "amount": "59.90 MYR", "amount_minor": 5990,
                "currency": "MYR", "reference": "ch_2"}])
        );
    }

    #[test]
    fn what_is_asked_again_says_how_safe_that_is() {
        let again = |is_undo, safety| {
            let step = "charge".to_owned();
            Again::from(engine::Again { step, is_undo, safety }).text
        };
        assert_eq!(
            again(false, engine::Safety::SameKey),
            "ask for the charge again: it may have succeeded, and the provider does the same \
             request once"
        );
        assert_eq!(
            again(true, engine::Safety::NewKey),
            "undo the charge again: it was refused, and counts as a new request"
        );
    }

    #[test]
    fn the_standings_of_children_are_described_as_they_are_written() {
        for (standing, word) in [
            (ChildStanding::Live, STANDINGS[0]),
            (ChildStanding::Completed, STANDINGS[1]),
            (ChildStanding::PastPivot, STANDINGS[2]),
            (ChildStanding::BeingUndone, STANDINGS[3]),
            (ChildStanding::Undone, STANDINGS[4]),
            (ChildStanding::Terminated, STANDINGS[5]),
        ] {
            assert_eq!(serde_json::to_value(standing).expect("JSON"), word);
        }
    }

    #[test]
    fn what_a_command_means_for_children_is_described_as_it_is_written() {
        for (fate, word) in [
            (ChildFate::Cancel, FATES[0]),
            (ChildFate::TakeBack, FATES[1]),
            (ChildFate::Refuse, FATES[2]),
            (ChildFate::AskPerson, FATES[3]),
            (ChildFate::Hold, FATES[4]),
            (ChildFate::Release, FATES[5]),
            (ChildFate::Terminate, FATES[6]),
            (ChildFate::Undecided, FATES[7]),
            (ChildFate::Unchanged, FATES[8]),
        ] {
            assert_eq!(serde_json::to_value(fate).expect("JSON"), word);
        }
    }

    #[test]
    fn a_refusal_says_why_beforehand() {
        let shown = seen(Answer::PastPivot, None, Vec::new());
        assert!(shown.text.starts_with("cancel would be refused: the point of no return"));
    }
}
