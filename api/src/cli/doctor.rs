//! `amends doctor`: looks at a database and at those who use it, and says what is to be done.

use amends::doctor::{self, Finding, Severity};
use amends_api::config::{Database, DatabaseArguments};
use amends_api::database;
use anyhow::bail;
use serde::Serialize;

use super::log::{self, Level};
use super::stop;
use super::table::{print, printable, rendered, table};

/// What `amends doctor` takes.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: log::Arguments,
}

/// What was found, for machines.
#[derive(Serialize)]
struct Line<'a> {
    about: &'a str,
    severity: &'a str,
    found: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    advice: &'a str,
}

/// Looks at everything; a problem is an error, a note is not.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let _log = log::start(&arguments.log, Level::Warn)?;
    let database = Database::try_from(arguments.database)?;
    let shutdown = stop::asked()?;
    let findings = database::with(&database, async |database| {
        tokio::select! {
            findings = doctor::examine(database) => Ok(findings?),
            () = shutdown => bail!("stopped before the end"),
        }
    });
    let findings = findings.await?;
    print(&if arguments.json { as_json(&findings)? } else { in_words(&findings) });
    match findings.iter().filter(|it| it.severity == Severity::Problem).count() {
        0 => Ok(()),
        1 => bail!("there is 1 problem"),
        problems => bail!("there are {problems} problems"),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Fine => "fine",
        Severity::Note => "note",
        Severity::Problem => "problem",
    }
}

fn as_json(findings: &[Finding]) -> serde_json::Result<String> {
    serde_json::to_string(&findings.iter().map(Line::from).collect::<Vec<_>>())
}

impl<'a> From<&'a Finding> for Line<'a> {
    fn from(finding: &'a Finding) -> Self {
        let Finding { about, severity, found, advice } = finding;
        Self { about, severity: word(*severity), found, advice }
    }
}

fn in_words(findings: &[Finding]) -> String {
    let mut table = table(None);
    for Finding { about, severity, found, advice } in findings {
        table.add_row([word(*severity), about, &printable(found)]);
        if !advice.is_empty() {
            table.add_row(["", "", &format!("-> {advice}")]);
        }
    }
    rendered(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_stands_below_what_was_found() {
        let finding = |about, severity, found: &str, advice| Finding {
            about,
            severity,
            found: found.to_owned(),
            advice,
        };
        let findings = [
            finding("schema", Severity::Fine, "every migration is applied", ""),
            finding("workers", Severity::Problem, "no server is at work", "start one"),
        ];
        insta::assert_snapshot!(in_words(&findings), @r"
        fine     schema   every migration is applied
        problem  workers  no server is at work
                          -> start one
        ");
    }
}
