//! `amends preview`: what a command would do, before it is given.

use amends::command::{Answer, ChildPolicy, Command};
use amends_api::instances::preview::{Again, Child, Plan, Preview};
use uuid::Uuid;

use super::client::{self, Client};
use super::table::{self, printable, table};

/// Which command to which instance.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The instance
    instance_id: Uuid,
    /// The command, such as cancel or resume
    command: Command,
    /// With terminate: what becomes of live instances that it has started
    #[arg(long, value_name = "WHAT")]
    children: Option<ChildPolicy>,
    #[command(flatten)]
    client: client::Arguments,
}

/// Shows what the command would do. Nothing of it happens.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let id = arguments.instance_id.to_string();
    let policy = arguments.children.map(|policy| ("children", policy.to_string()));
    let query: Vec<_> =
        std::iter::once(("command", arguments.command.to_string())).chain(policy).collect();
    let client = Client::try_new(arguments.client)?;
    let body = client.get(&["instances", &id, "preview"], &query).await?;
    client.tell(&body, |preview| rendered(&id, preview))
}

fn rendered(id: &str, preview: &Preview) -> String {
    let mut parts = vec![printable(&preview.text)];
    if let Some(problem) = &preview.problem {
        let (code, message) = (printable(&problem.code), printable(&problem.message));
        parts.push(format!("nothing can be undone: {code}: {message}"));
    }
    if let Some(plan) = &preview.plan {
        let is_new = preview.command == Command::Cancel && preview.answer == Answer::Accepted;
        parts.push(planned(plan, if is_new { "WOULD BE UNDONE" } else { "IS BEING UNDONE" }));
        if is_new {
            let hash = printable(&plan.plan_hash);
            parts.push(format!(
                "to have this happen, or nothing:\n\
                 amends cancel {id} --plan-hash {hash} --reason \"why\""
            ));
        }
    }
    if !preview.children.is_empty() {
        parts.push(children(&preview.children));
    }
    if !preview.again.is_empty() {
        parts.push(again(&preview.again));
    }
    parts.join("\n\n")
}

fn planned(plan: &Plan, what: &str) -> String {
    if plan.steps.is_empty() {
        return "there is nothing to undo".to_owned();
    }
    let heading = format!("WHAT {what}, LATEST FIRST");
    let mut rows = table(Some(&["", "STEP", &heading]));
    for (index, step) in plan.steps.iter().enumerate() {
        let number = (index + 1).to_string();
        rows.add_row([number, printable(&step.step), printable(&step.text)]);
    }
    table::rendered(rows)
}

fn children(children: &[Child]) -> String {
    let mut rows = table(Some(&["STARTED BY IT", "STATUS", "WHAT THIS MEANS FOR IT"]));
    for child in children {
        let what = format!("{} {}", child.workflow, child.business_key);
        rows.add_row([printable(&what), printable(&child.status), printable(&child.text)]);
    }
    table::rendered(rows)
}

fn again(again: &[Again]) -> String {
    let mut rows = table(Some(&["STEP", "WHAT MAY BE ASKED OF THE OUTSIDE WORLD AGAIN"]));
    for again in again {
        rows.add_row([printable(&again.step), printable(&again.text)]);
    }
    table::rendered(rows)
}
