//! `amends check`: holds this build against every live instance of a database, and against what these
//! can still take back, and names those that it could not go on with.
//!
//! Exits with 0 if there are none, with 1 if there are some, and with 2 if that is not known.

use std::fmt;
use std::time::Duration;

use amends::Address;
use amends::check::{Checked, Divergence, Misfit, Note, Report};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::{database, serve};
use amends_workflows::fulfilment::Setup;
use amends_workflows::ports::Ports;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::log::{self, Level};
use super::stop;
use super::table::{print, printable};

/// The SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// What `amends check` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Database whose instances this build is to go on with, in place of the configured one. One
    /// with a password is not taken from the command line: set DATABASE_URL
    #[arg(long, value_name = "DATABASE_URL")]
    against: Option<String>,
    #[command(flatten)]
    database: DatabaseArguments,
    /// Print what was found as JSON, one object per line; the last one is the sum
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: log::Arguments,
}

/// Nothing is known about whether this build fits.
#[derive(Debug)]
pub(crate) struct Unchecked;

impl fmt::Display for Unchecked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the live instances cannot be checked")
    }
}

/// Checks every live instance; one that this build could not go on with is an error.
pub(crate) async fn run(mut arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    if arguments.against.is_some() {
        arguments.database.database_url = arguments.against;
        arguments.database.database_url_file = None;
    }
    let database = Database::try_from(arguments.database)?;
    let shutdown = stop::asked()?;
    let checked = database::with(&database, async |database| {
        tokio::select! {
            checked = check(database, arguments.json) => checked,
            () = shutdown => bail!("stopped before the end"),
        }
    });
    let sum = checked.await.context(Unchecked)?;
    print(&if arguments.json { sum.in_json() } else { sum.in_words() });
    if sum.report.misfits.is_empty() {
        return Ok(());
    }
    bail!("this build would strand live instances")
}

/// Prints each misfit when it is found, so that any number of them can be told.
async fn check(database: Address, json: bool) -> anyhow::Result<Sum> {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} live instances checked") {
        progress.set_style(style);
    }
    let each = |checked: &Checked| {
        progress.inc(1);
        for line in lines(checked, json) {
            progress.suspend(|| print(&line));
        }
    };
    // No provider is called; these could not be if one was.
    let report = serve::workflows(database, Ports::instant(), Setup::default()).check(each).await;
    let took = progress.elapsed();
    progress.finish_and_clear();
    match report {
        Err(amends::Error::Database(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(UNDEFINED_TABLE) =>
        {
            bail!("this database was never used by Amends")
        }
        report => Ok(Sum { report: report?, took }),
    }
}

/// An instance that this build could not go on with, for machines.
#[derive(Serialize)]
struct Line<'a> {
    instance_id: Uuid,
    business_key: &'a str,
    workflow: &'a str,
    version: u32,
    completed_child: bool,
    #[serde(flatten)]
    finding: Finding<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Finding<'a> {
    Misfit {
        misfit: &'static str,
        #[serde(flatten)]
        why: Why<'a>,
    },
    Note {
        note: &'static str,
        dependency: &'a str,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Why<'a> {
    Diverges { step: &'a str, expected: &'a str, found: &'a str },
    Otherwise { message: &'a str },
}

/// What is said of an instance: its misfit, and what is to be noted.
fn lines(checked: &Checked, json: bool) -> Vec<String> {
    let misfit = checked.misfit.as_ref().map(|misfit| match json {
        true => in_json(checked, Finding::of_misfit(misfit)),
        false => Some(in_words(checked, &misfit_in_words(misfit))),
    });
    let note = checked.note.as_ref().map(|Note::DependencyUndeclared(name)| match json {
        true => in_json(checked, Finding::Note { note: "dependency_undeclared", dependency: name }),
        false => Some(in_words(
            checked,
            &format!(
                "waits for {name}, which this build does not declare, and will be taken up at once"
            ),
        )),
    });
    [misfit, note].into_iter().flatten().flatten().collect()
}

impl<'a> Finding<'a> {
    fn of_misfit(misfit: &'a Misfit) -> Self {
        let why = match misfit {
            Misfit::Diverges(Divergence { step, expected, found }) => {
                Why::Diverges { step, expected, found }
            }
            Misfit::CannotBeRun(message)
            | Misfit::Unreadable(message)
            | Misfit::CompensationChanged(message)
            | Misfit::PivotChanged(message)
            | Misfit::Panics(message)
            | Misfit::Fails(message) => Why::Otherwise { message },
        };
        Self::Misfit { misfit: misfit.kind(), why }
    }
}

fn in_json(checked: &Checked, finding: Finding<'_>) -> Option<String> {
    let Checked { instance_id, workflow, version, business_key, .. } = checked;
    let (instance_id, version, completed_child) =
        (*instance_id, *version, checked.is_completed_child);
    let line = Line { instance_id, business_key, workflow, version, completed_child, finding };
    serde_json::to_string(&line).ok()
}

fn misfit_in_words(misfit: &Misfit) -> String {
    match misfit {
        Misfit::Diverges(Divergence { step, expected, found }) => {
            format!("diverges at step {step}: expected {expected}, found {found}")
        }
        Misfit::CannotBeRun(message) => format!("cannot be run: {message}"),
        Misfit::Unreadable(message) => format!("cannot be read: {message}"),
        Misfit::CompensationChanged(message) => format!("would not be undone as meant: {message}"),
        Misfit::PivotChanged(message) => format!("has another point of no return: {message}"),
        Misfit::Panics(message) => format!("makes its workflow panic: {message}"),
        Misfit::Fails(message) => format!("would not go on: {message}"),
    }
}

fn in_words(checked: &Checked, finding: &str) -> String {
    let Checked { instance_id, workflow, version, business_key, .. } = checked;
    let what = if checked.is_completed_child { "completed child" } else { "instance" };
    printable(&format!("{what} {instance_id} ({business_key}, {workflow}@{version}) {finding}"))
}

/// What was found, in numbers.
struct Sum {
    report: Report,
    took: Duration,
}

impl Sum {
    fn in_json(&self) -> String {
        let Report { fits, misfits, completed_children, notes } = &self.report;
        json!({
            "instances": self.report.instances(), "completed_children": completed_children,
            "fits": fits, "misfits": misfits, "notes": notes,
            "took_milliseconds": self.took.as_millis() as u64,
        })
        .to_string()
    }

    fn in_words(&self) -> String {
        let Self { report, took } = self;
        let instances = match report.instances() - report.completed_children {
            1 => "1 live instance".to_owned(),
            instances => format!("{instances} live instances"),
        };
        let children = match report.completed_children {
            0 => String::new(),
            1 => " and 1 completed child".to_owned(),
            children => format!(" and {children} completed children"),
        };
        let kinds = report.misfits.iter();
        let kinds: Vec<_> =
            kinds.map(|(kind, count)| format!("{}: {count}", kind.replace('_', " "))).collect();
        let verdict = match kinds.as_slice() {
            [] => "this build can go on with all of them".to_owned(),
            kinds => format!("it can go on with {}; {}", report.fits, kinds.join(", ")),
        };
        format!("{instances}{children} checked in {took:.1?}; {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(misfit: Misfit) -> Checked {
        Checked {
            instance_id: Uuid::nil(),
            workflow: "fulfilment".to_owned(),
            version: 1,
            business_key: "acme/1\u{1b}".to_owned(),
            is_completed_child: false,
            misfit: Some(misfit),
            note: None,
        }
    }

    #[test]
    fn a_misfit_is_one_line_for_people_and_one_for_machines() {
        let diverges = checked(Misfit::Diverges(Divergence {
            step: "charge".to_owned(),
            expected: "step charge".to_owned(),
            found: "step weigh".to_owned(),
        }));
        let panics = checked(Misfit::Panics("no\nlines".to_owned()));
        let child = Checked {
            is_completed_child: true,
            misfit: None,
            note: Some(Note::DependencyUndeclared("carrier".to_owned())),
            ..panics.clone()
        };
        let lines = [&diverges, &panics, &child]
            .map(|checked| [false, true].map(|json| lines(checked, json).join("\n")).join("\n"));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        instance 00000000-0000-0000-0000-000000000000 (acme/1\u{1b}, fulfilment@1) diverges at step charge: expected step charge, found step weigh
        {"instance_id":"00000000-0000-0000-0000-000000000000","business_key":"acme/1\u001b","workflow":"fulfilment","version":1,"completed_child":false,"misfit":"diverges","step":"charge","expected":"step charge","found":"step weigh"}
        instance 00000000-0000-0000-0000-000000000000 (acme/1\u{1b}, fulfilment@1) makes its workflow panic: no\u{a}lines
        {"instance_id":"00000000-0000-0000-0000-000000000000","business_key":"acme/1\u001b","workflow":"fulfilment","version":1,"completed_child":false,"misfit":"panics","message":"no\nlines"}
        completed child 00000000-0000-0000-0000-000000000000 (acme/1\u{1b}, fulfilment@1) waits for carrier, which this build does not declare, and will be taken up at once
        {"instance_id":"00000000-0000-0000-0000-000000000000","business_key":"acme/1\u001b","workflow":"fulfilment","version":1,"completed_child":true,"note":"dependency_undeclared","dependency":"carrier"}
        "#);
    }

    #[test]
    fn the_sum_counts_every_kind() {
        let sum = |fits, misfits: &[(&'static str, u64)], completed_children| Sum {
            report: Report {
                fits,
                misfits: misfits.iter().copied().collect(),
                completed_children,
                ..Report::default()
            },
            took: Duration::from_millis(1234),
        };
        let sums =
            [sum(0, &[], 0), sum(1, &[], 0), sum(10, &[("diverges", 2), ("cannot_be_run", 1)], 2)];
        let told = sums.map(|sum| format!("{}\n{}", sum.in_words(), sum.in_json()));
        insta::assert_snapshot!(told.join("\n"), @r#"
        0 live instances checked in 1.2s; this build can go on with all of them
        {"completed_children":0,"fits":0,"instances":0,"misfits":{},"notes":{},"took_milliseconds":1234}
        1 live instance checked in 1.2s; this build can go on with all of them
        {"completed_children":0,"fits":1,"instances":1,"misfits":{},"notes":{},"took_milliseconds":1234}
        11 live instances and 2 completed children checked in 1.2s; it can go on with 10; cannot be run: 1, diverges: 2
        {"completed_children":2,"fits":10,"instances":13,"misfits":{"cannot_be_run":1,"diverges":2},"notes":{},"took_milliseconds":1234}
        "#);
    }
}
